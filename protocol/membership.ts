import { type Head, isTimely, peersRemembered } from './chain.ts';
import type { Core } from './core.ts';
import { comparePeers, type PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import type { MessageOf } from './messages.ts';
import { peersOf, placesIn, quorumOf } from './roster.ts';
import { joinBytes, leaveBytes } from './signing.ts';
import type { Block, Evidence, Join, Leave } from './wire.ts';

/** Attempts to join are counted up to here, then anew: gossip has forgotten the first by then. */
const ATTEMPTS = 1_000_000;

/** Without a connection for so long a peer knows of nobody, where genesis names no time for it. */
const CUT_OFF_MS = 10_000;

/** A joiner says so again every eight seconds at the latest: who was not heard for longer has gone before it was let in. */
const JOIN_HEARD_MS = 24_000;

/** Who wants in or out, and who can be reached. Only certificates change the roster; this is what leads to them. */
export class Membership {
  readonly #core: Core;
  readonly #joins = new Map<PeerId, Asking>();
  readonly #leaves = new Map<PeerId, Leave>();
  readonly #evidence = new Map<PeerId, Evidence>();
  /** peers with a connection, or heard from since they lost it */
  readonly #reachable = new Set<PeerId>();
  readonly #connected = new Set<PeerId>();
  /** since when there is no connection at all, while there is none */
  #cutOffSinceMs = 0;
  /** members who are noted as reachable, by place: asked at every message */
  #members: readonly PeerId[] = [];
  #placeOf: ReadonlyMap<PeerId, number> = new Map();
  #heard = new Uint8Array(0);
  #turn = 0;
  /** no joiner counts as silent up to then */
  #silentFromMs = Number.POSITIVE_INFINITY;
  /** counts what comes and goes, so that an answer holds until then */
  #changes = 0;
  #asked: { head: Head; joins: boolean; changes: number; answer: boolean } | undefined;
  /** peers that let a whole quorum wait pass in silence; cleared by what shows that they are there */
  readonly absent = new Set<PeerId>();
  leaving = false;
  #attempts = 0;
  #lastJoin: MessageOf<'join'> | undefined;

  constructor(core: Core) {
    this.#core = core;
  }

  onPeer(peer: PeerId, up: boolean): void {
    if (up && this.#connected.size === 0) this.#forgetUnreached();
    for (const peers of [this.#reachable, this.#connected]) {
      if (up) peers.add(peer);
      else peers.delete(peer);
    }
    if (!up) this.#members = [];
    if (this.#connected.size === 0) this.#cutOffSinceMs = this.#core.nowMs;
    // who has gone is not to be counted on, and who is back wants to stay
    const undone = up ? this.#leaves : this.#joins;
    if (undone.delete(peer)) this.#changes++;
  }

  /** After a moment without any connection those are still there who were heard by way of others; after longer, who knows. */
  #forgetUnreached(): void {
    const waitMs = this.#core.context.genesis.timing.quorumWaitMs ?? CUT_OFF_MS;
    if (this.#core.nowMs >= this.#cutOffSinceMs + waitMs) this.#reachable.clear();
  }

  /** Something arrived that shows that its author is there. @param place `placeOf` it */
  heard(author: PeerId, place: number | undefined): void {
    if (this.absent.size > 0) this.absent.delete(author);
    // members of the roster only: anybody can sign with a key just made
    if (place === undefined || this.#heard[place] !== 0) return;
    this.#heard[place] = 1;
    this.#reachable.add(author);
  }

  /** Among the members, if it is one. */
  placeOf(author: PeerId): number | undefined {
    const members = peersOf(this.#core.branch.head.roster);
    if (members !== this.#members) {
      this.#members = members;
      this.#placeOf = placesIn(members);
      this.#heard = new Uint8Array(members.length);
    }
    return this.#placeOf.get(author);
  }

  isLive(peer: PeerId): boolean {
    if (peer === this.#core.self) return true;
    // without any connection nobody is to be reached, by way of whomever it was heard
    return this.#connected.size > 0 && this.#reachable.has(peer) && !this.absent.has(peer);
  }

  /** Enough of a committee can be reached to decide. */
  seesQuorum(committee: readonly PeerId[]): boolean {
    return committee.filter((peer) => this.isLive(peer)).length >= quorumOf(committee.length);
  }

  /** Entries in the maps that others' messages fill, for a watcher. */
  get load(): { joins: number; leaves: number; evidence: number; absent: number; reachable: number } {
    const [joins, leaves, evidence] = [this.#joins.size, this.#leaves.size, this.#evidence.size];
    return { joins, leaves, evidence, absent: this.absent.size, reachable: this.#reachable.size };
  }

  reachable(): PeerId[] {
    return this.#connected.size > 0 ? [...this.#reachable] : [];
  }

  connected(): PeerId[] {
    return [...this.#connected];
  }

  isConnected(peer: PeerId): boolean {
    return this.#connected.has(peer);
  }

  /** So many of the peers with a connection, others each time. */
  someConnected(count: number): PeerId[] {
    const all = this.connected();
    if (all.length <= count) return all;
    const first = this.#turn;
    this.#turn += count;
    return Array.from({ length: count }, (_, i) => all[(first + i) % all.length]!);
  }

  onJoin(join: Join): void {
    const before = this.#joins.get(join.author);
    if (join.height < (before?.join.height ?? 0)) return;
    this.#changes++;
    if (this.#joins.size >= LIMITS.pendingJoinsMax && !this.#joins.has(join.author) && !this.#makeRoomFor(join)) return;
    const { nowMs } = this.#core;
    this.#joins.set(join.author, { join, heardMs: nowMs, sinceMs: before?.sinceMs ?? nowMs });
    this.#silentFromMs = Math.min(this.#silentFromMs, nowMs + JOIN_HEARD_MS);
  }

  /** A request that may take effect counts for more than one for a height that may never come. */
  #makeRoomFor(join: Join): boolean {
    const { head } = this.#core.branch;
    if (!isTimely(head, join)) return false;
    for (const [author, pending] of this.#joins) {
      if (!isTimely(head, pending.join) || this.#isSilent(pending)) return this.#joins.delete(author);
    }
    return false;
  }

  #isSilent({ heardMs }: Asking): boolean {
    return this.#core.nowMs > heardMs + JOIN_HEARD_MS;
  }

  onLeave(leave: Leave): void {
    if (leave.height < (this.#leaves.get(leave.author)?.height ?? 0)) return;
    this.#changes++;
    if (isMember(this.#core.branch.head, leave.author)) this.#leaves.set(leave.author, leave);
  }

  /** A member contradicted itself: the next block may put it out. @returns whether that is news */
  onEvidence(evidence: Evidence): boolean {
    const { author } = evidence;
    const { head } = this.#core.branch;
    const known = this.#evidence.get(author);
    if (known && isTimely(head, known)) return false;
    if (author === this.#core.self || !isMember(head, author)) return false;
    this.#changes++;
    this.#evidence.set(author, evidence);
    return true;
  }

  /** The request as it was said last, where it is as new as one can be: for who was not there to hear it. */
  standingJoin(): MessageOf<'join'> {
    const isNew = this.#lastJoin?.join.height === this.#core.branch.head.height + 1;
    return isNew && this.#lastJoin ? this.#lastJoin : this.joinMessage();
  }

  isLeaving(peer: PeerId): boolean {
    return this.#leaves.has(peer);
  }

  /** Another one each time, so that gossip carries it again. */
  joinMessage(): MessageOf<'join'> {
    const { run, signer } = this.#core.context;
    const { height } = this.#core.branch.head;
    const unsigned = { author: signer.self, height: height + 1, attempt: this.#attempts++ % ATTEMPTS };
    const join = { ...unsigned, signature: signer.sign(joinBytes(run, unsigned)) };
    this.#lastJoin = { type: 'join', run, join };
    return this.#lastJoin;
  }

  leaveMessage() {
    const { run, signer } = this.#core.context;
    const unsigned = { author: signer.self, height: this.#core.branch.head.height + 1 };
    const leave = { ...unsigned, signature: signer.sign(leaveBytes(run, unsigned)) };
    return { type: 'leave', run, leave } as const;
  }

  /** Whether `requests` has any. Asked at every event, so it is looked up again only after a change. */
  hasRequests(head: Head, { joins }: { joins: boolean }): boolean {
    this.#forgetSilent();
    const asked = this.#asked;
    if (asked?.head === head && asked.joins === joins && asked.changes === this.#changes) return asked.answer;
    const answer = this.#lookForRequests(head, joins);
    this.#asked = { head, joins, changes: this.#changes, answer };
    return answer;
  }

  #forgetSilent(): void {
    if (this.#core.nowMs <= this.#silentFromMs) return;
    this.#silentFromMs = Number.POSITIVE_INFINITY;
    for (const [peer, asking] of this.#joins) {
      if (this.#isSilent(asking)) {
        this.#joins.delete(peer);
        this.#changes++;
      } else this.#silentFromMs = Math.min(this.#silentFromMs, asking.heardMs + JOIN_HEARD_MS);
    }
  }

  #lookForRequests(head: Head, joins: boolean): boolean {
    const going = new Set<PeerId>();
    for (const each of [...this.#leaves.values(), ...this.#evidence.values()]) {
      if (isMember(head, each.author) && isTimely(head, each)) going.add(each.author);
    }
    // somebody has to stay
    if (going.size > 0 && head.roster.length > 1) return true;
    return joins && roomIn(head) > 0 && this.#whoAsk(head).length > 0;
  }

  /** Those whose request a block on this head could carry. */
  #whoAsk(head: Head): Asking[] {
    return [...this.#joins.values()].filter(({ join }) => !isMember(head, join.author) && isTimely(head, join));
  }

  /** Requests that a block on this head may carry, in canonical order. */
  requests(head: Head): Pick<Block, 'joins' | 'leaves' | 'evictions'> {
    this.#forgetSilent();
    const roster = new Set(peersOf(head.roster));
    const joins = this.#whoMayJoin(head)
      .slice(0, roomIn(head))
      .sort((a, b) => comparePeers(a.author, b.author));
    const going = <Request extends Leave | Evidence>(all: Iterable<Request>): Request[] =>
      [...all]
        .filter((each) => roster.has(each.author) && isTimely(head, each))
        .sort((a, b) => comparePeers(a.author, b.author));
    const mayGo = roster.size - 1; // somebody has to stay
    const evictions = going(this.#evidence.values()).slice(0, Math.min(mayGo, LIMITS.blockEvictionsMax));
    const put = new Set(evictions.map(({ author }) => author));
    const leaves = going(this.#leaves.values())
      .filter(({ author }) => !put.has(author))
      .slice(0, Math.min(mayGo - put.size, LIMITS.blockLeavesMax));
    return { joins, leaves, evictions };
  }

  /**
   * Who has asked for longest first, and before all others those who are connected to this peer: a request costs nothing, and
   * whoever is let in is counted on. Where all could be connected, of the others one at a time.
   */
  #whoMayJoin(head: Head): Join[] {
    const may = this.#whoAsk(head);
    may.sort((a, b) => a.sinceMs - b.sinceMs || comparePeers(a.join.author, b.join.author));
    const isNear = ({ join }: Asking): boolean => this.#connected.has(join.author);
    const far = may.filter((asking) => !isNear(asking));
    const most = head.roster.length < NEIGHBOURS_MAX ? 1 : far.length;
    return [...may.filter(isNear), ...far.slice(0, most)].map(({ join }) => join);
  }

  /** A block has taken effect: its requests are done with, and who came and went is told. */
  onBlock(before: Head, { leaves }: Block, after: Head): void {
    const { came, went } = changeBetween(before, after);
    const members = after.roster.length;
    const tell = (peer: PeerId, change: 'joined' | 'left' | 'evicted'): void =>
      this.#core.emit({ type: 'report', report: { kind: 'peer', peer, change, members } });
    for (const peer of came) tell(peer, 'joined');
    // what was asked for is in the block: a peer that catches up has not heard it
    const asked = new Set(leaves.map(({ author }) => author));
    for (const peer of went) {
      tell(peer, asked.has(peer) ? 'left' : 'evicted');
      // of who was heard by way of others alone nobody would ever say that it has gone
      if (!this.#connected.has(peer)) this.#reachable.delete(peer);
      this.absent.delete(peer);
    }
    // who was let in again since is heard of anew
    if (went.length > 0) this.#members = [];
    this.#changes++;
    for (const [peer, { join }] of this.#joins) {
      if (isMember(after, peer) || !isTimely(after, join)) this.#joins.delete(peer);
    }
    for (const requests of [this.#leaves, this.#evidence]) {
      for (const [peer, each] of requests) if (!isMember(after, peer) || !isTimely(after, each)) requests.delete(peer);
    }
  }
}

interface Asking {
  join: Join;
  /** for the first time, and last */
  sinceMs: number;
  heardMs: number;
}

/** In a roster of fewer everybody may be connected to everybody. */
const NEIGHBOURS_MAX = 64;

/** Joins that a block may have: what comes of it must fit. */
function roomIn(head: Head): number {
  const room = Math.min(LIMITS.rosterMax - head.roster.length, LIMITS.changesMax - peersRemembered(head));
  return Math.max(0, Math.min(LIMITS.blockJoinsMax, room));
}

export function isMember(head: Head, peer: PeerId): boolean {
  return placesIn(peersOf(head.roster)).has(peer);
}

/** Who came and who went between two heads: all peers of a simulation ask it of the same two. */
function changeBetween(before: Head, after: Head): { came: PeerId[]; went: PeerId[] } {
  let change = changes.get(after);
  const isKnown = change?.before.deref() === before;
  if (!isKnown && peersOf(before.roster) === peersOf(after.roster)) return UNCHANGED;
  if (!change || !isKnown) {
    const came = peersOf(after.roster).filter((peer) => !isMember(before, peer));
    const went = peersOf(before.roster).filter((peer) => !isMember(after, peer));
    change = { before: new WeakRef(before), came, went };
    changes.set(after, change);
  }
  return change;
}
const UNCHANGED = { came: [], went: [] };
/** Weak in both: a head may be the one before of another, and so would keep all that were ever before it. */
const changes = new WeakMap<Head, { before: WeakRef<Head>; came: PeerId[]; went: PeerId[] }>();

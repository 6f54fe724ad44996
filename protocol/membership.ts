import { type Head, isTimely } from './chain.ts';
import type { Core } from './core.ts';
import { comparePeers, type PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import { peersOf, quorumOf } from './roster.ts';
import { joinBytes, leaveBytes } from './signing.ts';
import type { Block, Join, Leave } from './wire.ts';

/** Who wants in or out, and who can be reached. Only certificates change the roster; this is what leads to them. */
export class Membership {
  readonly #core: Core;
  readonly #joins = new Map<PeerId, Join>();
  readonly #leaves = new Map<PeerId, Leave>();
  /** peers with a connection, or heard from since they lost it */
  readonly #reachable = new Set<PeerId>();
  /** peers that let a whole quorum wait pass in silence; cleared by any word of theirs */
  readonly absent = new Set<PeerId>();
  leaving = false;

  constructor(core: Core) {
    this.#core = core;
  }

  onPeer(peer: PeerId, up: boolean): void {
    if (up) this.#reachable.add(peer);
    else this.#reachable.delete(peer);
  }

  /** A signed message of this author arrived. */
  heard(author: PeerId): void {
    this.absent.delete(author);
    // members of the roster only: anybody can sign with a key just made
    if (isMember(this.#core.branch.head, author)) this.#reachable.add(author);
  }

  isLive(peer: PeerId): boolean {
    return peer === this.#core.self || (this.#reachable.has(peer) && !this.absent.has(peer));
  }

  /** Enough of a committee can be reached to decide. */
  seesQuorum(committee: readonly PeerId[]): boolean {
    return committee.filter((peer) => this.isLive(peer)).length >= quorumOf(committee.length);
  }

  /** Entries in the maps that others' messages fill, for a watcher. */
  get load(): { joins: number; leaves: number; absent: number; reachable: number } {
    const [joins, leaves] = [this.#joins.size, this.#leaves.size];
    return { joins, leaves, absent: this.absent.size, reachable: this.#reachable.size };
  }

  reachable(): PeerId[] {
    return [...this.#reachable];
  }

  onJoin(join: Join): void {
    if (join.height < (this.#joins.get(join.author)?.height ?? 0)) return;
    if (this.#joins.size < LIMITS.pendingJoinsMax || this.#joins.has(join.author)) this.#joins.set(join.author, join);
  }

  onLeave(leave: Leave): void {
    if (leave.height < (this.#leaves.get(leave.author)?.height ?? 0)) return;
    if (isMember(this.#core.branch.head, leave.author)) this.#leaves.set(leave.author, leave);
  }

  joinMessage() {
    const { run, signer } = this.#core.context;
    const unsigned = { author: signer.self, height: this.#core.branch.head.height + 1 };
    const join = { ...unsigned, signature: signer.sign(joinBytes(run, unsigned)) };
    return { type: 'join', run, join } as const;
  }

  leaveMessage() {
    const { run, signer } = this.#core.context;
    const unsigned = { author: signer.self, height: this.#core.branch.head.height + 1 };
    const leave = { ...unsigned, signature: signer.sign(leaveBytes(run, unsigned)) };
    return { type: 'leave', run, leave } as const;
  }

  /** Whether `requests` has any. Asked at every event, so nothing is listed. */
  hasRequests(head: Head, { joins }: { joins: boolean }): boolean {
    let leaving = 0;
    for (const leave of this.#leaves.values()) {
      if (isMember(head, leave.author) && isTimely(head, leave)) leaving++;
    }
    if (leaving > 0 && leaving < head.roster.length) return true; // somebody has to stay
    if (!joins || head.roster.length >= LIMITS.rosterMax) return false;
    for (const join of this.#joins.values()) {
      if (!isMember(head, join.author) && isTimely(head, join)) return true;
    }
    return false;
  }

  /** Requests that a block on this head may carry, in canonical order. */
  requests(head: Head): Pick<Block, 'joins' | 'leaves'> {
    const roster = new Set(peersOf(head.roster));
    const joins = [...this.#joins.values()]
      .filter((join) => !roster.has(join.author) && isTimely(head, join))
      .sort((a, b) => comparePeers(a.author, b.author))
      .slice(0, Math.max(0, LIMITS.rosterMax - roster.size));
    const leaves = [...this.#leaves.values()]
      .filter((leave) => roster.has(leave.author) && isTimely(head, leave))
      .sort((a, b) => comparePeers(a.author, b.author));
    if (leaves.length >= roster.size + joins.length) leaves.length = 0; // somebody has to stay
    return { joins, leaves };
  }

  /** A block has taken effect: its requests are done with, and who came and went is told. */
  onBlock(before: Head, after: Head): void {
    const [old, now] = [new Set(peersOf(before.roster)), new Set(peersOf(after.roster))];
    for (const peer of now) if (!old.has(peer)) this.#report(peer, 'joined');
    for (const peer of old) if (!now.has(peer)) this.#report(peer, this.#leaves.has(peer) ? 'left' : 'evicted');
    for (const [peer, join] of this.#joins) if (now.has(peer) || !isTimely(after, join)) this.#joins.delete(peer);
    for (const [peer, leave] of this.#leaves) {
      if (!now.has(peer) || !isTimely(after, leave)) this.#leaves.delete(peer);
    }
  }

  #report(peer: PeerId, change: 'joined' | 'left' | 'evicted'): void {
    this.#core.emit({ type: 'report', report: { kind: 'peer', peer, change } });
  }
}

export function isMember(head: Head, peer: PeerId): boolean {
  let members = membersOf.get(head);
  if (!members) {
    members = new Set(peersOf(head.roster));
    membersOf.set(head, members);
  }
  return members.has(peer);
}

/** Asked for every peer at every event, and a head never changes. */
const membersOf = new WeakMap<Head, Set<PeerId>>();

import { AnchorChain } from './anchors.ts';
import { firstHead, type Head, rootOf, stateAt } from './chain.ts';
import type { Core } from './core.ts';
import { CodedError, isCoded } from './errors.ts';
import type { Event } from './events.ts';
import type { Hash } from './hash.ts';
import { Branch, type BranchStanding, bytesOf, compareBranches } from './history.ts';
import type { PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import { isMember, type Membership } from './membership.ts';
import type { History, MessageOf, PageRequest } from './messages.ts';
import { peersOf, placesIn } from './roster.ts';
import type { AgreedState, Anchor, Entry } from './wire.ts';

/** How long a peer may take to answer before another is asked. */
const ANSWER_MS = 15_000;
/** And before it is asked once more, where there is no other: a large answer may be on its way over a slow link. */
const LATE_ANSWER_MS = 4 * ANSWER_MS;
/** And for all pages of a history: two segments, or a month's unfinal rounds of three peers, come with two megabits a second. */
const HISTORY_MS = 10 * 60_000;
/** So many times the wait for a quorum before unfinal rounds are given up of which something cannot be had. */
export const LOST_WAITS = 2;
/** And for which what others tell of them then is not followed, at first. */
export const LOST_AGAIN_WAITS = 4;
/** However slowly it comes, a state on unfinal rounds is not tried for longer. */
const MISSING_MS_MAX = 60 * 60_000;
const ASK_EVERY_MS = 500;
/** Who is one block ahead has just decided it, and most likely we do too before it is worth asking. */
const PATIENCE_MS = 500;
/** Of a history whose beginning only the block to trust can prove, and nobody has come to yet: more than is ever kept. */
const UNPROVEN_ENTRIES_MAX = 4096;
const UNPROVEN_BYTES_MAX = 64 * 1024 * 1024;
/** Of any: several times what a peer keeps, which forgets what a large run's members may still have. */
const TOLD_BYTES_MAX = 256 * 1024 * 1024;
/** Where a quorum is in sight, entries in a row of which one peer may tell that none has seen. */
const UNSEEN_ENTRIES_MAX = 4096;
/** Who tells of more, or takes longer, is not asked again for so long. */
const ENDLESS_MS = 60_000;
/** Nor who has answered nothing, where there is nobody else: it may have stood still just then. */
const ALONE_MS = 5_000;
/** Unfinal entries of ours that are asked for again, since others may have others in their place. */
const NEWEST = 2;
/** At most one status in this time to a peer that is behind. */
const STATUS_EVERY_MS = 500;

/** A question to one peer, and what it has told so far. */
interface Asked {
  peer: PeerId;
  atMs: number;
  /** when the first page was asked for */
  sinceMs: number;
  /** for another state than the one that is here */
  restore: boolean;
  request: PageRequest;
  /** of the entries that it has told, about */
  bytes: number;
  /** where the history that it tells begins, if that is not in ours */
  chain: AnchorChain;
  fork: Branch | undefined;
}

interface Restoring {
  block: Hash;
  state: AgreedState;
  sinceMs: number;
  /** who told of the state, if it is not one of ours */
  teller: PeerId | undefined;
  isAbandoned: boolean;
}

/** A state that could not be had. */
interface Missing {
  block: Hash;
  /** the last who told of it */
  teller: PeerId;
  /** the last try took long: some of it came */
  isSlow: boolean;
  /** when the first try failed, and when the last one that took long */
  firstMs: number;
  sinceMs: number;
}

/**
 * Finding out that others are further, and following them: statuses are compared, the better branch's blocks are asked
 * for and checked from what is known on, or from anchors that the known committees vouch for; and what is missing is
 * either replayed from payloads or restored from a snapshot whose root a certificate names.
 */
export class Sync {
  /** no agreed state yet, or one that is being replaced */
  restoring: 'initialize' | Restoring | undefined;
  /** the branch was heard to be as good as anybody's at least once, so that a joiner may ask to be let in */
  caughtUp = false;
  /** a snapshot that an earlier process has begun to fetch: tried once more, rather than a newer one from the beginning */
  unfinished: Hash | undefined;
  #asked: Asked | undefined;
  /** since when this peer has no state, for the one that it was to have instead could not be had */
  #missing: Missing | undefined;
  /** a peer that was one block ahead of us */
  #ahead: { peer: PeerId; height: number; atMs: number } | undefined;
  #turn = 0;
  #askedInTurnMs = Number.NEGATIVE_INFINITY;
  /** who has told a history without the pinned block */
  readonly #distrusted = new Set<PeerId>();
  /** who told more than anybody listens to, or too slowly, or nothing of use, and when it may be asked again */
  readonly #wearisome = new Map<PeerId, number>();
  /** who offered itself while another was asked, and when each was asked last */
  readonly #offers = new Set<PeerId>();
  readonly #askedMs = new Map<PeerId, number>();
  readonly #statusSent = new Map<PeerId, number>();
  readonly #core: Core;
  readonly #membership: Membership;

  constructor(core: Core, membership: Membership) {
    this.#core = core;
    this.#membership = membership;
  }

  /** Whoever is further is asked, whoever is behind is told. */
  onStatus(status: MessageOf<'status'>): void {
    const from = status.author;
    const order = compareBranches(status, this.#core.standing());
    if (order < 0) this.#onBetter(from, status.height);
    else if (order > 0) this.#tell(from);
    else this.#onEqual(from);
  }

  /** Who is no member asks to be let in once it has heard this: what it was told while it started may be lost on it. */
  #onEqual(peer: PeerId): void {
    const { branch, self } = this.#core;
    this.caughtUp = true;
    if (isMember(branch.head, self) && !isMember(branch.head, peer)) this.#tell(peer);
  }

  #onBetter(peer: PeerId, height: number): void {
    const { branch, nowMs, atTip } = this.#core;
    // who leaves is not there for long
    const isHurried = !atTip || this.#membership.isLeaving(peer);
    if (height !== branch.head.height + 1 || isHurried) this.ask(peer, false);
    else if (this.#ahead?.height !== height) this.#ahead = { peer, height, atMs: nowMs + PATIENCE_MS };
  }

  /** @param target that was fetched in vain */
  #noteMissing({ block, teller, sinceMs: begunMs }: Restoring): void {
    const { context, nowMs } = this.#core;
    // one of our own that is damaged is damaged the next time, too
    if (teller === undefined) return;
    const isSlow = nowMs >= begunMs + LOST_WAITS * (context.genesis.timing.quorumWaitMs ?? 0);
    const { firstMs = nowMs, sinceMs = nowMs } = this.#missing ?? {};
    // what came so far is here yet, and the next one to be asked may have the rest
    const isPatient = isSlow && nowMs < firstMs + MISSING_MS_MAX;
    this.#missing = { block, teller, isSlow, firstMs, sinceMs: isPatient ? nowMs : sinceMs };
  }

  /**
   * A state on unfinal rounds may be gone with those who made them: then those go as well, from the state before.
   * @returns whether the branch is another now
   */
  doWithoutMissing(): boolean {
    const { applied, branch, context, nowMs } = this.#core;
    const { quorumWaitMs } = context.genesis.timing;
    // another may be about to tell of one that it has
    if (!this.#missing || applied || this.restoring || this.#asked || quorumWaitMs === null) return false;
    const { block, teller, isSlow, sinceMs } = this.#missing;
    const certified = branch.certifiedLength();
    if (branch.find(block) <= certified) return false;
    const waitMs = LOST_WAITS * quorumWaitMs;
    const mayCome = isSlow && this.#membership.isConnected(teller);
    const atMs = sinceMs + (mayCome ? Math.max(waitMs, HISTORY_MS) : waitMs);
    if (nowMs < atMs) {
      this.#core.wakeAt(atMs);
      return false;
    }
    this.#missing = undefined;
    const position = this.goBack();
    const isNear =
      position !== undefined && branch.head.round - branch.heads[position]!.round <= LIMITS.payloadRoundsKept;
    if (isNear) return false;
    this.#core.warn('W_ROUND_LOST', 'unfinal rounds are given up: nobody who can be reached has the state after them');
    this.#core.giveUp(Math.max(certified, position ?? 0), LOST_AGAIN_WAITS * quorumWaitMs);
    return true;
  }

  /** Asks a peer that was one block ahead, if we did not get there by ourselves: then we are as far as it was. */
  progress(): void {
    if (!this.#ahead) return;
    const { peer, height, atMs } = this.#ahead;
    if (this.#core.branch.head.height < height) {
      if (this.#core.nowMs < atMs) return this.#core.wakeAt(atMs);
      this.ask(peer, false);
    } else this.caughtUp = true;
    this.#ahead = undefined;
  }

  /**
   * Asks a peer for its history after the certified block that we are at, one question at a time: but for unfinal entries of
   * which others have most; where two were made at once, all but the last.
   */
  ask(peer: PeerId, restore: boolean): void {
    const { nowMs } = this.#core;
    if (peer === this.#core.self || this.restoring) return;
    if (this.#asked && nowMs < this.#asked.atMs + (this.#asked.peer === peer ? LATE_ANSWER_MS : ANSWER_MS)) {
      this.#noteOffer(peer);
      return;
    }
    if (this.#isResting(peer)) return;
    if (this.#asked) this.#restFrom(this.#asked);
    this.#question(this.#longestNotAsked(peer), restore);
  }

  /** Of those who can be asked alone: names cost nothing, and would leave no room. A member takes a stranger's. */
  #noteOffer(peer: PeerId): void {
    if (!this.#membership.isConnected(peer)) return;
    if (this.#offers.size >= LIMITS.rosterMax) {
      const { head } = this.#core.branch;
      const stranger = isMember(head, peer) && [...this.#offers].find((other) => !isMember(head, other));
      if (!stranger) return;
      this.#offers.delete(stranger);
    }
    this.#offers.add(peer);
  }

  /** Of a peer and of those who offered themselves while another was asked: else who does so all the time would always be. */
  #longestNotAsked(peer: PeerId): PeerId {
    const members = placesIn(peersOf(this.#core.branch.head.roster));
    const others = [...this.#offers].filter((other) => this.#membership.isConnected(other) && !this.#isResting(other));
    const askedMs = (each: PeerId) => this.#askedMs.get(each) ?? Number.NEGATIVE_INFINITY;
    const isBetter = (a: PeerId, b: PeerId): boolean => {
      return members.has(a) === members.has(b) ? askedMs(a) < askedMs(b) : members.has(a);
    };
    // of two who were not asked for as long, who offered itself first
    const offers = [...others.filter((other) => other !== peer), peer];
    return offers.reduce((best, other) => (isBetter(other, best) ? other : best));
  }

  #isResting(peer: PeerId): boolean {
    return this.#core.nowMs < (this.#wearisome.get(peer) ?? 0);
  }

  #question(peer: PeerId, restore: boolean): void {
    const { nowMs, branch } = this.#core;
    this.#offers.delete(peer);
    if (this.#askedMs.size >= LIMITS.rosterMax) this.#askedMs.clear();
    this.#askedMs.set(peer, nowMs);
    const { context } = this.#core;
    const chain = new AnchorChain(context, firstHead(context.genesis, context.run), branch.head);
    const { skip, ...page } = pageAfter(branch);
    const request = { ...page, skip: Math.max(0, skip - NEWEST) };
    this.#ask({ peer, atMs: nowMs, sinceMs: nowMs, restore, request, bytes: 0, chain, fork: undefined });
  }

  #ask(asked: Asked): void {
    this.#asked = asked;
    this.#core.emit({ type: 'request-history', peer: asked.peer, request: asked.request });
  }

  /** Asks those with a connection in turn, not more than one in `ASK_EVERY_MS`: for what somebody must have. */
  askInTurn(restore: boolean): void {
    const { nowMs } = this.#core;
    const peers = this.#membership.connected();
    if (peers.length === 0) return;
    const atMs = this.#askedInTurnMs + ASK_EVERY_MS;
    if (nowMs < atMs) return this.#core.wakeAt(atMs);
    this.#askedInTurnMs = nowMs;
    this.#core.wakeAt(nowMs + ASK_EVERY_MS);
    this.ask(peers[this.#turn++ % peers.length]!, restore);
  }

  /** The initial parameters become the state. */
  initialize(): void {
    this.restoring = 'initialize';
    this.#core.emit({ type: 'initialize', keep: this.#core.keepNeeded() });
  }

  /** @returns whether there is a new agreed state */
  restored(event: Event & { type: 'restored' }): boolean {
    const target = this.restoring;
    const { branch } = this.#core;
    this.restoring = undefined;
    if (!target) return false;
    this.unfinished = undefined;
    if (event.error && target !== 'initialize' && target.isAbandoned) {
      this.#restFromTeller(target);
      return false;
    }
    if (event.error) {
      this.#core.warn(event.error, 'the snapshot could not be had; asking again');
      if (target !== 'initialize') {
        this.#restFromTeller(target);
        this.#noteMissing(target);
      }
      return false;
    }
    this.#missing = undefined;
    const position = target === 'initialize' ? 0 : branch.find(target.block);
    if (position < 0) return false; // the branch was left meanwhile
    const snapshot = { id: event.snapshot, bytes: event.snapshotBytes };
    const state = target === 'initialize' ? stateAt(branch.heads[0]!, snapshot) : target.state;
    const { root } = this.#core.setApplied(position, state, true);
    this.#core.emit({ type: 'report', report: { kind: 'synced', round: state.round, root } });
    return true;
  }

  /**
   * Takes an answer, and what it tells becomes the branch that this peer follows if it is better than the one it has.
   * @param busy a block is being applied, so the branch must stay
   * @returns whether the branch is another now
   */
  follow(peer: PeerId, history: History | null, busy: boolean): boolean {
    const asked = this.#asked;
    const followed = this.#onHistory(peer, history);
    if (asked?.peer === peer && !this.#asked && !followed) this.#restFrom(asked);
    if (!followed || busy || this.restoring) return false;
    const { fork, states, restore } = followed;
    if (this.#moveTo(fork, states, restore, peer)) {
      // they were ahead of where we were
      this.#offers.clear();
      return true;
    }
    this.#core.warn('W_NO_STATE', `peer ${peer} serves no state that its history certifies; asking others`);
    return false;
  }

  /**
   * Back to a branch that this peer has left, with what was decided on it. It is looked for as often as others are asked.
   * @returns whether there is one, with a state
   */
  returnTo(decision: Entry): boolean {
    const { previous } = decision.block;
    const { nowMs, states } = this.#core;
    if (nowMs < this.#askedInTurnMs + ASK_EVERY_MS) return false;
    const branch = this.#core.branchLeft(previous);
    if (!branch || !this.#core.trusts(branch)) return false;
    branch.append(decision);
    return this.#moveTo(branch, [], states.has(previous), undefined);
  }

  /** @returns whether there is a state to go on from on that branch */
  #moveTo(fork: Branch, states: AgreedState[], restore: boolean, teller: PeerId | undefined): boolean {
    const start = this.#startingPoint(fork, states, restore);
    if (start.position === undefined) return false;
    this.#core.follow(fork);
    const { applied } = this.#core;
    // the branch may begin elsewhere than the one before
    this.#core.applied =
      start.initialize || start.state || !applied ? undefined : { ...applied, position: start.position };
    if (start.initialize) this.initialize();
    else if (start.state) this.#restore(start.position, start.state, teller);
    return true;
  }

  /** What is on its way lies past what others can follow, and with them there is something to go on with: it is not waited for. */
  abandonPast(position: number): void {
    const { restoring } = this;
    if (restoring === undefined || restoring === 'initialize' || restoring.teller === undefined) return;
    if (restoring.isAbandoned || this.#core.branch.find(restoring.block) <= position) return;
    restoring.isAbandoned = true;
    this.#core.emit({ type: 'abandon' });
  }

  /** Back to the newest state of the branch that is still here. @returns its position, if there is one */
  goBack(): number | undefined {
    const { branch, states } = this.#core;
    this.#core.applied = undefined;
    for (let position = branch.heads.length - 1; position >= 0; position--) {
      const state = states.get(branch.heads[position]!.tip);
      if (!state) continue;
      this.#restore(position, state, undefined);
      return position;
    }
    return undefined;
  }

  #restore(position: number, state: AgreedState, teller: PeerId | undefined): void {
    const block = this.#core.branch.heads[position]!.tip;
    this.restoring = { block, state, sinceMs: this.#core.nowMs, teller, isAbandoned: false };
    const own = this.#core.ownHistory(position);
    const holders = [...(teller === undefined ? [] : [teller]), ...this.#membership.reachable()];
    this.#core.emit({ type: 'restore', state, block, holders, own, keep: this.#core.keepNeeded() });
  }

  /** The branch that was told, checked, when there is something better in it. */
  #onHistory(
    peer: PeerId,
    history: History | null,
  ): { fork: Branch; states: AgreedState[]; restore: boolean } | undefined {
    const asked = this.#asked;
    if (asked?.peer !== peer) return undefined;
    this.#asked = undefined;
    if (!history) return undefined;
    const { anchors, entries, more, states } = history;
    if (this.#isBeside(asked, history)) {
      this.#ask({ ...asked, atMs: this.#core.nowMs, request: { ...asked.request, skip: 0 } });
      return undefined;
    }
    let fork: Branch | undefined;
    try {
      fork = this.#take(asked, history);
    } catch (error) {
      if (!isCoded(error)) throw error;
      if (error.code === 'E_ENDLESS') this.#tireOf(peer, error.message);
      else this.#core.warn(error.code, `peer ${peer}: ${error.message}`);
      return undefined;
    }
    // nobody is listened to for long who cannot prove where the history begins
    if (!this.#isProven(asked, fork)) return undefined;
    if (fork && this.#isEndless(asked, fork)) return undefined;
    // anchors are of no use once there is a branch
    if (more && (fork ? entries : anchors).length > 0) {
      const bytes = asked.bytes + bytesOf(entries);
      if (this.#isSlow(asked) || this.#isLong(peer, bytes)) return undefined;
      const request = fork ? pageAfter(fork) : { ...asked.request, anchors: asked.chain.told };
      this.#ask({ ...asked, atMs: this.#core.nowMs, bytes, fork, request });
      return undefined;
    }
    if (!fork || (this.#core.pinIsMissing && !this.#isTrusted(asked, fork))) return undefined;
    this.caughtUp = true;
    // what too few went on with does not take from what was decided before, but costs the time of who told it
    const credible = this.#membership.seesQuorum(fork.head.committee) ? fork.credibleLength() : fork.entries.length;
    if (credible < fork.entries.length) this.#restFrom(asked);
    fork.truncate(credible);
    if (this.#core.isLost(fork)) return undefined;
    const order = compareBranches(standingOf(fork.head), this.#core.standing());
    const wanted = order < 0 || (order === 0 && (asked.restore || !this.#core.applied));
    return wanted && this.#isTrusted(asked, fork) ? { fork, states, restore: asked.restore } : undefined;
  }

  /** What was left out is not what we have: the other's branch is another from before on. */
  #isBeside({ request, fork }: Asked, { anchors, entries }: History): boolean {
    if (request.skip === 0 || fork || anchors.length > 0) return false;
    const [first] = entries;
    return !first || this.#core.branch.find(first.block.previous) < 0;
  }

  /**
   * A page of what a peer tells.
   * @returns the branch so far; undefined as long as only the anchors to its beginning are there
   * @throws CodedError `E_HISTORY`, `E_ENDLESS`
   */
  #take({ chain, request, fork: before }: Asked, { anchors, entries, more }: History): Branch | undefined {
    const strict = !this.#core.pinIsMissing;
    if (!before) for (const anchor of anchors) chain.add(anchor, { strict });
    if (strict && !chain.isProven) return undefined;
    if (!before && more && entries.length === 0) return undefined;
    const fork =
      before ?? (chain.anchors.length > 0 ? this.#begin(chain.anchors, request) : this.#attach(entries, request));
    fork.extend(entries);
    return fork;
  }

  /** A branch that begins with what was told: after all of ours, for else it would have to begin in it. */
  #begin(anchors: readonly Anchor[], request: PageRequest): Branch {
    const branch = new Branch(this.#core.context, { anchors, passed: null, pinned: this.#core.pinBehind });
    if (branch.heads[0]!.height > request.fromHeight) return branch;
    throw new CodedError('E_HISTORY', 'a history that begins where ours is known, and not in it');
  }

  /** Whether the beginning is proven so far, or a block that is known may yet prove it. */
  #isProven({ peer, chain }: Asked, fork: Branch | undefined): boolean {
    if (chain.isProven) return true;
    const entries = fork?.entries ?? [];
    const isLong = entries.length > UNPROVEN_ENTRIES_MAX || bytesOf(entries) > UNPROVEN_BYTES_MAX;
    if (this.#core.pinIsMissing && !isLong) return true;
    const what = 'begins after all that this peer knows, and too few who voted before signed it: give --trust-block';
    return this.#distrust(peer, what);
  }

  /** Rounds that no quorum has seen are made by anybody, as many as one likes; others are to be asked meanwhile. */
  #isEndless({ peer }: Asked, fork: Branch): boolean {
    const { entries, head } = fork;
    if (!this.#membership.seesQuorum(head.committee)) return false;
    if (entries.length - fork.credibleLength() <= UNSEEN_ENTRIES_MAX) return false;
    return this.#tireOf(peer, 'tells of rounds without end that no quorum has seen');
  }

  /** Page by page, each in its time, one peer could keep us from asking others for hours. */
  #isSlow({ peer, sinceMs }: Asked): boolean {
    if (this.#core.nowMs < sinceMs + HISTORY_MS) return false;
    return this.#tireOf(peer, `has not come to the end of its history in ${HISTORY_MS / 60_000} minutes`);
  }

  /** Anybody may have kept all that there ever was. */
  #isLong(peer: PeerId, bytes: number): boolean {
    if (bytes <= TOLD_BYTES_MAX) return false;
    return this.#tireOf(peer, `tells a history of more than ${TOLD_BYTES_MAX / 1024 / 1024} MiB`);
  }

  #tireOf(peer: PeerId, why: string): true {
    this.#core.warn('W_ENDLESS', `peer ${peer} ${why}: asking others`);
    this.#leaveAlone(peer, this.#core.nowMs + ENDLESS_MS);
    return true;
  }

  /** A question that led to nothing: for as long as it took, others are asked. Else the first to offer itself would always be. */
  #restFrom({ peer, sinceMs }: Pick<Asked, 'peer' | 'sinceMs'>): void {
    const { nowMs } = this.#core;
    this.#leaveAlone(peer, nowMs + Math.min(nowMs - sinceMs, this.#isAlone(peer) ? ALONE_MS : ENDLESS_MS));
  }

  /** It may be the only one that has the state, and in no hurry: where there are others, they are asked for theirs. */
  #restFromTeller({ teller, sinceMs }: Restoring): void {
    if (teller !== undefined && !this.#isAlone(teller)) this.#restFrom({ peer: teller, sinceMs });
  }

  /** There is nobody else to ask. */
  #isAlone(peer: PeerId): boolean {
    return this.#membership.connected().every((each) => each === peer);
  }

  #leaveAlone(peer: PeerId, untilMs: number): void {
    if (this.#wearisome.size >= LIMITS.rosterMax) this.#wearisome.clear();
    this.#wearisome.set(peer, Math.max(untilMs, this.#wearisome.get(peer) ?? 0));
  }

  /**
   * Certificates prove a history to those who know who voted; a block known from elsewhere proves it to a newcomer, and
   * where those who could vouch for its beginning are gone.
   */
  #isTrusted({ peer }: Asked, fork: Branch): boolean {
    if (this.#core.trusts(fork)) return true;
    const what = this.#core.pinIsMissing
      ? 'does not have the block to trust (is it older? name a newer one): waiting for one that has it'
      : 'does not have what a quorum has certified here: it is not followed';
    return this.#distrust(peer, `up to round ${fork.head.round}, ${what}`);
  }

  #distrust(peer: PeerId, what: string): false {
    if (!this.#distrusted.has(peer) && this.#distrusted.size < LIMITS.rosterMax) {
      this.#distrusted.add(peer);
      this.#core.warn('W_UNTRUSTED', `the history that peer ${peer} tells ${what}`);
    }
    return false;
  }

  /**
   * Where to go on from on a branch: from the state that is applied when the branch contains it and the missing rounds'
   * payloads can still be had, else from the newest state whose root a later block of the branch names, a certified one where
   * the state is of the certified part, one that others can follow where it is of that.
   */
  #startingPoint(fork: Branch, states: AgreedState[], restore: boolean): StartingPoint {
    const { applied } = this.#core;
    const position = applied ? fork.find(applied.head.tip) : -1;
    // who goes on from there with too few others to be followed may name another root than the true one
    const credible = fork.credibleLength();
    const named = position >= 0 ? baseAfter(fork, position) : undefined;
    const isOurs = named === undefined || named === applied?.root;
    if (applied && position >= 0) {
      if (!isOurs && position >= credible) return {};
      const behind = fork.head.round - applied.state.round;
      if (isOurs && !restore && behind <= LIMITS.payloadRoundsKept) return { position };
    }
    // one that leads no further than this peer is already is as good as any other
    const passed = applied && position >= 0 ? applied.state.round : -1;
    const isBegun = ({ snapshot, round }: AgreedState): number =>
      Number(snapshot === this.unfinished && round > passed);
    const own = new Set(this.#core.states.values());
    const candidates = [...states, ...own];
    for (const state of candidates.sort((a, b) => isBegun(b) - isBegun(a) || b.round - a.round)) {
      // what came after it is replayed from payloads, and those are not kept for longer
      if (fork.head.round - state.round > LIMITS.payloadRoundsKept) continue;
      // nothing newer is on offer than what is here: what comes after it is still to be had from somebody
      if (applied && position >= 0 && isOurs && state.round <= applied.state.round) return { position };
      const start = roundStart(fork, state.round);
      const root = rootOf(state);
      if (start === undefined || baseAfter(fork, start) !== root) continue;
      // what stays when those rounds are given up must not rest on them: all others would vote on another state than this peer
      if ((start === credible || start === fork.certifiedLength()) && !own.has(state)) continue;
      // what genesis tells is made here, not fetched
      if (state.round === 0) break;
      return { position: start, state };
    }
    const isWhole = fork.heads[0]!.height === 0;
    return isWhole && fork.head.round <= LIMITS.payloadRoundsKept ? { position: 0, initialize: true } : {};
  }

  #tell(peer: PeerId): void {
    const last = this.#statusSent.get(peer) ?? Number.NEGATIVE_INFINITY;
    if (this.#core.nowMs < last + STATUS_EVERY_MS) return;
    if (this.#statusSent.size >= LIMITS.rosterMax) this.#statusSent.clear();
    this.#statusSent.set(peer, this.#core.nowMs);
    this.#core.emit({ type: 'send', peer, message: this.#core.status() });
  }

  /** Where it was asked for from: what is known here is not to be checked again, which takes seconds where it is long. */
  #attach(entries: readonly Entry[], { fromHeight }: PageRequest): Branch {
    const { branch } = this.#core;
    if (entries.length === 0) return branch.fork(branch.entries.length);
    const position = branch.find(entries[0]!.block.previous);
    if (position < 0) throw new CodedError('E_HISTORY', 'a history that does not begin in ours');
    if (branch.heads[position]!.height < fromHeight) {
      throw new CodedError('E_HISTORY', 'a history that begins before what was asked for');
    }
    return branch.fork(position);
  }
}

/** Nothing set: no state of this branch can be had from this peer. */
export interface StartingPoint {
  position?: number;
  state?: AgreedState;
  initialize?: boolean;
}

/** What comes after all of a branch. */
function pageAfter({ head, heads, entries }: Branch): PageRequest {
  const fromHeight = head.height;
  const first = heads.findIndex(({ height }) => height === fromHeight);
  return { fromHeight, skip: entries.length - first, anchors: 0 };
}

/** Position right after the block that began a round. */
function roundStart(fork: Branch, round: number): number | undefined {
  const position = fork.heads.findIndex((head) => head.round === round);
  return position < 0 ? undefined : position;
}

/** The root that the block after a position builds on, a change of membership like a round; undefined when there is none yet. */
function baseAfter(fork: Branch, position: number): Hash | undefined {
  return fork.entries[position]?.block.base;
}

function standingOf({ height, unfinalTokens, round, tip }: Head): BranchStanding {
  return { height, unfinalTokens, round, tip };
}

import type { Agreement } from './agreement.ts';
import { checkBlock, type Head, hasRoomForUnfinal, headHash } from './chain.ts';
import type { Applied, Core } from './core.ts';
import { isCoded } from './errors.ts';
import type { PeerId } from './identity.ts';
import { isMember, type Membership } from './membership.ts';
import { Patience } from './patience.ts';
import type { Payloads } from './payloads.ts';
import { quorumOf } from './roster.ts';
import { GATHERING, type Round } from './round.ts';
import type { Unfinal } from './unfinal.ts';
import type { Block, Certificate, Entry } from './wire.ts';

/**
 * Bringing a round to its end: when there is something to decide on, the leader proposes it, the others check and vote,
 * a view that takes too long is given up, and where no quorum is left the rest go on without one.
 */
export class Closing {
  readonly #core: Core;
  readonly #membership: Membership;
  readonly #payloads: Payloads;
  readonly #unfinal: Unfinal;
  /** with the views of a height: a dead leader costs a whole one, so not much longer than others need */
  readonly #patience = new Patience({ margin: 2, stretchMax: 8 });
  #height = 0;
  #view = 0;
  #viewSinceMs = 0;
  /** when this peer came to each view of the height; those that it skipped are missing */
  readonly #viewStartsMs = new Map<number, number>();
  #readySinceMs: number | undefined;
  /** since when this peer would end the round */
  #completeSinceMs: number | undefined;
  /** what was found of the block that was looked at last, when it came */
  #judged: { block: Block; isFair: boolean } | undefined;
  #isShort = false;
  /** when voters that are far were counted as absent in this round, whatever they had said */
  readonly #farCountedMs = new Map<PeerId, number>();
  /** the user was told that there is no quorum, and that no more unfinal rounds may be made */
  #missSaid = false;
  #fullSaid = false;

  constructor(core: Core, membership: Membership, payloads: Payloads, unfinal: Unfinal) {
    this.#core = core;
    this.#membership = membership;
    this.#payloads = payloads;
    this.#unfinal = unfinal;
  }

  /** There is something to decide on, and it is not decided. */
  get isWaiting(): boolean {
    return this.#readySinceMs !== undefined;
  }

  /** The round waits for voters who are gone: nobody goes on without them. */
  get isShort(): boolean {
    return this.#isShort;
  }

  beginRound(): void {
    this.#readySinceMs = undefined;
    this.#completeSinceMs = undefined;
    this.#farCountedMs.clear();
  }

  /** A block of this height is decided, perhaps that of an earlier view: the next heights get as much time for it. */
  onDecided({ height, view }: Pick<Certificate, 'height' | 'view'>): void {
    // of an earlier height, where several are decided at once
    const startMs = height === this.#height ? this.#viewStartsMs.get(view) : undefined;
    if (this.#readySinceMs === undefined || startMs === undefined) return; // we came late ourselves
    const tookMs = this.#core.nowMs - Math.max(this.#readySinceMs, startMs);
    this.#patience.learn({ plannedMs: this.#core.context.genesis.timing.viewMs, tookMs, begun: true });
  }

  /** A certified block has been applied. @param before where the branch stood: it may have unfinal rounds in it */
  onFinalRound(before: Head): void {
    this.#fullSaid = false;
    if (!this.#missSaid) return;
    this.#missSaid = false;
    const too = before.unfinalTokens > 0 ? 'this round and the unfinal ones before it are' : 'this round is';
    this.#core.warn('W_FINAL_AGAIN', `a quorum is back: ${too} final`);
  }

  /** One push forward. @returns an unfinal entry, when all who are left have signed it */
  advance(agreement: Agreement, round: Round | undefined): Entry | undefined {
    const { nowMs } = this.#core;
    const applied = this.#core.applied!;
    this.#isShort = false;
    this.#noteView(agreement);
    const kind = this.#freshKind(applied, round);
    if (kind !== 'round') this.#completeSinceMs = undefined;
    else this.#completeSinceMs ??= nowMs;
    this.#notarizeIfSound(agreement, applied, round);
    const locked = agreement.lockedBlock();
    if (!kind && !locked && !agreement.proposal) {
      this.#readySinceMs = undefined;
      return undefined;
    }
    this.#readySinceMs ??= nowMs;
    // a block notarized in an earlier view is most likely being finalized: repeating it at once would be noise; after some
    // views it is not, and the whole view may be needed
    const wait = locked !== undefined && agreement.view <= LOCKED_VIEWS_PATIENT;
    const proposeAtMs = wait ? this.#viewSinceMs + this.#viewMs(agreement) / 2 : this.#readySinceMs;
    if (nowMs >= proposeAtMs) this.#propose(agreement, applied, kind, round);
    else this.#core.wakeAt(proposeAtMs);
    this.#notarizeIfSound(agreement, applied, round);
    const deadlineMs = this.#waitingSinceMs + this.#viewMs(agreement);
    if (nowMs >= deadlineMs) agreement.nullify();
    else this.#core.wakeAt(deadlineMs);
    if (kind === 'membership' && applied.head.places.length === 0) this.#sayWhenStuck(applied);
    if (kind !== 'round' || !round || !this.#mayGoOn(agreement, applied, round)) return undefined;
    return this.#unfinal.progress(round, this.#core.context.genesis.timing.viewMs);
  }

  /**
   * How long this view may take: what earlier heights needed, and twice as long with every view, so that slow links get a
   * block through in the end.
   */
  #viewMs({ view }: Agreement): number {
    const { viewMs, quorumWaitMs } = this.#core.context.genesis.timing;
    const longestMs = quorumWaitMs === null ? VIEW_MS_MAX : Math.max(viewMs, quorumWaitMs / 2);
    return Math.min(this.#patience.waitMs(viewMs) * 2 ** Math.min(view, DOUBLINGS_MAX), longestMs);
  }

  /** Since when there is something to decide in this view. */
  get #waitingSinceMs(): number {
    return Math.max(this.#readySinceMs!, this.#viewSinceMs);
  }

  #noteView({ height, view }: Agreement): void {
    if (height === this.#height && view === this.#view) return;
    if (height !== this.#height) this.#viewStartsMs.clear();
    this.#height = height;
    this.#view = view;
    this.#viewSinceMs = this.#core.nowMs;
    this.#viewStartsMs.set(view, this.#core.nowMs);
  }

  /** What there is to decide on now: the round, once complete, or a change of membership that cannot wait for it. */
  #freshKind({ head }: Applied, round: Round | undefined): Block['kind'] | undefined {
    const started = head.places.length > 0;
    const isLive = (peer: PeerId): boolean => this.#membership.isLive(peer) && isMember(head, peer);
    const isFar = (peer: PeerId): boolean => isLive(peer) && !this.#membership.isConnected(peer);
    if (started && round?.isComplete(isLive, isFar)) return 'round';
    // before the first round everybody who is to wait for comes in; later, joining can wait for the round's end
    return this.#membership.hasRequests(head, { joins: !started }) ? 'membership' : undefined;
  }

  /** Only the leader lists what it would decide on: with many peers that is long, and asked at every event. */
  #propose(agreement: Agreement, applied: Applied, kind: Block['kind'] | undefined, round: Round | undefined): void {
    if (agreement.leader() === this.#core.self) agreement.propose(kind && this.#freshBlock(kind, applied, round));
  }

  #freshBlock(kind: Block['kind'], { head, root }: Applied, round: Round | undefined): Block {
    const place = { height: head.height + 1, previous: head.tip, round: head.round, base: root };
    const common = { ...place, head: headHash(head), members: null };
    const requests = this.#membership.requests(head);
    if (kind === 'round') return { ...common, kind, updates: round?.held() ?? [], ...requests };
    const joins = head.places.length > 0 ? [] : requests.joins;
    return { ...common, kind, updates: [], ...requests, joins };
  }

  #notarizeIfSound(agreement: Agreement, { root }: Applied, round: Round | undefined): void {
    const { proposal } = agreement;
    if (!proposal || !agreement.isVoter || agreement.hasVoted('notarize')) return;
    if (agreement.proposalIsLocked()) return agreement.notarize();
    const { branch, context } = this.#core;
    try {
      checkBlock(context, branch.head, proposal.block, root);
    } catch (error) {
      if (!isCoded(error)) throw error;
      return; // not ours to judge if we are behind, and the view's time runs out if it is plain wrong
    }
    const isItsTime = this.#isItsTime(proposal.block, agreement, round);
    if (this.#payloads.require(proposal.block, () => [proposal.author]) !== 'held') return;
    if (isItsTime) agreement.notarize();
  }

  /**
   * Whether a round may end so, as far as this voter has seen: a leader may not cut off the others who are still training, nor
   * leave out so many who are done, nor put the end off by one change of membership after the other. What is not time yet
   * may be at a later event, and at the end of the view the next one leads.
   */
  #isItsTime(block: Block, agreement: Agreement, round: Round | undefined): boolean {
    if (!round || round.base !== block.base) return true;
    if (block.kind === 'membership') return (this.#completeSinceMs ?? Number.POSITIVE_INFINITY) >= this.#viewSinceMs;
    if (this.#judged?.block !== block) this.#judged = { block, isFair: round.isFairTo(block.updates) };
    // others may know better, and in the end any list is better than none
    if (!this.#judged.isFair && agreement.view < FAIR_VIEWS) return false;
    const isOver = this.#completeSinceMs !== undefined || this.#membership.leaving;
    return isOver || block.updates.length >= quorumOf(round.places.length);
  }

  /** No quorum for the stated time, or none since the last unfinal round. */
  #mayGoOn(agreement: Agreement, { head }: Applied, round: Round): boolean {
    const { context, nowMs, self } = this.#core;
    const { quorumWaitMs, viewMs } = context.genesis.timing;
    const { committee } = head;
    if (!isMember(head, self)) return false;
    const quorum = quorumOf(committee.length);
    const live = (): number => this.#live(committee);
    const sinceMs = this.#waitingSinceMs;
    if (quorumWaitMs === null) {
      // longer than the longest view, from when nobody can be waiting for payloads any more
      const wait = { sinceMs, stretch: GATHERING.stretchMax, forMs: VIEW_MS_MAX + viewMs };
      if (live() >= quorum) this.#countSilentAsAbsent(agreement, committee, round, wait);
      this.#isShort = nowMs >= this.#readySinceMs! + viewMs && live() < quorum;
      if (this.#isShort) this.#sayNoQuorum('W_NO_QUORUM', live(), committee.length, 'waiting for them');
      return false;
    }
    const waited = nowMs >= sinceMs + quorumWaitMs;
    if (!waited && !(head.unfinalTokens > 0 && live() < quorum)) {
      this.#core.wakeAt(sinceMs + quorumWaitMs);
      return false;
    }
    // who still waits for the payloads that are here is silent as well
    const wait = { sinceMs, stretch: 1, forMs: quorumWaitMs };
    if (live() >= quorum) this.#countSilentAsAbsent(agreement, committee, round, wait);
    if (live() >= quorum) return false;
    this.#isShort = !hasRoomForUnfinal(head);
    if (this.#isShort) this.#sayNoRoom(head);
    else this.#sayNoQuorum('W_UNFINAL', live(), committee.length, 'going on in unfinal rounds');
    // those who are far hear of it by way of others: in rounds that go by faster than a view nobody would say a word in it
    if (!agreement.hasVoted('notarize')) agreement.nullify();
    return !this.#isShort;
  }

  /**
   * Reachable, it seems, but silent all the time: as good as gone until it says something. Of one that is far nobody tells that it
   * has gone, whatever it said in this view; and had enough been there, the view would be over.
   * @param wait for so long after there is something to decide, and the planned end of the round, of so many times the wait
   */
  #countSilentAsAbsent(
    agreement: Agreement,
    voters: readonly PeerId[],
    round: Round,
    { sinceMs, stretch, forMs }: { sinceMs: number; stretch: number; forMs: number },
  ): void {
    const { nowMs, self } = this.#core;
    const plannedMs = round.plannedEndMs(stretch);
    const silentMs = Math.max(sinceMs, plannedMs) + forMs;
    // those who have not even trained may be gone as well
    const farMs = Math.max(sinceMs, Math.min(plannedMs, round.waitEndMs())) + forMs + FAR_MS;
    for (const atMs of [silentMs, farMs]) if (nowMs < atMs) this.#core.wakeAt(atMs);
    if (nowMs < Math.min(silentMs, farMs)) return;
    const heard = agreement.votersHeard();
    const isGone = (peer: PeerId): boolean => {
      if (nowMs >= silentMs && !heard.has(peer)) return true;
      if (nowMs < farMs || this.#membership.isConnected(peer)) return false;
      // who was counted and has said something since then is there
      if (nowMs < (this.#farCountedMs.get(peer) ?? Number.NEGATIVE_INFINITY) + FAR_MS) return false;
      this.#farCountedMs.set(peer, nowMs);
      return true;
    };
    for (const peer of voters) if (peer !== self && isGone(peer)) this.#membership.absent.add(peer);
  }

  /** Before the first round there is nothing that could go on without a quorum. */
  #sayWhenStuck({ head: { committee } }: Applied): void {
    const { viewMs, quorumWaitMs } = this.#core.context.genesis.timing;
    if (this.#core.nowMs >= this.#waitingSinceMs + (quorumWaitMs ?? viewMs)) {
      this.#sayNoQuorum('W_NO_QUORUM', this.#live(committee), committee.length, 'the first round waits for them');
    }
  }

  #live(committee: readonly PeerId[]): number {
    return committee.filter((peer) => this.#membership.isLive(peer)).length;
  }

  #sayNoRoom({ unfinal: { rounds } }: Head): void {
    if (this.#fullSaid) return;
    this.#fullSaid = true;
    this.#core.warn(
      'W_NO_QUORUM',
      `after ${rounds} unfinal rounds in a row others could follow no more: waiting for voters`,
    );
  }

  /** Once, until there is one again. */
  #sayNoQuorum(code: 'W_NO_QUORUM' | 'W_UNFINAL', live: number, voters: number, what: string): void {
    const quorum = quorumOf(voters);
    if (this.#missSaid || live >= quorum) return;
    this.#missSaid = true;
    this.#core.warn(code, `${live} of ${voters} voters can be reached, ${quorum} are needed: ${what}`);
  }
}

const DOUBLINGS_MAX = 5;
/** Views of a height in which a list must have what most others have. */
const FAIR_VIEWS = 4;
/** Views of a height in which a leader waits before it repeats a locked block. */
const LOCKED_VIEWS_PATIENT = 3;
const VIEW_MS_MAX = 60_000;
/** Within it gossip has carried again what was said in a view, however far, if it was lost the first time. */
const FAR_MS = 150_000;

import type { Chatter } from './chatter.ts';
import type { Core } from './core.ts';
import { isMember, type Membership } from './membership.ts';

/** How long a peer that is done stays, for others to fetch what they lack, or to hear its last votes. */
const LINGER_MS = { rounds: 2000, left: 500 } as const;

/**
 * How long others are waited for where no quorum has decided on the last rounds: a connection that is gone is made again in about
 * as much. And where too few have made these for others to follow, who would make them anew.
 */
const UNFINAL_MS = 60_000;
const LONELY_MS = 10 * 60_000;
const UNFINAL_END =
  'no quorum has decided on the last round, and the others may have ended with another: if so, start this peer again when one of them can be reached';

/** How a peer's part in a run ends: after the last round, or because its user wants to go. */
export class Ending {
  /** nothing is done any more */
  done = false;
  readonly #core: Core;
  readonly #membership: Membership;
  readonly #chatter: Chatter;
  /** since when the last round is reached, or the roster left */
  #end: { reason: 'rounds' | 'left'; sinceMs: number; isUnfinal: boolean } | undefined;
  /** since when nothing has happened that may lead to another end, where this one is unfinal */
  #quietSinceMs: number | undefined;
  #wasAlone = true;
  #waitSaid = false;

  constructor(core: Core, membership: Membership, chatter: Chatter) {
    this.#core = core;
    this.#membership = membership;
    this.#chatter = chatter;
  }

  /** The last round is reached, or the roster left: nothing more is trained or agreed on. */
  get isReached(): boolean {
    return this.#end !== undefined;
  }

  reach(reason: 'rounds' | 'left'): void {
    if (!this.#end) this.#begin(reason);
  }

  #begin(reason: 'rounds' | 'left'): void {
    this.#end = { reason, sinceMs: this.#core.nowMs, isUnfinal: false };
    this.#chatter.sayWhereWeEnd();
  }

  /** Others' history has led back to before the last round. */
  goOn(): void {
    if (this.#end?.reason !== 'rounds') return;
    this.#end = undefined;
    this.#quietSinceMs = undefined;
    this.#waitSaid = false;
  }

  /** The user wants to go: the roster is left first, where there is one to leave. */
  leave(): void {
    this.#membership.leaving = true;
    const { self, branch } = this.#core;
    if (!isMember(branch.head, self) || branch.head.roster.length === 1) return this.#finish('left');
    const message = this.#membership.leaveMessage();
    this.#membership.onLeave(message.leave);
    this.#core.emit({ type: 'broadcast', message });
  }

  /**
   * Stays a moment, so that nobody is left without the last block and its payloads.
   * @param busy another state is being made
   */
  finishWhenHeard(busy: boolean): void {
    const { applied, branch, self } = this.#core;
    // others who left before may have made it the only one: nobody is there to let it go
    const isFree = branch.head.roster.length === 1 || (!applied && !isMember(branch.head, self));
    if (this.#membership.leaving && isFree) this.reach('left');
    if (!this.#end) return;
    const { reason } = this.#end;
    const alone = !this.#membership.reachable().some((peer) => isMember(this.#core.branch.head, peer));
    if (reason === 'rounds' && !this.#isCertified) {
      this.#end.isUnfinal = true;
      return this.#finishUnfinal(alone, busy);
    }
    // others decided: who hangs on this peer alone is to hear of it
    if (this.#end.isUnfinal) this.#begin(reason);
    const atMs = this.#end.sinceMs + LINGER_MS[reason];
    // who has just begun, or has lost its connections for a moment, may be all that others have to hear the end from
    const { roster, changes } = this.#core.branch.head;
    // of those who have left not long ago one may not know that, and be on its way back
    const nobodyIsMissed = reason === 'rounds' ? roster.length === 1 && changes.size === 0 : alone;
    if (nobodyIsMissed || this.#core.nowMs >= atMs) this.#finish(reason);
    else this.#core.wakeAt(atMs);
  }

  /** A quorum has decided on all rounds up to the state here. */
  get #isCertified(): boolean {
    const { applied, branch, atTip } = this.#core;
    return applied !== undefined && atTip && branch.certifiedLength() >= applied.position;
  }

  /**
   * The others may have decided on another last round: it is waited for them, also by a peer that is started again.
   */
  #finishUnfinal(alone: boolean, busy: boolean): void {
    const { applied, atTip, branch, nowMs } = this.#core;
    const isFollowing = (!applied || !atTip) && (!alone || busy);
    // who has just come may tell of one
    if (isFollowing || (!alone && this.#wasAlone)) this.#quietSinceMs = nowMs;
    this.#wasAlone = alone;
    this.#quietSinceMs ??= nowMs;
    if (isFollowing) return;
    const isCredible = branch.credibleLength() === branch.entries.length;
    const waitMs = isCredible ? UNFINAL_MS : LONELY_MS;
    const atMs = this.#quietSinceMs + waitMs;
    if (nowMs < atMs) {
      this.#sayWaiting(this.#quietSinceMs + LINGER_MS.rounds, waitMs);
      return this.#core.wakeAt(atMs);
    }
    this.#core.warn('W_UNFINAL_END', UNFINAL_END);
    this.#finish('rounds');
  }

  /** Once, and not where others are there and tell of a decision at once. */
  #sayWaiting(fromMs: number, waitMs: number): void {
    if (this.#waitSaid) return;
    if (this.#core.nowMs < fromMs) return this.#core.wakeAt(fromMs);
    this.#waitSaid = true;
    const forLong = waitMs === UNFINAL_MS ? 'a minute' : 'ten minutes';
    this.#core.warn(
      'W_UNFINAL_WAIT',
      `no quorum has decided on the last round: for ${forLong} waiting for others who have`,
    );
  }

  #finish(reason: 'rounds' | 'left'): void {
    if (this.done) return;
    this.done = true;
    this.#core.emit({ type: 'report', report: { kind: 'done', reason } });
  }
}

import type { Chatter } from './chatter.ts';
import type { Core } from './core.ts';
import { isMember, type Membership } from './membership.ts';

/** How long a peer that is done stays, for others to fetch what they lack, or to hear its last votes. */
const LINGER_MS = { rounds: 2000, left: 500 } as const;

const UNFINAL_END =
  'the last round is unfinal, and the others may have ended with another: when they can be reached, start this peer again';

/** How a peer's part in a run ends: after the last round, or because its user wants to go. */
export class Ending {
  /** nothing is done any more */
  done = false;
  readonly #core: Core;
  readonly #membership: Membership;
  readonly #chatter: Chatter;
  /** since when the last round is reached, or the roster left */
  #end: { reason: 'rounds' | 'left'; sinceMs: number } | undefined;

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
    if (this.#end) return;
    this.#end = { reason, sinceMs: this.#core.nowMs };
    this.#chatter.sayWhereWeEnd();
  }

  /** Others' history has led back to before the last round. */
  goOn(): void {
    if (this.#end?.reason === 'rounds') this.#end = undefined;
  }

  /** The user wants to go: the roster is left first, where there is one to leave. */
  leave(): void {
    this.#membership.leaving = true;
    const { applied, self, branch } = this.#core;
    if (!applied || !isMember(branch.head, self) || branch.head.roster.length === 1) return this.#finish('left');
    const message = this.#membership.leaveMessage();
    this.#membership.onLeave(message.leave);
    this.#core.emit({ type: 'broadcast', message });
  }

  /** Stays a moment, so that nobody is left without the last block and its payloads. */
  finishWhenHeard(): void {
    // others who left before may have made it the only one: nobody is there to let it go
    if (this.#membership.leaving && this.#core.branch.head.roster.length === 1) this.reach('left');
    if (!this.#end) return;
    const { reason, sinceMs } = this.#end;
    if (reason === 'rounds' && !(this.#core.applied && this.#core.atTip)) return; // others' history is followed
    const isUnfinal = reason === 'rounds' && this.#endsUnfinal;
    const atMs = sinceMs + (isUnfinal ? this.#unfinalMs : LINGER_MS[reason]);
    const alone = !this.#membership.reachable().some((peer) => isMember(this.#core.branch.head, peer));
    if ((!alone || isUnfinal) && this.#core.nowMs < atMs) return this.#core.wakeAt(atMs);
    if (isUnfinal) this.#core.warn('W_UNFINAL_END', UNFINAL_END);
    this.#finish(reason);
  }

  /** No quorum has decided on the rounds up to here: it may have decided on others. */
  get #endsUnfinal(): boolean {
    const { applied, branch } = this.#core;
    return applied !== undefined && branch.certifiedLength() < applied.position;
  }

  /** For as long as a quorum is waited for anywhere: also by a peer that is started again to look for the others. */
  get #unfinalMs(): number {
    return Math.max(LINGER_MS.rounds, this.#core.context.genesis.timing.quorumWaitMs ?? 0);
  }

  #finish(reason: 'rounds' | 'left'): void {
    if (this.done) return;
    this.done = true;
    this.#core.emit({ type: 'report', report: { kind: 'done', reason } });
  }
}

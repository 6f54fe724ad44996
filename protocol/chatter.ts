import type { Agreement } from './agreement.ts';
import type { Core } from './core.ts';
import { isMember, type Membership } from './membership.ts';
import type { Message } from './messages.ts';
import type { Round } from './round.ts';
import type { Sync } from './sync.ts';

/** How often a peer that waits says again what it said: more often than a view takes, rarely enough to be no load. */
const REPEAT_MS = 1000;

/** Gossip loses messages and newcomers missed them: what must be heard is said again as long as it matters. */
export class Chatter {
  readonly #core: Core;
  readonly #membership: Membership;
  readonly #sync: Sync;
  #repeatedMs = Number.NEGATIVE_INFINITY;

  constructor(core: Core, membership: Membership, sync: Sync) {
    this.#core = core;
    this.#membership = membership;
    this.#sync = sync;
  }

  /** The next repetition is due now. */
  hurry(): void {
    this.#repeatedMs = Number.NEGATIVE_INFINITY;
  }

  /** What a peer that just came, or has not heard, should know of us. */
  standing(agreement: Agreement, round: Round | undefined): Message[] {
    const messages = agreement.repeat();
    if (round?.own) messages.push(round.own);
    return messages;
  }

  /** @param waiting there is something that others must hear before this peer can go on */
  repeatWhenStuck(waiting: boolean, agreement: Agreement, round: Round | undefined): void {
    const { applied, nowMs, self, atTip } = this.#core;
    const { leaving } = this.#membership;
    const outside = applied && this.#sync.caughtUp && !isMember(applied.head, self) && !leaving;
    if (applied && atTip && !outside && !waiting && !leaving) return;
    const atMs = this.#repeatedMs + REPEAT_MS;
    if (nowMs < atMs) return this.#core.wakeAt(atMs);
    this.#repeatedMs = nowMs;
    this.#core.wakeAt(nowMs + REPEAT_MS);
    const messages = [this.#core.status(), ...this.standing(agreement, round)];
    if (outside) messages.push(this.#membership.joinMessage());
    if (leaving) messages.push(this.#membership.leaveMessage());
    for (const message of messages) this.#core.emit({ type: 'broadcast', message });
    if (!applied || !atTip) this.#sync.askInTurn(false);
  }

  /** At the end of the run: the last certificate, for those who have not got that far. */
  sayWhereWeEnd(): void {
    const { branch, context } = this.#core;
    const last = branch.entries.at(-1);
    this.#core.emit({ type: 'broadcast', message: this.#core.status() });
    if (!last) return;
    const { certificate, block } = last;
    const message = { type: 'certificate', run: context.run, certificate, block } as const;
    this.#core.emit({ type: 'broadcast', message });
  }
}

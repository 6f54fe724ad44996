import type { Agreement } from './agreement.ts';
import type { Applied, Core } from './core.ts';
import type { Hash } from './hash.ts';
import { isMember, type Membership } from './membership.ts';
import type { Message } from './messages.ts';
import type { Round } from './round.ts';
import type { Sync } from './sync.ts';
import type { Unfinal } from './unfinal.ts';

/** How long after it was said something is said again; after each repetition that changes nothing twice as long. */
const REPEAT_MS = 1000;
const REPEAT_MS_MAX = 8000;
/** Peers that are told our status in a repetition: in a large swarm others the next time, not everybody every time. */
const STATUS_PEERS = 16;

/** Rounds that a joiner may be behind when it asks to be let in: where rounds are short it is hardly ever less. */
const JOIN_BEHIND_MAX = 1;

/** When something is due again. */
class Repetition {
  readonly #core: Core;
  #lastMs = Number.NEGATIVE_INFINITY;
  #pauseMs = REPEAT_MS;

  constructor(core: Core) {
    this.#core = core;
  }

  /** It is due now. */
  hurry(): void {
    this.#lastMs = Number.NEGATIVE_INFINITY;
    this.#pauseMs = REPEAT_MS;
  }

  /** It was done just now, and there is something new in it. */
  restart(): void {
    this.#lastMs = this.#core.nowMs;
    this.#pauseMs = REPEAT_MS;
  }

  /** Whether it is due, and is now done; else the machine is woken when it is. @param often it becomes no rarer */
  isDue(often: boolean): boolean {
    const { nowMs } = this.#core;
    const atMs = this.#lastMs + this.#pauseMs;
    if (nowMs < atMs) {
      this.#core.wakeAt(atMs);
      return false;
    }
    const isFirst = this.#lastMs === Number.NEGATIVE_INFINITY;
    this.#pauseMs = often || isFirst ? REPEAT_MS : Math.min(2 * this.#pauseMs, REPEAT_MS_MAX);
    this.#lastMs = nowMs;
    this.#core.wakeAt(nowMs + this.#pauseMs);
    return true;
  }
}

/** Gossip loses messages and newcomers missed them: what must be heard is said again as long as it matters. */
export class Chatter {
  readonly #core: Core;
  readonly #membership: Membership;
  readonly #sync: Sync;
  readonly #unfinal: Unfinal;
  readonly #words: Repetition;
  /**
   * apart from the words: unfinal rounds may go by faster than anything is repeated, and what is new in them must not keep a
   * vote back that others lack
   */
  readonly #votes: Repetition;
  /** apart from both: views may go by for ever among peers that do not know that they are on different branches */
  readonly #standing: Repetition;
  #toldTip: Hash | undefined;
  /** to be let in */
  #asks = false;

  constructor(core: Core, membership: Membership, sync: Sync, unfinal: Unfinal) {
    this.#core = core;
    this.#membership = membership;
    this.#sync = sync;
    this.#unfinal = unfinal;
    this.#words = new Repetition(core);
    this.#votes = new Repetition(core);
    this.#standing = new Repetition(core);
  }

  /** The next repetition is due now. */
  hurry(): void {
    this.#words.hurry();
    this.#votes.hurry();
    this.#standing.hurry();
    this.#toldTip = this.#core.branch.head.tip;
  }

  /** Something new was said just now, so that there is nothing to repeat for a while: but for votes, which it is not about. */
  said(): void {
    this.#words.restart();
  }

  /** A vote, or another word of the agreement's. */
  voted(): void {
    this.#votes.restart();
  }

  /** What a peer that just came, or has not heard, should know of us. */
  standing(agreement: Agreement, round: Round | undefined): Message[] {
    // who asks to be let in as soon as it is there may have been heard by nobody
    const join = this.#asks ? [this.#membership.standingJoin()] : [];
    const leave = this.#membership.leaving ? [this.#membership.leaveMessage()] : [];
    return [...agreement.repeat(), ...this.#standingWords(round), ...join, ...leave];
  }

  #standingWords(round: Round | undefined): Message[] {
    const messages = this.#unfinal.repeat();
    return round?.own ? [...messages, round.own] : messages;
  }

  #broadcast(messages: readonly Message[]): void {
    for (const message of messages) this.#core.emit({ type: 'broadcast', message });
  }

  /** @param waiting there is something that others must hear before this peer can go on */
  repeatWhenStuck(waiting: boolean, agreement: Agreement, round: Round | undefined): void {
    const { applied, atTip, branch } = this.#core;
    const { leaving } = this.#membership;
    // also who may not ask to be let in yet: others must hear of it to say how far they are
    const outside = applied !== undefined && !leaving && !isMember(applied.head, this.#core.self);
    const asks = outside && this.#mayJoin(applied);
    // it has just caught up, or was put out: who asks later may have to wait a round longer
    if (asks && !this.#asks) this.#words.hurry();
    this.#asks = asks;
    const behind = !applied || !atTip;
    if (!behind && !outside && !waiting && !leaving) return;
    if (this.#toldTip !== branch.head.tip) {
      this.#standing.restart();
      this.#toldTip = branch.head.tip;
    }
    // who is behind goes on asking; the others may just have to wait for a slow round
    if (this.#standing.isDue(behind)) this.#tellSome();
    if (this.#votes.isDue(behind)) this.#broadcast(agreement.repeat());
    if (!this.#words.isDue(behind)) return;
    this.#broadcast(this.#standingWords(round));
    if (asks) this.#broadcast([this.#membership.joinMessage()]);
    if (leaving) this.#broadcast([this.#membership.leaveMessage()]);
    if (behind) this.#sync.askInTurn(false);
  }

  /** Whoever is further answers, whoever is behind asks: in the end all know who is where. */
  #tellSome(): void {
    const message = this.#core.status();
    for (const peer of this.#membership.someConnected(STATUS_PEERS)) this.#core.emit({ type: 'send', peer, message });
  }

  /** Who is let in is counted on to vote, and cannot before it has the state that the others have. */
  #mayJoin({ state }: Applied): boolean {
    return this.#sync.caughtUp && this.#core.branch.head.round - state.round <= JOIN_BEHIND_MAX;
  }

  /** At the end of the run: where we are, so that those who have not got that far ask. */
  sayWhereWeEnd(): void {
    this.#core.emit({ type: 'broadcast', message: this.#core.status() });
    this.said();
    this.voted();
  }
}

import type { Core } from './core.ts';
import type { PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import type { MessageOf } from './messages.ts';
import type { Block, Update } from './wire.ts';

/** How long before a payload that nobody had is asked for again. */
const RETRY_MS = 500;

/** On its way, here and checked, refused by the codec, or with nobody who was asked. */
export type PayloadState = 'wanted' | 'held' | 'refused' | 'unavailable';

/** What a round knows of the payloads that were announced in it. */
export interface PayloadTable {
  readonly round: number;
  /** undefined for an update that was not announced in it */
  stateOf(update: Update): PayloadState | undefined;
  /** What became of a payload that was asked for. */
  settle(update: Update, state: PayloadState): void;
  /** What became of the payloads inside these headers. */
  onTaken(headers: readonly MessageOf<'header'>[], refused: ReadonlyMap<MessageOf<'header'>, string>): void;
}

/** Who may have a payload: listed only where one is missing. */
export type Holders = () => readonly PeerId[];

/** What a driver's answer says of a payload. What nobody had may turn up yet; what the codec refused never will be right. */
export function stateAfter(error: string | null): PayloadState {
  return error === null ? 'held' : error === 'E_BLOB_UNAVAILABLE' ? 'unavailable' : 'refused';
}

/**
 * Payloads on their way and here. Those of the round under way are in its own table, by place; here are besides them
 * those that blocks name of which no header came, in rounds to be caught up with above all.
 */
export class Payloads {
  readonly #core: Core;
  #round: PayloadTable | undefined;
  readonly #others = new Map<string, Other>();
  /** what was asked for since the round under way began, and what came of it */
  readonly #asked = new Map<string, Asked>();
  /** of the newest block whose payloads were required: the disk drops those of rounds long before */
  #at = 0;
  /** updates of others that name what is on its way for another's: the answer says that one's name alone */
  readonly #waiting = new Map<string, Update[]>();

  constructor(core: Core) {
    this.#core = core;
  }

  /** Payloads that are kept track of outside of the round, for a watcher. */
  get load(): number {
    return this.#others.size + this.#asked.size + this.#waiting.size;
  }

  /** The headers of another round are heard now. What belongs to rounds long past is forgotten. */
  beginRound(round: PayloadTable): void {
    this.endRound();
    this.#round = round;
    this.forgetBefore(round.round);
  }

  /** Another state is gone on from: the round's table, and what was asked for meanwhile, say nothing of what comes. */
  endRound(): void {
    this.#round = undefined;
    this.#asked.clear();
    this.#waiting.clear();
  }

  /** What is off the disk by then, as the driver has it. */
  forgetBefore(round: number): void {
    if (round === this.#at) return;
    this.#at = round;
    const isOld = (known: { round: number }): boolean => known.round + LIMITS.payloadRoundsKept < round;
    for (const states of [this.#others, this.#asked]) {
      for (const [name, known] of states as Map<string, { round: number }>) if (isOld(known)) states.delete(name);
    }
    if (this.#round && isOld(this.#round)) this.#round = undefined;
  }

  /** Of a payload that is not in the round's own table. */
  #otherState(update: Update): PayloadState | undefined {
    return this.#others.size === 0 ? undefined : this.#others.get(nameOf(update))?.state;
  }

  /** Of one that comes into the round's table, if it is known outside of it: where that is on its way, this one is too. */
  adopt(update: Update): PayloadState | undefined {
    const state = this.#otherState(update);
    if (state === 'wanted') this.#wait(update);
    return state;
  }

  state(update: Update): PayloadState | undefined {
    return this.#round?.stateOf(update) ?? this.#otherState(update);
  }

  /**
   * Asks for the payload of an update, where nobody has named it before: another's update may name the same, in good faith or
   * not, and then what is known of the one holds for the other.
   * @param pressing nothing goes on without it
   * @returns its state: `unavailable` while it is too early to ask again
   */
  ask(update: Update, round: number, holders: readonly PeerId[], pressing = false): PayloadState {
    const { nowMs, self } = this.#core;
    const name = nameOf(update);
    const asked = this.#asked.get(name);
    if (asked) asked.pressing ||= pressing;
    if (asked && asked.state !== 'unavailable') {
      if (asked.state === 'wanted') this.#wait(update);
      return asked.state;
    }
    const atMs = (asked?.atMs ?? Number.NEGATIVE_INFINITY) + RETRY_MS;
    if (nowMs < atMs) {
      this.#core.wakeAt(atMs);
      return 'unavailable';
    }
    const known = { pressing, told: null, ...asked };
    this.#asked.set(name, { ...known, atMs: nowMs, round, state: 'wanted' });
    const others = [...new Set(holders)].filter((peer) => peer !== self);
    this.#core.emit({ type: 'fetch', update, round, holders: others });
    return 'wanted';
  }

  #wait(update: Update): void {
    const name = nameOf(update);
    const waiting = this.#waiting.get(name);
    if (waiting) waiting.push(update);
    else this.#waiting.set(name, [update]);
  }

  /** The answer may come when its round is given up: what it says of the payloads holds all the same. */
  onTaken(headers: readonly MessageOf<'header'>[], refused: ReadonlyMap<MessageOf<'header'>, string>): void {
    this.#round?.onTaken(headers, refused);
  }

  onPayload(update: Update, error: string | null): void {
    const state = stateAfter(error);
    const name = nameOf(update);
    const asked = this.#asked.get(name);
    if (error !== null) this.#warn(error, update, asked);
    for (const each of [update, ...(this.#waiting.get(name) ?? [])]) this.#round?.settle(each, state);
    this.#waiting.delete(name);
    for (const known of [asked, this.#others.get(name)]) if (known) known.state = state;
  }

  /** Once, however often it is asked for; that nobody has it is no news where nothing waits for it. */
  #warn(error: string, { payload }: Update, asked: Asked | undefined): void {
    if (asked?.told === error || (stateAfter(error) === 'unavailable' && !asked?.pressing)) return;
    if (asked) asked.told = error;
    const what = stateAfter(error) === 'unavailable' ? 'is with nobody who can be asked' : 'refused';
    this.#core.warn(error, `payload ${payload.slice(0, 12)} ${what}`);
  }

  /**
   * The worst state among a block's updates. Those not asked for yet are wanted, and what nobody had is asked for again.
   * @param holders who may have one, beside its author
   */
  require(block: Block, holders: Holders): PayloadState {
    this.forgetBefore(block.round);
    let worst: PayloadState = 'held';
    for (const update of block.updates) {
      const known = this.state(update);
      const isWanted = known === undefined || this.#wasEarly(update, known);
      if (known === undefined || known === 'unavailable') this.#want(update, block.round, holders);
      const after = this.state(update);
      const state = after === 'held' || after === 'refused' ? after : isWanted ? 'wanted' : known;
      if (RANKS[state] > RANKS[worst]) worst = state;
    }
    return worst;
  }

  /** Asks, once, for those of a block whose turn is to come: only then is it pressing what nobody had. */
  requireAhead(block: Block, holders: Holders): void {
    for (const update of block.updates) if (!this.state(update)) this.#want(update, block.round, holders, true);
  }

  /** It was asked for before its turn alone: that nobody had it then says little of now. */
  #wasEarly(update: Update, known: PayloadState): boolean {
    return known === 'unavailable' && this.#others.get(nameOf(update))?.early === true;
  }

  #want(update: Update, round: number, holders: Holders, early = false): void {
    const state = this.ask(update, round, [update.author, ...holders()], !early);
    if (this.#round?.stateOf(update)) return this.#round.settle(update, state);
    const before = this.#others.get(nameOf(update))?.early ?? false;
    this.#others.set(nameOf(update), { state, round, early: early || (before && state === 'unavailable') });
  }
}

interface Asked {
  atMs: number;
  round: number;
  state: PayloadState;
  pressing: boolean;
  /** the last code that the user heard of it */
  told: string | null;
}

interface Other {
  state: PayloadState;
  round: number;
  /** asked for when its block's turn had not come */
  early: boolean;
}

/** From the best to the worst. */
const RANKS = { held: 0, wanted: 1, unavailable: 2, refused: 3 } as const satisfies Record<PayloadState, number>;

/** Who says another size speaks of something else, which may be neither fetched nor voted for in its place. */
function nameOf({ payload, size }: Update): string {
  return `${payload}/${size}`;
}

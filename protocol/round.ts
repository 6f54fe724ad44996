import { isPossible } from './chain.ts';
import type { Applied, Core } from './core.ts';
import type { Hash } from './hash.ts';
import type { PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import type { MessageOf } from './messages.ts';
import type { Outcome, Patience, PatienceInit } from './patience.ts';
import { type PayloadState, type Payloads, type PayloadTable, stateAfter } from './payloads.ts';
import { faultsTolerated, placesIn, quorumOf } from './roster.ts';
import { updateBytes } from './signing.ts';
import type { Update } from './wire.ts';

/** How much longer than the first peer the others may take, as a share of its time, before the round closes. */
const LATE_SHARE = 0.5;
/** Who has announced nothing so long after most have, as a share of `graceMs`, stops training and sends what there is. */
const FINISH_SHARE = 0.25;
/** It has this share of the first peer's time for its last inner step, and `graceMs`, before the round closes without it. */
const LAST_STEP_SHARE = 0.125;

/** How long before what nobody had is asked for again; after each time twice as long. */
const AGAIN_MS = 500;
const AGAIN_MS_MAX = 4000;

/**
 * The wait for payloads: rounds close as soon as all who can be reached have delivered, so a wide margin costs time only
 * where somebody does not. The leader of a view judges by it alone, and each gets its turn.
 */
export const GATHERING: PatienceInit = { margin: 3, stretchMax: 32 };

/** How long others may train who are slower than this peer, where it hears nothing of them meanwhile. */
export const BEGINNING: PatienceInit = { margin: 3, stretchMax: Number.POSITIVE_INFINITY };

/** What earlier rounds have taught, by `GATHERING` and `BEGINNING`. */
export interface RoundPatience {
  gathering: Patience;
  beginning: Patience;
}

/**
 * One round as this peer sees it: who has announced what, which payloads are here, and when it is time to close. Every
 * peer hears every header, so what is asked at every event is counted as headers and payloads come, not looked for.
 */
export class Round implements PayloadTable {
  readonly round: number;
  readonly base: Hash;
  readonly places: readonly PeerId[];
  readonly startedMs: number;
  /** this peer's header, once trained */
  own: MessageOf<'header'> | undefined;
  readonly #core: Core;
  readonly #payloads: Payloads;
  readonly #patience: RoundPatience;
  readonly #placeOf: ReadonlyMap<PeerId, number>;
  /** the state that it begins with */
  readonly #applied: Applied;
  /** by place, as `#states` */
  readonly #updates: (Update | undefined)[];
  readonly #states: Uint8Array;
  /** places of the authors whose headers were given to the driver, by the list that it was given: it may never give it back */
  readonly #takenPlaces = new WeakMap<readonly MessageOf<'header'>[], number[]>();
  /** places whose payload nobody had who was asked */
  readonly #lacking = new Set<number>();
  /** when those are asked for again */
  readonly #again = new Map<number, { atMs: number; pauseMs: number }>();
  /** when the header of such a place was last taken for a chance */
  readonly #chanceMs = new Map<number, number>();
  readonly #quorum: number;
  #held = 0;
  /** places whose payload is neither here nor refused */
  #open: number;
  /** the place that was last found to be waited for */
  #waitedFor = 0;
  /** when somebody had announced an update who has trained for it */
  #firstDoneMs: number | undefined;
  /** when more had announced one than may be liars */
  #begunMs: number | undefined;
  /** when a quorum of the members had announced updates, and when their payloads were here */
  #quorumAnnouncedMs: number | undefined;
  #quorumMs: number | undefined;
  #announced = 0;
  /** when most had announced an update: those who have not are behind, or gone */
  #mostDoneMs: number | undefined;
  #finishAsked = false;
  /** this peer's training gave nothing */
  #renounced = false;
  /** when, until it tries again */
  #renouncedMs: number | undefined;
  /** rounds' worth that this peer has trained beyond its update, and whether it is at one */
  #ahead = 0;
  #isTrainingOn = false;

  constructor(components: { core: Core; payloads: Payloads; patience: RoundPatience }, applied: Applied) {
    const { core } = components;
    this.#core = core;
    this.#payloads = components.payloads;
    this.#patience = components.patience;
    this.#applied = applied;
    this.round = applied.state.round;
    this.base = applied.root;
    this.places = applied.head.places;
    this.#placeOf = placesIn(this.places);
    this.#updates = new Array<Update | undefined>(this.places.length).fill(undefined);
    this.#states = new Uint8Array(this.places.length);
    this.#open = this.places.length;
    this.#quorum = quorumOf(this.places.length);
    this.startedMs = core.nowMs;
  }

  /**
   * A header of this round; the first of an author counts.
   * @param guess its author's place, as a rule
   * @returns whether it is the first
   */
  onHeader(header: MessageOf<'header'>, from: PeerId, guess?: number): boolean {
    const { update } = header;
    const isRight = guess !== undefined && this.places[guess] === update.author;
    const place = isRight ? guess : this.#placeOf.get(update.author);
    if (place === undefined) return false;
    const known = this.#updates[place];
    if (known) {
      // said again, it is a chance to get what could not be had
      if (isSame(known, update) && this.#lacking.has(place)) this.#takeChance(place, header, from);
      return false;
    }
    if (!isPossible(this.#core.context.genesis, update)) return false;
    this.#note(place, update);
    const state = this.#payloads.adopt(update);
    if (state && state !== 'unavailable') this.#set(place, state);
    else this.#wantAnnounced(place, header, from);
    return true;
  }

  /** Now and then: what rides in a header is not signed, and anybody can say it again with something else inside. */
  #takeChance(place: number, header: MessageOf<'header'>, from: PeerId): void {
    const { nowMs } = this.#core;
    if (nowMs < (this.#chanceMs.get(place) ?? Number.NEGATIVE_INFINITY) + AGAIN_MS) return;
    this.#chanceMs.set(place, nowMs);
    this.#wantAnnounced(place, header, from);
  }

  /** Signs and announces this peer's update. */
  announce(unsigned: Omit<Update, 'author' | 'signature'>, inline: Uint8Array | null): MessageOf<'header'> {
    const { run, signer } = this.#core.context;
    const named = { author: signer.self, ...unsigned };
    const update = { ...named, signature: signer.sign(updateBytes(run, this.round, this.base, named)) };
    this.own = { type: 'header', run, round: this.round, base: this.base, update, inline };
    this.adoptOwn(this.own);
    return this.own;
  }

  /** The header that was announced before a restart stands: an author has one update a round. */
  adoptOwn(header: MessageOf<'header'>): void {
    this.own = header;
    const place = this.#placeOf.get(header.update.author);
    if (place === undefined || !isPossible(this.#core.context.genesis, header.update)) return;
    this.#note(place, header.update);
    this.#set(place, 'held');
  }

  #note(place: number, update: Update): void {
    if (!this.#updates[place]) this.#announced++;
    if (this.hasBegunToEnd) this.#begunMs ??= this.#core.nowMs;
    if (this.#announced >= this.#quorum) this.#quorumAnnouncedMs ??= this.#core.nowMs;
    if (this.#announced >= MOST * this.places.length) this.#mostDoneMs ??= this.#core.nowMs;
    this.#updates[place] = update;
    // a liar may announce as soon as the round begins: of so many one at least has trained, and so has this peer itself
    const isSure = this.hasBegunToEnd || this.#renounced || update.author === this.#core.self;
    if (isSure) this.#firstDoneMs ??= this.#core.nowMs;
  }

  /**
   * This peer has trained, and has nothing to announce: the round ends with what others have. Where most broke down, those few
   * would else be taken for liars that announce at once.
   */
  renounce(): void {
    const place = this.#placeOf.get(this.#core.self);
    if (this.own || place === undefined || this.#updates[place]) return;
    this.#renounced = true;
    this.#renouncedMs = this.#core.nowMs;
    this.#set(place, 'refused');
    if (this.#announced > 0) this.#firstDoneMs ??= this.#core.nowMs;
  }

  /**
   * Training came to nothing here, and for as long again nothing of anybody's did: all may have broken down, or be gone, and then
   * nothing would ever end the round.
   * @returns whether this peer is to train once more, now
   */
  triesAgain(): boolean {
    if (this.#renouncedMs === undefined || this.#held > 0) return false;
    const atMs = 2 * this.#renouncedMs - this.startedMs + this.#graceMs;
    if (this.#core.nowMs < atMs) {
      this.#core.wakeAt(atMs);
      return false;
    }
    this.#renouncedMs = undefined;
    return true;
  }

  /**
   * This peer's update is made and waits: as much as the next one can carry at once is learned meanwhile. Where that broke down
   * nothing is heard of it again.
   * @returns how many rounds ahead the training is that begins now; undefined where there is none
   */
  trainOn(): number | undefined {
    if (!this.own || this.#isTrainingOn || this.#ahead >= LIMITS.lateRoundsMax) return undefined;
    this.#isTrainingOn = true;
    return ++this.#ahead;
  }

  trainedOn(): void {
    this.#isTrainingOn = false;
  }

  stateOf(update: Update): PayloadState | undefined {
    const place = this.#placeOfKnown(update);
    return place === undefined ? undefined : NAMES[this.#states[place]!];
  }

  settle(update: Update, state: PayloadState): void {
    const place = this.#placeOfKnown(update);
    if (place !== undefined) this.#set(place, state);
  }

  #placeOfKnown(update: Update): number | undefined {
    const place = this.#placeOf.get(update.author);
    const known = place === undefined ? undefined : this.#updates[place];
    return known && isSame(known, update) ? place : undefined;
  }

  /** The payloads inside these headers are here, all but those refused. Headers of another round are none of ours. */
  onTaken(headers: readonly MessageOf<'header'>[], refused: ReadonlyMap<MessageOf<'header'>, string>): void {
    // looked up once already where the driver gives the very list back
    const places = this.#takenPlaces.get(headers);
    this.#takenPlaces.delete(headers);
    for (let i = 0; i < headers.length; i++) {
      const place = places ? places[i] : this.#placeOfKnown(headers[i]!.update);
      if (place === undefined) continue;
      const error = refused.size === 0 ? null : (refused.get(headers[i]!) ?? null);
      if (error !== null) this.#core.warn(error, `payload ${headers[i]!.update.payload.slice(0, 12)} refused`);
      this.#set(place, stateAfter(error));
    }
  }

  /**
   * Updates that this peer holds and has checked, in canonical order. Where there are more than a block lists, those who
   * have waited longest come first, so that nobody is left out for ever (and evicted for it).
   */
  held(): Update[] {
    const places = Array.from(this.places.keys()).filter((place) => this.#states[place] === CODES.held);
    if (places.length > LIMITS.blockUpdatesMax) {
      const lastRounds = new Map(this.#applied.head.roster.map(({ peer, lastRound }) => [peer, lastRound]));
      const lastRound = (place: number): number => lastRounds.get(this.places[place]!) ?? 0;
      places.sort((a, b) => lastRound(a) - lastRound(b) || a - b);
      places.length = LIMITS.blockUpdatesMax;
      places.sort((a, b) => a - b);
    }
    return places.map((place) => this.#updates[place]!);
  }

  /** Whether a list has what this peer holds, but for as many as may be faulty or late; of fewer than four, half of it. */
  isFairTo(updates: readonly Update[]): boolean {
    const listed = new Set(updates.map(({ author }) => author));
    const held = this.held();
    const left = held.filter(({ author }) => !listed.has(author)).length;
    const { length } = this.places;
    return left <= (length < 4 ? held.length / 2 : faultsTolerated(length));
  }

  /** So many have announced an update that one at least is correct: those who are silent no longer just train. */
  get hasBegunToEnd(): boolean {
    return this.#announced > faultsTolerated(this.places.length);
  }

  /** When the round closes without those still missing; unknown while nobody is done. */
  deadlineMs(): number {
    if (this.#firstDoneMs === undefined) return Number.POSITIVE_INFINITY;
    return this.#firstDoneMs + this.#patience.gathering.waitMs(this.#plannedMs(this.#firstDoneMs));
  }

  /**
   * When it would close by genesis and by what all have heard, much the same for all: when this peer was done, and what it knows
   * of links, are its own. Unknown before it has begun to end.
   * @param stretch so many times the wait that genesis plans
   */
  plannedEndMs(stretch = 1): number {
    if (this.#begunMs === undefined) return Number.POSITIVE_INFINITY;
    return this.#begunMs + stretch * this.#plannedMs(this.#begunMs);
  }

  /**
   * When it closes for this peer at the latest, whatever it has learned of links, and the others have begun to announce updates, if
   * they are no slower than in the rounds before. Unknown as `deadlineMs` is.
   */
  waitEndMs(): number {
    if (this.#firstDoneMs === undefined) return Number.POSITIVE_INFINITY;
    const plannedMs = this.#plannedMs(this.#firstDoneMs);
    const beginMs = this.#patience.beginning.waitMs(plannedMs);
    return this.#firstDoneMs + Math.max(GATHERING.stretchMax * plannedMs, beginMs);
  }

  /** How long it took from when this peer was done until so many were that the round began to end. */
  get beginning(): Outcome | undefined {
    if (this.#firstDoneMs === undefined || this.#begunMs === undefined) return undefined;
    return { plannedMs: this.#plannedMs(this.#firstDoneMs), tookMs: this.#begunMs - this.#firstDoneMs, begun: true };
  }

  /**
   * How long a quorum's payloads took from when all of it had announced them: the time of uploads alone, for training may
   * take the longer, the longer one waits. Undefined where nobody was done.
   */
  get outcome(): Outcome | undefined {
    if (this.#firstDoneMs === undefined) return undefined;
    return {
      plannedMs: this.#plannedMs(this.#firstDoneMs),
      tookMs: this.#quorumMs === undefined ? undefined : this.#quorumMs - this.#quorumAnnouncedMs!,
      begun: this.#quorumAnnouncedMs !== undefined,
    };
  }

  get #graceMs(): number {
    return this.#core.context.genesis.timing.graceMs;
  }

  #plannedMs(firstDoneMs: number): number {
    return this.#graceMs + LATE_SHARE * (firstDoneMs - this.startedMs);
  }

  /**
   * Whether it is time to close: everyone who can be expected has delivered, or the deadline has passed.
   * @param isFar there, and not connected to this peer: what nobody has of it yet may be on its way to those who are
   */
  isComplete(isLive: (peer: PeerId) => boolean, isFar: (peer: PeerId) => boolean = nobody): boolean {
    if (this.#held === 0) return false;
    const deadlineMs = this.deadlineMs();
    const silentMs = this.#silentDeadlineMs();
    const { nowMs } = this.#core;
    if (nowMs >= deadlineMs || this.#open === 0) return true;
    this.#core.wakeAt(nowMs < silentMs ? Math.min(silentMs, deadlineMs) : deadlineMs);
    this.#askAgain(isFar);
    const isWaitedFor = (place: number): boolean => {
      const peer = this.places[place]!;
      return isLive(peer) && (this.#states[place] !== CODES.unavailable || isFar(peer) || this.#again.has(place));
    };
    return !this.#someoneIsWaitedFor(isWaitedFor, nowMs >= silentMs);
  }

  /**
   * A slow peer is told to send what it has: half way between the first update and the deadline, or soon after most
   * others are done, if that is earlier. It counts by its tokens, and the others need not stand still for it.
   */
  askToFinish(): void {
    if (this.own || this.#renounced || this.#finishAsked || this.#firstDoneMs === undefined) return;
    const soonMs = (this.#mostDoneMs ?? Number.POSITIVE_INFINITY) + FINISH_SHARE * this.#graceMs;
    const atMs = Math.min(soonMs, this.#firstDoneMs + (this.deadlineMs() - this.#firstDoneMs) / 2);
    if (this.#core.nowMs < atMs) return this.#core.wakeAt(atMs);
    this.#finishAsked = true;
    this.#core.emit({ type: 'finish' });
  }

  /** When those who have announced nothing are no longer waited for; never while most have not. */
  #silentDeadlineMs(): number {
    if (this.#mostDoneMs === undefined) return Number.POSITIVE_INFINITY;
    return this.#mostDoneMs + this.#graceMs + LAST_STEP_SHARE * (this.#firstDoneMs! - this.startedMs);
  }

  /** What nobody had, ever more seldom, where its author is no neighbour: one that was asked may have been fetching it itself. */
  #askAgain(isFar: (peer: PeerId) => boolean): void {
    const { nowMs } = this.#core;
    for (const place of [...this.#lacking]) {
      const author = this.places[place]!;
      if (!isFar(author)) {
        this.#askItself(place);
        continue;
      }
      const { atMs, pauseMs } = this.#again.get(place) ?? { atMs: nowMs + AGAIN_MS, pauseMs: AGAIN_MS };
      if (nowMs < atMs) this.#again.set(place, { atMs, pauseMs });
      else {
        const nextMs = Math.min(2 * pauseMs, AGAIN_MS_MAX);
        this.#again.set(place, { atMs: nowMs + nextMs, pauseMs: nextMs });
        this.#want(place, this.#updates[place]!, [author]);
      }
      this.#core.wakeAt(this.#again.get(place)!.atMs);
    }
  }

  /** Who was far and is so no longer is asked itself, once. */
  #askItself(place: number): void {
    if (!this.#again.has(place)) return;
    this.#want(place, this.#updates[place]!, [this.places[place]!]);
    // else it is too early
    if (this.#states[place] === CODES.wanted) this.#again.delete(place);
  }

  /**
   * Looks on from the place where the last one was found: once around in a whole round, as a rule.
   * @param announced only those who have announced an update
   */
  #someoneIsWaitedFor(isWaitedFor: (place: number) => boolean, announced: boolean): boolean {
    const { length } = this.places;
    for (let i = 0; i < length; i++) {
      const place = (this.#waitedFor + i) % length;
      const state = this.#states[place]!;
      if (isSettled(state) || (announced && state === SILENT) || !isWaitedFor(place)) continue;
      this.#waitedFor = place;
      return true;
    }
    return false;
  }

  #wantAnnounced(place: number, header: MessageOf<'header'>, from: PeerId): void {
    if (!header.inline) return this.#want(place, header.update, [header.update.author, from]);
    const headers = this.#core.take(header);
    let places = this.#takenPlaces.get(headers);
    if (!places) {
      places = [];
      this.#takenPlaces.set(headers, places);
    }
    places.push(place);
    this.#set(place, 'wanted');
  }

  #want(place: number, update: Update, holders: readonly PeerId[]): void {
    this.#set(place, this.#payloads.ask(update, this.round, holders));
  }

  #set(place: number, state: PayloadState): void {
    const before = this.#states[place]!;
    const after = CODES[state];
    this.#states[place] = after;
    if (state === 'unavailable') this.#lacking.add(place);
    else this.#lacking.delete(place);
    this.#held += Number(after === CODES.held) - Number(before === CODES.held);
    if (this.#held >= this.#quorum) this.#quorumMs ??= this.#core.nowMs;
    this.#open += Number(isSettled(before)) - Number(isSettled(after));
  }
}

/** The same payload, of the same size: an author may have signed another, and what was checked is this one. */
function isSame(a: Update, b: Update): boolean {
  return a.payload === b.payload && a.size === b.size;
}

/** At least this share of the places. */
const MOST = 2 / 3;

const nobody = (): boolean => false;

/** Of a place that has announced nothing. */
const SILENT = 0;
/** States in a byte each. */
const CODES = { wanted: 1, held: 2, refused: 3, unavailable: 4 } as const satisfies Record<PayloadState, number>;
const NAMES: readonly (PayloadState | undefined)[] = [undefined, 'wanted', 'held', 'refused', 'unavailable'];

function isSettled(code: number): boolean {
  return code === CODES.held || code === CODES.refused;
}

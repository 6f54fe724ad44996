import type { Report } from './events.ts';
import type { Hash } from './hash.ts';
import { NO_HISTORY, type OwnHistory } from './own-updates.ts';

/** What became of an update that this peer made, or of training that did not get so far (payload null). */
export interface Receipt {
  /** the round it was made for, counted as rounds are reported */
  round: number;
  payload: Hash | null;
  status:
    | 'accepted' // in a certified round
    | 'late' // the round ended without it; its work is in the residual, and so in the next update
    | 'returned' // in an unfinal round that was overruled, or made for a state that was given up; in the residual too
    | 'unknown' // the history that others still have begins after it: its work is given up, so that it is not in twice
    | 'refused'; // by this peer itself: what was trained was not sane, and no update was made of it
  /** the round that it, or for work that came too late the update that carries it, was accepted in */
  acceptedIn?: number;
  /**
   * why: with `refused` the code of the warning that said so; with `late` what this peer knows itself: `training` (no update
   * was made of it before the round ended), `beyond` (it was trained after the update was made, see `trainedOn`) or `not-listed`
   * (it was made, and is not in the block). A journal tells more
   */
  code?: string;
}

interface Work {
  round: number;
  payload: Hash | null;
}

interface Contribution extends Work {
  /** earlier ones whose work was in the residual when this one was made of it */
  carries: readonly Work[];
  /** given up: where it does not count after all, nothing comes back */
  forgotten?: true | undefined;
}

/** What is to be answered yet, and what was: for the process that comes after this one. */
export interface SavedReceipts {
  made: Contribution | null;
  unfinal: readonly Contribution[];
  owed: readonly Work[];
  answered: readonly Hash[];
  /** the round that was trained for */
  training: number | null;
  /** the round that was trained beyond an update for; absent where there is none */
  beyond?: number | undefined;
}

/** Earlier contributions that are remembered until an update that carries them is accepted. */
const OWED_MAX = 256;
/** A peer that goes back to a state before such a round comes to the round again. */
const ANSWERED_KEPT = 256;
/** Of those in unfinal rounds the newest go to the next process: without a quorum there is one more each round, for days. */
const UNFINAL_SAVED = 1024;

/**
 * Gives every contribution of this peer its answer; a late or returned one a second when its work is in after all. What it
 * knows goes from one process to the next (`saved`).
 */
export class Receipts {
  readonly #tell: (receipt: Receipt) => void;
  #made: Contribution | undefined;
  /** in unfinal rounds, to be confirmed by the next certified one */
  #unfinal: readonly Contribution[] = [];
  /** those that were so for the process before: this one may begin at an earlier state, and go on another way */
  #before: readonly Contribution[] = [];
  /** late and returned: their work waits in the residual */
  #owed: readonly Work[] = [];
  /** payloads of the last ones that were accepted or given up, oldest first */
  #answered: readonly Hash[] = [];
  /** the round that is trained for, as long as no update has been made of it */
  #training: number | undefined;
  /** the round in which this peer has trained beyond its update, as long as it is open */
  #beyond: number | undefined;
  /** by the process before this one: of what it had learned not all need be on the disk */
  #isOfBefore = false;

  /** @param saved by the process before this one */
  constructor(tell: (receipt: Receipt) => void, saved?: SavedReceipts) {
    this.#tell = tell;
    if (!saved) return;
    this.#made = saved.made ?? undefined;
    this.#before = saved.unfinal;
    this.#owed = saved.owed;
    this.#answered = saved.answered;
    this.#training = saved.training ?? undefined;
    this.#beyond = saved.beyond;
    this.#isOfBefore = true;
  }

  get saved(): SavedReceipts {
    const unfinal = [...this.#before, ...this.#unfinal].slice(-UNFINAL_SAVED);
    const training = this.#training ?? null;
    const beyond = this.#beyond === undefined ? {} : { beyond: this.#beyond };
    return { made: this.#made ?? null, unfinal, owed: this.#owed, answered: this.#answered, training, ...beyond };
  }

  /** A process begins at a state to which the one before may have come without hearing of it. @param round completed there */
  resumed({ included }: OwnHistory, round: number): void {
    this.#settle(included);
    this.#giveBack(round);
    this.#miss(round);
    this.#missBeyond(round);
  }

  /** Training for a round has begun: where the round ends first, what was learned so far is in the residual. */
  begun(round: number): void {
    this.#training = round;
    this.#isOfBefore = false;
  }

  /** What was trained beyond the update for a round is in the residual. */
  trainedOn(round: number): void {
    this.#beyond = round;
  }

  /** An update of the residual and what was trained. */
  made(round: number, payload: Hash): void {
    this.#training = undefined;
    if (this.#made) this.#owe(this.#made, 'returned');
    this.#made = { round, payload, carries: this.#owed };
    this.#owed = [];
  }

  /** Training gave nothing of use. */
  refused(round: number, code: string): void {
    this.#training = undefined;
    this.#tell({ round, payload: null, status: 'refused', code });
  }

  /** A round has ended. */
  ended({ round, own, ownPayload, final }: Report & { kind: 'round' }): void {
    if (own === 'included') this.#count(this.#take(round, ownPayload));
    if (own === 'late' && !this.#isAnswered(round, ownPayload)) this.#owe(this.#take(round, ownPayload), 'late');
    if (own === 'none') this.#miss(round);
    if (this.#training === round) this.#training = undefined;
    this.#missBeyond(round);
    this.#giveBack(round);
    if (!final) return;
    for (const contribution of this.#unfinal) this.#accept(contribution);
    this.#unfinal = [];
  }

  /**
   * The agreed state was replaced by that of another history.
   * @param own.included own updates in that history: in unfinal rounds they count, but may be overruled again
   * @param forgot it begins too late to tell of all of them, and own work was given up
   */
  restored({ included }: OwnHistory, forgot: boolean): void {
    this.#settle(included, {
      forgot,
      lose: (contribution) => {
        if (forgot || contribution.forgotten) this.#forget(contribution);
        else this.#owe(contribution, 'returned');
      },
    });
    const trained = this.#takeTraining();
    if (trained && !forgot) this.#owe(trained, 'returned', { isKept: !this.#isOfBefore });
    else if (trained) this.#forget(trained);
    const beyond = this.#takeBeyond();
    if (beyond && !forgot) this.#owe(beyond, 'returned');
    else if (beyond) this.#forget(beyond);
    if (!forgot) return;
    for (const each of this.#owed) this.#forget({ ...each, carries: [] });
    this.#owed = [];
  }

  /** All own work was given up, whatever it is in, but for what is under way. */
  gaveUp(): void {
    const training = this.#training;
    this.#training = undefined;
    this.restored(NO_HISTORY, true);
    this.#training = training;
  }

  /** The round is over that a process was killed in before it could announce an update, or make one. */
  #miss(round: number): void {
    const made = this.#made;
    if (made && made.round <= round) {
      this.#made = undefined;
      this.#owe(made, 'late');
    }
    const trained = this.#takeTraining(round);
    if (trained) this.#owe(trained, 'late', { isKept: !this.#isOfBefore });
  }

  /** What was trained beyond an update is in no round. */
  #missBeyond(round: number): void {
    const beyond = this.#takeBeyond(round);
    if (beyond) this.#owe(beyond, 'late', { code: 'beyond' });
  }

  #takeBeyond(upTo = Number.POSITIVE_INFINITY): Contribution | undefined {
    const round = this.#beyond;
    if (round === undefined || round > upTo) return undefined;
    this.#beyond = undefined;
    return { round, payload: null, carries: [] };
  }

  /** What is trained for a round, up to this one, which ends without it. */
  #takeTraining(upTo = Number.POSITIVE_INFINITY): Contribution | undefined {
    const round = this.#training;
    if (round === undefined || round > upTo) return undefined;
    this.#training = undefined;
    return { round, payload: null, carries: [] };
  }

  /**
   * What a history has of those without an answer: others may have taken up what was late here, or given back, too.
   * @param how.lose hears of those that were open and are not in it, which wait for it no more
   */
  #settle(
    included: OwnHistory['included'],
    { forgot = false, lose }: { forgot?: boolean; lose?: (contribution: Contribution) => void } = {},
  ): void {
    const isFinal = new Map<Hash | null, boolean>(included.map(({ payload, final }) => [payload, final]));
    const carried = this.#open.flatMap(({ carries }) => carries);
    // what was late or given back comes first: in by itself it has its own answer, not that of the update that carries it
    const given = [...carried, ...this.#owed].filter(({ payload }) => isFinal.has(payload));
    const all = new Map([...given, ...this.#open].map(({ round, payload }) => [payload, round]));
    for (const [payload, round] of all) {
      const final = isFinal.get(payload);
      if (final === undefined && !lose) continue;
      const contribution = this.#take(round, payload);
      if (final) this.#accept(contribution);
      else if (final === undefined) lose?.(contribution);
      else this.#count(forgot ? { ...contribution, forgotten: true } : contribution);
    }
  }

  /** In unfinal rounds up to this one for the process before, and in none that this one went through: they were overruled. */
  #giveBack(round: number): void {
    if (this.#before.length === 0) return;
    const past = this.#before.filter((each) => each.round <= round);
    this.#before = this.#before.filter((each) => each.round > round);
    for (const each of past) this.#owe(each, 'returned');
  }

  /** It is in an unfinal round, or in the one that ends now. */
  #count(contribution: Contribution): void {
    this.#unfinal = [...this.#unfinal, contribution];
  }

  /** Made, and not known to be in or out. */
  get #open(): readonly Contribution[] {
    return [...this.#before, ...this.#unfinal, ...(this.#made ? [this.#made] : [])];
  }

  /** The contribution that a round speaks of, out of where it waited; one may be given back and then taken up after all. */
  #take(round: number, payload: Hash | null): Contribution {
    const made = this.#made;
    if (made && (payload === null ? made.round === round : made.payload === payload)) {
      this.#made = undefined;
      return made;
    }
    const isIt = (each: Work): boolean => payload !== null && each.payload === payload;
    const waiting = this.#before.find(isIt) ?? this.#unfinal.find(isIt) ?? this.#owed.find(isIt);
    const without = <T extends Work>(list: readonly T[]): readonly T[] => list.filter((each) => !isIt(each));
    // it may be in an update that was made since: that one has it no more
    const rest = (each: Contribution): Contribution => ({ ...each, carries: without(each.carries) });
    this.#before = without(this.#before).map(rest);
    this.#unfinal = without(this.#unfinal).map(rest);
    this.#made = made && rest(made);
    this.#owed = without(this.#owed);
    return { round, payload, carries: [], ...waiting };
  }

  /** Its work waits, by itself or in an update that was made since, or is in; or there was none, or none of use. */
  #isAnswered(round: number, payload: Hash | null): boolean {
    if (payload === null) return this.#training !== round && this.#made?.round !== round;
    const isCarried = this.#open.some(({ carries }) => carries.some((each) => each.payload === payload));
    return this.#isAnsweredFor(payload) || this.#isOwed(payload) || isCarried;
  }

  #isOwed(payload: Hash | null): boolean {
    return payload !== null && this.#owed.some((each) => each.payload === payload);
  }

  /** It was accepted or given up. */
  #isAnsweredFor(payload: Hash | null): boolean {
    return payload !== null && this.#answered.includes(payload);
  }

  #accept({ round, payload, carries }: Contribution): void {
    const news = [...carries, { round, payload }].filter((each) => !this.#isAnsweredFor(each.payload));
    for (const each of news) {
      this.#tell({ round: each.round, payload: each.payload, status: 'accepted', acceptedIn: round });
    }
    this.#closeAll(news);
  }

  /** Others may have taken it up by now, or yet: nothing more is said of it. */
  #forget({ round, payload, carries }: Contribution): void {
    const all = [...carries, { round, payload }].filter((each) => !this.#isAnsweredFor(each.payload));
    for (const each of all) this.#tell({ round: each.round, payload: each.payload, status: 'unknown' });
    this.#closeAll(all);
  }

  #closeAll(all: readonly Work[]): void {
    this.#answered = [...this.#answered, ...all.flatMap(({ payload }) => payload ?? [])].slice(-ANSWERED_KEPT);
  }

  /**
   * @param how.isKept it is in the residual for sure: else it is not said later that it counts after all @default true
   * @param how.code why it is late @default by whether an update was made of it
   */
  #owe(contribution: Contribution, status: 'late' | 'returned', how: { isKept?: boolean; code?: string } = {}): void {
    const { round, payload, carries } = contribution;
    if (this.#isAnsweredFor(payload)) return;
    const { isKept = true, code = payload === null ? 'training' : 'not-listed' } = how;
    this.#tell({ round, payload, status, ...(status === 'late' ? { code } : {}) });
    if (isKept) this.#owed = [...this.#owed, ...carries, { round, payload }].slice(-OWED_MAX);
  }
}

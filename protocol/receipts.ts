import type { Report } from './events.ts';
import type { Hash } from './hash.ts';
import type { OwnHistory } from './own-updates.ts';

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
   * was made of it before the round ended) or `not-listed` (it was made, and is not in the block). A journal tells more
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
  accepted: readonly Hash[];
}

/** Earlier contributions that are remembered until an update that carries them is accepted. */
const OWED_MAX = 256;
/** A peer that goes back to a state before such a round comes to the round again. */
const ACCEPTED_KEPT = 256;

/**
 * Gives every contribution of this peer its answer; a late or returned one a second when its work is in after all. What it
 * knows goes from one process to the next (`saved`).
 */
export class Receipts {
  readonly #tell: (receipt: Receipt) => void;
  #made: Contribution | undefined;
  /** in unfinal rounds, to be confirmed by the next certified one */
  #unfinal: readonly Contribution[] = [];
  /** late and returned: their work waits in the residual */
  #owed: readonly Work[] = [];
  /** payloads of the last ones that were accepted, oldest first */
  #accepted: readonly Hash[] = [];

  /** @param saved by the process before this one */
  constructor(tell: (receipt: Receipt) => void, saved?: SavedReceipts) {
    this.#tell = tell;
    if (!saved) return;
    this.#made = saved.made ?? undefined;
    this.#unfinal = saved.unfinal;
    this.#owed = saved.owed;
    this.#accepted = saved.accepted;
  }

  get saved(): SavedReceipts {
    return { made: this.#made ?? null, unfinal: this.#unfinal, owed: this.#owed, accepted: this.#accepted };
  }

  /** An update of the residual and what was trained. */
  made(round: number, payload: Hash): void {
    if (this.#made) this.#owe(this.#made, 'returned');
    this.#made = { round, payload, carries: this.#owed };
    this.#owed = [];
  }

  /** A process begins at a state to which the one before may have come without hearing of it. @param round completed there */
  resumed({ included }: OwnHistory, round: number): void {
    const isFinal = new Map<Hash | null, boolean>(included.map(({ payload, final }) => [payload, final]));
    for (const contribution of this.#open) {
      if (isFinal.get(contribution.payload)) this.#settle(contribution);
    }
    const made = this.#made;
    if (made && isFinal.has(made.payload)) this.#count(this.#take(made.round, made.payload));
    else if (made && made.round <= round) this.#owe(this.#take(made.round, made.payload), 'late');
  }

  /** In the state for good. */
  #settle(contribution: Contribution): void {
    if (this.#made === contribution) this.#made = undefined;
    this.#unfinal = this.#unfinal.filter((each) => each !== contribution);
    this.#accept(contribution);
  }

  /** Training gave nothing of use. */
  refused(round: number, code: string): void {
    this.#tell({ round, payload: null, status: 'refused', code });
  }

  /** A round has ended. */
  ended({ round, own, ownPayload, final }: Report & { kind: 'round' }): void {
    if (own === 'included') this.#count(this.#take(round, ownPayload));
    if (own === 'late' && !this.#isAnswered(ownPayload)) this.#owe(this.#take(round, ownPayload), 'late');
    // made by a process that was killed before it could be announced
    if (own === 'none' && this.#made && this.#made.round <= round)
      this.#owe(this.#take(round, this.#made.payload), 'late');
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
    const open = this.#open;
    this.#made = undefined;
    this.#unfinal = [];
    const isFinal = new Map<Hash | null, boolean>(included.map(({ payload, final }) => [payload, final]));
    const settle = (contribution: Contribution): void => {
      if (isFinal.get(contribution.payload)) this.#accept(contribution);
      else this.#count(forgot ? { ...contribution, forgotten: true } : contribution);
    };
    for (const contribution of open) {
      if (isFinal.has(contribution.payload)) settle(contribution);
      else if (forgot || contribution.forgotten) this.#forget(contribution);
      else this.#owe(contribution, 'returned');
    }
    // others may have taken up what was late here, or given back
    const counted = this.#owed.filter(({ payload }) => isFinal.has(payload));
    this.#owed = this.#owed.filter(({ payload }) => !isFinal.has(payload));
    for (const each of counted) settle({ ...each, carries: [] });
    if (!forgot) return;
    for (const each of this.#owed) this.#forget({ ...each, carries: [] });
    this.#owed = [];
  }

  /** Once, also where a process comes again to rounds that the one before has seen end. */
  #count(contribution: Contribution): void {
    const { payload } = contribution;
    const others = this.#unfinal.filter((each) => payload === null || each.payload !== payload);
    this.#unfinal = [...others, contribution];
  }

  /** Made, and not known to be in or out. */
  get #open(): readonly Contribution[] {
    return this.#made ? [...this.#unfinal, this.#made] : this.#unfinal;
  }

  /** The contribution that a round speaks of. */
  #take(round: number, payload: Hash | null): Contribution {
    const made = this.#made;
    if (made && (payload === null ? made.round === round : made.payload === payload)) {
      this.#made = undefined;
      return made;
    }
    const counting = payload !== null && this.#unfinal.find((each) => each.payload === payload);
    if (counting) return counting;
    // given back, and then taken up after all
    const owed = this.#isOwed(payload) && this.#owed.find((each) => each.payload === payload);
    this.#owed = this.#owed.filter((each) => each !== owed);
    return { ...(owed || { round, payload }), carries: [] };
  }

  /** Its work waits, by itself or in an update that was made since, or is in. */
  #isAnswered(payload: Hash | null): boolean {
    const isCarried = this.#open.some(({ carries }) => carries.some((each) => each.payload === payload));
    return this.#isAccepted(payload) || this.#isOwed(payload) || (payload !== null && isCarried);
  }

  #isOwed(payload: Hash | null): boolean {
    return payload !== null && this.#owed.some((each) => each.payload === payload);
  }

  #isAccepted(payload: Hash | null): boolean {
    return payload !== null && this.#accepted.includes(payload);
  }

  #accept({ round, payload, carries }: Contribution): void {
    const news = [...carries, { round, payload }].filter((each) => !this.#isAccepted(each.payload));
    for (const each of news) {
      this.#tell({ round: each.round, payload: each.payload, status: 'accepted', acceptedIn: round });
    }
    this.#accepted = [...this.#accepted, ...news.flatMap((each) => each.payload ?? [])].slice(-ACCEPTED_KEPT);
  }

  #forget({ round, payload, carries }: Contribution): void {
    for (const each of [...carries, { round, payload }]) {
      this.#tell({ round: each.round, payload: each.payload, status: 'unknown' });
    }
  }

  #owe(contribution: Contribution, status: 'late' | 'returned'): void {
    const { round, payload, carries } = contribution;
    const code = payload === null ? 'training' : 'not-listed';
    this.#tell({ round, payload, status, ...(status === 'late' ? { code } : {}) });
    this.#owed = [...this.#owed, ...carries, { round, payload }].slice(-OWED_MAX);
  }
}

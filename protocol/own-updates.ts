import type { Hash } from './hash.ts';

/** An update that this peer made, by its payload. */
export interface OwnPayload {
  id: Hash;
  /** trained on for it */
  tokens: number;
  /** bytes */
  size: number;
  /** that it was made for */
  round: number;
}

/** An own update that a history has taken up. */
export interface OwnIncluded {
  payload: Hash;
  /** a certified block stands on it or is it, so that it stays */
  final: boolean;
}

/** What a history says of a peer's own updates. */
export interface OwnHistory {
  included: readonly OwnIncluded[];
  /** the round from which on it says all; what became of updates for earlier ones is not known */
  begins: number;
}

/**
 * Updates on the books at most. Without a quorum nothing is decided on, and a peer that goes on alone makes one a round, each
 * with a payload on its disk, for days.
 */
const OPEN_MAX = 1024;

/** At the initial state. */
export const NO_HISTORY: OwnHistory = { included: [], begins: 0 };

/**
 * Which of a peer's own updates may still come to count, so that the replica's books stay right: none is lost, and none
 * counts twice. Certified history decides on all that were made before it; until then an update may be in an unfinal
 * round that another history undoes, or be given back to the residual and then turn up in a certified round after all
 * (others held it). Both sides of the driver's disk keep this with the replica's own work.
 */
export class OwnUpdates {
  #pending: OwnPayload | undefined;
  /** those that certified history has not decided on, but for the pending one */
  #open = new Map<Hash, Open>();
  /** the newest round of those that were too many: what becomes of them cannot be computed any more */
  #dropped: number | undefined;

  get pending(): OwnPayload | undefined {
    return this.#pending;
  }

  /** Payloads that must stay on the disk, beside the pending one: what becomes of them may have to be computed. */
  get open(): Open[] {
    return [...this.#open.values()];
  }

  /** `contribute` has made an update; one before it that nobody has settled is given back. */
  made(payload: OwnPayload): void {
    this.#setAside({ counts: false });
    this.#pending = payload;
  }

  /** How a payload of this peer in a block that is applied stands on its books. */
  kindOf(payload: Hash): 'pending' | 'returned' | undefined {
    if (payload === this.#pending?.id) return 'pending';
    return this.#open.get(payload)?.counts === false ? 'returned' : undefined;
  }

  /**
   * A round has been applied. A final one decides on all updates up to it. Those of later rounds stay open: unfinal rounds
   * may have led to the very state that they were made on.
   * @param block.own payload of this peer's update in it, if any
   */
  applied({ own, round, final }: { own: Hash | undefined; round: number; final: boolean }): void {
    this.#setAside({ counts: this.#pending?.id === own });
    if (final) {
      for (const [id, open] of this.#open) if (open.counts || open.round <= round) this.#open.delete(id);
      if (this.#dropped !== undefined && this.#dropped <= round) this.#dropped = undefined;
      return;
    }
    const returned = own === undefined ? undefined : this.#open.get(own);
    if (returned) this.#open.set(returned.id, { ...returned, counts: true });
  }

  /**
   * Another history's state takes the place of the old one.
   * @param own.included own updates in that history, up to the state
   * @returns those of them that are on the books; null where the history begins too late to tell of all that are, or where
   *   there were too many: then the books are closed, for what may be in the state already must not count a second time
   */
  restored({ included, begins }: OwnHistory): { final: OwnPayload[]; unfinal: OwnPayload[] } | null {
    this.#setAside({ counts: false });
    const told = new Set(included.map(({ payload }) => payload));
    const isUntold = this.open.some(({ id, round }) => round < begins && !told.has(id));
    if (isUntold || this.#dropped !== undefined) {
      this.#open.clear();
      this.#dropped = undefined;
      return null;
    }
    for (const [id, open] of this.#open) this.#open.set(id, { ...open, counts: false });
    const [final, unfinal]: [OwnPayload[], OwnPayload[]] = [[], []];
    for (const { payload, final: stays } of included) {
      const known = this.#open.get(payload);
      if (!known) continue;
      (stays ? final : unfinal).push(known);
      if (stays) this.#open.delete(payload);
      else this.#open.set(payload, { ...known, counts: true });
    }
    return { final, unfinal };
  }

  export(): SavedOwnUpdates {
    const dropped = this.#dropped === undefined ? {} : { dropped: this.#dropped };
    return { pending: this.#pending ?? null, open: this.open, ...dropped };
  }

  import({ pending, open, dropped }: SavedOwnUpdates): void {
    this.#pending = pending ?? undefined;
    this.#dropped = dropped;
    this.#open = new Map(open.map((payload) => [payload.id, payload]));
  }

  #setAside({ counts }: { counts: boolean }): void {
    if (this.#pending) this.#open.set(this.#pending.id, { ...this.#pending, counts });
    this.#pending = undefined;
    // they are in the order in which they were made
    for (const { id, round } of this.#open.values()) {
      if (this.#open.size <= OPEN_MAX) return;
      this.#open.delete(id);
      this.#dropped = Math.max(round, this.#dropped ?? round);
    }
  }
}

interface Open extends OwnPayload {
  /** it is in an unfinal round of the history that the peer is on; else its work is in the residual */
  counts: boolean;
}

export interface SavedOwnUpdates {
  pending: OwnPayload | null;
  open: Open[];
  /** absent where there were never too many */
  dropped?: number;
}

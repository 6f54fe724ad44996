import { NET_LIMITS } from './limits.ts';

/** A piece that came waited so long behind others, in milliseconds, that fewer are asked for at a time. */
const QUEUE_MS = 40;
/** Pieces more in a round trip in which nothing waits. */
const MORE = 2;
/** Share that there is less of after a round trip in which too much waited: so who has more gives more, until all have alike. */
const LESS = 0.125;
/** Pieces in a row that wait for hardly any other after which the least delay is another. */
const DOUBTED = 16;
/** Nothing is asked of a provider that has not been heard of for so long. */
const IDLE_MS = 2000;
const NOBODY = { pieces: 0, leastMs: Number.POSITIVE_INFINITY };
/** Before anything is known of the link. */
const FIRST = 2;

interface Credits {
  values(): Iterable<Credit>;
}

/**
 * How many pieces are asked of one provider at a time: as many as keep the slowest link on the way busy, and not many more,
 * for whatever is said on the same links waits behind them. A piece's delay beyond the least there was is what it waited
 * behind others (TCP Vegas: Brakmo and Peterson 1995, §3.3).
 */
export class Credit {
  #pieces = FIRST;
  /** by one a piece, until there was too much once */
  #growsFast = true;
  /** when it last became less: what was asked for before that tells nothing new */
  #lessSinceMs = Number.NEGATIVE_INFINITY;
  #leastMs = Number.POSITIVE_INFINITY;
  #heardMs = Number.NEGATIVE_INFINITY;
  /** pieces in a row that waited while hardly another was asked for, and the least delay of them */
  #alone = NOBODY;
  readonly #all: Credits;

  /** @param all of the same asker, behind the same link: this one is to be among them */
  constructor(all: Credits) {
    this.#all = all;
  }

  /** Nothing is under way: what the link carried a while ago says little. */
  begin(nowMs: number): void {
    if (nowMs - this.#heardMs < IDLE_MS) return;
    this.#pieces = Math.min(FIRST, this.#pieces);
    this.#growsFast = true;
  }

  get pieces(): number {
    return Math.floor(this.#pieces);
  }

  /**
   * A whole piece is here. Both times in milliseconds by one clock
   * @param isFull as many were asked for as may be: else nothing is learned about more
   */
  onPiece(askedMs: number, nowMs: number, isFull: boolean): void {
    const delayMs = nowMs - askedMs;
    this.#heardMs = nowMs;
    this.#leastMs = Math.min(this.#leastMs, delayMs);
    const queuedMs = delayMs - this.#leastMs;
    if (queuedMs <= QUEUE_MS) {
      this.#alone = NOBODY;
      if (!isFull) return;
      const more = this.#growsFast ? 1 : (MORE * (1 - queuedMs / QUEUE_MS)) / this.#pieces;
      this.#pieces = Math.min(NET_LIMITS.piecesAskedPerProvider, this.#pieces + more);
      return;
    }
    this.#growsFast = false;
    if (askedMs < this.#lessSinceMs) return;
    this.#lessSinceMs = nowMs;
    if (this.pieces === 1 && this.#isAlone(nowMs)) this.#doubt(delayMs);
    else this.#alone = NOBODY;
    this.#pieces = Math.max(1, this.#pieces - Math.max(1, LESS * this.#pieces));
  }

  /** Nobody else of the same asker is asked for more than one, either. */
  #isAlone(nowMs: number): boolean {
    for (const each of this.#all.values()) if (each.pieces > 1 && nowMs - each.#heardMs < IDLE_MS) return false;
    return true;
  }

  /** Piece after piece waits though hardly another was asked for: the way has become longer. */
  #doubt(delayMs: number): void {
    const { pieces, leastMs } = this.#alone;
    this.#alone = { pieces: pieces + 1, leastMs: Math.min(leastMs, delayMs) };
    if (this.#alone.pieces < DOUBTED) return;
    this.#leastMs = this.#alone.leastMs;
    this.#alone = NOBODY;
  }
}

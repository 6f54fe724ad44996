import { NET_LIMITS } from './limits.ts';

/** A chunk that came waited so long behind others, in milliseconds, that fewer are asked for at a time. */
const QUEUE_MS = 250;
/** Before anything is known of the links: what one chunk takes that waits for no other is what the rest is measured by. */
const FIRST = 1;

/**
 * How many chunks of one blob are asked for at a time, of all providers together: as many as keep the slowest link on the
 * way busy, and not many more, for whatever is said on the same connections waits behind them. A chunk's delay beyond the
 * least there was is what it waited behind others (as in TCP Vegas).
 */
export class Credit {
  #chunks = FIRST;
  /** by one a chunk, until there was too much once; then by one a round trip */
  #growsFast = true;
  /** when it last became less: what was asked for before that tells nothing new */
  #lessSinceMs = Number.NEGATIVE_INFINITY;
  #leastMs = Number.POSITIVE_INFINITY;

  get chunks(): number {
    return Math.floor(this.#chunks);
  }

  /** A chunk is here. Both times in milliseconds by one clock */
  onChunk(askedMs: number, nowMs: number): void {
    const delayMs = nowMs - askedMs;
    this.#leastMs = Math.min(this.#leastMs, delayMs);
    const most = NET_LIMITS.providersAtOnceMax * NET_LIMITS.chunksAskedPerProvider;
    if (delayMs - this.#leastMs > QUEUE_MS) {
      this.#growsFast = false;
      if (askedMs < this.#lessSinceMs) return;
      this.#lessSinceMs = nowMs;
      this.#chunks = Math.max(1, this.#chunks - 1);
    } else this.#chunks = Math.min(most, this.#chunks + (this.#growsFast ? 1 : 1 / this.#chunks));
  }
}

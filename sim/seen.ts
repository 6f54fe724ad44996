import { NETWORK_PARAMETERS } from './gossip-parameters.ts';

/** What gossip takes no more for two minutes, since it was said. */
export class Seen {
  /** by name: up to when, the oldest first */
  readonly #untilMs = new Map<string, number>();

  has(name: string, nowMs: number): boolean {
    const untilMs = this.#untilMs.get(name);
    return untilMs !== undefined && nowMs < untilMs;
  }

  add(name: string, nowMs: number): void {
    for (const [old, untilMs] of this.#untilMs) {
      if (untilMs > nowMs) break;
      this.#untilMs.delete(old);
    }
    this.#untilMs.delete(name);
    this.#untilMs.set(name, nowMs + NETWORK_PARAMETERS.seenMs);
  }
}

import type { Kernel } from './kernel.ts';

/**
 * What waits at one end of each peer's line, in milliseconds of the line: it shrinks as time passes. What is queued for a
 * later time does not hold up what comes before it, nor another that comes at the same time: only relays are, and they come
 * by many ways.
 */
export class Backlog {
  readonly #kernel: Kernel;
  /** as of `#asOfMs` */
  readonly #waitingMs: Float64Array;
  readonly #asOfMs: Float64Array;

  constructor(kernel: Kernel, peers: number) {
    this.#kernel = kernel;
    this.#waitingMs = new Float64Array(peers);
    this.#asOfMs = new Float64Array(peers);
  }

  /**
   * Queues something behind what is there already. What comes later than now finds the queue shorter by the time until then.
   * @param fromMs when it comes to the line
   * @param lengthMs how long it takes the line
   * @returns when it is through
   */
  take(peer: number, fromMs: number, lengthMs: number): number {
    const { nowMs } = this.#kernel;
    const waitingMs = Math.max(0, this.#waitingMs[peer]! - (nowMs - this.#asOfMs[peer]!));
    this.#waitingMs[peer] = waitingMs + lengthMs;
    this.#asOfMs[peer] = nowMs;
    return fromMs + Math.max(0, waitingMs - (fromMs - nowMs)) + lengthMs;
  }
}

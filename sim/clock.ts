/** How a machine's clock reads, against the kernel's. Milliseconds; never backwards. */
export interface Clock {
  localMs(kernelMs: number): number;
  /** the kernel's time at which the clock will read this, if nothing jumps before */
  kernelMs(localMs: number): number;
}

/** A clock that runs fast or slow, and is set forward now and then, as that of a machine which was suspended. */
export class SkewedClock implements Clock {
  readonly #rate: number;
  #aheadMs: number;

  /** @param rate milliseconds of its own in one of the kernel's */
  constructor({ rate, aheadMs }: { rate: number; aheadMs: number }) {
    this.#rate = rate;
    this.#aheadMs = aheadMs;
  }

  jump(byMs: number): void {
    this.#aheadMs += byMs;
  }

  localMs(kernelMs: number): number {
    return this.#aheadMs + this.#rate * kernelMs;
  }

  kernelMs(localMs: number): number {
    return (localMs - this.#aheadMs) / this.#rate;
  }
}

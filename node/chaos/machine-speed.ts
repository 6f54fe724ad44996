import { assert } from '../../protocol/errors.ts';

/** Of what a vector of 1 MB takes to be summed up so many times: some 2 ms, in which caches and memory count as in training. */
const VALUES = 2 ** 18;
const SUMS = 8;
const EVERY_MS = 500;

/** A time by `performance.now()`. */
export interface Span {
  fromMs: number;
  toMs: number;
}

/**
 * How fast this machine computes, from moment to moment. On one that is shared the same computation takes a third more of a
 * processor's time in one minute than in another, and whoever compares two runs of some minutes compares the neighbours, too.
 * So a small computation that is always the same is measured all along, for half a per cent of one processor.
 */
export class MachineSpeed {
  readonly #cost: () => number;
  readonly #now: () => number;
  readonly #samples: { atMs: number; speed: number }[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** @param cost does the computation. @returns what it took of a processor's time, in milliseconds */
  constructor(cost: () => number = sums(), now: () => number = () => performance.now()) {
    this.#cost = cost;
    this.#now = now;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.sample(), EVERY_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  sample(): void {
    const cost = this.#cost();
    if (cost > 0) this.#samples.push({ atMs: this.#now(), speed: 1 / cost });
  }

  /** @returns the mean in these spans, in computations per millisecond of a processor; null where nothing was measured */
  in(spans: readonly Span[]): number | null {
    let [sum, count] = [0, 0];
    for (const { atMs, speed } of this.#samples) {
      if (!spans.some(({ fromMs, toMs }) => atMs >= fromMs && atMs <= toMs)) continue;
      sum += speed;
      count++;
    }
    return count === 0 ? null : sum / count;
  }
}

function sums(): () => number {
  const values = new Float32Array(VALUES).fill(1);
  return () => {
    const before = process.cpuUsage();
    let sum = 0;
    // by index: an iterator takes five times as long, and then it is not the memory that counts
    for (let n = 0; n < SUMS; n++) for (let i = 0; i < VALUES; i++) sum += values[i] ?? 0;
    const { user, system } = process.cpuUsage(before);
    // a sum that nobody wanted could be left out
    assert(sum === SUMS * VALUES, 'the sum is the same each time');
    return (user + system) / 1000;
  };
}

import { assert } from '../protocol/errors.ts';
import { beforeAbort } from './before-abort.ts';

/** A planned event; hold on to it to cancel it. */
export interface Planned {
  readonly atMs: number;
  readonly sequence: number;
  /** undefined once it has run or was cancelled */
  run: (() => void) | undefined;
  /** what must have come in before it may run; only real time passes while it is waited for */
  ready: Promise<unknown> | undefined;
}

export interface RunOptions {
  /** looked at before every event */
  until: () => boolean;
  /** Gives the caller's event loop a turn (signals, a screen) every `EVENTS_A_TURN` events. */
  turn?: () => Promise<void>;
  /** Ends the run also while it waits for work; what was waited for, and how it ends, is of no interest then. */
  signal?: AbortSignal | undefined;
}

const EVENTS_A_TURN = 2048;
/** Below so many, cancelled events are not worth clearing out. */
const CANCELLED_KEPT = 1024;

/**
 * A discrete-event kernel: a clock in virtual milliseconds and a heap of events ordered by (time, sequence), so that of
 * two events at one time the one planned first runs first. The clock never runs backwards; nothing here looks at a real
 * one. Work that takes real time (training in a worker) enters the virtual world at its virtual time through
 * `whenReady`, no matter when it is done.
 */
export class Kernel {
  nowMs = 0;
  /** events run so far */
  events = 0;
  readonly #heap: Planned[] = [];
  #sequence = 0;
  #cancelled = 0;

  /** Events planned and not cancelled. */
  get pending(): number {
    return this.#heap.length - this.#cancelled;
  }

  /** Plans an event; a time that has passed means now, after what is planned for now already. */
  at(atMs: number, run: () => void): Planned {
    return this.#plan(atMs, run, undefined);
  }

  after(delayMs: number, run: () => void): Planned {
    return this.#plan(this.nowMs + delayMs, run, undefined);
  }

  /** Plans an event that needs the value of a promise: the kernel stops at its time until the value is there. */
  whenReady<T>(atMs: number, value: Promise<T>, run: (value: T) => void): Planned {
    let held: T;
    const ready = value.then((result) => {
      held = result;
    });
    // reported by `run`, which awaits it; it must not count as unhandled before that
    ready.catch(() => undefined);
    return this.#plan(atMs, () => run(held), ready);
  }

  cancel(planned: Planned | undefined): void {
    if (!planned?.run) return;
    planned.run = undefined;
    this.#cancelled++;
    if (this.#cancelled > CANCELLED_KEPT && this.#cancelled > this.#heap.length / 2) this.#compact();
  }

  /**
   * Runs events in order until the condition holds or none is left, or the signal comes while work is waited for.
   * @returns whether the condition holds
   * @throws whatever an event throws, and what work that was waited for failed with
   */
  async run({ until, turn, signal }: RunOptions): Promise<boolean> {
    let untilTurn = EVENTS_A_TURN;
    while (!until()) {
      const planned = this.#pop();
      if (!planned) return false;
      if (planned.ready) {
        await beforeAbort(planned.ready, signal);
        if (signal?.aborted) return until();
        if (!planned.run) {
          this.#cancelled--;
          continue;
        }
      }
      assert(planned.atMs >= this.nowMs, 'virtual time never runs backwards');
      this.nowMs = planned.atMs;
      this.events++;
      const { run } = planned;
      planned.run = undefined;
      run?.();
      if (turn && --untilTurn === 0) {
        untilTurn = EVENTS_A_TURN;
        await turn();
      }
    }
    return true;
  }

  /** Runs until the condition holds, or so much time has passed. */
  async runFor(limitMs: number, until: () => boolean = () => false): Promise<void> {
    const endMs = this.nowMs + limitMs;
    this.at(endMs, () => undefined);
    await this.run({ until: () => this.nowMs >= endMs || until() });
  }

  #plan(atMs: number, run: () => void, ready: Promise<unknown> | undefined): Planned {
    assert(!Number.isNaN(atMs) && atMs !== Number.POSITIVE_INFINITY, `an event at ${atMs} ms never comes`);
    const planned: Planned = { atMs: Math.max(atMs, this.nowMs), sequence: this.#sequence++, run, ready };
    const heap = this.#heap;
    heap.push(planned);
    this.#rise(heap.length - 1);
    return planned;
  }

  /** The next event that was not cancelled. */
  #pop(): Planned | undefined {
    const heap = this.#heap;
    for (;;) {
      const first = heap[0];
      if (!first) return undefined;
      const last = heap.pop()!;
      if (last !== first) {
        heap[0] = last;
        this.#sink(0);
      }
      if (first.run) return first;
      this.#cancelled--;
    }
  }

  #compact(): void {
    const kept = this.#heap.filter(({ run }) => run !== undefined);
    this.#heap.length = 0;
    for (const planned of kept) this.#heap.push(planned);
    for (let i = (kept.length >> 1) - 1; i >= 0; i--) this.#sink(i);
    this.#cancelled = 0;
  }

  #rise(from: number): void {
    const heap = this.#heap;
    const item = heap[from]!;
    let i = from;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(item, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = item;
  }

  #sink(from: number): void {
    const heap = this.#heap;
    const item = heap[from]!;
    let i = from;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, item)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = item;
  }
}

function before(a: Planned, b: Planned): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.sequence < b.sequence);
}

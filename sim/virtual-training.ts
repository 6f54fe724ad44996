import { TRAINING_ATTEMPTS } from '../node/train/worker-calls.ts';
import type { Effect } from '../protocol/events.ts';
import type { Hash } from '../protocol/hash.ts';
import { LIMITS } from '../protocol/limits.ts';
import { LOSS_MAX } from '../protocol/wire.ts';
import type { Planned } from './kernel.ts';
import type { Process } from './process.ts';
import type { Contribution } from './replica-host.ts';

type Train = Effect & { type: 'train' | 'train-on' };

interface Training {
  asked: Train;
  /** from 1 on */
  attempt: number;
  /** when each step ends, from `startMs` on */
  ends: Float64Array;
  startMs: number;
  end: Planned;
  /** no more steps than this will be taken */
  steps: number;
}

/** The training thread of one process: what it is at in virtual time, and when that is done. */
export class VirtualTraining {
  readonly #process: Process;
  #training: Training | undefined;
  /** when what the thread does now, outside of training, is done */
  #busyUntilMs: number;
  /** times that training was ended from outside: what began before is not to begin again */
  #stops = 0;

  constructor(process: Process) {
    this.#process = process;
    this.#busyUntilMs = process.world.kernel.nowMs;
  }

  /**
   * Something after what it does already; the answer comes in at the virtual time of its end.
   * @param keep makes the outcome durable
   * @param tell gives the machine its answer
   */
  compute<T>(durationMs: number, value: Promise<T>, keep: (value: T) => void, tell: (value: T) => void): void {
    const { world, writing, isAlive } = this.#process;
    const { kernel } = world;
    const write = () => void kernel.whenReady(kernel.nowMs, value, keep);
    writing.add(write);
    this.#busyUntilMs = Math.max(kernel.nowMs, this.#busyUntilMs) + durationMs;
    kernel.whenReady(this.#busyUntilMs, value, (result) => {
      if (!isAlive()) return;
      writing.delete(write);
      keep(result);
      tell(result);
    });
  }

  train(asked: Train): void {
    this.stop();
    this.#begin(asked, 1);
  }

  #begin(asked: Train, attempt: number): void {
    const { round, steps, firstStep, firstPosition } = asked;
    const beyond = asked.type === 'train-on';
    const { world, index } = this.#process;
    const { kernel, compute, host, ledger, trace } = world;
    const startMs = Math.max(kernel.nowMs, this.#busyUntilMs);
    host.train(index, { round, beyond, steps, firstStep, firstPosition });
    trace.add(kernel.nowMs, index, asked.type, round);
    ledger.turn(index, 'training', startMs);
    const ends = compute.stepEnds(index, steps);
    const training = { asked, attempt, ends, startMs, steps } as Training;
    this.#planEnd(training);
    this.#training = training;
  }

  /** Others wait: the step under way is the last. */
  finish(): void {
    const training = this.#training;
    if (!training) return;
    training.steps = this.#stepsBy(training);
    this.#planEnd(training);
  }

  /** Overtaken: the step under way is finished, and what was learned kept. */
  stop(): void {
    const { world, index } = this.#process;
    this.#stops++;
    const training = this.#training;
    if (!training) return;
    const steps = this.#stepsBy(training);
    world.kernel.cancel(training.end);
    this.#training = undefined;
    this.#busyUntilMs = Math.max(this.#busyUntilMs, training.startMs + training.ends[steps - 1]!);
    // nothing waits for it but whatever is asked of the seat next; that it fails is not to be missed
    world.kernel.whenReady(this.#busyUntilMs, world.host.abandon(index, steps), () => undefined);
  }

  /** The machine stands still for so long. */
  delay(lengthMs: number): void {
    const training = this.#training;
    if (!training) return;
    training.startMs += lengthMs;
    this.#planEnd(training);
  }

  /** The process is gone. */
  end(): void {
    this.#process.world.kernel.cancel(this.#training?.end);
    this.#training = undefined;
  }

  #planEnd(training: Training): void {
    const { kernel } = this.#process.world;
    kernel.cancel(training.end);
    training.end = kernel.at(training.startMs + training.ends[training.steps - 1]!, () => {
      if (!this.#process.isAlive()) return;
      if (training.asked.type === 'train-on') this.#keepOn(training);
      else this.#contribute(training);
    });
  }

  /** Steps that are done when the one under way is. */
  #stepsBy({ ends, startMs, steps }: Training): number {
    const spentMs = this.#process.world.kernel.nowMs - startMs;
    let done = 1;
    while (done < steps && ends[done - 1]! <= spentMs) done++;
    return done;
  }

  #contribute({ asked, attempt, steps }: Training): void {
    const { world, index } = this.#process;
    const { compute, host, ledger, kernel } = world;
    const { base, round } = asked;
    const stops = this.#stops;
    this.#training = undefined;
    ledger.turn(index, 'waiting', kernel.nowMs);
    this.compute(
      compute.encodeMs,
      host.contribute(index, steps),
      (contribution) => contribution && this.#keep(round, contribution),
      (contribution) => {
        if (contribution) this.#trained(base, contribution);
        else this.#brokeDown(asked, attempt, stops === this.#stops);
      },
    );
  }

  #keepOn({ asked, steps }: Training): void {
    const { world, index, disk } = this.#process;
    const { host, ledger, kernel } = world;
    const { base } = asked;
    this.#training = undefined;
    ledger.turn(index, 'waiting', kernel.nowMs);
    this.compute(
      0,
      host.keep(index, steps),
      (kept) => {
        if (kept) disk.version = kept.version;
      },
      (kept) => this.#process.give({ type: kept ? 'trained-on' : 'broken', base }),
    );
  }

  /** @param mayBegin nothing has come between */
  #brokeDown(asked: Train, attempt: number, mayBegin: boolean): void {
    if (!mayBegin) return;
    const message = `training broke down in round ${asked.round + 1}: again from the agreed model, fresh moments`;
    this.#process.warn('W_DIVERGED_HERE', message);
    if (attempt < TRAINING_ATTEMPTS) this.#begin(asked, attempt + 1);
    else this.#process.give({ type: 'broken', base: asked.base });
  }

  #keep(round: number, { payload, bytes, version, open }: Contribution): void {
    const { world, index, disk } = this.#process;
    disk.version = version;
    disk.open = open;
    world.library.putPayload(index, payload, bytes, round);
  }

  #trained(base: Hash, { payload, bytes, tokens, steps, loss }: Contribution): void {
    const { world, index } = this.#process;
    const { inlineBytesMax = LIMITS.inlinePayloadBytesMax } = world;
    world.trace.add(world.kernel.nowMs, index, 'trained', payload);
    const inline = bytes.length <= inlineBytesMax ? bytes : null;
    const update = { payload, size: bytes.length, tokens, steps, loss: Math.min(loss, LOSS_MAX) };
    this.#process.give({ type: 'trained', base, update, inline });
  }
}

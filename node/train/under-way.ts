import { existsSync } from 'node:fs';
import { decodeCanonical, encodeCanonical } from '../../protocol/encoding.ts';
import { isCoded } from '../../protocol/errors.ts';
import type { Hash } from '../../protocol/hash.ts';
import { readCheckpoint, type SkippedCheckpoint, writeCheckpoint } from '../store/checkpoint.ts';
import type { Checkpoints } from './checkpoints.ts';
import type { Engine } from './engine.ts';
import type { Moments } from './parameters.ts';
import type { Progress, RoundPlan } from './trainer.ts';

/** A round's training as it stands between two steps. */
export interface Training {
  /** root of the state that it began from */
  base: Hash;
  /** rounds behind that state */
  round: number;
  plan: RoundPlan;
  progress: Progress;
}

export interface UnderWayComponents {
  path: string;
  engine: Engine;
  checkpoints: Checkpoints;
  /** scratch for parameters and moments on their way to the file; the moments are the checkpoints' own */
  local: Float32Array;
  moments: Moments;
}

/** What the file says beside its vectors. */
interface SavedMeta {
  base: Hash;
  plan: RoundPlan;
  progress: Omit<Progress, 'meanLoss'> & { meanLoss: number | null };
  /** AdamW's step counter */
  updates: number;
  /** `taken` when it was written */
  taken: number;
}

interface Saved extends SavedMeta {
  local: Float32Array;
  moments: Moments;
}

const META_BYTES_MAX = 4096;
/** Time between two writes, and how much longer than a write takes: a slow disk costs training no more than this share. */
const EVERY_MS = 10_000;
const COST_SHARE = 0.01;

/**
 * The training of a round while it is under way, written to a file from time to time: a process that was killed goes on
 * from there, or, where the round ended without it, has what it had learned until then for its next update. The file is
 * no more than that, so it need not survive a power cut.
 */
export class UnderWay {
  /**
   * Trainings that ended up in own work so far. Saved with that, so that none which did is ever taken up out of the file
   * and counted again.
   */
  taken = 0;
  readonly #c: UnderWayComponents;
  readonly #everyMs: number;
  #found: Saved | undefined;
  #dueMs = Number.POSITIVE_INFINITY;
  #isWriting = false;
  #written: Promise<unknown> = Promise.resolve();

  constructor(components: UnderWayComponents, everyMs: number = EVERY_MS) {
    this.#c = components;
    this.#everyMs = everyMs;
  }

  /** Reads what an earlier process left. @returns why it cannot be used, where that is so */
  load(): SkippedCheckpoint | undefined {
    const { path } = this.#c;
    if (!existsSync(path)) return undefined;
    try {
      const { meta, vectors } = readCheckpoint(path).checkpoint;
      const moments = { m: vectors.get('m')!, v: vectors.get('v')! };
      this.#found = { ...(decodeCanonical(meta, META_BYTES_MAX) as SavedMeta), local: vectors.get('local')!, moments };
    } catch (error) {
      if (!isCoded(error)) throw error;
      const reason = `${error.message}; the round is trained from its beginning`;
      return { path, code: 'E_CHECKPOINT_DAMAGED', reason };
    }
    return undefined;
  }

  /** A round begins: puts the engine where an earlier process left it. @returns how far that is, if it had begun */
  async resume(base: Hash, { firstStep, firstPosition }: RoundPlan): Promise<Progress | undefined> {
    const found = this.#take(base);
    this.#found = undefined;
    this.#dueMs = performance.now() + this.#everyMs;
    if (found?.plan.firstStep !== firstStep || found.plan.firstPosition !== firstPosition) return undefined;
    const progress = { ...found.progress, meanLoss: found.progress.meanLoss ?? undefined };
    await this.#c.engine.writeParameters(found.local, progress.meanLoss);
    await this.#c.engine.writeOptimizer({ ...found.moments, t: found.updates });
    return progress;
  }

  /** A round ended before it was taken up again. @returns what had been learned in it, and in how many steps */
  async giveUp(base: Hash): Promise<{ local: Float32Array; steps: number } | undefined> {
    const found = this.#take(base);
    if (!found) return undefined;
    this.#found = undefined;
    await this.#c.engine.writeOptimizer({ ...found.moments, t: found.updates });
    return { local: found.local, steps: found.progress.steps - found.progress.skipped };
  }

  /** After a step: writes where training is, if it is time. */
  async note(training: Training): Promise<void> {
    if (performance.now() < this.#dueMs || this.#isWriting || this.#c.checkpoints.isSaving) return;
    await this.#begin(training);
  }

  /** Writes where training is, now. @throws CodedError<DiskErrorCode> */
  async save(training: Training): Promise<void> {
    await this.settled();
    await this.#c.checkpoints.saved;
    await this.#begin(training);
    await this.settled();
  }

  /** Nothing is being written. @throws CodedError<DiskErrorCode> of the last write */
  async settled(): Promise<void> {
    await this.#written;
  }

  #take(base: Hash): Saved | undefined {
    const found = this.#found;
    if (found?.base !== base || found.taken < this.taken) return undefined;
    this.taken = found.taken;
    return found;
  }

  /** Copies what is to be written; training goes on while it is. */
  async #begin({ base, round, plan, progress }: Training): Promise<void> {
    const { engine, local, moments, path } = this.#c;
    const startedMs = performance.now();
    this.#isWriting = true;
    await engine.readParameters(local);
    const updates = await engine.readOptimizer(moments);
    const saved = { ...progress, meanLoss: progress.meanLoss ?? null };
    const meta = encodeCanonical({ base, plan, progress: saved, updates, taken: this.taken } satisfies SavedMeta);
    const vectors = new Map([
      ['local', local],
      ['m', moments.m],
      ['v', moments.v],
    ]);
    this.#written = writeCheckpoint(path, { round, meta, vectors }, false).finally(() => {
      const endedMs = performance.now();
      this.#isWriting = false;
      this.#dueMs = endedMs + Math.max(this.#everyMs, (endedMs - startedMs) / COST_SHARE);
    });
    this.#written.catch(() => undefined); // told to whoever waits for it
  }
}

import { existsSync, rmSync } from 'node:fs';
import { decodeCanonical, encodeCanonical } from '../../protocol/encoding.ts';
import { isCoded } from '../../protocol/errors.ts';
import type { Hash } from '../../protocol/hash.ts';
import { describeCheckpoint, readCheckpoint, writeCheckpointSync } from '../store/checkpoint.ts';
import type { Engine } from './engine.ts';
import type { Moments } from './parameters.ts';
import type { Progress } from './trainer.ts';

/** A round's training as it stands between two steps. */
export interface Training {
  /** root of the state that it began from: what is trained on there follows from it */
  base: Hash;
  /** rounds behind that state */
  round: number;
  progress: Progress;
}

export interface UnderWayComponents {
  path: string;
  engine: Engine;
  /** scratch, on the way to the file */
  local: Float32Array;
  moments: Moments;
  onWarning: (code: string, message: string) => void;
}

/** When training is written. */
export interface UnderWaySettings {
  /** least time between two writes, in milliseconds */
  everyMs: number;
  /** of the time, at most, that writing may take */
  share: number;
}

/** What the file says beside its vectors. */
interface FileMeta {
  base: Hash;
  progress: Omit<Progress, 'meanLoss'> & { meanLoss: number | null };
  /** AdamW's step counter */
  updates: number;
  /** `taken` when it was written */
  taken: number;
}

interface Found extends FileMeta {
  local: Float32Array;
  moments: Moments;
}

const META_BYTES_MAX = 4096;
/**
 * Writing costs as much as kills do every sqrt(2 * cost * time between kills) (Young 1974): 5 s where a write takes 20 ms, as of
 * `nano`, and a peer is killed every ten minutes. Where kills are rarer, a write every 5 s is 0.4 % of the time and no more.
 */
const SETTINGS: UnderWaySettings = { everyMs: 5_000, share: 0.01 };

/**
 * The training of a round while it is under way, written to a file from time to time: a process that was killed goes on
 * from there, or, where the round ended without it, has what it had learned until then for its next update. The file is
 * no more than that: it need not survive a power cut, and training goes on where it cannot be written.
 */
export class UnderWay {
  /**
   * Trainings that ended up in own work so far. Saved with that, so that none which did is ever taken up out of the file
   * and counted again.
   */
  taken = 0;
  readonly #c: UnderWayComponents;
  readonly #settings: UnderWaySettings;
  #found: Found | undefined;
  #dueMs = 0;
  #hasWarned = false;

  constructor(components: UnderWayComponents, settings: UnderWaySettings = SETTINGS) {
    this.#c = components;
    this.#settings = settings;
  }

  /**
   * Reads what an earlier process left; removes what is in own work since.
   * @param taken trainings in the newest own work on disk
   * @returns why it cannot be used, where that is so
   */
  load(taken: number): { code: string; message: string } | undefined {
    const { path } = this.#c;
    if (!existsSync(path)) return undefined;
    try {
      const meta = decodeCanonical(describeCheckpoint(path).meta, META_BYTES_MAX) as FileMeta;
      if (meta.taken < taken) {
        rmSync(path);
        return undefined;
      }
      const { vectors } = readCheckpoint(path).checkpoint;
      const moments = { m: vectors.get('m')!, v: vectors.get('v')! };
      this.#found = { ...meta, local: vectors.get('local')!, moments };
    } catch (error) {
      if (!isCoded(error)) throw error;
      return { code: error.code, message: `${error.message}; the round is trained from its beginning` };
    }
    return undefined;
  }

  /** An earlier process has left some. */
  get isFound(): boolean {
    return this.#found !== undefined;
  }

  /** A round begins: puts the engine where an earlier process left it. @returns how far that is, if it had begun */
  async resume(base: Hash): Promise<Progress | undefined> {
    const found = await this.#take(base);
    this.#found = undefined;
    this.#dueMs = Math.max(this.#dueMs, performance.now() + this.#settings.everyMs);
    if (!found) return undefined;
    const progress = { ...found.progress, meanLoss: found.progress.meanLoss ?? undefined };
    await this.#c.engine.writeParameters(found.local, progress.meanLoss);
    return progress;
  }

  /** A round ended before it was taken up again. @returns what had been learned in it, and in how many steps */
  async giveUp(base: Hash): Promise<{ local: Float32Array; steps: number } | undefined> {
    const found = await this.#take(base);
    if (!found) return undefined;
    return { local: found.local, steps: found.progress.steps - found.progress.skipped };
  }

  /** The round's training was of no use. */
  drop(): void {
    rmSync(this.#c.path, { force: true });
  }

  get isDue(): boolean {
    return performance.now() >= this.#dueMs;
  }

  /** Writes where training is. Holds up this thread: one that trains has no time to write beside that. */
  async write({ base, round, progress }: Training): Promise<void> {
    const { engine, local, moments, path, onWarning } = this.#c;
    const { everyMs, share } = this.#settings;
    const startedMs = performance.now();
    await engine.readParameters(local);
    const updates = await engine.readOptimizer(moments);
    const saved = { ...progress, meanLoss: progress.meanLoss ?? null };
    const meta = encodeCanonical({ base, progress: saved, updates, taken: this.taken } satisfies FileMeta);
    const vectors = new Map([
      ['local', local],
      ['m', moments.m],
      ['v', moments.v],
    ]);
    try {
      writeCheckpointSync(path, { round, meta, vectors });
    } catch (error) {
      if (!isCoded(error)) throw error;
      if (!this.#hasWarned) onWarning(error.code, `${error.message}; training goes on, a kill would cost the round`);
      this.#hasWarned = true;
    }
    const endedMs = performance.now();
    this.#dueMs = endedMs + Math.max(everyMs, (endedMs - startedMs) / share);
  }

  async #take(base: Hash): Promise<Found | undefined> {
    const found = this.#found;
    if (found?.base !== base || found.taken < this.taken) return undefined;
    this.#found = undefined;
    this.taken = found.taken;
    await this.#c.engine.writeOptimizer({ ...found.moments, t: found.updates });
    return found;
  }
}

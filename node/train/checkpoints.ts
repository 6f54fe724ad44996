import { setImmediate as nextTurn } from 'node:timers/promises';
import * as z from 'zod';
import { type BlobManifest, blobManifest, hasManifest } from '../../protocol/blob.ts';
import { decodeCanonical, encodeCanonical } from '../../protocol/encoding.ts';
import { assert, isCoded } from '../../protocol/errors.ts';
import type { StateOnDisk } from '../../protocol/events.ts';
import { HASH_PATTERN, type Hash } from '../../protocol/hash.ts';
import { statesKept } from '../../protocol/kept-states.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { OwnUpdates, SavedOwnUpdates } from '../../protocol/own-updates.ts';
import type { Replica } from '../../protocol/replica.ts';
import { type AgreedState, wireState } from '../../protocol/wire.ts';
import { type BlobStore, type FileRange, rangesOf } from '../store/blob-store.ts';
import { namedParts, nativeSha256 } from '../store/blobs.ts';
import {
  type Checkpoint,
  describeCheckpoints,
  keepCheckpoints,
  loadNewestCheckpoint,
  type SavedCheckpoint,
  saveCheckpoint,
} from '../store/checkpoint.ts';
import type { Engine } from './engine.ts';
import type { Moments } from './parameters.ts';

/** A snapshot as chunks of a checkpoint file, for the blob store that serves it. */
export interface SnapshotFile {
  path: string;
  snapshot: Hash;
  ranges: FileRange[];
  /** files that are gone since */
  removed: string[];
}

/** What a checkpoint says beside its vectors. */
interface SavedMeta {
  /** the block that led to this state */
  block: Hash;
  state: AgreedState;
  own: SavedOwnUpdates;
  /** trained on for the vectors of own work; null where there is none */
  residualTokens: number;
  unfinalTokens: number | null;
  /** AdamW's step counter; its moments are vectors of the checkpoint */
  updates: number;
  /** trainings that are in own work */
  taken: number;
}

/** An agreed state in a checkpoint, and how to serve it. */
export interface SavedState extends StateOnDisk {
  file: SnapshotFile;
}

export interface LoadedState {
  /** the newest is last, and is what was loaded */
  states: SavedState[];
  /** see `UnderWay` */
  taken: number;
  /** damaged files that were passed over */
  warnings: { code: string; message: string }[];
}

/** How often states are written. */
export interface CheckpointPlan {
  /** of the model */
  parameters: number;
  /** of the run; null goes on until stopped */
  rounds: number | null;
  /** models with more than so many parameters are not written at every round @default ALWAYS_PARAMETERS */
  alwaysParameters?: number | undefined;
}

/** Above so many parameters a checkpoint is not written at every round; the payloads since are kept. */
const ALWAYS_PARAMETERS = 50_000_000;
const EVERY_ROUNDS = 4;

export interface CheckpointComponents {
  folder: string;
  store: BlobStore;
  replica: Replica;
  engine: Engine;
  updates: OwnUpdates;
  /** scratch for the moments on their way to a file */
  moments: Moments;
}

interface Begun {
  block: Hash;
  /** see `UnderWay` */
  taken: number;
  state: AgreedState;
  manifest: BlobManifest;
  keep: readonly Hash[];
}

const META_BYTES_MAX = 1024 * LIMITS.rosterMax;

/**
 * The checkpoints of the training thread: agreed state, own work and AdamW's moments. One is written while the next round
 * trains, for the agreed vectors do not change before the round's end; whoever changes what is in it waits for `saved`.
 */
export class Checkpoints {
  readonly #c: CheckpointComponents;
  readonly #plan: CheckpointPlan;
  /** the newest agreed state, where none was due for it */
  #outstanding: Begun | undefined;
  /** what is in each file, oldest first */
  #files: { path: string; block: Hash; snapshot: Hash }[] = [];
  #saving: Promise<SnapshotFile | null> = Promise.resolve(null);
  #isSaving = false;

  constructor(components: CheckpointComponents, plan: CheckpointPlan) {
    this.#c = components;
    this.#plan = plan;
  }

  /** Whether the state after so many rounds is written at once: that of the last round always is. */
  isDue(round: number): boolean {
    const { parameters, rounds, alwaysParameters = ALWAYS_PARAMETERS } = this.#plan;
    return parameters <= alwaysParameters || round % EVERY_ROUNDS === 0 || (rounds !== null && round >= rounds);
  }

  /**
   * Settles when the checkpoint that was begun last is on disk, with how to serve it.
   * @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE`
   */
  get saved(): Promise<SnapshotFile | null> {
    return this.#saving;
  }

  /** One is being written; the moments are its until then. */
  get isSaving(): boolean {
    return this.#isSaving;
  }

  /** Lets one that is being written get on: in a thread that trains it does only between two steps. */
  async advance(forMs: number): Promise<void> {
    const untilMs = performance.now() + forMs;
    while (this.#isSaving && performance.now() < untilMs) await nextTurn();
  }

  /** No checkpoint is due at this state. */
  skip(state: Begun): void {
    this.#outstanding = state;
    this.#saving = Promise.resolve(null);
  }

  /** The replica leaves the state that was not due: it can be written no more. */
  leave(): void {
    this.#outstanding = undefined;
  }

  /** Writes the newest agreed state, if that was not due. @param taken trainings in own work by now */
  async close(taken: number): Promise<void> {
    if (this.#outstanding) await this.begin({ ...this.#outstanding, taken });
    await this.#saving;
  }

  /**
   * Begins to write the replica as it is; `saved` tells of the end.
   * @param keep snapshots that must stay, beside the newest
   */
  async begin({ block, taken, state, manifest, keep }: Begun): Promise<void> {
    this.#outstanding = undefined;
    const { engine, replica } = this.#c;
    const { m, v } = this.#c.moments;
    const updates = await engine.readOptimizer({ m, v });
    const { parameters, outerState, ownWork } = replica;
    const { residual, unfinalOwn } = ownWork;
    // the agreed state first, in one piece: snapshots are served out of the file
    const vectors = new Map([
      ['parameters', parameters],
      ['outer', outerState],
      ['residual', residual.values],
    ]);
    if (unfinalOwn) vectors.set('unfinalOwn', unfinalOwn.values);
    vectors.set('m', m).set('v', v);
    const own = this.#c.updates.export();
    const tokens = { residualTokens: residual.tokens, unfinalTokens: unfinalOwn?.tokens ?? null };
    const meta = encodeCanonical({ block, state, own, ...tokens, updates, taken } satisfies SavedMeta);
    this.#isSaving = true;
    this.#saving = this.#save({ round: state.round, meta, vectors }, { block, manifest, keep }).finally(() => {
      this.#isSaving = false;
    });
    this.#saving.catch(() => undefined); // told to whoever asks for it
  }

  /** Loads the newest that is whole into replica and engine. */
  async load(): Promise<LoadedState> {
    const { folder, replica, engine } = this.#c;
    const { loaded, skipped } = loadNewestCheckpoint(folder);
    const instead = loaded ? '; an earlier one is used' : '';
    const warnings = skipped.map(({ code, reason }) => ({ code: code as string, message: `${reason}${instead}` }));
    if (!loaded) return { states: [], taken: 0, warnings };
    const { vectors, meta } = loaded.checkpoint;
    replica.parameters.set(vectors.get('parameters')!);
    replica.outerState.set(vectors.get('outer')!);
    const { block, state, own: saved, residualTokens, unfinalTokens, updates, taken } = decodeMeta(meta);
    replica.importOwn({
      residual: { values: vectors.get('residual')!, tokens: residualTokens },
      pending: null,
      unfinalOwn: unfinalTokens === null ? null : { values: vectors.get('unfinalOwn')!, tokens: unfinalTokens },
    });
    const manifest = blobManifest(replica.snapshotBytes(), nativeSha256);
    const earlier = await this.#earlier(loaded.serial, manifest.size);
    this.#files.push({ path: loaded.path, block, snapshot: state.snapshot });
    const file = await this.#serve(loaded, manifest, []);
    this.#c.updates.import(saved);
    assert(state.snapshot === manifest.id, 'a checkpoint holds the state that it names');
    await engine.writeOptimizer({ m: vectors.get('m')!, v: vectors.get('v')!, t: updates });
    return { states: [...earlier, { block, state, file }], taken, warnings };
  }

  /**
   * States that others may still be fetching, or that a peer may have to come back to. Left out are those of whose file it
   * shows that it is damaged.
   * @param size of every snapshot of this run, in bytes
   */
  async #earlier(before: number, size: number): Promise<SavedState[]> {
    const states: SavedState[] = [];
    for (const { path, meta, segments } of describeCheckpoints(this.#c.folder, before)) {
      const described = describedState(meta);
      const vectors = segments.get('parameters');
      if (!vectors || described?.state.snapshotBytes !== size) continue;
      const { block, state } = described;
      const chunks = await this.#chunksOf(state.snapshot, size);
      if (!chunks) continue;
      const ranges = rangesOf({ chunks, size }, vectors.offset);
      this.#files.push({ path, block, snapshot: state.snapshot });
      this.#c.store.register(path, ranges);
      states.push({ block, state, file: { path, snapshot: state.snapshot, ranges, removed: [] } });
    }
    return states;
  }

  /** @returns undefined where the manifest is not here, or is that of another size */
  async #chunksOf(id: Hash, size: number): Promise<Hash[] | undefined> {
    if (!hasManifest(size)) return [id];
    const parts = await namedParts(this.#c.store, { id, size });
    return parts && parts.length > 1 ? parts.slice(1) : undefined;
  }

  async #save(checkpoint: Checkpoint, begun: Pick<Begun, 'block' | 'manifest' | 'keep'>): Promise<SnapshotFile> {
    const { block, manifest, keep } = begun;
    const { folder } = this.#c;
    const saved = await saveCheckpoint(folder, checkpoint);
    const file = { path: saved.path, block, snapshot: manifest.id };
    this.#files = statesKept(this.#files, file, ({ snapshot }) => keep.includes(snapshot));
    const paths = this.#files.map(({ path }) => path);
    return this.#serve(saved, manifest, keepCheckpoints(folder, paths));
  }

  /** For this thread too: it may have to go back to a state that it has left. */
  async #serve(saved: SavedCheckpoint, manifest: BlobManifest, removed: string[]): Promise<SnapshotFile> {
    const { store } = this.#c;
    if (manifest.manifest) await store.write(manifest.id, manifest.manifest);
    for (const path of removed) store.unregister(path);
    const ranges = rangesOf(manifest, saved.segments.get('parameters')!.offset);
    store.register(saved.path, ranges);
    return { path: saved.path, snapshot: manifest.id, ranges, removed };
  }
}

const hash = z.string().regex(HASH_PATTERN);
const describedSchema = z.object({ block: hash, state: wireState.extend({ snapshot: hash }) });

/** Of a file whose hash nobody has looked at. @returns undefined where a changed bit shows */
function describedState(meta: Uint8Array): z.infer<typeof describedSchema> | undefined {
  try {
    return describedSchema.safeParse(decodeCanonical(meta, META_BYTES_MAX)).data;
  } catch (error) {
    if (!isCoded(error)) throw error;
    return undefined;
  }
}

function decodeMeta(meta: Uint8Array): SavedMeta {
  return decodeCanonical(meta, META_BYTES_MAX) as SavedMeta;
}

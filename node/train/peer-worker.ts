import { parentPort } from 'node:worker_threads';
import { blobManifest } from '../../protocol/blob.ts';
import { firstHead, rootOf, stateAt } from '../../protocol/chain.ts';
import type { CodecConfig } from '../../protocol/codecs/codec.ts';
import { codecOf } from '../../protocol/codecs/index.ts';
import { assert, CodedError, isCoded } from '../../protocol/errors.ts';
import { decodeGenesis, type Genesis, runIdOf } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { initialParameters, type Layout, modelLayout } from '../../protocol/model.ts';
import { NO_HISTORY, type OwnHistory, type OwnPayload, OwnUpdates } from '../../protocol/own-updates.ts';
import { type EncodedUpdate, Replica, replicaInit } from '../../protocol/replica.ts';
import type { AgreedState } from '../../protocol/wire.ts';
import { loadDataset } from '../data/run-data.ts';
import { BlobStore } from '../store/blob-store.ts';
import { type BlobReference, nativeSha256, readBlob } from '../store/blobs.ts';
import { runPaths } from '../store/directory.ts';
import { Checkpoints, type SnapshotFile } from './checkpoints.ts';
import { createEngine } from './engine.ts';
import { EVALUATION_SEQUENCES, evaluationEvery } from './evaluation.ts';
import { type Included, readOwnPayloads, rewriteOwnPayload, writeOwnPayload } from './own-payloads.ts';
import { decodeOwn, encodeOwn, OwnFile, resumeOwn, type SavedOwn } from './own-work.ts';
import { notify, serve } from './rpc.ts';
import { FINISH, type Progress, type RoundOptions, type RoundPlan, type RoundResult, Trainer } from './trainer.ts';
import { type Training, UnderWay } from './under-way.ts';
import type {
  AppliedState,
  ApplyRequest,
  Contribution,
  NoContribution,
  Opened,
  RestoredState,
  TrainedOn,
  WorkerInit,
  WorkerNotice,
} from './worker-calls.ts';

/** Of a step's time, what a checkpoint that is being written may have after it. */
const ADVANCE_SHARE = 0.05;

const OWN_LOST =
  'an update of this peer is not whole on its disk any more: what it had learned beside the model is given up';
const OWN_GONE = 'own.bin is gone: what this peer had learned beside the model is given up';
const OWN_ASIDE =
  'the run went on another way than this peer had gone before it was ended: what it had learned beside the model is given up';

/**
 * The thread that computes: inner steps, codec, outer step, hashing, checkpoints. It holds the parameters, in memory that
 * the network thread can see; the network thread holds the protocol. One of these works on one run's folder.
 */
export class PeerWorker {
  #genesis!: Genesis;
  #layout!: Layout;
  #codec!: CodecConfig;
  #replica!: Replica;
  #trainer!: Trainer;
  #store!: BlobStore;
  #own!: OwnFile;
  #checkpoints!: Checkpoints;
  #underWay!: UnderWay;
  /** root and round of the agreed state that the replica holds */
  #root: Hash | undefined;
  #round = 0;
  readonly #updates = new OwnUpdates();
  /** the replica's pending update, as it was encoded */
  #pending: EncodedUpdate | null = null;
  /** own work saved after a newer round than the newest checkpoint's: taken up when that round is reached again */
  #ownLater: SavedOwn | undefined;
  #training: { abort: AbortController; finished: Promise<void> } | undefined;
  /** the last call that takes the replica to another state */
  #moved: Promise<unknown> = Promise.resolve();
  #isClosing = false;
  /** where training was when this was closed */
  #closed: Training | undefined;
  /** trainings in the own work that is on disk */
  #ownTaken = 0;
  #local!: Float32Array;

  async open(init: WorkerInit): Promise<Opened> {
    const paths = runPaths(init.directory);
    this.#genesis = decodeGenesis(init.genesisBytes);
    const { model, inner, codec } = this.#genesis;
    this.#layout = modelLayout(model);
    this.#codec = codec;
    this.#store = new BlobStore(paths.blobs);
    this.#own = new OwnFile(paths.own);
    const components = { sha256: nativeSha256, allocate: sharedVector };
    this.#replica = new Replica(components, replicaInit(this.#genesis));
    this.#local = new Float32Array(this.#layout.length);
    const { backend, deterministic, microBatch, underWay, alwaysParameters } = init;
    const engine = await createEngine({
      model,
      inner,
      backend,
      deterministic,
      ...(microBatch === undefined ? {} : { microBatch }),
    });
    const splits = await loadDataset(this.#genesis, this.#store);
    this.#trainer = new Trainer({ engine, splits, genesis: this.#genesis });
    const [replica, store, updates, local] = [this.#replica, this.#store, this.#updates, this.#local];
    const moments = { m: new Float32Array(this.#layout.length), v: new Float32Array(this.#layout.length) };
    const plan = { parameters: this.#layout.length, rounds: this.#genesis.rounds, alwaysParameters };
    this.#checkpoints = new Checkpoints({ folder: paths.checkpoints, store, replica, engine, updates, moments }, plan);
    const onWarning = (code: string, message: string) => tell({ code, message });
    this.#underWay = new UnderWay({ path: paths.underWay, engine, local, moments, onWarning }, underWay);
    const { states, taken, warnings } = await this.#checkpoints.load();
    this.#underWay.taken = taken;
    const newest = states.at(-1);
    const isRemoved = newest !== undefined && !this.#own.isThere;
    const open = newest ? await this.#loadOwn(newest.state) : this.#loadOwnAlone();
    if (isRemoved) warnings.push({ code: 'W_OWN_LOST', message: OWN_GONE });
    const warning = this.#underWay.load(Math.max(this.#underWay.taken, this.#ownTaken));
    if (warning) warnings.push(warning);
    const parameters = this.#layout.length;
    const { isFound: isUnderWay } = this.#underWay;
    return { backend: `${engine.backend} (${engine.detail})`, parameters, states, warnings, open, isUnderWay };
  }

  /** The initial parameters become the agreed state. @param keep snapshots that must stay, beside the newest */
  initialize(keep: readonly Hash[] = []): Promise<RestoredState> {
    return this.#move(() => this.#initialize(keep));
  }

  async #initialize(keep: readonly Hash[]): Promise<RestoredState> {
    await this.#quiet();
    if (this.#ownLater) await this.#takeOwn(this.#ownLater);
    const known = this.#updates.restored(NO_HISTORY) && { final: [], unfinal: [] };
    const { model, seed } = this.#genesis;
    this.#replica.adopt(initialParameters(model, seed), new Float32Array(this.#replica.outerState.length), known);
    this.#pending = null; // it is in the residual now
    const run = runIdOf(this.#genesis);
    const settled = await this.#settle(stateAt(firstHead(this.#genesis, run), { id: '', bytes: 0 }), run, {
      due: true,
      keep,
    });
    await this.#checkpoints.saved;
    return { ...settled, forgot: !known };
  }

  /**
   * Makes a fetched snapshot the agreed state.
   * @param with.own what its history says of own updates
   * @param with.keep snapshots that must stay, beside the newest
   * @throws CodedError `E_BLOB_MISSING`, `E_SNAPSHOT_SIZE`, `E_NOT_FINITE`
   */
  restore(state: AgreedState, block: Hash, how: { own: OwnHistory; keep: readonly Hash[] }): Promise<RestoredState> {
    return this.#move(() => this.#restore(state, block, how));
  }

  async #restore(
    state: AgreedState,
    block: Hash,
    { own, keep }: { own: OwnHistory; keep: readonly Hash[] },
  ): Promise<RestoredState> {
    await this.#quiet();
    const bytes = await readBlob(this.#store, { id: state.snapshot, size: state.snapshotBytes });
    const { parameters, outerState } = this.#replica.readSnapshot(bytes);
    // of the newest own work, not of that before: it is known by its hash what a history has of it, on any state
    if (this.#ownLater) await this.#takeOwn(this.#ownLater);
    const before = this.#updates.export();
    const included = this.#updates.restored(own);
    let known: Included<EncodedUpdate> | null;
    try {
      known = included && (await readOwnPayloads(this.#store, included));
      // nothing could be taken off for what is lost, and its work would count twice
      if (!known) this.#updates.import({ pending: null, open: [] });
      this.#checkpoints.leave();
      this.#replica.adopt(parameters, outerState, known);
    } catch (error) {
      this.#updates.import(before);
      throw error;
    }
    this.#pending = null;
    const settled = await this.#settle(state, block, { due: true, keep });
    await this.#checkpoints.saved;
    if (included && !known) tell({ code: 'W_OWN_LOST', message: OWN_LOST });
    return { ...settled, forgot: !known };
  }

  /** A fetched payload is what the codec can decode. @throws CodedError<PayloadErrorCode> */
  async check(payload: BlobReference): Promise<void> {
    codecOf(this.#codec).check(await readBlob(this.#store, payload), this.#layout);
  }

  /**
   * Trains from the agreed parameters and encodes what changed.
   * @returns `overtaken` when an `apply`, `restore` or `close` came first, `broken` when nothing of use was learned
   */
  train(base: Hash, plan: RoundPlan): Promise<Contribution | NoContribution> {
    return this.#begin(base, (signal) => this.#trainAndEncode(base, plan, signal));
  }

  /** Trains from where own work leads, and adds what changed to the residual. @returns as `train` */
  async trainOn(base: Hash, plan: RoundPlan): Promise<TrainedOn> {
    const trained = await this.#begin(base, (signal) => this.#trainAndKeep(base, plan, signal));
    return trained === 'overtaken' ? { ...NOTHING_LEARNED, outcome: trained } : trained;
  }

  async #begin<T>(base: Hash, train: (signal: AbortSignal) => Promise<T>): Promise<T | 'overtaken'> {
    const before = this.#stopTraining();
    const moved = this.#moved;
    const abort = new AbortController();
    let done = (): void => {};
    // from now on, not from when it begins: an `apply` that comes meanwhile must find it
    const training = { abort, finished: new Promise<void>((resolve) => (done = resolve)) };
    this.#training = training;
    try {
      await before;
      // asked for again when training broke down, while the round's end was on its way here
      await moved;
      const isOver = isCut(abort.signal) || base !== this.#root;
      return isOver ? 'overtaken' : await train(abort.signal);
    } finally {
      if (this.#training === training) this.#training = undefined;
      done();
    }
  }

  /** Ends the training under way after its current step; `train` answers with what there is. */
  finish(): void {
    this.#training?.abort.abort(FINISH);
  }

  /**
   * Decodes the certified updates and takes the outer step. The new state is on disk when `saved` says so.
   * @throws CodedError `E_BLOB_MISSING`, and those of a checkpoint that could not be written
   */
  apply(request: ApplyRequest): Promise<AppliedState> {
    return this.#move(() => this.#apply(request));
  }

  /** What takes the replica to another state: whoever trains or closes meanwhile waits for it. */
  #move<T>(operation: () => Promise<T>): Promise<T> {
    // what is written at the end must not change any more
    if (this.#isClosing) return Promise.reject(new CodedError('E_WORKER', 'this peer is stopping'));
    const moved = operation();
    this.#moved = moved.catch(() => undefined);
    return moved;
  }

  async #apply(request: ApplyRequest): Promise<AppliedState> {
    await this.#quiet();
    if (this.#root !== request.base) {
      throw new CodedError('E_REPLICA', 'the parameters in memory are not those of the state to build on: start again');
    }
    const updates = [];
    const { own } = request;
    for (const [place, { payload, size, tokens }] of request.updates.entries()) {
      const kind = place === own ? this.#updates.kindOf(payload) : undefined;
      const known = kind === 'pending' ? this.#pending : null;
      const bytes = known?.payload ?? (await readBlob(this.#store, { id: payload, size }));
      updates.push({ payload: bytes, tokens, own: kind });
    }
    this.#checkpoints.leave();
    this.#replica.apply(updates, { final: request.final });
    const ownPayload = own === undefined ? undefined : request.updates[own]?.payload;
    this.#updates.applied({ own: ownPayload, round: this.#round, final: request.final });
    this.#pending = null;
    const state = { ...request.state, snapshot: '', snapshotBytes: 0 };
    const due = this.#checkpoints.isDue(state.round);
    const applied = await this.#settle(state, request.block, { due, keep: request.keep });
    return { ...applied, valLoss: await this.#evaluate(request.state.round, request.evaluateAll) };
  }

  /** When the newest agreed state is on disk; null where no checkpoint is due. @throws CodedError `E_DISK_FULL`, ... */
  saved(): Promise<SnapshotFile | null> {
    return this.#checkpoints.saved;
  }

  async evaluateAll(): Promise<number> {
    await this.#stopTraining();
    await this.#trainer.engine.writeParameters(this.#replica.parameters);
    return this.#trainer.evaluate();
  }

  /** Ends training after the current step and puts on disk what is not there; the agreed state last, as it may be large. */
  async close(): Promise<void> {
    this.#isClosing = true;
    await this.#stopTraining('close');
    await this.#moved;
    if (this.#root === undefined) return;
    let failure: unknown;
    // own work takes less room, and is on the disk nowhere else then
    await this.#checkpoints.saved.catch((error: unknown) => {
      failure = error;
    });
    // what is on the disk is newer, as long as its round is not reached again
    if (!this.#ownLater) {
      await this.#saveOwn(this.#root).catch((error: unknown) => {
        failure ??= error;
      });
    }
    if (this.#closed) await this.#underWay.write(this.#closed);
    if (failure !== undefined) throw failure;
    await this.#checkpoints.close(this.#underWay.taken);
  }

  /** Tensors alive and heap in use, for tests that look for leaks. */
  usage(): { tensors: number; heapBytes: number } {
    return { tensors: this.#trainer.engine.tensors(), heapBytes: process.memoryUsage().heapUsed };
  }

  async #trainAndEncode(base: Hash, plan: RoundPlan, signal: AbortSignal): Promise<Contribution | NoContribution> {
    const { engine } = this.#trainer;
    if (this.#ownLater) await this.#giveUpOwn(base, this.#ownLater);
    const [underWay, checkpoints, round] = [this.#underWay, this.#checkpoints, this.#round];
    const from = await underWay.resume(base);
    if (!from) await engine.writeParameters(this.#replica.parameters);
    let progress = from;
    const afterStep = async (now: Progress): Promise<void> => {
      progress = now;
      if (underWay.isDue && !checkpoints.isSaving) await underWay.write({ base, round, progress });
    };
    const result = await this.#steps(plan, signal, { afterStep, ...(from ? { from } : {}) });
    const isUseful = !result.badParameters && result.tokens > 0;
    if (signal.reason === 'close') {
      if (isUseful && progress) this.#closed = { base, round, progress };
      return 'overtaken';
    }
    // the residual is in it; that it could not be written others hear, and what was learned is to be kept all the more
    await checkpoints.saved.catch(() => undefined);
    await engine.readParameters(this.#local);
    if (isCut(signal)) {
      if (isUseful) this.#abandon(this.#local, result.tokens);
      return 'overtaken';
    }
    if (!isUseful) {
      underWay.drop();
      await this.#forgetMoments();
      return 'broken';
    }
    return this.#encode(base, result);
  }

  /** Not written down while under way: a kill costs what is not in the residual yet. */
  async #trainAndKeep(base: Hash, plan: RoundPlan, signal: AbortSignal): Promise<TrainedOn> {
    const { engine } = this.#trainer;
    if (this.#ownLater) await this.#giveUpOwn(base, this.#ownLater);
    if (!this.#replica.hasRoom) return { ...NOTHING_LEARNED, outcome: 'full' };
    const from = this.#replica.standing();
    await engine.writeParameters(from);
    const result = await this.#steps(plan, signal);
    await this.#checkpoints.saved.catch(() => undefined);
    await engine.readParameters(this.#local);
    const isUseful = !result.badParameters && result.tokens > 0;
    const isKept = isUseful && this.#abandon(this.#local, result.tokens, from);
    // at the end own work is written anyway
    if (isKept && signal.reason !== 'close') await this.#saveOwn(base);
    const learned = { isKept, skipped: result.skipped, trainMs: result.computeMs };
    if (isCut(signal)) return { ...learned, outcome: 'overtaken' };
    if (!isKept) await this.#forgetMoments();
    return { ...learned, outcome: isKept ? 'done' : 'broken' };
  }

  /** Inner steps, told of one by one; a checkpoint that is being written gets on beside them. */
  #steps(plan: RoundPlan, signal: AbortSignal, options: Pick<RoundOptions, 'from' | 'afterStep'> = {}) {
    let stepMs = performance.now();
    let lastStepMs = 0;
    const tokens = this.#tokensAStep;
    const onStep = ({ step, loss }: { step: number; loss: number }): void => {
      const nowMs = performance.now();
      lastStepMs = nowMs - stepMs;
      stepMs = nowMs;
      tell({ step: step + 1, steps: plan.steps, loss, tokens, stepMs: lastStepMs });
    };
    const afterStep = async (progress: Progress): Promise<void> => {
      await this.#checkpoints.advance(ADVANCE_SHARE * lastStepMs);
      await options.afterStep?.(progress);
    };
    return this.#trainer.trainRound(plan, { ...options, signal, onStep, afterStep });
  }

  /** Of training that broke down: what led there is in the moments too. */
  async #forgetMoments(): Promise<void> {
    const zeros = new Float32Array(this.#layout.length);
    await this.#trainer.engine.writeOptimizer({ m: zeros, v: zeros, t: 0 });
  }

  async #encode(base: Hash, result: RoundResult): Promise<Contribution | NoContribution> {
    this.#replica.withdraw();
    this.#pending = null;
    let update: EncodedUpdate;
    try {
      update = this.#replica.contribute(this.#local, result.tokens);
    } catch (error) {
      if (isCoded(error) && error.code === 'E_NOT_FINITE') return 'broken';
      throw error;
    }
    this.#underWay.taken++;
    // where the payload cannot be written, the work is in the replica's pending update, and in own.bin if that can be
    this.#pending = update;
    const { payload, tokens } = update;
    const { id, size } = await writeOwnPayload(this.#store, payload);
    this.#updates.made({ id, size, round: this.#round, tokens });
    await this.#saveOwn(base);
    const inline = size <= LIMITS.inlinePayloadBytesMax ? payload.slice() : null;
    const { steps, skipped, computeMs: trainMs, meanLoss: loss } = result;
    return { payload: id, size, tokens, steps, loss, inline, skipped, trainMs };
  }

  #abandon(local: Float32Array, tokens: number, from?: Float32Array): boolean {
    const isKept = this.#replica.abandon(local, tokens, from);
    if (isKept) this.#underWay.taken++;
    return isKept;
  }

  /** Waits until no training is under way; what it had learned goes to the residual, or to a file when this closes. */
  async #stopTraining(reason: 'overtaken' | 'close' = 'overtaken'): Promise<void> {
    this.#training?.abort.abort(reason);
    await this.#training?.finished;
  }

  /** Nothing is under way that looks at the vectors or changes them, not even in an earlier process. */
  async #quiet(): Promise<void> {
    await this.#stopTraining();
    await this.#checkpoints.saved;
    const left = this.#root && (await this.#underWay.giveUp(this.#root));
    if (left && left.steps > 0) this.#abandon(left.local, left.steps * this.#tokensAStep);
  }

  get #tokensAStep(): number {
    return this.#genesis.batch * this.#genesis.model.context;
  }

  /** Hashes the agreed state, begins a checkpoint where one is due, and takes up own work saved for this very state. */
  async #settle(
    target: AgreedState,
    block: Hash,
    { due, keep }: { due: boolean; keep: readonly Hash[] },
  ): Promise<AppliedState> {
    const manifest = blobManifest(this.#replica.snapshotBytes(), nativeSha256);
    if (target.snapshot) assert(target.snapshot === manifest.id, 'a restored snapshot hashes to its name');
    const state = { ...target, snapshot: manifest.id, snapshotBytes: manifest.size };
    this.#root = rootOf(state);
    this.#round = state.round;
    if (this.#ownLater?.base === this.#root) await this.#takeOwn(this.#ownLater);
    const settled = { block, taken: this.#underWay.taken, state, manifest, keep };
    // before the first checkpoint: beside one, that it is not there means that somebody has removed it
    if (!this.#own.isThere) await this.#saveOwn(this.#root);
    if (due) await this.#checkpoints.begin(settled);
    else {
      this.#checkpoints.skip(settled);
      // what was given up since is nowhere on disk
      if (this.#underWay.taken > this.#ownTaken) await this.#saveOwn(this.#root);
    }
    const { open } = this.#updates;
    return { snapshot: manifest.id, snapshotBytes: manifest.size, valLoss: null, open };
  }

  async #saveOwn(base: Hash): Promise<void> {
    const [taken, updates, pending] = [this.#underWay.taken, this.#updates.export(), this.#pending];
    this.#ownTaken = taken;
    await this.#own.save(encodeOwn({ base, taken, updates, pending }, this.#replica));
  }

  /**
   * Own work that was saved after the checkpoint that was loaded, or after one that is lost.
   * @returns own updates whose payloads must stay
   */
  async #loadOwn(state: AgreedState): Promise<OwnPayload[]> {
    const root = rootOf(state);
    this.#root = root;
    this.#round = state.round;
    const own = this.#loadOwnFile();
    if (!own) {
      await this.#giveUpRemoved(root);
      return [];
    }
    // older than the checkpoint's, it would take the place of newer: a peer may come back to a state that it had left
    if (own.taken < this.#underWay.taken) return this.#updates.open;
    if (own.base === root) await this.#takeOwn(own);
    else {
      // where an update is pending in the checkpoint what it says was on the disk before that, for this very state
      if (own.taken > this.#underWay.taken || this.#updates.pending) this.#ownLater = own;
      // of the round that led to this state, it may be on no other disk after a power cut
      if (own.pending) await rewriteOwnPayload(this.#store, own.pending.payload);
    }
    return [...this.#updates.open, ...(this.#ownLater?.updates.open ?? [])];
  }

  /** No checkpoint is whole: a state of others' will do as well. */
  #loadOwnAlone(): OwnPayload[] {
    this.#ownLater = this.#loadOwnFile();
    return this.#ownLater?.updates.open ?? [];
  }

  /** Training under way may be in the work that is damaged, and would count twice where the user goes on without that. */
  #loadOwnFile(): SavedOwn | undefined {
    try {
      const saved = this.#own.load();
      const own = saved && decodeOwn(saved);
      this.#ownTaken = own?.taken ?? 0;
      return own;
    } catch (error) {
      if (isCoded(error) && error.code === 'E_OWN_DAMAGED') this.#underWay.drop();
      throw error;
    }
  }

  /** The round that it was saved in is not on the way to the newest: what it has in it, and the books before it, may count already. */
  async #giveUpOwn(base: Hash, { taken }: SavedOwn): Promise<void> {
    this.#forgetOwn();
    this.#ownLater = undefined;
    // else it would be taken for newer at the next start
    this.#underWay.taken = Math.max(this.#underWay.taken, taken);
    await this.#saveOwn(base);
    tell({ code: 'W_OWN_LOST', message: OWN_ASIDE, gaveUp: true });
  }

  /** The books in the checkpoint may be older, and training under way in an update of since: both would count once more. */
  async #giveUpRemoved(base: Hash): Promise<void> {
    this.#forgetOwn();
    this.#underWay.drop();
    this.#underWay.taken++;
    // at once, lest a start after this one goes by the checkpoint's
    await this.#saveOwn(base);
  }

  #forgetOwn(): void {
    const nothing = { values: new Float32Array(this.#layout.length), tokens: 0 };
    this.#replica.importOwn({ residual: nothing, pending: null, unfinalOwn: null });
    this.#updates.import({ pending: null, open: [] });
    this.#pending = null;
  }

  async #takeOwn(own: SavedOwn): Promise<void> {
    resumeOwn(this.#replica, own, codecOf(this.#codec), this.#layout);
    this.#updates.import(own.updates);
    this.#underWay.taken = own.taken;
    this.#ownLater = undefined;
    this.#pending = own.pending;
    if (own.pending) await rewriteOwnPayload(this.#store, own.pending.payload);
  }

  async #evaluate(round: number, all: boolean): Promise<number | null> {
    if (!all && (round - 1) % evaluationEvery(this.#genesis) !== 0) return null;
    if (this.#genesis.data.validationFraction === 0) return null;
    await this.#trainer.engine.writeParameters(this.#replica.parameters);
    return this.#trainer.evaluate(all ? {} : { sequencesMax: EVALUATION_SEQUENCES });
  }
}

const NOTHING_LEARNED = { isKept: false, skipped: 0, trainMs: 0 };

/** What was learned is not to be contributed. */
function isCut({ aborted, reason }: AbortSignal): boolean {
  return aborted && reason !== FINISH;
}

function tell(notice: WorkerNotice): void {
  if (parentPort) notify(parentPort, notice);
}

function sharedVector(length: number): Float32Array {
  return new Float32Array(new SharedArrayBuffer(4 * length));
}

if (parentPort) serve(parentPort, new PeerWorker());

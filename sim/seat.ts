import type { RoundPlan } from '../node/train/trainer.ts';
import { blobManifest } from '../protocol/blob.ts';
import { assert, isCoded } from '../protocol/errors.ts';
import { type Genesis, runIdOf } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import { initialParameters } from '../protocol/model.ts';
import {
  NO_HISTORY,
  type OwnHistory,
  type OwnPayload,
  OwnUpdates,
  type SavedOwnUpdates,
} from '../protocol/own-updates.ts';
import { type EncodedUpdate, type OwnWork, Replica, replicaInit } from '../protocol/replica.ts';
import { nativeSha256 } from './native-hash.ts';
import type { ApplyRequest, Contribution, Kept, Settled, Training } from './replica-host.ts';
import { sharedBytes } from './shared-bytes.ts';

/** What inner training is done by. A pure function of what it is given, but for `stop`, which only ends it earlier. */
export interface InnerTrainer<Optimizer> {
  /** the optimizer's state of a process that starts */
  fresh(): Optimizer;
  train(request: TrainRequest<Optimizer>): Promise<Trained<Optimizer>>;
  evaluate(parameters: Float32Array, all: boolean): Promise<number | null>;
}

export interface TrainRequest<Optimizer> {
  peer: number;
  /** must not be changed */
  parameters: Float32Array;
  /** must not be changed */
  optimizer: Optimizer;
  plan: RoundPlan;
  /** may fall while training is under way: no more steps than this are of use */
  stop: { steps: number };
}

export interface Trained<Optimizer> {
  local: Float32Array;
  optimizer: Optimizer;
  steps: number;
  tokens: number;
  meanLoss: number;
  badParameters: boolean;
}

/** An agreed state that some peer has come to: the same for all who come to it, so computed and kept once. */
interface Agreed {
  parameters: Float32Array;
  outerState: Float32Array;
  snapshot: Hash;
  /** the snapshot: parameters, then outer state */
  bytes: Uint8Array;
}

/** The agreed states of one thread, by the block that leads to them. */
export class AgreedStates {
  readonly #states = new Map<Hash, Agreed>();
  readonly #kept: number;

  /** @param kept for peers that come to them later; one that is gone is computed again */
  constructor(kept = 6) {
    this.#kept = kept;
  }

  get(block: Hash): Agreed | undefined {
    return this.#states.get(block);
  }

  bySnapshot(snapshot: Hash): Agreed | undefined {
    for (const state of this.#states.values()) if (state.snapshot === snapshot) return state;
    return undefined;
  }

  /** Takes a copy of a replica's state, in memory that goes from thread to thread without being copied each time. */
  keep(block: Hash, replica: Replica): Agreed {
    const content = replica.snapshotBytes();
    const bytes = sharedBytes(content);
    const { parameters, outerState } = replica;
    const { id } = blobManifest(content, nativeSha256);
    const agreed = { parameters: parameters.slice(), outerState: outerState.slice(), snapshot: id, bytes };
    this.#states.delete(block);
    this.#states.set(block, agreed);
    for (const oldest of this.#states.keys()) {
      if (this.#states.size <= this.#kept) break;
      this.#states.delete(oldest);
    }
    return agreed;
  }
}

/** Hears what becomes of a peer's work: for a checker of its books. */
export interface SeatObserver {
  onTrain(peer: number): void;
  /** inner steps led from one to the other, and the replica is to have taken the change on its books */
  onWork(peer: number, from: Float32Array, local: Float32Array, tokens: number): void;
  /** a training has come to its end, whether or not something of use was learned */
  onTrained(peer: number): void;
  /** what the disk has from this version on; `pending` is the payload of the replica's pending update */
  onSave(peer: number, version: number, replica: Replica, pending: Hash | undefined): void;
  onRestart(peer: number, version: number): void;
  /** all own work is given up: what became of it is not known */
  onForgotten(peer: number): void;
}

interface Saved {
  version: number;
  agreed: Agreed;
  own: OwnWork;
  updates: SavedOwnUpdates;
  payloads: Map<Hash, Uint8Array>;
}

/** A crash loses what was not durable: at most the operation under way and the one planned behind it. */
const SAVED_KEPT = 4;

/**
 * The replica of one virtual peer and what its disk has of it: what `node/train/peer-worker.ts` is for a real one, with
 * the same order of operations.
 */
export class Seat<Optimizer> {
  readonly #peer: number;
  readonly #genesis: Genesis;
  readonly #trainer: InnerTrainer<Optimizer>;
  readonly #states: AgreedStates;
  readonly #observer: SeatObserver | undefined;
  #replica!: Replica;
  #optimizer!: Optimizer;
  #agreed: Agreed | undefined;
  #updates = new OwnUpdates();
  /** payloads of own updates that may still come to count: on the disk for as long */
  #payloads = new Map<Hash, Uint8Array>();
  #training:
    | {
        plan: Training;
        from: Float32Array;
        /** there is no room for what it learns */
        isVain: boolean;
        stop: { steps: number };
        done: Promise<Trained<Optimizer>>;
      }
    | undefined;
  #stop = { steps: 0 };
  #saved: Saved[] = [];
  #version = 0;
  /** the last operation asked for: the next begins when it is done */
  #tail: Promise<unknown> = Promise.resolve();

  constructor(
    peer: number,
    genesis: Genesis,
    trainer: InnerTrainer<Optimizer>,
    states: AgreedStates,
    observer?: SeatObserver,
  ) {
    this.#peer = peer;
    this.#genesis = genesis;
    this.#trainer = trainer;
    this.#states = states;
    this.#observer = observer;
    this.#restart(0);
  }

  /** A new process with the disk as it was at a version. */
  restart(version: number): void {
    void this.#inTurn(async () => this.#restart(version));
  }

  initialize(): Promise<Settled> {
    return this.#inTurn(() => this.#initialize());
  }

  restore(snapshot: { id: Hash; bytes: Uint8Array }, own: OwnHistory): Promise<Settled> {
    return this.#inTurn(() => this.#restore(snapshot, own));
  }

  train(plan: Training): void {
    const stop = { steps: plan.steps };
    this.#stop = stop;
    void this.#inTurn(async () => this.#train(plan, stop));
  }

  contribute(steps: number): Promise<Contribution | null> {
    this.#stop.steps = Math.min(this.#stop.steps, steps);
    return this.#inTurn(() => this.#contribute(steps));
  }

  keep(steps: number): Promise<Kept | null> {
    this.#stop.steps = Math.min(this.#stop.steps, steps);
    return this.#inTurn(() => this.#keep(steps));
  }

  abandon(steps: number): Promise<void> {
    this.#stop.steps = Math.min(this.#stop.steps, steps);
    return this.#inTurn(async () => void (await this.#abandon(steps)));
  }

  apply(request: ApplyRequest): Promise<Settled> {
    return this.#inTurn(() => this.#apply(request));
  }

  evaluate(all: boolean): Promise<number | null> {
    return this.#inTurn(async () => {
      assert(this.#agreed, 'there is an agreed model');
      return this.#trainer.evaluate(this.#agreed.parameters, all);
    });
  }

  #inTurn<T>(operation: () => Promise<T>): Promise<T> {
    const done = this.#tail.then(operation);
    this.#tail = done.catch(() => undefined); // reported to whoever asked
    return done;
  }

  #restart(version: number): void {
    this.#replica = new Replica({ sha256: nativeSha256 }, replicaInit(this.#genesis));
    this.#optimizer = this.#trainer.fresh();
    this.#training = undefined;
    const saved = this.#saved.find((each) => each.version === version);
    assert(version === 0 || saved !== undefined, `the disk of peer ${this.#peer} has version ${version}`);
    this.#saved = saved ? [saved] : [];
    this.#observer?.onRestart(this.#peer, version);
    this.#agreed = saved?.agreed;
    this.#updates = new OwnUpdates();
    this.#payloads = new Map(saved?.payloads);
    if (saved) this.#updates.import(saved.updates);
    if (!saved) return;
    this.#replica.parameters.set(saved.agreed.parameters);
    this.#replica.outerState.set(saved.agreed.outerState);
    this.#replica.importOwn(saved.own);
  }

  async #initialize(): Promise<Settled> {
    const { model, seed } = this.#genesis;
    const run = runIdOf(this.#genesis);
    const known = this.#updates.restored(NO_HISTORY) && { final: [], unfinal: [] };
    this.#replica.adopt(initialParameters(model, seed), new Float32Array(this.#replica.outerState.length), known);
    if (!known) this.#observer?.onForgotten(this.#peer);
    return this.#settle(run);
  }

  async #restore(snapshot: { id: Hash; bytes: Uint8Array }, own: OwnHistory): Promise<Settled> {
    const { parameters, outerState } = this.#replica.readSnapshot(snapshot.bytes);
    const included = this.#updates.restored(own);
    const encoded = ({ id, tokens }: OwnPayload) => ({ payload: this.#payloads.get(id)!, tokens });
    const known = included && { final: included.final.map(encoded), unfinal: included.unfinal.map(encoded) };
    this.#replica.adopt(parameters, outerState, known);
    if (!known) this.#observer?.onForgotten(this.#peer);
    const agreed = this.#states.bySnapshot(snapshot.id);
    return agreed ? this.#save(agreed) : this.#settle(snapshot.id);
  }

  #train(plan: Training, stop: { steps: number }): void {
    assert(this.#agreed, 'training begins from an agreed state');
    this.#observer?.onTrain(this.#peer);
    const from = plan.beyond ? this.#replica.standing() : this.#agreed.parameters;
    const done = this.#trainer.train({ ...this.#request(plan, from), stop });
    done.catch(() => undefined); // reported by whoever settles it
    this.#training = { plan, from, isVain: plan.beyond === true && !this.#replica.hasRoom, stop, done };
  }

  async #contribute(steps: number): Promise<Contribution | null> {
    const { round } = this.#training?.plan ?? { round: 0 };
    const trained = await this.#settleTraining(steps);
    if (trained.badParameters || trained.tokens === 0) {
      // what led here is in the moments too
      this.#optimizer = this.#trainer.fresh();
      return null;
    }
    this.#replica.withdraw();
    // whether or not the replica takes it: that is for the checker of its books to see
    this.#observer?.onWork(this.#peer, this.#agreed!.parameters, trained.local, trained.tokens);
    let update: EncodedUpdate;
    try {
      update = this.#replica.contribute(trained.local, trained.tokens);
    } catch (error) {
      if (isCoded(error) && error.code === 'E_NOT_FINITE') return null;
      throw error;
    }
    const { payload: bytes, tokens } = update;
    const { id } = blobManifest(bytes, nativeSha256);
    this.#updates.made({ id, size: bytes.length, round, tokens });
    this.#payloads.set(id, bytes);
    const { version, open } = this.#save(this.#agreed!);
    return { payload: id, bytes, tokens, steps: trained.steps, loss: trained.meanLoss, version, open };
  }

  async #keep(steps: number): Promise<Kept | null> {
    const isVain = this.#training?.isVain;
    const isUseful = await this.#abandon(steps);
    if (isUseful) return this.#save(this.#agreed!);
    if (!isVain) this.#optimizer = this.#trainer.fresh();
    return null;
  }

  /** @returns whether there was something to keep */
  async #abandon(steps: number): Promise<boolean> {
    const { from, isVain } = this.#training ?? {};
    const trained = await this.#settleTraining(steps);
    if (!from || isVain || trained.badParameters || trained.tokens === 0) return false;
    // whether or not the replica takes it: that is for the checker of its books to see
    this.#observer?.onWork(this.#peer, from, trained.local, trained.tokens);
    return this.#replica.abandon(trained.local, trained.tokens, from);
  }

  async #apply({ block, round, updates, own, final }: ApplyRequest): Promise<Settled> {
    const ownUpdate = own === undefined ? undefined : updates[own];
    const kind = ownUpdate && this.#updates.kindOf(ownUpdate.payload);
    const known = this.#states.get(block);
    if (known) {
      const returned = ownUpdate && kind === 'returned' ? [encodedOf(ownUpdate)] : [];
      this.#replica.applyKnown(known, { included: kind === 'pending', final, returned });
    } else {
      const certified = updates.map((update, place) => {
        return { ...encodedOf(update), own: place === own ? kind : undefined };
      });
      this.#replica.apply(certified, { final });
    }
    this.#updates.applied({ own: ownUpdate?.payload, round, final });
    return known ? this.#save(known) : this.#settle(block);
  }

  /** The training's outcome after so many steps; where more were taken meanwhile, it is done again, up to there. */
  async #settleTraining(steps: number): Promise<Trained<Optimizer>> {
    const training = this.#training;
    assert(training, 'a training is ended that has begun');
    let trained = await training.done;
    if (trained.steps > steps) {
      const request = this.#request({ ...training.plan, steps }, training.from);
      trained = await this.#trainer.train({ ...request, stop: { steps } });
    }
    if (this.#training === training) {
      this.#optimizer = trained.optimizer;
      this.#training = undefined;
    }
    this.#observer?.onTrained(this.#peer);
    return trained;
  }

  #request(plan: RoundPlan, parameters: Float32Array) {
    return { peer: this.#peer, parameters, optimizer: this.#optimizer, plan };
  }

  #settle(block: Hash): Settled {
    return this.#save(this.#states.keep(block, this.#replica));
  }

  #save(agreed: Agreed): Settled {
    this.#agreed = agreed;
    const version = ++this.#version;
    const work = this.#replica.exportOwn();
    this.#observer?.onSave(this.#peer, version, this.#replica, this.#updates.pending?.id);
    const updates = this.#updates.export();
    const kept = new Set([...updates.open, ...(updates.pending ? [updates.pending] : [])].map(({ id }) => id));
    for (const id of this.#payloads.keys()) if (!kept.has(id)) this.#payloads.delete(id);
    this.#saved.push({ version, agreed, own: work, updates, payloads: new Map(this.#payloads) });
    if (this.#saved.length > SAVED_KEPT) this.#saved.shift();
    const open = updates.open.map(({ id }) => id);
    // watched: what this very replica has
    const bytes = this.#observer ? this.#replica.snapshotBytes() : agreed.bytes;
    return { snapshot: agreed.snapshot, bytes, version, open };
  }
}

function encodedOf({ bytes, tokens }: ApplyRequest['updates'][number]): EncodedUpdate {
  return { payload: bytes, tokens };
}

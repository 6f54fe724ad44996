import { parentPort } from 'node:worker_threads';
import { type Dataset, makeDataset } from '../node/data/dataset.ts';
import { byteTokenizer, charTokenizerFromBlob } from '../node/data/tokenizer.ts';
import type { BackendName } from '../node/train/backend.ts';
import { createEngine, type Engine } from '../node/train/engine.ts';
import { serve } from '../node/train/rpc.ts';
import { Trainer } from '../node/train/trainer.ts';
import { decodeGenesis, type Genesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { OwnHistory } from '../protocol/own-updates.ts';
import type { ApplyRequest, Contribution, Kept, Settled, Training } from './replica-host.ts';
import { AgreedStates, type InnerTrainer, Seat, type Trained, type TrainRequest } from './seat.ts';
import { sharedBytes } from './shared-bytes.ts';

export interface ReplicaWorkerInit {
  genesisBytes: Uint8Array;
  text: Uint8Array;
  /** none for the byte tokenizer */
  tokenizer: Uint8Array | undefined;
  backend: BackendName | 'auto';
  deterministic: boolean;
  microBatch?: number;
}

/** AdamW's state of one peer; undefined before its first step. */
type Moments = { m: Float32Array; v: Float32Array; t: number } | undefined;

/** Sequences of an evaluation in the middle of a run, as on a real peer. */
const EVALUATION_SEQUENCES = 64;

/**
 * One engine for several peers: whose turn it is has its parameters and optimizer state written into it, takes its inner
 * steps, and takes them out again. The bits are those of an engine of its own.
 */
class SharedEngine implements InnerTrainer<Moments> {
  readonly #engine: Engine;
  readonly #trainer: Trainer;
  readonly #hasValidation: boolean;
  readonly #zeros: Float32Array;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(engine: Engine, splits: Dataset, genesis: Genesis) {
    this.#engine = engine;
    this.#trainer = new Trainer({ engine, splits, genesis });
    this.#hasValidation = genesis.data.validationFraction > 0;
    this.#zeros = new Float32Array(engine.layout.length);
  }

  fresh(): Moments {
    return undefined;
  }

  train(request: TrainRequest<Moments>): Promise<Trained<Moments>> {
    return this.#inTurn(() => this.#train(request));
  }

  evaluate(parameters: Float32Array, all: boolean): Promise<number | null> {
    return this.#inTurn(async () => {
      if (!this.#hasValidation) return null;
      await this.#engine.writeParameters(parameters);
      return this.#trainer.evaluate(all ? {} : { sequencesMax: EVALUATION_SEQUENCES });
    });
  }

  async #train({ parameters, optimizer, plan, stop }: TrainRequest<Moments>): Promise<Trained<Moments>> {
    const engine = this.#engine;
    await engine.writeParameters(parameters);
    await engine.writeOptimizer(optimizer ?? { m: this.#zeros, v: this.#zeros, t: 0 });
    const abort = new AbortController();
    // told meanwhile that the peer has no time for more
    const onStep = ({ step }: { step: number }): void => {
      if (step + 1 >= stop.steps) abort.abort();
    };
    const steps = Math.min(plan.steps, stop.steps);
    const result = await this.#trainer.trainRound({ ...plan, steps }, { signal: abort.signal, onStep });
    const { length } = engine.layout;
    const [local, m, v] = [new Float32Array(length), new Float32Array(length), new Float32Array(length)];
    await engine.readParameters(local);
    const t = await engine.readOptimizer({ m, v });
    return { local, optimizer: { m, v, t }, ...result };
  }

  #inTurn<T>(operation: () => Promise<T>): Promise<T> {
    const done = this.#tail.then(operation);
    this.#tail = done.catch(() => undefined); // reported to whoever asked
    return done;
  }
}

/** What `RealHost` calls in each of its threads. */
export class ReplicaWorker {
  #genesis!: Genesis;
  #trainer!: SharedEngine;
  readonly #states = new AgreedStates();
  readonly #seats = new Map<number, Seat<Moments>>();

  async open({ genesisBytes, text, tokenizer, ...request }: ReplicaWorkerInit): Promise<string> {
    this.#genesis = decodeGenesis(genesisBytes);
    const { model, inner, data } = this.#genesis;
    const engine = await createEngine({ model, inner, ...request });
    const tokens = tokenizer ? charTokenizerFromBlob(tokenizer) : byteTokenizer();
    this.#trainer = new SharedEngine(engine, makeDataset(text, tokens, data.validationFraction), this.#genesis);
    return `${engine.backend} (${engine.detail})`;
  }

  initialize(peer: number): Promise<Settled> {
    return this.#seat(peer).initialize();
  }

  restore(peer: number, snapshot: { id: Hash; bytes: Uint8Array }, own: OwnHistory): Promise<Settled> {
    return this.#seat(peer).restore(snapshot, own);
  }

  train(peer: number, training: Training): void {
    this.#seat(peer).train(training);
  }

  async contribute(peer: number, steps: number): Promise<Contribution | null> {
    const contribution = await this.#seat(peer).contribute(steps);
    return contribution && { ...contribution, bytes: sharedBytes(contribution.bytes) };
  }

  keep(peer: number, steps: number): Promise<Kept | null> {
    return this.#seat(peer).keep(steps);
  }

  abandon(peer: number, steps: number): Promise<void> {
    return this.#seat(peer).abandon(steps);
  }

  apply(peer: number, request: ApplyRequest): Promise<Settled> {
    return this.#seat(peer).apply(request);
  }

  restart(peer: number, version: number): void {
    this.#seat(peer).restart(version);
  }

  evaluate(peer: number, all: boolean): Promise<number | null> {
    return this.#seat(peer).evaluate(all);
  }

  #seat(peer: number): Seat<Moments> {
    let seat = this.#seats.get(peer);
    if (!seat) {
      seat = new Seat(peer, this.#genesis, this.#trainer, this.#states);
      this.#seats.set(peer, seat);
    }
    return seat;
  }
}

if (parentPort) serve(parentPort, new ReplicaWorker());

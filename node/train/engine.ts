import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { CodedError } from '../../protocol/errors.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import { type Layout, type ModelShape, modelLayout } from '../../protocol/model.ts';
import type { Backend, BackendName } from './backend.ts';
import { type BackendRequest, openBackend } from './backends.ts';
import type { TrainErrorCode } from './errors.ts';
import { meanLoss, nextLogits, type Weights } from './model.ts';
import type { Ops } from './ops.ts';
import type { Moments, ParameterStore } from './parameters.ts';

/** Sequences of equal length, one after the other; targets[i] is the token that follows inputs[i]. */
export interface Batch {
  inputs: Int32Array;
  targets: Int32Array;
  sequences: number;
}

export interface StepResult {
  /** mean cross entropy of the batch in nats, before the update */
  loss: number;
  /** global norm before clipping */
  gradientNorm: number;
  /** the step was thrown away: parameters and moments are as before */
  skipped: boolean;
}

export interface StepOptions {
  learningRate: number;
  /** waited for after each piece of the batch; nothing else may use the backend of this thread meanwhile */
  afterPiece?: () => Promise<void>;
}

/** Trains and runs one model in this thread. Calls must not overlap: await each before the next. */
export interface Engine {
  readonly backend: BackendName;
  /** which kernels or device, for people */
  readonly detail: string;
  readonly layout: Layout;
  /** sequences that are computed at once; larger batches are cut into such pieces */
  readonly microBatch: number;
  /** running mean of the loss since the parameters were written, against which spikes are told; undefined before a step */
  readonly meanLoss: number | undefined;
  readParameters(to: Float32Array): Promise<void>;
  /** @param meanLoss that belongs to these parameters @default none yet */
  writeParameters(from: Float32Array, meanLoss?: number): Promise<void>;
  /** @returns AdamW's step counter t: updates so far */
  readOptimizer(to: Moments): Promise<number>;
  writeOptimizer(state: Moments & { t: number }): Promise<void>;
  /** One AdamW step on the mean loss of the batch. @throws CodedError `E_BATCH` */
  step(batch: Batch, options: StepOptions): Promise<StepResult>;
  /** Mean loss in nats, nothing changes. @throws CodedError `E_BATCH` */
  loss(batch: Batch): Promise<number>;
  /** Logits of the token after `tokens`, of which the last `context` count. @throws CodedError `E_BATCH` */
  logits(tokens: Int32Array): Promise<Float32Array>;
  /** false if any parameter is infinite or not a number */
  parametersFinite(): Promise<boolean>;
  /** tensors alive in this thread */
  tensors(): number;
  dispose(): void;
}

export interface EngineSettings extends BackendRequest {
  model: ModelShape;
  inner: Genesis['inner'];
  /** @default as many as make up 1024 tokens, at least 1: larger pieces are no faster, and memory grows with them */
  microBatch?: number;
}

const MICRO_BATCH_TOKENS = 1024;

/**
 * A loss above FACTOR x running mean + MARGIN (nats) is taken for a spike, the model falling apart, if it is also above that of
 * guessing + MARGIN: up to there it may be the text, of which a part is prose and another a table that is known by heart. The
 * mean is exponential and starts with the first step's loss.
 */
const SPIKE_FACTOR = 3;
const SPIKE_MARGIN = 2;
const MEAN_DECAY = 0.95;

/** @throws CodedError `E_BACKEND`, `E_MODEL`, `E_MEMORY` */
export async function createEngine(settings: EngineSettings): Promise<Engine> {
  const { width, heads, context } = settings.model;
  if (width % (4 * heads) !== 0) {
    throw new CodedError<TrainErrorCode>('E_MODEL', `width ${width} must be a multiple of 4 x heads (${heads})`);
  }
  const { microBatch = Math.max(1, Math.floor(MICRO_BATCH_TOKENS / context)) } = settings;
  return new TrainingEngine(await openBackend(settings), settings, microBatch);
}

class TrainingEngine implements Engine {
  readonly backend: BackendName;
  readonly detail: string;
  readonly layout: Layout;
  readonly microBatch: number;
  readonly #device: Backend;
  readonly #model: ModelShape;
  readonly #inner: Genesis['inner'];
  readonly #ops: Ops;
  readonly #store: ParameterStore;
  #updates = 0;
  #meanLoss: number | undefined;

  constructor(device: Backend, { model, inner }: EngineSettings, microBatch: number) {
    this.backend = device.name;
    this.detail = device.detail;
    this.layout = modelLayout(model);
    this.microBatch = microBatch;
    this.#device = device;
    this.#model = model;
    this.#inner = inner;
    this.#ops = device.createOps();
    this.#store = device.createParameters({ layout: this.layout, inner });
  }

  async readParameters(to: Float32Array): Promise<void> {
    this.#store.read(to);
  }

  get meanLoss(): number | undefined {
    return this.#meanLoss;
  }

  async writeParameters(from: Float32Array, meanLoss?: number): Promise<void> {
    await this.#device.activate();
    this.#store.write(from);
    this.#meanLoss = meanLoss;
  }

  async readOptimizer(to: Moments): Promise<number> {
    this.#store.readMoments(to);
    return this.#updates;
  }

  async writeOptimizer(state: Moments & { t: number }): Promise<void> {
    this.#store.writeMoments(state);
    this.#updates = state.t;
  }

  async step(batch: Batch, { learningRate, afterPiece }: StepOptions): Promise<StepResult> {
    await this.#device.activate();
    checkBatch(batch, this.#model);
    this.#store.clearGradient();
    let loss = 0;
    for (const part of microBatches(batch, this.microBatch)) {
      const weight = part.sequences / batch.sequences;
      loss += weight * (await this.#addGradients(part, weight));
      await afterPiece?.();
    }
    const gradientNorm = Math.sqrt(this.#store.gradientSquares());
    const skipped = !Number.isFinite(loss) || !Number.isFinite(gradientNorm) || this.#isSpike(loss);
    if (!skipped) {
      this.#update(learningRate, gradientNorm);
      this.#meanLoss = this.#meanLoss === undefined ? loss : MEAN_DECAY * this.#meanLoss + (1 - MEAN_DECAY) * loss;
    }
    return { loss, gradientNorm, skipped };
  }

  async loss(batch: Batch): Promise<number> {
    await this.#device.activate();
    checkBatch(batch, this.#model);
    const { tf } = this.#device;
    let loss = 0;
    for (const part of microBatches(batch, this.microBatch)) {
      const value = tf.tidy(() => this.#meanLossOf(this.#store.tensors, part));
      loss += ((await value.data())[0]! * part.sequences) / batch.sequences;
      value.dispose();
    }
    return loss;
  }

  async logits(tokens: Int32Array): Promise<Float32Array> {
    await this.#device.activate();
    const ids = tokens.subarray(Math.max(0, tokens.length - this.#model.context));
    if (ids.length === 0) throw new CodedError<TrainErrorCode>('E_BATCH', 'logits need at least one token');
    checkTokens(ids, this.#model.vocabulary);
    const { tf } = this.#device;
    const value = tf.tidy(() =>
      nextLogits(this.#ops, this.#weights(this.#store.tensors), this.#model, tf.tensor1d(ids, 'int32')),
    );
    const logits = Float32Array.from(await value.data());
    value.dispose();
    return logits;
  }

  async parametersFinite(): Promise<boolean> {
    return Number.isFinite(this.#store.parameterSquares());
  }

  tensors(): number {
    return this.#device.tf.memory().numTensors;
  }

  dispose(): void {
    this.#store.dispose();
    this.#ops.dispose();
  }

  /** Adds weight x the gradient of one micro-batch. @returns its mean loss */
  async #addGradients(part: Batch, weight: number): Promise<number> {
    const { tf } = this.#device;
    const { value, grads } = tf.tidy(() => {
      const differentiate = tf.valueAndGrads((...tensors) => this.#meanLossOf(tensors, part));
      return differentiate([...this.#store.tensors]);
    });
    await this.#store.addGradients(grads, weight);
    const loss = (await value.data())[0]!;
    tf.dispose([value, ...grads]);
    return loss;
  }

  #update(learningRate: number, gradientNorm: number): void {
    const { beta1, beta2, clipNorm } = this.#inner;
    this.#updates++;
    this.#store.update({
      learningRate,
      correction1: 1 / (1 - beta1 ** this.#updates),
      correction2: 1 / (1 - beta2 ** this.#updates),
      gradientScale: clipNorm > 0 && gradientNorm > clipNorm ? clipNorm / gradientNorm : 1,
    });
  }

  #isSpike(loss: number): boolean {
    const guessing = Math.log(this.#model.vocabulary);
    return this.#meanLoss !== undefined && loss > Math.max(SPIKE_FACTOR * this.#meanLoss, guessing) + SPIKE_MARGIN;
  }

  #meanLossOf(tensors: readonly Tensor[], { inputs, targets, sequences }: Batch): Scalar {
    const { tf } = this.#device;
    const rows = { sequences, context: inputs.length / sequences };
    const [ids, next] = [tf.tensor1d(inputs, 'int32'), tf.tensor1d(targets, 'int32')];
    return meanLoss(this.#ops, this.#weights(tensors), this.#model, ids, next, rows);
  }

  #weights(tensors: readonly Tensor[]): Weights {
    return new Map(this.layout.tensors.map(({ name }, i) => [name, tensors[i]!]));
  }
}

function* microBatches({ inputs, targets, sequences }: Batch, microBatch: number): Generator<Batch> {
  const context = inputs.length / sequences;
  for (let first = 0; first < sequences; first += microBatch) {
    const count = Math.min(microBatch, sequences - first);
    const [from, to] = [first * context, (first + count) * context];
    yield { inputs: inputs.subarray(from, to), targets: targets.subarray(from, to), sequences: count };
  }
}

/** The kernels index by token id without looking, so nothing unchecked may reach them. */
function checkBatch({ inputs, targets, sequences }: Batch, { context, vocabulary }: ModelShape): void {
  const length = inputs.length / sequences;
  if (!Number.isInteger(length) || length < 1 || length > context || targets.length !== inputs.length) {
    const given = `${inputs.length} inputs and ${targets.length} targets for ${sequences} sequences`;
    throw new CodedError<TrainErrorCode>('E_BATCH', `${given}: give 1 to ${context} of each per sequence`);
  }
  checkTokens(inputs, vocabulary);
  checkTokens(targets, vocabulary);
}

function checkTokens(tokens: Int32Array, vocabulary: number): void {
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i]! < 0 || tokens[i]! >= vocabulary) {
      const message = `token ${tokens[i]} is outside of the vocabulary of ${vocabulary}: wrong tokenizer for this model?`;
      throw new CodedError<TrainErrorCode>('E_BATCH', message);
    }
  }
}

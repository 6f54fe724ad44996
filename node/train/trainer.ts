import { setImmediate as nextTurn } from 'node:timers/promises';
import { type DataOrder, dataOrder } from '../../protocol/data-order.ts';
import { CodedError } from '../../protocol/errors.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import { innerLearningRate } from '../../protocol/schedule.ts';
import type { Batch, Engine, StepResult } from './engine.ts';
import type { TrainErrorCode } from './errors.ts';

export type Tokens = Uint8Array | Uint16Array | Uint32Array | Int32Array;

export interface Splits {
  train: Tokens;
  validation: Tokens;
}

/** The inner steps of one peer in one round. */
export interface RoundPlan {
  /** inner step of the whole run that the first one is, for the schedule */
  firstStep: number;
  steps: number;
  /** position in the data order of the first sequence */
  firstPosition: number;
}

/** How far a round has come; with parameters and moments, all that it takes to go on from there. */
export interface Progress {
  /** done, skipped ones included */
  steps: number;
  skipped: number;
  skipsInARow: number;
  /** over the steps that were not skipped, in nats */
  lossSum: number;
  /** the engine's, see there */
  meanLoss: number | undefined;
}

export interface RoundResult {
  /** steps done, skipped ones included; fewer than planned after an abort or with bad parameters */
  steps: number;
  /** tokens of the steps that were not skipped */
  tokens: number;
  /** over the steps that were not skipped, in nats; NaN if there were none */
  meanLoss: number;
  skipped: number;
  /** from the first step that was done now to the end of the last, with the turns that the event loop gets between them */
  computeMs: number;
  /** the parameters are of no use (not finite, or step after step skipped) and must be fetched from the agreed state */
  badParameters: boolean;
}

export interface StepReport extends StepResult {
  /** within the round, from 0 */
  step: number;
  learningRate: number;
}

export interface RoundOptions {
  signal?: AbortSignal;
  onStep?: (report: StepReport) => void;
  /** what was done of this round before; the engine has its parameters, moments and mean loss @default nothing */
  from?: Progress;
  /** waited for after every step, with the engine as that left it */
  afterStep?: (progress: Progress) => Promise<void>;
  /** the engine's, see there @default none: a step is one piece of work */
  afterPiece?: () => Promise<void>;
}

export interface EvaluateOptions {
  /** at most so many sequences, evenly spaced over the split. @default all */
  sequencesMax?: number;
  signal?: AbortSignal;
}

/** So many skipped steps in a row are not the fault of a batch. */
const SKIPS_IN_A_ROW_MAX = 5;

/** Reason of an abort after which the steps that are done are to be contributed. */
export const FINISH = 'finish';

export const NO_PROGRESS: Progress = { steps: 0, skipped: 0, skipsInARow: 0, lossSum: 0, meanLoss: undefined };

/** Inner training of one peer: which sequences, which learning rate, when to give up. */
export class Trainer {
  readonly engine: Engine;
  readonly #genesis: Genesis;
  readonly #splits: Splits;
  readonly #order: DataOrder;

  /** @throws CodedError `E_DATA` if the training split is shorter than one sequence and its last target */
  constructor({ engine, splits, genesis }: { engine: Engine; splits: Splits; genesis: Genesis }) {
    const { context } = genesis.model;
    if (splits.train.length <= context) {
      const message = `${splits.train.length} training tokens, need more than the context of ${context}`;
      throw new CodedError<TrainErrorCode>('E_DATA', `${message}: give more --data, or a smaller --model`);
    }
    this.engine = engine;
    this.#genesis = genesis;
    this.#splits = splits;
    this.#order = dataOrder(genesis.seed, splits.train.length, context);
  }

  /** Runs the planned inner steps on the engine's parameters. Gives the event loop a turn after each, so aborts arrive. */
  async trainRound(plan: RoundPlan, options: RoundOptions = {}): Promise<RoundResult> {
    const { signal, onStep, from, afterStep, afterPiece } = options;
    const { batch: sequences, inner, model } = this.#genesis;
    let { steps, skipped, skipsInARow, lossSum } = from ?? NO_PROGRESS;
    const startedMs = performance.now();
    let badParameters = skipsInARow > SKIPS_IN_A_ROW_MAX || !(await this.engine.parametersFinite());
    // whoever is to finish contributes something: one step is soon done
    const isOver = (): boolean => signal?.aborted === true && (steps > 0 || signal.reason !== FINISH);
    while (steps < plan.steps && !badParameters && !isOver()) {
      const learningRate = innerLearningRate(inner, plan.firstStep + steps);
      const batch = this.#trainBatch(plan.firstPosition + steps * sequences, sequences);
      const result = await this.engine.step(batch, { learningRate, ...(afterPiece ? { afterPiece } : {}) });
      onStep?.({ ...result, step: steps, learningRate });
      steps++;
      skipped += Number(result.skipped);
      skipsInARow = result.skipped ? skipsInARow + 1 : 0;
      if (!result.skipped) lossSum += result.loss;
      badParameters = skipsInARow > SKIPS_IN_A_ROW_MAX;
      await afterStep?.({ steps, skipped, skipsInARow, lossSum, meanLoss: this.engine.meanLoss });
      await nextTurn();
    }
    badParameters ||= !(await this.engine.parametersFinite());
    const computeMs = performance.now() - startedMs;
    const done = steps - skipped;
    const [tokens, meanLoss] = [done * sequences * model.context, lossSum / done];
    return { steps, tokens, meanLoss, skipped, computeMs, badParameters };
  }

  /**
   * Mean loss in nats over the validation split, cut into sequences of `context` tokens; what is left over is dropped.
   * NaN if it was aborted. @throws CodedError `E_DATA` if the split has no whole sequence
   */
  async evaluate({ sequencesMax, signal }: EvaluateOptions = {}): Promise<number> {
    const { context } = this.#genesis.model;
    const { validation } = this.#splits;
    const available = Math.floor((validation.length - 1) / context);
    if (available < 1) {
      const message = `${validation.length} validation tokens, need more than the context of ${context}`;
      throw new CodedError<TrainErrorCode>('E_DATA', `${message}: give more --data, or a smaller --model`);
    }
    const count = Math.min(available, sequencesMax ?? available);
    let sum = 0;
    for (let first = 0; first < count; first += this.engine.microBatch) {
      if (signal?.aborted) return Number.NaN;
      const sequences = Math.min(this.engine.microBatch, count - first);
      const offsets = Array.from(
        { length: sequences },
        (_, i) => Math.floor(((first + i) * available) / count) * context,
      );
      sum += sequences * (await this.engine.loss(cut(validation, offsets, context)));
      await nextTurn();
    }
    return sum / count;
  }

  #trainBatch(firstPosition: number, sequences: number): Batch {
    const offsets = Array.from({ length: sequences }, (_, i) => this.#order.tokenOffset(firstPosition + i));
    return cut(this.#splits.train, offsets, this.#genesis.model.context);
  }
}

/** Sequences of `context` tokens that begin at the offsets, with the tokens that follow as targets. */
function cut(tokens: Tokens, offsets: readonly number[], context: number): Batch {
  const inputs = new Int32Array(offsets.length * context);
  const targets = new Int32Array(offsets.length * context);
  for (const [i, offset] of offsets.entries()) {
    inputs.set(tokens.subarray(offset, offset + context), i * context);
    targets.set(tokens.subarray(offset + 1, offset + 1 + context), i * context);
  }
  return { inputs, targets, sequences: offsets.length };
}

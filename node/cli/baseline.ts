import { setImmediate as nextTurn } from 'node:timers/promises';
import { CodedError } from '../../protocol/errors.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import { peerIdOf } from '../../protocol/identity.ts';
import { initialParameters } from '../../protocol/model.ts';
import { makeDataset } from '../data/dataset.ts';
import { loadText } from '../data/sources.ts';
import { buildGenesis, type RunChoices, tokenizerFor } from '../defaults.ts';
import { createEngine, NO_PROGRESS, type StepReport, Trainer } from '../train/index.ts';
import type { Machine } from './options.ts';

/**
 * Centralized training, what a run is measured against: the trainer of the peers, with the same model, data order and
 * schedule, on one machine and without rounds.
 */
export interface Baseline {
  genesis: Genesis;
  trainer: Trainer;
  /** inner steps over which the learning rate falls, and so how many there are */
  steps: number;
}

export type BaselineErrorCode = 'E_DIVERGED';

/** Nobody else ever sees this genesis: it tells the trainer what to do. */
const NO_FOUNDER = peerIdOf(new Uint8Array(32));

/**
 * @param steps by default those of the model's preset
 * @throws CodedError of `loadText`, `buildGenesis` and `createEngine`
 */
export async function openBaseline(choices: RunChoices, machine: Machine, steps?: number): Promise<Baseline> {
  const source = loadText(choices.data);
  const tokenizer = tokenizerFor(choices.tokenizer, source.bytes);
  // a run whose rounds have one step, so that the schedule ends where the steps do
  const length = steps === undefined ? {} : { rounds: steps };
  const genesis = buildGenesis({ ...choices, ...length, innerSteps: 1 }, NO_FOUNDER, source, tokenizer);
  const { model, inner, seed } = genesis;
  const engine = await createEngine({ ...machine, model, inner });
  await engine.writeParameters(initialParameters(model, seed));
  const splits = makeDataset(source.bytes, tokenizer, genesis.data.validationFraction);
  return { genesis, trainer: new Trainer({ engine, splits, genesis }), steps: inner.decaySteps };
}

export interface Evaluation {
  /** inner steps done */
  step: number;
  /** nats, mean over the steps since the evaluation before */
  trainLoss: number;
  /** nats, over the whole validation split */
  valLoss: number;
  /** in training alone, evaluations left out */
  tokensPerSecond: number;
  /** steps that were thrown away since the evaluation before */
  skipped: number;
}

export interface TrainBaselineOptions {
  evalEvery: number;
  signal: AbortSignal;
  /** `step` counts from 0 over all steps */
  onStep: (report: StepReport) => void;
  /** before each evaluation, which takes a while */
  onEvaluate: () => void;
}

/**
 * Trains to the end and yields an evaluation every `evalEvery` steps and after the last. Ends early, without one, when the
 * signal is aborted. @throws CodedError `E_DIVERGED`
 */
export async function* trainBaseline(
  { genesis, trainer, steps }: Baseline,
  { evalEvery, signal, onStep, onEvaluate }: TrainBaselineOptions,
): AsyncGenerator<Evaluation, void, void> {
  let skipsInARow = 0;
  for (let done = 0; done < steps; ) {
    const firstStep = done;
    const plan = { firstStep, steps: Math.min(evalEvery, steps - done), firstPosition: firstStep * genesis.batch };
    const startedMs = performance.now();
    const result = await trainer.trainRound(plan, {
      signal,
      afterPiece: turns(),
      from: { ...NO_PROGRESS, skipsInARow },
      afterStep: async (progress) => {
        skipsInARow = progress.skipsInARow;
      },
      onStep: (report) => onStep({ ...report, step: firstStep + report.step }),
    });
    const seconds = (performance.now() - startedMs) / 1000;
    done += result.steps;
    if (result.badParameters) throw diverged(done);
    if (signal.aborted) return;
    onEvaluate();
    const valLoss = await trainer.evaluate({ signal });
    if (signal.aborted) return;
    const { meanLoss: trainLoss, skipped } = result;
    yield { step: done, trainLoss, valLoss, tokensPerSecond: result.tokens / seconds, skipped };
  }
}

/** A step of many sequences takes minutes, in which a second Ctrl+C must be heard; small ones should not pay for it. */
const TURN_EVERY_MS = 50;

function turns(): () => Promise<void> {
  let lastMs = performance.now();
  return async () => {
    if (performance.now() - lastMs < TURN_EVERY_MS) return;
    await nextTurn();
    lastMs = performance.now();
  };
}

function diverged(step: number): CodedError<BaselineErrorCode> {
  const what = 'the loss is no longer a number, or has been far above that of guessing for several steps';
  return new CodedError('E_DIVERGED', `training fell apart at step ${step}: ${what}; try another --seed or --batch`);
}

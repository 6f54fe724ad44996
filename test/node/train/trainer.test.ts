import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type Engine } from '../../../node/train/engine.ts';
import { type GenerateOptions, generate } from '../../../node/train/generate.ts';
import { type StepReport, Trainer } from '../../../node/train/trainer.ts';
import { dataOrder } from '../../../protocol/data-order.ts';
import { initialParameters, type ModelShape } from '../../../protocol/model.ts';
import { innerLearningRate } from '../../../protocol/schedule.ts';
import { genesisFor, INNER, MICRO } from './settings.ts';

const model: ModelShape = { ...MICRO, context: 16, vocabulary: 11 };
const genesis = genesisFor(model, 3);
/** counts 0 1 2 ... 10 0 1 ...: every token follows from the one before, and says where it came from */
const counting = (length: number) => Uint8Array.from({ length }, (_, i) => i % 11);

const engines: Engine[] = [];
afterEach(() => {
  for (const engine of engines.splice(0)) engine.dispose();
});

async function startEngine(): Promise<Engine> {
  const engine = await createEngine({ model, inner: INNER, backend: 'wasm', microBatch: 4 });
  engines.push(engine);
  await engine.writeParameters(initialParameters(model, 1));
  return engine;
}

async function start({ train = counting(1000), validation = counting(16 * 9 + 7) } = {}) {
  const engine = await startEngine();
  return { engine, trainer: new Trainer({ engine, splits: { train, validation }, genesis }) };
}

/** Records what an engine is given, and lets a test answer in its place. */
function watch(engine: Engine, answer: Partial<Pick<Engine, 'step' | 'loss'>> = {}) {
  const batches: Parameters<Engine['step']>[] = [];
  const watched: Engine = Object.create(engine, {
    step: {
      value: (...args: Parameters<Engine['step']>) => {
        batches.push(args);
        return (answer.step ?? engine.step.bind(engine))(...args);
      },
    },
    loss: {
      value: (...args: Parameters<Engine['loss']>) => (answer.loss ?? engine.loss.bind(engine))(...args),
    },
    parametersFinite: { value: () => engine.parametersFinite() },
    microBatch: { value: engine.microBatch },
  });
  return { watched, batches };
}

describe('a round', () => {
  it('learns, reports each step and counts tokens', async () => {
    const { trainer } = await start();
    const before = await trainer.evaluate();
    const reports: StepReport[] = [];
    const plan = { firstStep: 0, steps: 40, firstPosition: 0 };
    const result = await trainer.trainRound(plan, { onStep: (report) => reports.push(report) });
    expect(result).toMatchObject({ steps: 40, skipped: 0, tokens: 40 * 3 * 16, badParameters: false });
    expect(reports.map(({ step }) => step)).toEqual(Array.from({ length: 40 }, (_, i) => i));
    expect(result.meanLoss).toBeCloseTo(reports.reduce((sum, { loss }) => sum + loss, 0) / 40, 10);
    expect(await trainer.evaluate()).toBeLessThan(before / 2);
  });

  it('takes its sequences and learning rates from where the plan says', async () => {
    const { watched, batches } = watch(await startEngine());
    const train = Uint16Array.from({ length: 700 }, (_, i) => (i * i + (i >> 3)) % 11);
    const trainer = new Trainer({ engine: watched, splits: { train, validation: train }, genesis });
    await trainer.trainRound({ firstStep: 50, steps: 2, firstPosition: 35 });
    const order = dataOrder(genesis.seed, train.length, model.context);
    const offsets = Array.from({ length: 6 }, (_, i) => order.tokenOffset(35 + i));
    const expected = (shift: number) =>
      offsets.flatMap((at) => [...train.slice(at + shift, at + shift + model.context)]);
    expect(batches.flatMap(([{ inputs }]) => [...inputs])).toEqual(expected(0));
    expect(batches.flatMap(([{ targets }]) => [...targets])).toEqual(expected(1));
    expect(batches.map(([, { learningRate }]) => learningRate)).toEqual(
      [50, 51].map((i) => innerLearningRate(INNER, i)),
    );
  });

  it('stops after the step in which an abort comes through the event loop', async () => {
    const { trainer } = await start();
    const controller = new AbortController();
    const result = await trainer.trainRound(
      { firstStep: 0, steps: 1000, firstPosition: 0 },
      { signal: controller.signal, onStep: ({ step }) => step === 2 && setImmediate(() => controller.abort()) },
    );
    expect(result.steps).toBeGreaterThanOrEqual(3);
    expect(result.steps).toBeLessThanOrEqual(4);
    expect(result.badParameters).toBe(false);
  });

  it('gives up after six skipped steps in a row, not after six in all', async () => {
    const skip = [true, true, true, true, true, false, true, true, true, true, true, true, true];
    const engine = await startEngine();
    let calls = 0;
    const { watched } = watch(engine, {
      step: async () => ({ loss: 2, gradientNorm: 1, skipped: skip[calls++]! }),
    });
    const trainer = new Trainer({
      engine: watched,
      splits: { train: counting(99), validation: counting(99) },
      genesis,
    });
    const result = await trainer.trainRound({ firstStep: 0, steps: 13, firstPosition: 0 });
    expect(result).toEqual({
      steps: 12,
      skipped: 11,
      computeMs: expect.any(Number),
      tokens: 3 * 16,
      meanLoss: 2,
      badParameters: true,
    });
  });

  it('takes no step with parameters that are not finite', async () => {
    const { engine, trainer } = await start();
    const parameters = initialParameters(model, 1);
    parameters[77] = Number.POSITIVE_INFINITY;
    await engine.writeParameters(parameters);
    const result = await trainer.trainRound({ firstStep: 0, steps: 5, firstPosition: 0 });
    expect(result).toEqual({
      steps: 0,
      skipped: 0,
      computeMs: expect.any(Number),
      tokens: 0,
      meanLoss: Number.NaN,
      badParameters: true,
    });
  });

  it('needs a sequence and its last target', async () => {
    await expect(start({ train: counting(16) })).rejects.toMatchObject({ code: 'E_DATA' });
    const { trainer } = await start({ train: counting(17) });
    const result = await trainer.trainRound({ firstStep: 0, steps: 1, firstPosition: 4 });
    expect(result).toMatchObject({ steps: 1, skipped: 0 });
  });
});

describe('evaluation', () => {
  it('sees every whole sequence of the validation split once', async () => {
    const seen: number[][] = [];
    const { watched } = watch(await startEngine(), {
      loss: async ({ inputs, targets, sequences }) => {
        for (let i = 0; i < sequences; i++) seen.push([inputs[16 * i]!, targets[16 * i + 15]!]);
        return sequences; // a mean that tells how batches were weighted
      },
    });
    // 16 and 11 share no factor, so the first token names the sequence
    const trainer = new Trainer({
      engine: watched,
      splits: { train: counting(99), validation: counting(16 * 9 + 7) },
      genesis,
    });
    expect(await trainer.evaluate()).toBeCloseTo((4 * 4 + 4 * 4 + 1 * 1) / 9, 10);
    expect(seen).toEqual(Array.from({ length: 9 }, (_, i) => [(16 * i) % 11, (16 * i + 16) % 11]));
    seen.length = 0;
    await trainer.evaluate({ sequencesMax: 3 });
    expect(seen.map(([first]) => first)).toEqual([0, 3, 6].map((i) => (16 * i) % 11));
  });

  it('is the same however it is batched', async () => {
    const { engine, trainer } = await start();
    const other = await createEngine({ model, inner: INNER, backend: 'wasm', microBatch: 1 });
    engines.push(other);
    await other.writeParameters(initialParameters(model, 1));
    const splits = { train: counting(99), validation: counting(16 * 9 + 7) };
    const single = new Trainer({ engine: other, splits, genesis });
    expect(await single.evaluate()).toBeCloseTo(await trainer.evaluate(), 5);
    expect(engine.microBatch).not.toBe(other.microBatch);
  });

  it('needs a whole sequence', async () => {
    const { trainer } = await start({ validation: counting(16) });
    await expect(trainer.evaluate()).rejects.toMatchObject({ code: 'E_DATA' });
  });
});

it('can give others a turn within a step, which changes nothing', async () => {
  const [plain, turning] = [await start(), await start()];
  const plan = { firstStep: 0, steps: 2, firstPosition: 0 };
  let pieces = 0;
  const afterPiece = async () => {
    pieces++;
    await new Promise(setImmediate);
  };
  const { meanLoss } = await turning.trainer.trainRound(plan, { afterPiece });
  expect(meanLoss).toBe((await plain.trainer.trainRound(plan)).meanLoss);
  expect(pieces).toBe(plan.steps * Math.ceil(genesis.batch / turning.engine.microBatch));
});

describe('generation', () => {
  async function text(engine: Engine, options: GenerateOptions) {
    const tokens: number[] = [];
    for await (const token of generate(engine, [3, 4, 5], options)) tokens.push(token);
    return tokens;
  }

  it('goes on counting past its context, once it has learned to', async () => {
    const { engine, trainer } = await start();
    await trainer.trainRound({ firstStep: 0, steps: 80, firstPosition: 0 });
    const expected = Array.from({ length: 30 }, (_, i) => (6 + i) % 11);
    expect(await text(engine, { count: 30, temperature: 0, seed: 1 })).toEqual(expected);
  });

  it('hears of an abort between two tokens', async () => {
    const engine = await startEngine();
    const abort = new AbortController();
    setImmediate(() => abort.abort());
    expect(await text(engine, { count: 200, seed: 1, signal: abort.signal })).toHaveLength(1);
  });

  it('is repeatable by seed and wilder when hot', async () => {
    const engine = await startEngine();
    const once = await text(engine, { count: 20, seed: 1 });
    expect(await text(engine, { count: 20, seed: 1 })).toEqual(once);
    expect(await text(engine, { count: 20, seed: 2 })).not.toEqual(once);
    expect(new Set(await text(engine, { count: 60, temperature: 100, seed: 3 })).size).toBe(11);
  });
});

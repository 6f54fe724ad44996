import * as tf from '@tensorflow/tfjs';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type Engine, type EngineSettings } from '../../../node/train/engine.ts';
import type { WasmBackend } from '../../../node/train/wasm-heap.ts';
import { initialParameters } from '../../../protocol/model.ts';
import { INNER, MICRO, randomBatch } from './settings.ts';

const engines: Engine[] = [];
afterEach(() => {
  for (const engine of engines.splice(0)) engine.dispose();
});

/** An engine with the initial parameters of the micro model. */
async function start(settings: Partial<EngineSettings> = {}): Promise<Engine> {
  const engine = await createEngine({ model: MICRO, inner: INNER, backend: 'wasm', ...settings });
  engines.push(engine);
  await engine.writeParameters(initialParameters(MICRO, 1));
  return engine;
}

async function parametersOf(engine: Engine): Promise<Float32Array> {
  const parameters = new Float32Array(engine.layout.length);
  await engine.readParameters(parameters);
  return parameters;
}

async function optimizerOf(engine: Engine) {
  const moments = { m: new Float32Array(engine.layout.length), v: new Float32Array(engine.layout.length) };
  return { ...moments, t: await engine.readOptimizer(moments) };
}

/** |a - b| / |b - origin| in the Euclidean norm: how far apart, measured by how far both have come */
function relativeDistance(a: Float32Array, b: Float32Array, origin: Float32Array): number {
  let [apart, moved] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    apart += (a[i]! - b[i]!) ** 2;
    moved += (b[i]! - origin[i]!) ** 2;
  }
  expect(moved).toBeGreaterThan(0);
  return Math.sqrt(apart / moved);
}

/** Bit for bit; `toEqual` takes seconds over so many elements. */
function expectSame(a: Float32Array, b: Float32Array): void {
  expect(Buffer.compare(Buffer.from(a.buffer), Buffer.from(b.buffer))).toBe(0);
}

const batch = (seed: number, sequences = 4) => randomBatch(MICRO, sequences, seed);

describe('engine', () => {
  it.each([false, true])(
    'three steps on wasm come out where the cpu backend does (deterministic: %s)',
    async (deterministic) => {
      const results = [];
      for (const settings of [{ deterministic }, { backend: 'cpu' }] as const) {
        const engine = await start(settings);
        const steps = [];
        for (const seed of [1, 2, 3]) steps.push(await engine.step(batch(seed, 2), { learningRate: 1e-3 }));
        results.push({ steps, parameters: await parametersOf(engine), optimizer: await optimizerOf(engine) });
      }
      const [wasm, cpu] = [results[0]!, results[1]!];
      for (const [i, step] of wasm.steps.entries()) {
        expect(step.skipped).toBe(false);
        expect(step.loss).toBeCloseTo(cpu.steps[i]!.loss, 4);
        expect(step.gradientNorm / cpu.steps[i]!.gradientNorm).toBeCloseTo(1, 4);
      }
      expect(cpu.steps[0]!.loss).toBeCloseTo(Math.log(65), 0);
      const origin = initialParameters(MICRO, 1);
      expect(relativeDistance(wasm.parameters, cpu.parameters, origin)).toBeLessThan(1e-3);
      expect(relativeDistance(wasm.optimizer.m, cpu.optimizer.m, new Float32Array(origin.length))).toBeLessThan(1e-4);
      expect(relativeDistance(wasm.optimizer.v, cpu.optimizer.v, new Float32Array(origin.length))).toBeLessThan(1e-4);
    },
  );

  it('learns a batch by heart', async () => {
    const engine = await start();
    const lesson = batch(1);
    const before = await engine.loss(lesson);
    for (let i = 0; i < 60; i++) await engine.step(lesson, { learningRate: 3e-3 });
    expect(await engine.loss(lesson)).toBeLessThan(before / 2);
  });

  it.each(['wasm', 'cpu'] as const)('micro-batches on %s add up to the batch', async (backend) => {
    const sequences = backend === 'cpu' ? 3 : 7;
    const after = [];
    for (const microBatch of [sequences, 2]) {
      const engine = await start({ backend, microBatch });
      const { loss, gradientNorm } = await engine.step(batch(1, sequences), { learningRate: 1e-3 });
      after.push({
        loss,
        gradientNorm,
        m: (await optimizerOf(engine)).m,
        check: await engine.loss(batch(2, sequences)),
      });
    }
    const [whole, pieces] = [after[0]!, after[1]!];
    expect(pieces.loss).toBeCloseTo(whole.loss, 5);
    expect(pieces.check).toBeCloseTo(whole.check, 5);
    expect(pieces.gradientNorm).toBeCloseTo(whole.gradientNorm, 5);
    expect(relativeDistance(pieces.m, whole.m, new Float32Array(whole.m.length))).toBeLessThan(1e-5);
  });

  it('carries on from saved parameters and optimizer as if never stopped', async () => {
    const first = await start({ deterministic: true });
    for (const seed of [1, 2]) await first.step(batch(seed), { learningRate: 1e-3 });
    const [saved, optimizer] = [await parametersOf(first), await optimizerOf(first)];
    expect(optimizer.t).toBe(2);
    const second = await start({ deterministic: true });
    await second.writeParameters(saved);
    await second.writeOptimizer(optimizer);
    for (const engine of [first, second]) await engine.step(batch(3), { learningRate: 1e-3 });
    expectSame(await parametersOf(second), await parametersOf(first));
    expect((await optimizerOf(second)).t).toBe(3);
  });

  it('clips the gradient by its global norm and decays matrices only', async () => {
    const clipped = await start({ inner: { ...INNER, clipNorm: 0.1 } });
    const { gradientNorm } = await clipped.step(batch(1), { learningRate: 1e-3 });
    const free = await start({ inner: { ...INNER, clipNorm: 0 } });
    await free.step(batch(1), { learningRate: 1e-3 });
    const [small, large] = [(await optimizerOf(clipped)).m, (await optimizerOf(free)).m];
    expect(Math.hypot(...large.subarray(0, 5000)) / Math.hypot(...small.subarray(0, 5000))).toBeCloseTo(
      gradientNorm / 0.1,
      3,
    );

    const onlyDecay = await start({ inner: { ...INNER, weightDecay: 1, beta1: 0, beta2: 0, epsilon: 1e12 } });
    await onlyDecay.step(batch(1), { learningRate: 0.5 });
    const [before, after] = [initialParameters(MICRO, 1), await parametersOf(onlyDecay)];
    for (const { name, shape, offset } of onlyDecay.layout.tensors) {
      expect(after[offset]! / before[offset]!, name).toBeCloseTo(shape.length > 1 ? 0.5 : 1, 5);
    }
  });

  it.each(['wasm', 'cpu'] as const)('skips a step with a NaN on %s, leaving everything as it was', async (backend) => {
    const engine = await start({ backend });
    await engine.step(batch(1, 1), { learningRate: 1e-3 });
    const parameters = await parametersOf(engine);
    const gain = engine.layout.tensors.find(({ name }) => name === 'block1.norm2')!;
    parameters[gain.offset + 3] = Number.NaN;
    await engine.writeParameters(parameters);
    expect(await engine.parametersFinite()).toBe(false);
    const before = await optimizerOf(engine);
    const result = await engine.step(batch(2, 1), { learningRate: 1e-3 });
    expect(result.skipped).toBe(true);
    expect(result.loss).toBeNaN();
    expectSame(await parametersOf(engine), parameters);
    const after = await optimizerOf(engine);
    expectSame(after.m, before.m);
    expectSame(after.v, before.v);
    expect(after.t).toBe(1);
  });

  it('skips a step whose loss jumps, and forgets the mean when it is given other parameters', async () => {
    const engine = await start();
    const lesson = batch(1);
    for (let i = 0; i < 40; i++) await engine.step(lesson, { learningRate: 1e-2 });
    for (let i = 0; i < 60; i++) await engine.step(lesson, { learningRate: 3e-3 });
    const before = await parametersOf(engine);
    const surprise = { ...lesson, targets: lesson.targets.map((token) => (token + 1) % MICRO.vocabulary) };
    const { loss, skipped } = await engine.step(surprise, { learningRate: 1e-3 });
    expect(loss).toBeGreaterThan(Math.log(MICRO.vocabulary) + 2);
    expect(skipped).toBe(true);
    expectSame(await parametersOf(engine), before);
    await engine.writeParameters(before);
    expect((await engine.step(surprise, { learningRate: 1e-3 })).skipped).toBe(false);
  });

  it('takes no loss that guessing would have for a spike, however well the text so far was known', async () => {
    const engine = await start();
    const lesson = batch(1);
    for (let i = 0; i < 40; i++) await engine.step(lesson, { learningRate: 1e-2 });
    expect(engine.meanLoss).toBeLessThan(1);
    // another text, of which the model knows nothing yet
    await engine.writeParameters(initialParameters(MICRO, 3), 0.1);
    const { loss, skipped } = await engine.step(batch(7), { learningRate: 1e-3 });
    expect(loss).toBeGreaterThan(3 * 0.1 + 2);
    expect(skipped).toBe(false);
  });

  it.each([
    ['a token above the vocabulary', { ...batch(1), inputs: batch(1).inputs.fill(65, 9, 10) }],
    ['a negative target', { ...batch(1), targets: batch(1).targets.fill(-1, 0, 1) }],
    ['too long sequences', { ...batch(1), sequences: 2 }],
    ['uneven sequences', { ...batch(1), sequences: 5 }],
    ['missing targets', { ...batch(1), targets: new Int32Array(3) }],
  ])('refuses %s', async (_name, faulty) => {
    const engine = await start();
    await expect(engine.step(faulty, { learningRate: 1e-3 })).rejects.toMatchObject({ code: 'E_BATCH' });
    await expect(engine.loss(faulty)).rejects.toMatchObject({ code: 'E_BATCH' });
  });

  it('refuses a width that its kernels cannot take', async () => {
    const model = { ...MICRO, width: 66 };
    await expect(createEngine({ model, inner: INNER })).rejects.toMatchObject({ code: 'E_MODEL' });
  });

  it('logits agree with the loss, and only the last context of tokens counts', async () => {
    const engine = await start();
    const { inputs } = batch(1, 2);
    const short = inputs.subarray(0, 5);
    const next = 7;
    const targets = Int32Array.from(short, () => next);
    // the mean over five tokens less the mean over four leaves the loss of the last
    const five = await engine.loss({ inputs: short, targets, sequences: 1 });
    const four = await engine.loss({ inputs: short.subarray(0, 4), targets: targets.subarray(0, 4), sequences: 1 });
    const logits = await engine.logits(short);
    const logSum = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    expect(logSum - logits[next]!).toBeCloseTo(5 * five - 4 * four, 4);
    expect(logits).toHaveLength(MICRO.vocabulary);
    expect(await engine.logits(inputs.subarray(0, 40))).toEqual(await engine.logits(inputs.subarray(8, 40)));
    await expect(engine.logits(new Int32Array(0))).rejects.toMatchObject({ code: 'E_BATCH' });
  });

  it('200 micro-steps make neither tensors nor heap grow', async () => {
    const engine = await start({ microBatch: 1 });
    const lesson = batch(1);
    const heapBytes = () => (tf.backend() as WasmBackend).wasm.asm.memory.buffer.byteLength;
    await engine.step(lesson, { learningRate: 1e-3 });
    await engine.loss(lesson);
    await engine.logits(lesson.inputs.subarray(0, 9));
    const before = [engine.tensors(), tf.memory().numBytes, heapBytes()];
    expect(before[0]).toBe(engine.layout.tensors.length);
    for (let i = 0; i < 50; i++) await engine.step(lesson, { learningRate: 1e-3 });
    await engine.loss(lesson);
    await engine.logits(lesson.inputs.subarray(0, 9));
    expect([engine.tensors(), tf.memory().numBytes, heapBytes()]).toEqual(before);
  });

  it('gives all its tensors back', async () => {
    const before = tf.memory().numTensors;
    for (const backend of ['wasm', 'cpu'] as const) {
      const engine = await createEngine({ model: MICRO, inner: INNER, backend });
      await engine.writeParameters(initialParameters(MICRO, 1));
      await engine.step(batch(1, 1), { learningRate: 1e-3 });
      engine.dispose();
      expect(engine.tensors()).toBe(before);
    }
  });
});

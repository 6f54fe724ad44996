/** One contender of the benchmark: for every number it is sent it runs so many steps and answers their milliseconds. */
import { parentPort, workerData } from 'node:worker_threads';
import { register } from 'tsx/esm/api';
import { createEngine } from '../node/train/engine.ts';
import { initialParameters, type ModelShape } from '../protocol/model.ts';
import { randomStream } from '../protocol/random.ts';

export type BenchShape = ModelShape & { batch: number };

type Step = (inputs: Int32Array, targets: Int32Array) => Promise<unknown>;

const { shape, prototype } = workerData as { shape: BenchShape; prototype?: string };
const random = randomStream(1, 'bench');
const step = prototype === undefined ? await ourStep() : await prototypeStep(prototype);

parentPort!.on('message', async (steps: number) => {
  const milliseconds: number[] = [];
  for (let i = 0; i < steps; i++) {
    const [inputs, targets] = [randomTokens(), randomTokens()];
    const start = performance.now();
    await step(inputs, targets);
    milliseconds.push(performance.now() - start);
  }
  parentPort!.postMessage(milliseconds);
});

async function ourStep(): Promise<Step> {
  const inner = {
    ...{ learningRate: 1e-3, learningRateMin: 1e-4, warmupSteps: 0, decaySteps: 1000 },
    ...{ beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, clipNorm: 1 },
  };
  const engine = await createEngine({ model: shape, inner, backend: 'wasm' });
  await engine.writeParameters(initialParameters(shape, 1));
  return (inputs, targets) => engine.step({ inputs, targets, sequences: shape.batch }, { learningRate: 1e-3 });
}

async function prototypeStep(url: string): Promise<Step> {
  register(); // it is TypeScript, and none of this program
  const { makeTrainer } = await import(url);
  const trainer = await makeTrainer({
    ...{ L: shape.layers, H: shape.heads, C: shape.width, T: shape.context, B: shape.batch, V: shape.vocabulary },
  });
  return async (inputs, targets) => trainer.step(inputs, targets, { lr: 1e-3, clip: 1 });
}

function randomTokens(): Int32Array {
  return Int32Array.from({ length: shape.batch * shape.context }, () => random.below(shape.vocabulary));
}

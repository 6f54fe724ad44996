import type { Batch } from '../../../node/train/engine.ts';
import { type Genesis, PROTOCOL_VERSION } from '../../../protocol/genesis.ts';
import { MODEL_PRESETS, type ModelShape } from '../../../protocol/model.ts';
import { randomStream } from '../../../protocol/random.ts';

export const MICRO: ModelShape = { ...MODEL_PRESETS.micro, vocabulary: 65 };

export const INNER: Genesis['inner'] = {
  learningRate: 1e-3,
  learningRateMin: 1e-4,
  warmupSteps: 2,
  decaySteps: 100,
  beta1: 0.9,
  beta2: 0.99,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clipNorm: 1,
};

export function genesisFor(model: ModelShape, batch: number): Genesis {
  const hash = '0'.repeat(64);
  return {
    version: PROTOCOL_VERSION,
    founder: 'f'.repeat(52),
    title: 'training tests',
    seed: 5,
    model,
    tokenizer: { kind: 'byte' },
    data: { name: 'made up', blob: { id: hash, size: 1 }, validationFraction: 0.1 },
    inner: INNER,
    innerSteps: 10,
    batch,
    codec: { name: 'fp32', chunk: 64, k: 64, bits: 2 },
    averaging: { name: 'all' },
    outer: { name: 'sgd', learningRate: 1, momentum: 0 },
    rounds: null,
    waitFor: 1,
    committee: { size: 200, heights: 4096 },
    timing: { graceMs: 1, viewMs: 1, quorumWaitMs: null },
  };
}

/** Random tokens, every time the same for one seed. */
export function randomBatch({ context, vocabulary }: ModelShape, sequences: number, seed: number): Batch {
  const stream = randomStream(seed, 'batch');
  const tokens = () => Int32Array.from({ length: sequences * context }, () => stream.below(vocabulary));
  return { inputs: tokens(), targets: tokens(), sequences };
}

import * as tf from '@tensorflow/tfjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Backend } from '../../../node/train/backend.ts';
import { openBackend } from '../../../node/train/backends.ts';
import type { Ops } from '../../../node/train/ops.ts';
import { randomStream } from '../../../protocol/random.ts';

type Differentiable = (inputs: tf.Tensor[]) => tf.Tensor;

interface Case {
  name: string;
  /** shapes of the inputs that are differentiated */
  shapes: number[][];
  ours: (ops: Ops, inputs: tf.Tensor[]) => tf.Tensor;
  /** the plainest stock ops that say the same, differentiated by TF.js itself */
  reference: Differentiable;
}

const ids = (values: number[]) => tf.tensor1d(values, 'int32');
const modulo = (length: number, bound: number) => Array.from({ length }, (_, i) => (i * 5 + 2) % bound);

function plainAttention(qkv: tf.Tensor, heads: number, sequences: number, context: number): tf.Tensor {
  const width = qkv.shape[1]! / 3;
  const [q, k, v] = tf
    .split(tf.reshape(qkv, [sequences, context, 3 * width]), 3, 2)
    .map((x) => tf.transpose(tf.reshape(x, [sequences, context, heads, width / heads]), [0, 2, 1, 3]));
  const later = tf.tensor2d(
    Array.from({ length: context }, (_, i) => Array.from({ length: context }, (_, j) => (j > i ? -1e9 : 0))),
  );
  const scores = tf.add(tf.div(tf.matMul(q!, k!, false, true), Math.sqrt(width / heads)), later);
  const mixed = tf.matMul(tf.softmax(scores), v!);
  return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [sequences * context, width]);
}

function attentionCase(sequences: number, context: number, heads: number, width: number): Case {
  return {
    name: `attention of ${sequences} x ${context} tokens, ${heads} heads of ${width / heads}`,
    shapes: [[sequences * context, 3 * width]],
    ours: (ops, [qkv]) => ops.attention(qkv!, heads, { sequences, context }),
    reference: ([qkv]) => plainAttention(qkv!, heads, sequences, context),
  };
}

function layerNormCase(rows: number, width: number): Case {
  return {
    name: `layer norm of ${rows} x ${width}`,
    shapes: [[rows, width], [width]],
    ours: (ops, [x, gain]) => ops.layerNorm(x!, gain!),
    reference: ([x, gain]) => {
      const { mean, variance } = tf.moments(x!, -1, true);
      return tf.mul(tf.div(tf.sub(x!, mean), tf.sqrt(tf.add(variance, 1e-5))), gain!);
    },
  };
}

function crossEntropyCase(tokens: number, vocabulary: number): Case {
  return {
    name: `cross entropy of ${tokens} x ${vocabulary}`,
    shapes: [[tokens, vocabulary]],
    ours: (ops, [logits]) => ops.crossEntropy(logits!, ids(modulo(tokens, vocabulary))),
    reference: ([logits]) =>
      tf.losses.softmaxCrossEntropy(tf.oneHot(ids(modulo(tokens, vocabulary)), vocabulary), logits!),
  };
}

const CASES: Case[] = [
  attentionCase(2, 5, 1, 4),
  attentionCase(1, 50, 3, 36),
  attentionCase(2, 97, 2, 16),
  layerNormCase(3, 4),
  layerNormCase(130, 20),
  crossEntropyCase(1, 2),
  crossEntropyCase(9, 65),
  {
    name: 'matmul',
    shapes: [
      [13, 20],
      [20, 9],
    ],
    ours: (ops, [x, w]) => ops.matmul(x!, w!),
    reference: ([x, w]) => tf.matMul(x!, w!),
  },
  {
    name: 'matmul with the transpose',
    shapes: [
      [13, 20],
      [65, 20],
    ],
    ours: (ops, [x, w]) => ops.matmulTransposed(x!, w!),
    reference: ([x, w]) => tf.matMul(x!, w!, false, true),
  },
  {
    name: 'GELU',
    shapes: [[7, 12]],
    ours: (ops, [x]) => ops.gelu(x!),
    reference: ([x]) => {
      const u = tf.mul(tf.add(x!, tf.mul(tf.pow(x!, 3), 0.044715)), Math.sqrt(2 / Math.PI));
      return tf.mul(tf.mul(x!, 0.5), tf.add(tf.tanh(u), 1));
    },
  },
  {
    name: 'sum, with a tensor used twice',
    shapes: [
      [3, 8],
      [3, 8],
    ],
    ours: (ops, [a, b]) => ops.add(ops.add(a!, b!), a!),
    reference: ([a, b]) => tf.add(tf.add(a!, b!), a!),
  },
  {
    name: 'embedding, sequences shorter than the context',
    shapes: [
      [11, 8],
      [6, 8],
    ],
    ours: (ops, [e, p]) => ops.embed(ids(modulo(15, 11)), e!, p!, { sequences: 3, context: 5 }),
    reference: ([e, p]) => {
      const tokens = tf.matMul(tf.cast(tf.oneHot(ids(modulo(15, 11)), 11), 'float32'), e!);
      const places = tf.oneHot(ids(Array.from({ length: 15 }, (_, i) => i % 5)), 6);
      return tf.add(tokens, tf.matMul(tf.cast(places, 'float32'), p!));
    },
  },
  {
    name: 'last row, in a scope',
    shapes: [[4, 8]],
    ours: (ops, [x]) => ops.scope(() => ops.lastRow(ops.gelu(x!))),
    reference: ([x]) =>
      tf.slice(
        tf.mul(x!, tf.sigmoid(tf.mul(x!, tf.add(tf.mul(tf.square(x!), 0.0713548162726), 1.5957691216)))),
        [3, 0],
        [1, 8],
      ),
  },
];

/** Value, then the gradient by every input, of f(inputs) under an arbitrary gradient from above. */
function run(f: Differentiable, shapes: number[][]): Float32Array[] {
  const stream = randomStream(3, 'ops');
  const random = (shape: number[]) =>
    tf.tensor(
      Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => 3 * stream.unit() - 1.5),
      shape,
    );
  const results = tf.tidy(() => {
    const inputs = shapes.map(random);
    const value = f(inputs);
    const dy = random(value.shape);
    const { grads } = tf.valueAndGrads((...inputs) => f(inputs))(inputs, dy as tf.Scalar);
    return [value, ...grads];
  });
  const arrays = results.map((tensor) => tensor.dataSync() as Float32Array);
  tf.dispose(results);
  return arrays;
}

function expectClose(got: Float32Array[], expected: Float32Array[]): void {
  expect(got.map((array) => array.length)).toEqual(expected.map((array) => array.length));
  for (const [i, array] of expected.entries()) {
    const size = Math.max(...array.map(Math.abs));
    expect(size).toBeGreaterThan(0);
    const worst = array.reduce((most, x, j) => Math.max(most, Math.abs(x - got[i]![j]!)), 0);
    expect(worst / size, i === 0 ? 'value' : `gradient ${i}`).toBeLessThan(2e-6);
  }
}

describe.each([
  ['fused wasm kernels', { backend: 'wasm' }],
  ['plain wasm kernels', { backend: 'wasm', deterministic: true }],
  ['composite ops on cpu', { backend: 'cpu' }],
] as const)('%s', (_name, request) => {
  let backend: Backend;
  let cpu: Backend;
  let ops: Ops;
  beforeAll(async () => {
    cpu = await openBackend({ backend: 'cpu' });
    backend = await openBackend(request);
    ops = backend.createOps();
  });
  afterAll(() => ops.dispose());

  it.each(CASES)('$name', async ({ shapes, ours, reference }) => {
    await cpu.activate();
    const expected = run(reference, shapes);
    await backend.activate();
    const before = tf.memory().numTensors;
    const got = run((inputs) => ours(ops, inputs), shapes);
    run((inputs) => ours(ops, inputs), shapes); // the first may have made the causal mask
    const kept = tf.memory().numTensors - before;
    expect(kept).toBeLessThanOrEqual(1);
    expectClose(got, expected);
    const between = tf.memory().numTensors;
    run((inputs) => ours(ops, inputs), shapes);
    expect(tf.memory().numTensors).toBe(between);
  });

  it('attention never looks ahead', async () => {
    await backend.activate();
    const [context, width] = [50, 8];
    const values = Float32Array.from({ length: context * 3 * width }, (_, i) => Math.sin(i));
    const attend = (array: Float32Array) => {
      const y = tf.tidy(() => ops.attention(tf.tensor2d(array, [context, 3 * width]), 2, { sequences: 1, context }));
      const result = y.dataSync();
      y.dispose();
      return result;
    };
    const before = attend(values.slice());
    values.fill(9, 49 * 3 * width);
    const after = attend(values.slice());
    expect(after.slice(0, 49 * width)).toEqual(before.slice(0, 49 * width));
    expect(after.slice(49 * width)).not.toEqual(before.slice(49 * width));
  });
});

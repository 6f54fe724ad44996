import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { ModelShape } from '../../protocol/model.ts';
import type { Ops, Rows } from './ops.ts';

/** Weights by the names that `modelLayout` gives them. */
export type Weights = ReadonlyMap<string, Tensor>;

/**
 * GPT-2 as nanoGPT has it (Radford et al. 2019): pre-norm blocks, no biases, head tied to the embedding. In the shapes
 * N = sequences x context, C = width, V = vocabulary.
 * @param ids [N]
 * @returns [N, C]: every token after the final norm
 */
function hidden(ops: Ops, weights: Weights, model: ModelShape, ids: Tensor, rows: Rows): Tensor {
  let x = ops.embed(ids, weight(weights, 'embedding'), weight(weights, 'position'), rows); // [N, C]
  for (let i = 0; i < model.layers; i++) {
    const stream = x;
    x = ops.scope(() => block(ops, (name) => weight(weights, `block${i}.${name}`), stream, model.heads, rows));
  }
  return ops.layerNorm(x, weight(weights, 'normFinal'));
}

function block(ops: Ops, weightOf: (name: string) => Tensor, x: Tensor, heads: number, rows: Rows): Tensor {
  const qkv = ops.matmul(ops.layerNorm(x, weightOf('norm1')), weightOf('qkv')); // [N, 3C]
  const mixed = ops.attention(qkv, heads, rows); // [N, C]
  const attended = ops.add(x, ops.matmul(mixed, weightOf('attentionOut'))); // [N, C]
  const wide = ops.gelu(ops.matmul(ops.layerNorm(attended, weightOf('norm2')), weightOf('mlpIn'))); // [N, 4C]
  return ops.add(attended, ops.matmul(wide, weightOf('mlpOut'))); // [N, C]
}

/**
 * @param ids [N]
 * @param targets [N], for every token the one that follows it
 * @returns mean cross entropy in nats, a scalar
 */
export function meanLoss(
  ops: Ops,
  weights: Weights,
  model: ModelShape,
  ids: Tensor,
  targets: Tensor,
  rows: Rows,
): Scalar {
  const x = hidden(ops, weights, model, ids, rows); // [N, C]
  return ops.crossEntropy(ops.matmulTransposed(x, weight(weights, 'embedding')), targets); // from logits [N, V]
}

/** Logits [1, V] of the token that follows one sequence of ids. */
export function nextLogits(ops: Ops, weights: Weights, model: ModelShape, ids: Tensor): Tensor {
  const rows = { sequences: 1, context: ids.size };
  const last = ops.lastRow(hidden(ops, weights, model, ids, rows)); // [1, C]
  return ops.matmulTransposed(last, weight(weights, 'embedding'));
}

function weight(weights: Weights, name: string): Tensor {
  const tensor = weights.get(name);
  if (!tensor) throw new Error(`the layout has no tensor '${name}'`);
  return tensor;
}

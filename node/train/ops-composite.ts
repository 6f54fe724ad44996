import * as tf from '@tensorflow/tfjs-core';
import { differentiable } from './differentiable.ts';
import type { Ops, Rows } from './ops.ts';

const NORM_EPSILON = 1e-5;
const GELU_K = Math.sqrt(2 / Math.PI);
const GELU_CUBIC = 0.044715;
/** Added to masked scores: far below any real one, and finite, for infinity minus infinity is not a number. */
const MASKED = -1e9;

/**
 * The model's operations from stock TF.js ops, for every backend that has them (cpu, webgpu, tfjs-node). Where a chain of
 * stock gradients would keep many tensors alive the gradient is written out.
 */
export function createCompositeOps(): Ops {
  const masks = new Map<number, tf.Tensor>();
  const causalMask = (context: number): tf.Tensor => {
    let mask = masks.get(context);
    if (!mask) {
      const values = Float32Array.from({ length: context * context }, (_, i) =>
        i % context > Math.floor(i / context) ? MASKED : 0,
      );
      mask = tf.keep(tf.tensor2d(values, [context, context]));
      masks.set(context, mask);
    }
    return mask;
  };
  return {
    embed,
    layerNorm,
    matmul: (x, weight) => tf.matMul(x, weight),
    matmulTransposed: (x, weight) => tf.matMul(x, weight, false, true),
    attention: (qkv, heads, rows) => attention(qkv, heads, rows, causalMask(rows.context)),
    gelu,
    add: (a, b) => tf.add(a, b),
    crossEntropy,
    lastRow: (x) => tf.slice(x, [x.shape[0]! - 1, 0], [1, x.shape[1]!]),
    scope: (part) => tf.tidy(part),
    dispose() {
      tf.dispose([...masks.values()]);
      masks.clear();
    },
  };
}

function embed(ids: tf.Tensor, embedding: tf.Tensor, position: tf.Tensor, { sequences, context }: Rows): tf.Tensor {
  const width = embedding.shape[1]!;
  const tokens = tf.reshape(tf.gather(embedding, ids), [sequences, context, width]);
  const places = tf.slice(position, [0, 0], [context, width]);
  return tf.reshape(tf.add(tokens, places), [sequences * context, width]);
}

/** With h = (x - mean) r and r = 1 / sqrt(variance + epsilon): dx = (g - mean(g) - h mean(g h)) r, g = gain dy. */
function layerNorm(x: tf.Tensor, gain: tf.Tensor): tf.Tensor {
  return differentiable(
    [x, gain],
    (save) => {
      const centred = tf.sub(x, tf.mean(x, -1, true));
      const reciprocal = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), NORM_EPSILON)); // [N, 1]
      const h = tf.mul(centred, reciprocal);
      save([h, reciprocal, gain]);
      return tf.mul(h, gain);
    },
    (dy, saved) => {
      const [h, reciprocal, gain] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
      const g = tf.mul(dy, gain);
      const inner = tf.sub(tf.sub(g, tf.mean(g, -1, true)), tf.mul(h, tf.mean(tf.mul(g, h), -1, true)));
      return [tf.mul(inner, reciprocal), tf.sum(tf.mul(dy, h), 0)];
    },
  );
}

/** gelu(x) = x s with s = sigmoid(2u), u = k (x + c x^3); gelu' = s (1 + x (1 - s) d(2u)/dx). */
function gelu(x: tf.Tensor): tf.Tensor {
  const twiceK = 2 * GELU_K;
  return differentiable(
    [x],
    (save) => {
      const s = tf.sigmoid(tf.mul(x, tf.add(tf.mul(tf.square(x), twiceK * GELU_CUBIC), twiceK)));
      save([x, s]);
      return tf.mul(x, s);
    },
    (dy, saved) => {
      const [x, s] = saved as [tf.Tensor, tf.Tensor];
      const xSlope = tf.mul(x, tf.add(tf.mul(tf.square(x), 3 * twiceK * GELU_CUBIC), twiceK)); // x d(2u)/dx
      return [tf.mul(dy, tf.mul(s, tf.add(1, tf.mul(xSlope, tf.sub(1, s)))))];
    },
  );
}

function attention(qkv: tf.Tensor, heads: number, { sequences, context }: Rows, mask: tf.Tensor): tf.Tensor {
  const width = qkv.shape[1]! / 3;
  const headWidth = width / heads;
  const split = tf.reshape(qkv, [sequences, context, 3, heads, headWidth]);
  const byHead = tf.transpose(split, [2, 0, 3, 1, 4]); // [3, sequences, heads, context, headWidth]
  const [q, k, v] = tf.unstack(byHead) as [tf.Tensor, tf.Tensor, tf.Tensor];
  const scores = tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(headWidth)); // [sequences, heads, context, context]
  const mixed = tf.matMul(tf.softmax(tf.add(scores, mask)), v); // [sequences, heads, context, headWidth]
  return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [sequences * context, width]);
}

function crossEntropy(logits: tf.Tensor, targets: tf.Tensor): tf.Scalar {
  const [tokens, vocabulary] = logits.shape as [number, number];
  return differentiable(
    [logits],
    (save) => {
      // not oneHot(..., 'float32'): the wasm backend writes the bits of integers there
      const chosen = tf.cast(tf.oneHot(tf.cast(targets, 'int32'), vocabulary, 1, 0, 'int32'), 'float32');
      const logProbabilities = tf.logSoftmax(logits);
      save([logProbabilities, chosen]);
      const total: tf.Scalar = tf.sum(tf.mul(logProbabilities, chosen));
      return tf.neg(tf.div(total, tokens));
    },
    (dy, saved) => {
      const [logProbabilities, chosen] = saved as [tf.Tensor, tf.Tensor];
      return [tf.mul(tf.sub(tf.exp(logProbabilities), chosen), tf.div(dy, tokens))];
    },
  );
}

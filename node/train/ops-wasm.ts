import * as tf from '@tensorflow/tfjs-core';
import { differentiable } from './differentiable.ts';
import type { Ops, Rows } from './ops.ts';
import type { WasmHeap } from './wasm-heap.ts';

/**
 * The model's operations on our own kernels. Widths must be multiples of 4, and ids and targets below the vocabulary:
 * the kernels do not check, the engine has. Every output belongs to the enclosing tidy.
 */
export function createWasmOps(heap: WasmHeap): Ops {
  return {
    embed: (ids, embedding, position, rows) => embed(heap, ids, embedding, position, rows),
    layerNorm: (x, gain) => layerNorm(heap, x, gain),
    matmul: (x, weight) => matmul(heap, x, weight, false),
    matmulTransposed: (x, weight) => matmul(heap, x, weight, true),
    attention: (qkv, heads, rows) => attention(heap, qkv, heads, rows),
    gelu: (x) => gelu(heap, x),
    add: (a, b) => add(heap, a, b),
    crossEntropy: (logits, targets) => crossEntropy(heap, logits, targets),
    lastRow: (x) => tf.slice(x, [x.shape[0]! - 1, 0], [1, x.shape[1]!]),
    scope: (part) => tf.tidy(part),
    dispose() {},
  };
}

function embed(heap: WasmHeap, ids: tf.Tensor, embedding: tf.Tensor, position: tf.Tensor, rows: Rows): tf.Tensor {
  const { kernels, pointer } = heap;
  const [tokens, width] = [ids.size, embedding.shape[1]!];
  return differentiable(
    [embedding, position],
    (save) => {
      const y = heap.output([tokens, width]);
      kernels.embedForward(
        ...[pointer(y), pointer(embedding), pointer(position), pointer(ids)],
        ...[tokens, rows.context, width],
      );
      save([ids]);
      return y;
    },
    (dy, saved) => {
      const [dembedding, dposition] = [zeros(heap, embedding.shape), zeros(heap, position.shape)];
      kernels.embedBackward(
        ...[pointer(dembedding), pointer(dposition), pointer(dy), pointer(saved[0]!)],
        ...[tokens, rows.context, width],
      );
      return [dembedding, dposition];
    },
  );
}

function zeros(heap: WasmHeap, shape: number[]): tf.Tensor {
  const tensor = heap.output(shape);
  heap.view(heap.pointer(tensor), tensor.size).fill(0);
  return tensor;
}

function layerNorm(heap: WasmHeap, x: tf.Tensor, gain: tf.Tensor): tf.Tensor {
  const { kernels, pointer } = heap;
  const [rows, width] = x.shape as [number, number];
  return differentiable(
    [x, gain],
    (save) => {
      const [y, means, reciprocals] = [heap.output([rows, width]), heap.output([rows]), heap.output([rows])];
      kernels.layerNormForward(
        ...[pointer(y), pointer(means), pointer(reciprocals), pointer(x), pointer(gain), rows, width],
      );
      save([x, means, reciprocals, gain]);
      return y;
    },
    (dy, saved) => {
      const [x, means, reciprocals, gain] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
      const [dx, dgain, block] = [heap.output([rows, width]), heap.output([width]), heap.output([width])];
      kernels.layerNormBackward(
        ...[pointer(dx), pointer(dgain), pointer(dy), pointer(x), pointer(means), pointer(reciprocals)],
        ...[pointer(gain), rows, width, pointer(block)],
      );
      block.dispose();
      return [dx, dgain];
    },
  );
}

/** y = x w, so dx = dy w^T and dw = x^T dy; with w transposed: y = x w^T, dx = dy w, dw = dy^T x. */
function matmul(heap: WasmHeap, x: tf.Tensor, weight: tf.Tensor, transposed: boolean): tf.Tensor {
  return differentiable(
    [x, weight],
    (save) => {
      save([x, weight]);
      return product(heap, x, false, weight, transposed);
    },
    (dy, saved) => {
      const [x, weight] = saved as [tf.Tensor, tf.Tensor];
      const dweight = transposed ? product(heap, dy, true, x, false) : product(heap, x, true, dy, false);
      return [product(heap, dy, false, weight, !transposed), dweight];
    },
  );
}

/** op(a) op(b) of two matrices */
function product(heap: WasmHeap, a: tf.Tensor, transposeA: boolean, b: tf.Tensor, transposeB: boolean): tf.Tensor {
  const { kernels, pointer, scratch } = heap;
  const [aRows, aColumns] = a.shape as [number, number];
  const [bRows, bColumns] = b.shape as [number, number];
  const [rows, depth] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const columns = transposeB ? bRows : bColumns;
  const y = heap.output([rows, columns]);
  kernels.gemm(
    ...[pointer(y), columns, pointer(a), aColumns, Number(transposeA), pointer(b), bColumns, Number(transposeB)],
    ...[rows, columns, depth, 1, 0, scratch],
  );
  return y;
}

function attention(heap: WasmHeap, qkv: tf.Tensor, heads: number, { sequences, context }: Rows): tf.Tensor {
  const { kernels, pointer, scratch } = heap;
  const width = qkv.shape[1]! / 3;
  return differentiable(
    [qkv],
    (save) => {
      const y = heap.output([sequences * context, width]);
      const probabilities = heap.output([sequences, heads, context, context]);
      kernels.attentionForward(
        ...[pointer(y), pointer(probabilities), pointer(qkv), sequences, context, heads, width, scratch],
      );
      save([probabilities, qkv]);
      return y;
    },
    (dy, saved) => {
      const [probabilities, qkv] = saved as [tf.Tensor, tf.Tensor];
      const dqkv = heap.output([sequences * context, 3 * width]);
      const block = heap.output([kernels.attentionScratchLength(context)]);
      kernels.attentionBackward(
        ...[pointer(dqkv), pointer(dy), pointer(probabilities), pointer(qkv), pointer(block)],
        ...[sequences, context, heads, width, scratch],
      );
      block.dispose();
      return [dqkv];
    },
  );
}

function gelu(heap: WasmHeap, x: tf.Tensor): tf.Tensor {
  const { kernels, pointer } = heap;
  return differentiable(
    [x],
    (save) => {
      const y = heap.output(x.shape);
      kernels.geluForward(pointer(y), pointer(x), x.size);
      save([x]);
      return y;
    },
    (dy, saved) => {
      const dx = heap.output(dy.shape);
      kernels.geluBackward(pointer(dx), pointer(dy), pointer(saved[0]!), dy.size);
      return [dx];
    },
  );
}

function add(heap: WasmHeap, a: tf.Tensor, b: tf.Tensor): tf.Tensor {
  return differentiable(
    [a, b],
    () => {
      const y = heap.output(a.shape);
      heap.kernels.addForward(heap.pointer(y), heap.pointer(a), heap.pointer(b), a.size);
      return y;
    },
    // two handles on one buffer: TF.js disposes of a gradient once it has added it to another
    (dy) => [tf.clone(dy), tf.clone(dy)],
  );
}

function crossEntropy(heap: WasmHeap, logits: tf.Tensor, targets: tf.Tensor): tf.Scalar {
  const { kernels, pointer } = heap;
  const [tokens, vocabulary] = logits.shape as [number, number];
  return differentiable(
    [logits],
    (save) => {
      const [loss, dlogits] = [heap.output([]) as tf.Scalar, heap.output([tokens, vocabulary])];
      const value = kernels.crossEntropy(pointer(dlogits), pointer(logits), pointer(targets), tokens, vocabulary);
      heap.view(pointer(loss), 1)[0] = value;
      save([dlogits]);
      return loss;
    },
    (dy, saved) => [tf.mul(saved[0]!, dy)],
  );
}

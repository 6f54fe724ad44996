import type { Scalar, Tensor } from '@tensorflow/tfjs-core';

/** How the rows of an activation [sequences x context, width] are made up. */
export interface Rows {
  sequences: number;
  /** tokens in each sequence, at most the model's context */
  context: number;
}

/**
 * The differentiable operations the model is written in. Two implementations give the same numbers but for rounding:
 * `ops-wasm.ts` (own kernels) and `ops-composite.ts` (stock TF.js ops, any backend). N stands for sequences x context.
 */
export interface Ops {
  /** [N] ids → [N, C]: rows of `embedding` [V, C] plus rows of `position` [T, C] */
  embed(ids: Tensor, embedding: Tensor, position: Tensor, rows: Rows): Tensor;
  /** [N, C], gain [C] → [N, C]; epsilon 1e-5, no bias */
  layerNorm(x: Tensor, gain: Tensor): Tensor;
  /** [N, A] x [A, B] → [N, B] */
  matmul(x: Tensor, weight: Tensor): Tensor;
  /** [N, A] x [B, A] transposed → [N, B]: the head, tied to the embedding */
  matmulTransposed(x: Tensor, weight: Tensor): Tensor;
  /** [N, 3C] with q, k, v side by side → [N, C]: causal self-attention within each sequence, scale 1 / sqrt(C / heads) */
  attention(qkv: Tensor, heads: number, rows: Rows): Tensor;
  /** tanh form */
  gelu(x: Tensor): Tensor;
  /** two tensors of one shape */
  add(a: Tensor, b: Tensor): Tensor;
  /** [N, V] logits, [N] target ids → scalar, mean over N in nats */
  crossEntropy(logits: Tensor, targets: Tensor): Scalar;
  /** [N, C] → [1, C] */
  lastRow(x: Tensor): Tensor;
  /** Runs a part of the model and frees its intermediate tensors, but for those the way back needs. */
  scope(part: () => Tensor): Tensor;
  dispose(): void;
}

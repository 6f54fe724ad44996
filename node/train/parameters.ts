import type { Tensor } from '@tensorflow/tfjs-core';
import type { Genesis } from '../../protocol/genesis.ts';
import type { Layout } from '../../protocol/model.ts';

/** Moments of AdamW, flat, in the order of the layout: running means of gradient (m) and squared gradient (v). */
export interface Moments {
  m: Float32Array;
  v: Float32Array;
}

/** One AdamW update as numbers: correction1 = 1 / (1 - beta1^t), correction2 = 1 / (1 - beta2^t). */
export interface AdamStep {
  learningRate: number;
  correction1: number;
  correction2: number;
  /** factor on the gradient, below 1 when the global norm is clipped */
  gradientScale: number;
}

/**
 * Where parameters, moments and the gradient of the present step live. `parameters-wasm.ts` keeps them in the heap of
 * the backend and updates in place, `parameters-flat.ts` in arrays beside it. All arrays have the layout's length.
 */
export interface ParameterStore {
  /** one tensor per slot of the layout, in order; valid until the next write or update */
  readonly tensors: readonly Tensor[];
  read(to: Float32Array): void;
  write(from: Float32Array): void;
  readMoments(to: Moments): void;
  writeMoments(from: Moments): void;
  clearGradient(): void;
  /** Adds weight x gradients, given in the order of `tensors`; the caller still owns them. */
  addGradients(gradients: readonly Tensor[], weight: number): Promise<void>;
  /** square of the gradient's global norm, not finite if any element is not */
  gradientSquares(): number;
  /** sum of squares of all parameters, not finite if any of them is not */
  parameterSquares(): number;
  /** AdamW with decay on matrices only (norm gains are left alone, as in nanoGPT) */
  update(step: AdamStep): void;
  dispose(): void;
}

export interface ParameterSettings {
  layout: Layout;
  inner: Genesis['inner'];
}

/** Decay of one tensor: matrices only. */
export function decayOf(shape: readonly number[], inner: Genesis['inner']): number {
  return shape.length > 1 ? inner.weightDecay : 0;
}

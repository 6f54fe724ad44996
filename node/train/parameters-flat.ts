import * as tf from '@tensorflow/tfjs-core';
import { type AdamStep, decayOf, type ParameterSettings, type ParameterStore } from './parameters.ts';

/**
 * Parameters for any backend: flat arrays in JavaScript are the truth, the backend gets fresh tensors after every change.
 * The copy costs little beside the step on these backends, and nothing is written where a backend may have cached it.
 */
export function createFlatParameters({ layout, inner }: ParameterSettings): ParameterStore {
  const { length } = layout;
  const w = new Float32Array(length);
  const m = new Float32Array(length);
  const v = new Float32Array(length);
  const gradient = new Float32Array(length);
  const upload = (): tf.Tensor[] =>
    layout.tensors.map((slot) =>
      // a copy, for the cpu backend keeps the very array it is given
      tf.keep(tf.tensor(w.slice(slot.offset, slot.offset + slot.length), [...slot.shape])),
    );
  let tensors = upload();
  const replaceTensors = () => {
    tf.dispose(tensors);
    tensors = upload();
  };
  return {
    get tensors() {
      return tensors;
    },
    read: (to) => to.set(w),
    write(from) {
      w.set(from);
      replaceTensors();
    },
    readMoments(to) {
      to.m.set(m);
      to.v.set(v);
    },
    writeMoments(from) {
      m.set(from.m);
      v.set(from.v);
    },
    clearGradient: () => void gradient.fill(0),
    async addGradients(gradients, weight) {
      for (const [i, slot] of layout.tensors.entries()) {
        const values = await gradients[i]!.data();
        for (let j = 0; j < slot.length; j++) gradient[slot.offset + j]! += weight * values[j]!;
      }
    },
    gradientSquares: () => sumOfSquares(gradient),
    parameterSquares: () => sumOfSquares(w),
    update(step) {
      for (const { shape, offset, length } of layout.tensors) {
        const part = (array: Float32Array) => array.subarray(offset, offset + length);
        adamw(part(w), part(m), part(v), part(gradient), { ...inner, weightDecay: decayOf(shape, inner) }, step);
      }
      replaceTensors();
    },
    dispose: () => tf.dispose(tensors),
  };
}

function sumOfSquares(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * values[i]!;
  return sum;
}

/**
 * AdamW in place (Loshchilov and Hutter 2019, algorithm 2), with g the scaled gradient:
 * m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, w -= rate (m^ / (sqrt(v^) + epsilon) + decay w)
 */
function adamw(
  w: Float32Array,
  m: Float32Array,
  v: Float32Array,
  gradient: Float32Array,
  { beta1, beta2, epsilon, weightDecay }: ParameterSettings['inner'],
  { learningRate, correction1, correction2, gradientScale }: AdamStep,
): void {
  for (let i = 0; i < w.length; i++) {
    const g = gradient[i]! * gradientScale;
    const mean = beta1 * m[i]! + (1 - beta1) * g;
    const square = beta2 * v[i]! + (1 - beta2) * g * g;
    m[i] = mean;
    v[i] = square;
    w[i]! -= learningRate * ((mean * correction1) / (Math.sqrt(square * correction2) + epsilon) + weightDecay * w[i]!);
  }
}

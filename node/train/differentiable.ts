import * as tf from '@tensorflow/tfjs-core';

/**
 * An operation with a gradient of its own.
 *
 * @param inputs what it is differentiated by
 * @param forward computes the value and hands what the way back needs to `save`. A tensor that `gradient` merely closes
 *   over would be gone by then: TF.js frees everything but the saved ones when the forward pass is over.
 * @param gradient from the gradient of the value and the saved tensors, one gradient per input, in order
 */
export function differentiable<Value extends tf.Tensor>(
  inputs: tf.Tensor[],
  forward: (save: (tensors: tf.Tensor[]) => void) => Value,
  gradient: (dy: Value, saved: tf.Tensor[]) => tf.Tensor[],
): Value {
  return tf.customGrad((...args) => {
    const save = args.at(-1) as (tensors: tf.Tensor[]) => void;
    return { value: forward(save), gradFunc: gradient };
  })(...inputs);
}

import * as tf from '@tensorflow/tfjs-core';
import { decayOf, type ParameterSettings, type ParameterStore } from './parameters.ts';
import type { WasmHeap } from './wasm-heap.ts';

/**
 * Parameters, moments and gradient in one allocation of the wasm heap. The tensors are windows into it, so an update in
 * place needs no copy (which is why `wasm-overrides.ts` must be in force).
 */
export function createWasmParameters(heap: WasmHeap, { layout, inner }: ParameterSettings): ParameterStore {
  const { kernels, backend, view, pointer } = heap;
  const { length } = layout;
  const w = heap.allocate(4 * length);
  const [m, v, gradient] = [w + 4 * length, w + 8 * length, w + 12 * length];
  view(w, 4 * length).fill(0);
  const tensors = layout.tensors.map(({ shape, offset }) => {
    const info = backend.makeOutput([...shape], 'float32', w + 4 * offset);
    return tf.keep(tf.engine().makeTensorFromTensorInfo(info, backend));
  });
  return {
    tensors,
    read: (to) => to.set(view(w, length)),
    write: (from) => view(w, length).set(from),
    readMoments(to) {
      to.m.set(view(m, length));
      to.v.set(view(v, length));
    },
    writeMoments(from) {
      view(m, length).set(from.m);
      view(v, length).set(from.v);
    },
    clearGradient: () => void view(gradient, length).fill(0),
    async addGradients(gradients, weight) {
      for (const [i, slot] of layout.tensors.entries()) {
        kernels.addScaled(gradient + 4 * slot.offset, pointer(gradients[i]!), weight, slot.length);
      }
    },
    gradientSquares: () => kernels.sumOfSquares(gradient, length),
    parameterSquares: () => kernels.sumOfSquares(w, length),
    update({ learningRate, correction1, correction2, gradientScale }) {
      const { beta1, beta2, epsilon } = inner;
      for (const { shape, offset, length } of layout.tensors) {
        const [at, decay] = [4 * offset, decayOf(shape, inner)];
        kernels.adamw(
          ...[w + at, m + at, v + at, gradient + at, length, learningRate, beta1, beta2, epsilon, decay],
          ...[correction1, correction2, gradientScale],
        );
      }
    },
    dispose() {
      for (const tensor of tensors) {
        // TF.js would free the window's address; it is not the start of an allocation, and free(0) does nothing
        backend.dataIdMap.get(tensor.dataId).memoryOffset = 0;
        tensor.dispose();
      }
      heap.free(w);
    },
  };
}

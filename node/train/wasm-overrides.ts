import * as tf from '@tensorflow/tfjs-core';
import type { WasmBackend, WasmHeap } from './wasm-heap.ts';

interface MatMulAttributes {
  transposeA: boolean;
  transposeB: boolean;
}

interface FusedAttributes extends MatMulAttributes {
  activation: string;
  leakyreluAlpha?: number;
}

/**
 * Replaces stock kernels of the wasm backend that are wrong for tensors whose memory changes in place, as our parameters
 * do: XNNPACK packs the right-hand matrix once and keeps the packed copy under the tensor's id, so a product after an
 * update would use the old weights. `Identity` copies its input, which every saved tensor goes through; sharing is
 * safe because nothing but parameters is written twice.
 *
 * Our model calls its own kernels directly; this protects every other use of these tensors in the thread.
 */
export function overrideStockKernels(heap: WasmHeap): void {
  const { backend } = heap;
  replace('BatchMatMul', (inputs, attributes) =>
    batchMatMul(heap, inputs.a!, inputs.b!, attributes as unknown as MatMulAttributes),
  );
  replace('_FusedMatMul', (inputs, attributes) => fusedMatMul(heap, inputs, attributes as unknown as FusedAttributes));
  const stockIdentity = tf.getKernel('Identity', 'wasm').kernelFunc;
  replace('Identity', (inputs, attributes) =>
    inputs.x!.dtype === 'string'
      ? (stockIdentity({ inputs, backend, attrs: attributes }) as tf.TensorInfo)
      : share(backend, inputs.x!),
  );
}

type KernelFunction = (inputs: tf.NamedTensorInfoMap, attributes: tf.NamedAttrMap) => tf.TensorInfo;

function replace(kernelName: string, compute: KernelFunction): void {
  tf.unregisterKernel(kernelName, 'wasm');
  tf.registerKernel({
    kernelName,
    backendName: 'wasm',
    kernelFunc: ({ inputs, attrs }) => compute(inputs, attrs ?? {}),
  });
}

function share(backend: WasmBackend, x: tf.TensorInfo): tf.TensorInfo {
  backend.incRef(x.dataId);
  return { dataId: x.dataId, shape: x.shape, dtype: x.dtype };
}

/** Batch dimensions must be equal, or one side must have a single matrix. */
function batchMatMul(heap: WasmHeap, a: tf.TensorInfo, b: tf.TensorInfo, attributes: MatMulAttributes): tf.TensorInfo {
  const { transposeA, transposeB } = attributes;
  const [aRows, aColumns] = a.shape.slice(-2) as [number, number];
  const [bRows, bColumns] = b.shape.slice(-2) as [number, number];
  const [rows, depth] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const columns = transposeB ? bRows : bColumns;
  const [aBatch, bBatch] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const [aCount, bCount] = [tf.util.sizeFromShape(aBatch), tf.util.sizeFromShape(bBatch)];
  if (aCount !== 1 && bCount !== 1 && !tf.util.arraysEqual(aBatch, bBatch)) {
    throw new Error(`matMul of batches [${aBatch}] and [${bBatch}]: tile one of them first`);
  }
  const count = Math.max(aCount, bCount);
  const output = heap.backend.makeOutput([...(aCount >= bCount ? aBatch : bBatch), rows, columns], 'float32');
  for (let i = 0; i < count; i++) {
    heap.kernels.gemm(
      ...[heap.pointer(output) + 4 * i * rows * columns, columns],
      ...[heap.pointer(a) + (aCount === 1 ? 0 : 4 * i * aRows * aColumns), aColumns, Number(transposeA)],
      ...[heap.pointer(b) + (bCount === 1 ? 0 : 4 * i * bRows * bColumns), bColumns, Number(transposeB)],
      ...[rows, columns, depth, 1, 0, heap.scratch],
    );
  }
  return output;
}

/** The product, then bias and activation as ops of their own: stock adds the bias once per 48 columns of depth. */
function fusedMatMul(heap: WasmHeap, inputs: tf.NamedTensorInfoMap, attributes: FusedAttributes): tf.TensorInfo {
  const asTensor = (info: tf.TensorInfo) => tf.engine().makeTensorFromTensorInfo(info, heap.backend);
  return tf.tidy(() => {
    let x = asTensor(batchMatMul(heap, inputs.a!, inputs.b!, attributes));
    if (inputs.bias) x = tf.add(x, inputs.bias as tf.Tensor);
    switch (attributes.activation) {
      case 'linear':
        return x;
      case 'relu':
        return tf.relu(x);
      case 'relu6':
        return tf.relu6(x);
      case 'elu':
        return tf.elu(x);
      case 'sigmoid':
        return tf.sigmoid(x);
      case 'leakyrelu':
        return tf.leakyRelu(x, attributes.leakyreluAlpha ?? 0);
      case 'prelu':
        return tf.prelu(x, inputs.preluActivationWeights as tf.Tensor);
      default:
        throw new Error(`fused matMul knows no activation '${attributes.activation}'`);
    }
  });
}

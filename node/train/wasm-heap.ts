import { readFileSync } from 'node:fs';
import v8 from 'node:v8';
import * as tf from '@tensorflow/tfjs-core';
import { CodedError } from '../../protocol/errors.ts';
import type { TrainErrorCode } from './errors.ts';

type Pointer = number;

/** The kernels of kernels/*.c; pointers are byte addresses in the heap of the TF.js backend. */
export interface Kernels extends Record<string, unknown> {
  gemmScratchLength(): number;
  attentionScratchLength(context: number): number;
  // biome-ignore format: one line each reads like the C
  gemm(c: Pointer, strideC: number, a: Pointer, strideA: number, transposeA: number, b: Pointer, strideB: number, transposeB: number, rows: number, columns: number, depth: number, scale: number, accumulate: number, scratch: Pointer): void;
  // biome-ignore format: as above
  attentionForward(y: Pointer, probabilities: Pointer, qkv: Pointer, sequences: number, context: number, heads: number, width: number, scratch: Pointer): void;
  // biome-ignore format: as above
  attentionBackward(dqkv: Pointer, dy: Pointer, probabilities: Pointer, qkv: Pointer, ds: Pointer, sequences: number, context: number, heads: number, width: number, scratch: Pointer): void;
  // biome-ignore format: as above
  layerNormForward(y: Pointer, means: Pointer, reciprocals: Pointer, x: Pointer, gain: Pointer, rows: number, width: number): void;
  // biome-ignore format: as above
  layerNormBackward(dx: Pointer, dgain: Pointer, dy: Pointer, x: Pointer, means: Pointer, reciprocals: Pointer, gain: Pointer, rows: number, width: number, gainBlock: Pointer): void;
  geluForward(y: Pointer, x: Pointer, n: number): void;
  geluBackward(dx: Pointer, dy: Pointer, x: Pointer, n: number): void;
  addForward(y: Pointer, a: Pointer, b: Pointer, n: number): void;
  addScaled(y: Pointer, x: Pointer, factor: number, n: number): void;
  // biome-ignore format: as above
  embedForward(y: Pointer, embedding: Pointer, position: Pointer, ids: Pointer, tokens: number, context: number, width: number): void;
  // biome-ignore format: as above
  embedBackward(dembedding: Pointer, dposition: Pointer, dy: Pointer, ids: Pointer, tokens: number, context: number, width: number): void;
  crossEntropy(dlogits: Pointer, logits: Pointer, targets: Pointer, tokens: number, vocabulary: number): number;
  sumOfSquares(x: Pointer, n: number): number;
  // biome-ignore format: as above
  adamw(w: Pointer, m: Pointer, v: Pointer, gradient: Pointer, n: number, rate: number, beta1: number, beta2: number, epsilon: number, decay: number, correction1: number, correction2: number, gradientScale: number): void;
}

/** The parts of TF.js's `BackendWasm` that we lean on; not public, so the version of TF.js is pinned. */
export interface WasmBackend extends tf.KernelBackend {
  wasm: { asm: { memory: WebAssembly.Memory }; _malloc(bytes: number): number; _free(pointer: Pointer): void };
  dataIdMap: { get(dataId: object): { memoryOffset: Pointer } };
  makeOutput(shape: number[], dtype: tf.DataType, memoryOffset?: Pointer): tf.TensorInfo;
  incRef(dataId: object): void;
}

/** Our kernels inside the heap of the TF.js wasm backend: they work on its tensors in place. */
export interface WasmHeap {
  readonly backend: WasmBackend;
  readonly kernels: Kernels;
  /** whether multiply and add are fused, so that results may differ between CPU types in the last bits */
  readonly fused: boolean;
  /** what `gemm` and attention take as their last argument */
  readonly scratch: Pointer;
  pointer(tensor: tf.TensorInfo): Pointer;
  /** An unset tensor of float32, owned by the enclosing tidy. */
  output(shape: number[]): tf.Tensor;
  /** Memory outside of TF.js's accounting. @throws CodedError `E_MEMORY` */
  allocate(floats: number): Pointer;
  free(pointer: Pointer): void;
  /** A window on the heap; dead as soon as anything allocates, so never keep it. */
  view(pointer: Pointer, length: number): Float32Array;
}

const heaps = new Map<boolean, WasmHeap>();

/**
 * The heap with fused kernels where this machine has them, or the plain ones that give the same bits on every CPU. The
 * wasm backend must be the current one. There is one heap per thread and kind.
 */
export function wasmHeap(deterministic: boolean): WasmHeap {
  const wanted = !deterministic && fusedKernels() !== undefined;
  let heap = heaps.get(wanted);
  if (!heap) {
    heap = createHeap(tf.backend() as WasmBackend, wanted);
    heaps.set(wanted, heap);
  }
  return heap;
}

function createHeap(backend: WasmBackend, fused: boolean): WasmHeap {
  const { wasm } = backend;
  const { memory } = wasm.asm;
  const bytes = (fused ? fusedKernels() : undefined) ?? readKernels('kernels.wasm');
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  const kernels = instance.exports as unknown as Kernels;
  const allocate = (floats: number): Pointer => checked(wasm._malloc(4 * floats) >>> 0, floats);
  const pointer = (tensor: tf.TensorInfo): Pointer => backend.dataIdMap.get(tensor.dataId).memoryOffset;
  return {
    backend,
    kernels,
    fused,
    scratch: allocate(kernels.gemmScratchLength()),
    pointer,
    output(shape) {
      const info = backend.makeOutput(shape, 'float32');
      checked(pointer(info), tf.util.sizeFromShape(shape));
      return tf.engine().makeTensorFromTensorInfo(info, backend);
    },
    allocate,
    free: (address) => wasm._free(address),
    view: (address, length) => new Float32Array(memory.buffer, address, length),
  };
}

/** malloc gives 0 when the heap cannot grow any more, and TF.js does not look. */
function checked(pointer: Pointer, floats: number): Pointer {
  if (pointer !== 0 || floats === 0) return pointer;
  const message = `the 4 GB wasm heap has no room for ${4 * floats} bytes: lower the micro-batch or the model's size`;
  throw new CodedError<TrainErrorCode>('E_MEMORY', message);
}

let fused: Uint8Array<ArrayBuffer> | null | undefined;

/** The fused kernels if this V8 takes them: Node 22 does, Node 20 has relaxed SIMD behind a flag. */
function fusedKernels(): Uint8Array<ArrayBuffer> | undefined {
  if (fused === undefined) {
    const bytes = readKernels('kernels-fma.wasm');
    if (!WebAssembly.validate(bytes) && Number.parseInt(process.versions.node, 10) < 22) {
      v8.setFlagsFromString('--experimental-wasm-relaxed-simd');
    }
    fused = WebAssembly.validate(bytes) ? bytes : null;
  }
  return fused ?? undefined;
}

function readKernels(name: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(new URL(`./kernels/${name}`, import.meta.url)));
}

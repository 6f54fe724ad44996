import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-wasm';
import { type Backend, useBackend } from './backend.ts';
import { createWasmOps } from './ops-wasm.ts';
import { createWasmParameters } from './parameters-wasm.ts';
import { wasmHeap } from './wasm-heap.ts';
import { overrideStockKernels } from './wasm-overrides.ts';

let overridden = false;

/** Our own kernels in the heap of the stock wasm backend. */
export async function openWasm(deterministic: boolean): Promise<Backend> {
  await withoutNewProcessListeners(() => useBackend(tf, 'wasm'));
  const heap = wasmHeap(deterministic);
  if (!overridden) overrideStockKernels(heap);
  overridden = true;
  return {
    name: 'wasm',
    detail: heap.fused ? 'SIMD kernels, fused multiply-add' : 'SIMD kernels, bit-deterministic',
    tf,
    activate: () => useBackend(tf, 'wasm'),
    createOps: () => createWasmOps(heap),
    createParameters: (settings) => createWasmParameters(heap, settings),
  };
}

/**
 * Emscripten's start-up code adds listeners that throw every uncaught exception again: the process would exit with
 * code 7, and the program's own handlers would be bypassed.
 */
async function withoutNewProcessListeners(start: () => Promise<void>): Promise<void> {
  const events = ['uncaughtException', 'unhandledRejection'];
  const before = events.map((event) => new Set(process.rawListeners(event)));
  await start();
  for (const [i, event] of events.entries()) {
    for (const listener of process.rawListeners(event)) {
      if (!before[i]!.has(listener)) process.removeListener(event, listener as () => void);
    }
  }
}

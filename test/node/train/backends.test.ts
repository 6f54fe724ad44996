import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { type TensorFlow, useBackend } from '../../../node/train/backend.ts';
import { openBackend, reportBackends } from '../../../node/train/backends.ts';
import { createWasmParameters } from '../../../node/train/parameters-wasm.ts';
import { wasmHeap } from '../../../node/train/wasm-heap.ts';
import { modelLayout } from '../../../protocol/model.ts';
import { INNER, MICRO } from './settings.ts';

const EVENTS = ['uncaughtException', 'unhandledRejection'] as const;
const listenersBefore = EVENTS.map((event) => process.rawListeners(event).length);

describe('opening backends', () => {
  it('leaves no process listeners of the wasm backend behind', async () => {
    const mine = () => {};
    process.on('uncaughtException', mine);
    await openBackend({ backend: 'wasm' });
    expect(process.rawListeners('uncaughtException')).toContain(mine);
    process.removeListener('uncaughtException', mine);
    expect(EVENTS.map((event) => process.rawListeners(event).length)).toEqual(listenersBefore);
  });

  it('takes wasm where no native library is installed, fused unless determinism is asked for', async () => {
    const automatic = await openBackend({});
    const pinned = await openBackend({ deterministic: true });
    expect([automatic.name, pinned.name]).toEqual(['wasm', 'wasm']);
    expect(automatic.detail).toContain('fused');
    expect(pinned.detail).toContain('bit-deterministic');
    expect(tf.getBackend()).toBe('wasm');
  });

  it.each(['tfjs-node-gpu', 'tfjs-node', 'webgpu'] as const)(
    'names the install line where %s is missing',
    async (name) => {
      const report = (await reportBackends()).find((entry) => entry.name === name)!;
      if (report.available) return; // a machine that has it
      await expect(openBackend({ backend: name })).rejects.toMatchObject({
        code: 'E_BACKEND',
        message: expect.stringMatching(/npm install .*(tfjs-node|webgpu)/),
      });
    },
  );

  it('refuses determinism from a backend that cannot give it, before loading it', async () => {
    await expect(openBackend({ backend: 'webgpu', deterministic: true })).rejects.toMatchObject({
      code: 'E_BACKEND',
      message: expect.stringContaining('not bit-deterministic'),
    });
  });

  it('notices that TF.js fell back to another backend', async () => {
    for (const taken of [false, true]) {
      const fallenBack = { getBackend: () => 'cpu', enableProdMode() {}, setBackend: async () => taken };
      await expect(useBackend(fallenBack as unknown as TensorFlow, 'webgpu')).rejects.toMatchObject({
        code: 'E_BACKEND',
      });
    }
  });
});

describe('stock kernels that are wrong for parameters changed in place', () => {
  beforeAll(async () => void (await openBackend({ backend: 'wasm' })));

  it('matMul and fused matMul see new weights after a write', () => {
    const layout = modelLayout(MICRO);
    const store = createWasmParameters(wasmHeap(true), { layout, inner: INNER });
    const weight = store.tensors[layout.tensors.findIndex(({ name }) => name === 'block0.qkv')]!;
    const x = tf.ones<tf.Rank.R2>([3, 64]);
    for (const value of [1, 10, 0.5]) {
      store.write(new Float32Array(layout.length).fill(value));
      const plain = tf.matMul(x, weight as tf.Tensor2D);
      const fused = tf.fused.matMul({ a: x, b: weight as tf.Tensor2D });
      expect(plain.dataSync()[5]).toBe(64 * value);
      expect(fused.dataSync()[5]).toBe(64 * value);
      tf.dispose([plain, fused]);
    }
    x.dispose();
    store.dispose();
  });

  it('a store that is disposed of gives its memory back and frees nothing twice', () => {
    const layout = modelLayout(MICRO);
    const before = tf.memory().numTensors;
    const addresses = [1, 2, 3].map(() => {
      const store = createWasmParameters(wasmHeap(true), { layout, inner: INNER });
      const address = wasmHeap(true).pointer(store.tensors[0]!);
      store.dispose();
      return address;
    });
    expect(new Set(addresses).size).toBe(1);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('fused matMul adds its bias once, over a depth of more than one block, batched and transposed', () => {
    const a = tf.ones<tf.Rank.R3>([2, 100, 3]);
    const b = tf.ones<tf.Rank.R3>([2, 100, 4]);
    const fused = tf.fused.matMul({ a, b, transposeA: true, bias: tf.tensor1d([1, 2, 3, -200]), activation: 'relu' });
    expect(fused.shape).toEqual([2, 3, 4]);
    expect([...fused.dataSync().slice(-4)]).toEqual([101, 102, 103, 0]);
  });

  it('matMul takes batches, one matrix against many, and says so where it cannot', () => {
    const many = tf.tensor3d([1, 2, 3, 4], [2, 1, 2]);
    const one = tf.tensor3d([1, 10], [1, 2, 1]);
    expect([...tf.matMul(many, one).dataSync()]).toEqual([21, 43]);
    expect(() => tf.matMul(tf.ones([2, 1, 3, 3]), tf.ones([1, 2, 3, 3]))).toThrow(/tile/);
  });

  it('a clone shares its memory and outlives the original', () => {
    const x = tf.tensor1d([1, 2, 3]);
    const heap = wasmHeap(true);
    const address = heap.pointer(x);
    const copy = tf.clone(x);
    x.dispose();
    expect(heap.pointer(copy)).toBe(address);
    expect([...copy.dataSync()]).toEqual([1, 2, 3]);
    copy.dispose();
  });
});

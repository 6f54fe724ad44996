import { readFileSync } from 'node:fs';
import v8 from 'node:v8';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Kernels } from '../../../node/train/wasm-heap.ts';

v8.setFlagsFromString('--experimental-wasm-relaxed-simd');

/** The kernels in a memory of their own, without TF.js. `put` copies an array in, below 1 MiB is left free. */
function loadKernels(file: string) {
  const bytes = new Uint8Array(readFileSync(new URL(`../../../node/train/kernels/${file}`, import.meta.url)));
  const memory = new WebAssembly.Memory({ initial: 512 });
  const kernels = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } })
    .exports as unknown as Kernels;
  let next = 1 << 20;
  const reserve = (floats: number) => {
    const pointer = next;
    next += 4 * floats + 64; // a gap, so that writing past the end hits something we look at
    new Float32Array(memory.buffer, pointer, floats + 16).fill(CANARY);
    return pointer;
  };
  const put = (values: ArrayLike<number>) => {
    const pointer = reserve(values.length);
    new Float32Array(memory.buffer, pointer, values.length).set(values);
    return pointer;
  };
  const get = (pointer: number, length: number) => {
    const whole = new Float32Array(memory.buffer, pointer, length + 16);
    expect([...whole.subarray(length)], 'memory after the result is untouched').toEqual(Array(16).fill(CANARY));
    return [...whole.subarray(0, length)];
  };
  const scratch = reserve(kernels.gemmScratchLength());
  const start = next;
  const reset = () => {
    next = start;
  };
  return { bytes, kernels, memory, put, get, reserve, scratch, reset };
}

const CANARY = -12345;

/** Repeatable values in [-1, 1) */
function noise(length: number, seed: number): number[] {
  return Array.from({ length }, (_, i) => Math.fround((((i + 1) * 7919 + seed * 104729) % 1000) / 500 - 1));
}

/** Sections of a wasm module by id. */
function sections(bytes: Uint8Array): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  for (let at = 8; at < bytes.length; ) {
    const id = bytes[at++]!;
    let [length, shift, byte] = [0, 0, 0];
    do {
      byte = bytes[at++]!;
      length |= (byte & 127) << shift;
      shift += 7;
    } while (byte & 128);
    found.set(id, bytes.subarray(at, at + length));
    at += length;
  }
  return found;
}

describe.each(['kernels.wasm', 'kernels-fma.wasm'])('%s', (file) => {
  const heap = loadKernels(file);
  const { kernels, put, get, reserve, scratch } = heap;

  it('brings no data into the heap of TF.js', () => {
    const DATA_SECTION = 11;
    expect(sections(heap.bytes).has(DATA_SECTION)).toBe(false);
    expect(sections(heap.bytes).size).toBeGreaterThan(4);
  });

  it('multiplies matrices of any size, transposed or not, scaled and accumulated', () => {
    const size = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(63, 65, 255, 257, 300));
    const property = fc.property(size, size, size, fc.boolean(), fc.boolean(), fc.boolean(), (M, N, K, ta, tb, add) => {
      heap.reset();
      const [a, b, c] = [noise(M * K, 1), noise(K * N, 2), noise(M * N, 3)];
      const result = put(c);
      const [strideA, strideB] = [ta ? M : K, tb ? K : N];
      const [pa, pb] = [put(a), put(b)];
      kernels.gemm(result, N, pa, strideA, +ta, pb, strideB, +tb, M, N, K, 0.5, +add, scratch);
      const got = get(result, M * N);
      let worst = 0;
      for (let i = 0; i < M; i++) {
        for (let j = 0; j < N; j++) {
          let sum = 0;
          for (let k = 0; k < K; k++) sum += a[ta ? k * M + i : i * K + k]! * b[tb ? j * K + k : k * N + j]!;
          const expected = 0.5 * sum + (add ? c[i * N + j]! : 0);
          worst = Math.max(worst, Math.abs(got[i * N + j]! - expected));
        }
      }
      expect(worst).toBeLessThan(1e-6 * (K + 2));
    });
    fc.assert(property, { numRuns: 40, seed: 7 });
  });

  it('multiplies past one block of columns', () => {
    heap.reset();
    const [M, N, K] = [5, 1030, 3];
    const [a, b] = [noise(M * K, 4), noise(K * N, 5)];
    const result = reserve(M * N);
    kernels.gemm(result, N, put(a), K, 0, put(b), N, 0, M, N, K, 1, 0, scratch);
    const got = get(result, M * N);
    for (const [i, j] of [
      [0, 0],
      [4, 1029],
      [2, 1023],
      [3, 1024],
    ] as const) {
      const expected = a[i * K]! * b[j]! + a[i * K + 1]! * b[N + j]! + a[i * K + 2]! * b[2 * N + j]!;
      expect(got[i * N + j]).toBeCloseTo(expected, 5);
    }
  });

  it('sums squares without losing small ones beside a large one', () => {
    heap.reset();
    const values = [3e4, ...Array(1_000_002).fill(0.01)];
    expect(kernels.sumOfSquares(put(values), values.length) / (9e8 + 100.0002)).toBeCloseTo(1, 9);
    expect(kernels.sumOfSquares(put([1, 2, 3, 4, Number.NaN]), 5)).toBeNaN();
  });

  it.each([3, 4, 1001])('updates %i parameters as AdamW says, to the last digits of float32', (n) => {
    heap.reset();
    const [w, m, g] = [noise(n, 1), noise(n, 2), noise(n, 3)];
    const v = noise(n, 4).map(Math.abs);
    const [rate, beta1, beta2, epsilon, decay, scale] = [1e-3, 0.9, 0.999, 1e-8, 0.1, 0.7];
    const [c1, c2] = [1 / (1 - beta1 ** 3), 1 / (1 - beta2 ** 3)];
    const [pw, pm, pv] = [put(w), put(m), put(v)];
    kernels.adamw(pw, pm, pv, put(g), n, rate, beta1, beta2, epsilon, decay, c1, c2, scale);
    const [gotW, gotM, gotV] = [get(pw, n), get(pm, n), get(pv, n)];
    for (let i = 0; i < n; i++) {
      const gradient = g[i]! * scale;
      const mean = beta1 * m[i]! + (1 - beta1) * gradient;
      const square = beta2 * v[i]! + (1 - beta2) * gradient ** 2;
      const change = rate * ((mean * c1) / (Math.sqrt(square * c2) + epsilon) + decay * w[i]!);
      expect(Math.abs(gotM[i]! - mean)).toBeLessThan(2e-7);
      expect(Math.abs(gotV[i]! - square)).toBeLessThan(2e-7);
      expect(Math.abs(gotW[i]! - (w[i]! - change))).toBeLessThan(1.3e-7);
    }
  });

  it('starts its moments with all digits of 1 - beta', () => {
    heap.reset();
    const [w, m, v] = [put(Array(5).fill(1)), put(Array(5).fill(0)), put(Array(5).fill(0))];
    kernels.adamw(w, m, v, put(Array(5).fill(1)), 5, 1e-3, 0.99, 0.9999, 1e-8, 0, 1, 1, 1);
    for (const mean of get(m, 5)) expect(mean / 0.01).toBeCloseTo(1, 6);
    for (const square of get(v, 5)) expect(square / 0.0001).toBeCloseTo(1, 6);
  });

  it('decays exactly as much as asked, where the gradient is zero', () => {
    heap.reset();
    const [w, m, v, g] = [put(Array(8).fill(1)), put(Array(8).fill(0)), put(Array(8).fill(0)), put(Array(8).fill(0))];
    for (let i = 0; i < 1000; i++) kernels.adamw(w, m, v, g, 8, 1e-3, 0.9, 0.99, 1e-8, 0.1, 1, 1, 1);
    expect(get(w, 8)[0]! / (1 - 1e-4) ** 1000).toBeCloseTo(1, 4);
  });

  it('adds a scaled array of any length', () => {
    heap.reset();
    const y = put(noise(7, 1));
    kernels.addScaled(y, put(noise(7, 2)), 0.25, 7);
    const expected = noise(7, 1).map((value, i) => value + 0.25 * noise(7, 2)[i]!);
    for (const [i, value] of get(y, 7).entries()) expect(value).toBeCloseTo(expected[i]!, 6);
  });

  it.each([1, 2, 5, 65, 3001])('takes the cross entropy over a vocabulary of %i', (V) => {
    heap.reset();
    const tokens = 3;
    const logits = noise(tokens * V, 1).map((x) => 20 * x);
    const targets = [0, V - 1, V >> 1];
    const ids = reserve(tokens);
    new Int32Array(heap.memory.buffer, ids, tokens).set(targets);
    const d = reserve(tokens * V);
    const loss = kernels.crossEntropy(d, put(logits), ids, tokens, V);
    const got = get(d, tokens * V);
    let expected = 0;
    for (let i = 0; i < tokens; i++) {
      const row = logits.slice(i * V, (i + 1) * V).map(Math.fround);
      const largest = Math.max(...row);
      const sum = row.reduce((total, x) => total + Math.exp(x - largest), 0);
      expected += (Math.log(sum) + largest - row[targets[i]!]!) / tokens;
      for (let j = 0; j < V; j++) {
        const probability = Math.exp(row[j]! - largest) / sum;
        expect(Math.abs(got[i * V + j]! - (probability - Number(j === targets[i])) / tokens)).toBeLessThan(1e-7);
      }
    }
    expect(Math.abs(loss - expected)).toBeLessThan(1e-6 * (1 + expected));
  });

  it.each([0, 1, 4, 6])('does not hide a NaN at place %i of the logits', (place) => {
    heap.reset();
    const logits = noise(7, 1);
    logits[place] = Number.NaN;
    const ids = reserve(1);
    new Int32Array(heap.memory.buffer, ids, 1)[0] = 2;
    expect(kernels.crossEntropy(reserve(7), put(logits), ids, 1, 7)).toBeNaN();
  });

  it('makes nothing near the denormal floats where a softmax or GELU saturates: products of those are very slow', () => {
    heap.reset();
    const logits = [1, 0, -40, -87, -88, -100, -200, -1e4];
    const ids = reserve(1);
    new Int32Array(heap.memory.buffer, ids, 1)[0] = 0;
    const [d, y] = [reserve(8), reserve(8)];
    kernels.crossEntropy(d, put(logits), ids, 1, 8);
    kernels.geluForward(y, put(logits.map((x) => x / 4)), 8);
    for (const value of [...get(d, 8), ...get(y, 8)]) {
      expect(value === 0 || Math.abs(value) > 1e-30, String(value)).toBe(true);
    }
  });

  it('keeps GELU right where its exponential overflows, and does not hide a NaN', () => {
    heap.reset();
    const y = reserve(8);
    kernels.geluForward(y, put([-1e4, -100, -20, 0, 20, 100, 1e4, Number.NaN]), 8);
    const got = get(y, 8);
    for (const [i, expected] of [0, 0, 0, 0, 20, 100, 1e4].entries()) expect(got[i]).toBeCloseTo(expected, 5);
    expect(got[7]).toBeNaN();
  });
});

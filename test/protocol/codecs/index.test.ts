import { describe, expect, it } from 'vitest';
import { CODEC_NAMES } from '../../../protocol/codecs/codec.ts';
import { codecOf } from '../../../protocol/codecs/index.ts';

describe('codecOf', () => {
  it('has every name that genesis may hold', () => {
    const names = CODEC_NAMES.map((name) => codecOf({ name, chunk: 4096, k: 64, bits: 1 }).name);
    expect(names).toEqual([...CODEC_NAMES]);
  });

  it('keeps all of a dense residual and decays that of the sparse ones', () => {
    const decays = CODEC_NAMES.map((name) => codecOf({ name, chunk: 4096, k: 64, bits: 2 }).residualDecay);
    expect(decays).toEqual([1, 1, 1, 0.95, 0.95]);
  });

  it('asserts what genesis promised about chunk and k', () => {
    for (const [chunk, k] of [
      [64, 65],
      [4097, 1],
      [64, 0],
      [64, 1.5],
    ] as const) {
      expect(() => codecOf({ name: 'topk', chunk, k, bits: 1 })).toThrow(/assertion failed/);
    }
  });
});

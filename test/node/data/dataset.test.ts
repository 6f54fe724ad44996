import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkLargeEnough, makeDataset, trainLength } from '../../../node/data/dataset.ts';
import { byteTokenizer, charTokenizer } from '../../../node/data/tokenizer.ts';

describe('trainLength', () => {
  it('splits tiny Shakespeare as nanoGPT does', () => {
    expect(trainLength(1_115_394, 0.1)).toBe(1_003_854);
    expect(1_115_394 - trainLength(1_115_394, 0.1)).toBe(111_540);
  });

  it('is exact for whole percentages, whatever binary makes of them', () => {
    const tokens = fc.integer({ min: 0, max: 2_000_000_000 });
    fc.assert(
      fc.property(tokens, fc.integer({ min: 0, max: 50 }), (n, percent) => {
        expect(trainLength(n, percent / 100)).toBe(Number((BigInt(n) * BigInt(100 - percent)) / 100n));
      }),
      { numRuns: 5000 },
    );
  });
});

describe('makeDataset', () => {
  it('keeps the last part out of training', () => {
    const text = new TextEncoder().encode('abcdefghijklmnopqrst');
    const { vocabulary, train, validation } = makeDataset(text, charTokenizer(text), 0.1);
    expect(vocabulary).toBe(20);
    expect([...train]).toEqual(Array.from({ length: 18 }, (_, i) => i));
    expect([...validation]).toEqual([18, 19]);
  });
});

describe('checkLargeEnough', () => {
  const dataset = (length: number, fraction: number) =>
    makeDataset(new Uint8Array(length).fill(0x61), byteTokenizer(), fraction);

  it('asks for two sequences and a target', () => {
    expect(() => checkLargeEnough(dataset(17, 0), 8)).not.toThrow();
    expect(() => checkLargeEnough(dataset(16, 0), 8)).toThrow(expect.objectContaining({ code: 'E_DATA_TOO_SMALL' }));
  });

  it('asks for one sequence to validate with where some is kept out', () => {
    expect(() => checkLargeEnough(dataset(90, 0.1), 8)).not.toThrow();
    expect(() => checkLargeEnough(dataset(80, 0.1), 8)).toThrow(expect.objectContaining({ code: 'E_DATA_TOO_SMALL' }));
  });
});

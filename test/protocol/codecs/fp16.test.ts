import { describe, expect, it } from 'vitest';
import {
  bfloatOfMagnitude,
  floatOfBfloat,
  floatOfHalf,
  halfOfFloatBits,
  isFiniteHalf,
} from '../../../protocol/codecs/float16.ts';
import { fp16 } from '../../../protocol/codecs/fp16.ts';
import { describeCodec, firstIndex } from '../../contracts/codec-contract.ts';

describeCodec('fp16', fp16, (update, decoded) => {
  const wrong = firstIndex(update, (value, i) => {
    const error = Math.abs(value - decoded[i]!);
    if (Math.abs(value) > 65504) return decoded[i] !== 65504 * Math.sign(value);
    return error > Math.max(2 ** -11 * Math.abs(value), 2 ** -25);
  });
  expect(wrong).toBe(-1);
});

function halfOf(value: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  return halfOfFloatBits(view.getUint32(0));
}

/** The definition of binary16, independent of the code under test. */
function halfByDefinition(half: number): number {
  const sign = half >= 0x8000 ? -1 : 1;
  const exponent = Math.floor(half / 1024) % 32;
  const fraction = (half % 1024) / 1024;
  return exponent === 0 ? sign * fraction * 2 ** -14 : sign * (1 + fraction) * 2 ** (exponent - 15);
}

describe('half', () => {
  const positive = Array.from({ length: 0x7c00 }, (_, half) => half);

  it('all 63488 finite values decode by definition and come back', () => {
    for (const half of positive.flatMap((low) => [low, low | 0x8000])) {
      expect(isFiniteHalf(half)).toBe(true);
      if (floatOfHalf(half) !== halfByDefinition(half)) expect.fail(`half ${half} decodes to ${floatOfHalf(half)}`);
      if (halfOf(floatOfHalf(half)) !== half) expect.fail(`half ${half} comes back as ${halfOf(floatOfHalf(half))}`);
    }
    expect(isFiniteHalf(0x7c00) || isFiniteHalf(0xfc00) || isFiniteHalf(0x7e01)).toBe(false);
  });

  it('rounds to nearest between all neighbours, ties to even', () => {
    for (const low of positive.slice(0, -1)) {
      // both neighbours have 11 significant bits, so their middle and a point next to it are exact float32
      const [a, b] = [halfByDefinition(low), halfByDefinition(low + 1)];
      const expected = [low, low % 2 === 0 ? low : low + 1, low + 1];
      const got = [a + (b - a) * 0.499, (a + b) / 2, a + (b - a) * 0.501].map(halfOf);
      if (got.some((half, i) => half !== expected[i])) expect.fail(`between ${low} and ${low + 1}: ${got}`);
      const negative = [-(a + b) / 2].map(halfOf);
      if (negative[0] !== (0x8000 | expected[1]!)) expect.fail(`between -${low} and -${low + 1}: ${negative}`);
    }
  });

  it('saturates', () => {
    expect([65504, 65519, 65520, 1e6, 3.4e38].map(halfOf)).toEqual([0x7bff, 0x7bff, 0x7bff, 0x7bff, 0x7bff]);
    expect(halfOf(-3.4e38)).toBe(0xfbff);
  });
});

describe('bfloat16', () => {
  it('all finite magnitudes come back; rounds to nearest between neighbours, ties to even; saturates', () => {
    for (let low = 0; low < 0x7f7f; low++) {
      const [a, b] = [floatOfBfloat(low), floatOfBfloat(low + 1)];
      if (bfloatOfMagnitude(a) !== low) expect.fail(`bfloat ${low} comes back as ${bfloatOfMagnitude(a)}`);
      const got = [a + (b - a) * 0.499, a + (b - a) / 2, a + (b - a) * 0.501].map(bfloatOfMagnitude);
      const expected = [low, low % 2 === 0 ? low : low + 1, low + 1];
      if (got.some((bfloat, i) => bfloat !== expected[i])) expect.fail(`between ${low} and ${low + 1}: ${got}`);
    }
    expect(floatOfBfloat(0x3f80)).toBe(1);
    expect(floatOfBfloat(0x0001)).toBe(2 ** -133);
    expect(bfloatOfMagnitude((2 - 2 ** -23) * 2 ** 127)).toBe(0x7f7f);
  });
});

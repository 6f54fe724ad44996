import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keptOf } from '../../../protocol/codecs/chunks.ts';
import { sparseloco } from '../../../protocol/codecs/sparseloco.ts';
import { topk } from '../../../protocol/codecs/topk.ts';
import { codeOf, describeCodec, expectContraction } from '../../contracts/codec-contract.ts';
import { layoutOf, normalValues } from '../../helpers/layouts.ts';

for (const bits of [1, 2] as const) {
  for (const selection of [
    { chunk: 4096, k: 64 },
    { chunk: 16, k: 3 },
    { chunk: 4096, k: 4096 },
  ]) {
    const bound = expectContraction(selection.chunk, (length) => keptOf(length, selection));
    describeCodec(`topk ${selection.k} of ${selection.chunk}, ${bits} bit`, topk({ ...selection, bits }), bound);
  }
}

function decodedBy(codec: ReturnType<typeof topk>, update: Float32Array): Float32Array {
  const layout = layoutOf(update.length);
  const out = new Float32Array(update.length);
  codec.decode(codec.encode(update, layout), layout, out);
  return out;
}

describe('topk', () => {
  it('writes the bytes of its format, worked out by hand', () => {
    const layout = layoutOf(8);
    const update = Float32Array.of(0, 3, 0.5, -1, -1, 0.25, -0.5, -1);
    // 1 bit: mean of 3, 1, 1, 1 = 1.5 = 0x3fc0; signs + - - -; gaps 1, 1, 0, 2 with r = 0: 10 10 0 110
    const one = topk({ chunk: 8, k: 4, bits: 1 }).encode(update, layout);
    expect([...one]).toEqual([1, 0, 0, 0, 0, 0xc0, 0x3f, 0b1110, 0b0110_0101]);
    // 2 bits: levels 1 = 0x3f80 and 3 = 0x4040; symbols 2, 1, 1, 1
    const two = topk({ chunk: 8, k: 4, bits: 2 }).encode(update, layout);
    expect([...two]).toEqual([1, 0, 0, 0, 0, 0x80, 0x3f, 0x40, 0x40, 0b01_01_01_10, 0b0110_0101]);
  });

  it('decodes to sign times the mean, or to the nearer of two levels', () => {
    const update = Float32Array.of(0, 3, 0.5, -1, -1, 0.25, -0.5, -1);
    expect(decodedBy(topk({ chunk: 8, k: 4, bits: 1 }), update)).toEqual(
      Float32Array.of(0, 1.5, 0, -1.5, -1.5, 0, 0, -1.5),
    );
    expect(decodedBy(topk({ chunk: 8, k: 4, bits: 2 }), update)).toEqual(Float32Array.of(0, 3, 0, -1, -1, 0, 0, -1));
  });

  it('finds the best two levels of all', () => {
    const magnitudes = fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 2, maxLength: 12 });
    fc.assert(
      fc.property(magnitudes, (values) => {
        const codec = topk({ chunk: values.length, k: values.length, bits: 2 });
        const out = decodedBy(codec, Float32Array.from(values));
        const error = values.reduce((sum, value, i) => sum + (value - out[i]!) ** 2, 0);
        const energy = values.reduce((sum, value) => sum + value ** 2, 0);
        // rounded to 8 significant bits, a level is off by 2^-8 of itself at most
        expect(error).toBeLessThanOrEqual(leastError(values) + energy * 2 ** -16 + 1e-9);
      }),
    );
  });

  it('costs under 9 bits a value with one level and under 10.3 with two at k = 64, where sparseloco takes 14', () => {
    const layout = layoutOf(256 * 4096);
    const update = normalValues(layout.length, 1e-3, 1);
    const bitsAValue = (payload: Uint8Array, k: number) => (8 * payload.length) / (256 * k);
    expect(bitsAValue(topk({ chunk: 4096, k: 64, bits: 1 }).encode(update, layout), 64)).toBeLessThan(8.8);
    expect(bitsAValue(topk({ chunk: 4096, k: 64, bits: 2 }).encode(update, layout), 64)).toBeLessThan(10.1);
    expect(bitsAValue(topk({ chunk: 4096, k: 128, bits: 1 }).encode(update, layout), 128)).toBeLessThan(7.7);
    expect(bitsAValue(topk({ chunk: 4096, k: 128, bits: 2 }).encode(update, layout), 128)).toBeLessThan(8.8);
  });

  it('selects the same places as sparseloco', () => {
    const update = normalValues(10_000, 1, 2);
    const layout = layoutOf(10_000);
    const other = new Float32Array(10_000);
    const codec = sparseloco({ chunk: 4096, k: 64 });
    codec.decode(codec.encode(update, layout), layout, other);
    const placesOf = (values: Float32Array) => [...values.keys()].filter((i) => values[i] !== 0);
    expect(placesOf(decodedBy(topk({ chunk: 4096, k: 64, bits: 2 }), update))).toEqual(placesOf(other));
  });

  it('refuses bad levels, parameters, gaps and padding', () => {
    const codec = topk({ chunk: 8, k: 4, bits: 2 });
    const layout = layoutOf(8);
    const payload = codec.encode(Float32Array.of(0, 3, 0.5, -1, -1, 0.25, -0.5, -1), layout);
    const damaged = (at: number, ...bytes: number[]) => {
      const copy = payload.slice();
      copy.set(bytes, at);
      return codeOf(() => codec.check(copy, layout));
    };
    expect(damaged(0, 0xff, 0xff, 0xff, 0xff)).toBe('E_PAYLOAD_SIZE');
    expect(damaged(4, 13)).toBe('E_PAYLOAD_FORMAT');
    expect(damaged(5, 0x80, 0x7f)).toBe('E_PAYLOAD_NOT_FINITE');
    expect(damaged(6, 0xbf)).toBe('E_PAYLOAD_FORMAT'); // a negative level
    expect(damaged(5, 0x40, 0x40, 0x80, 0x3f)).toBe('E_PAYLOAD_FORMAT'); // descending levels
    expect(damaged(10, 0xff)).toBe('E_PAYLOAD_FORMAT'); // a run of ones
    expect(damaged(10, 0b1110_0101)).toBe('E_PAYLOAD_FORMAT'); // the stream ends inside a gap
    expect(damaged(10, 0b0000_0101)).toBeUndefined(); // gaps 1, 1, 0, 0: another payload, and a sound one
    expect(damaged(10, 0b1000_0101)).toBe('E_PAYLOAD_FORMAT'); // the same, with padding set
  });

  it('refuses bytes after the last gap, and bits after the last symbol', () => {
    const codec = topk({ chunk: 64, k: 4, bits: 1 });
    const update = new Float32Array(64).fill(1, 0, 4);
    const payload = codec.encode(update, layoutOf(64));
    const longer = new Uint8Array(payload.length + 1);
    longer.set(payload);
    longer[0]! += 1;
    const padded = payload.slice();
    padded[7]! |= 0x10; // four symbols of one bit use half of this byte
    expect(codeOf(() => codec.check(padded, layoutOf(64)))).toBe('E_PAYLOAD_FORMAT');
    expect(codeOf(() => codec.check(payload, layoutOf(64)))).toBeUndefined();
    expect(codeOf(() => codec.check(longer, layoutOf(64)))).toBe('E_PAYLOAD_FORMAT');
  });
});

function leastError(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const spread = (part: number[]) => {
    const mean = part.reduce((a, b) => a + b, 0) / Math.max(1, part.length);
    return part.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  };
  return Math.min(...sorted.map((_, split) => spread(sorted.slice(0, split)) + spread(sorted.slice(split))));
}

import { describe, expect, it } from 'vitest';
import { keptOf } from '../../../protocol/codecs/chunks.ts';
import { sparseloco } from '../../../protocol/codecs/sparseloco.ts';
import { codeOf, describeCodec, expectContraction } from '../../contracts/codec-contract.ts';
import { layoutOf, normalValues } from '../../helpers/layouts.ts';

for (const selection of [
  { chunk: 4096, k: 64 },
  { chunk: 16, k: 3 },
  { chunk: 4096, k: 4096 },
]) {
  const bound = expectContraction(selection.chunk, (length) => keptOf(length, selection));
  describeCodec(`sparseloco ${selection.k} of ${selection.chunk}`, sparseloco(selection), bound);
}

describe('sparseloco', () => {
  it('writes the bytes that its equations give, worked out by hand', () => {
    // kept: 4 of 8. v = 3, -1, -1, -1: mu = 0, sigma = sqrt(12 / 3) = 2, scale = 3,
    // v / 3 + 2 = 3, 1.67, 1.67, 1.67 -> q = 3, 2, 2, 2; LUT = 0, 0, -1, 3
    const codec = sparseloco({ chunk: 8, k: 4 });
    const layout = layoutOf(8);
    const payload = codec.encode(Float32Array.of(0, 3, 0.5, -1, -1, 0.25, -0.5, -1), layout);
    const table = new DataView(payload.buffer);
    expect([0, 4, 8, 12, 16].map((at) => table.getFloat32(at, true))).toEqual([0, 0, 0, -1, 3]);
    expect([...payload.subarray(20, 26)]).toEqual([0x01, 0x30, 0x00, 0x04, 0x70, 0x00]);
    expect([...payload.subarray(26)]).toEqual([0b10_10_10_11]);
    const out = new Float32Array(8);
    codec.decode(payload, layout, out);
    expect(out).toEqual(Float32Array.of(0, 3, 0, -1, -1, 0, 0, -1));
  });

  it('has a table of its own for every tensor', () => {
    const codec = sparseloco({ chunk: 4096, k: 4096 });
    const layout = layoutOf(4, 4);
    const update = Float32Array.of(1, 1, 1, 1, -1e-6, -1e-6, -1e-6, -1e-6);
    const out = new Float32Array(8);
    codec.decode(codec.encode(update, layout), layout, out);
    expect(out).toEqual(update);
  });

  it('takes 14 bits a kept value and 20 bytes a tensor', () => {
    for (const k of [64, 128]) {
      const layout = layoutOf(64 * 4096);
      const payload = sparseloco({ chunk: 4096, k }).encode(normalValues(layout.length, 1e-3, 1), layout);
      expect(payload.length).toBe((64 * k * 14) / 8 + 20);
    }
  });

  it('refuses indices out of order or range, padding, and tables that overflow', () => {
    const codec = sparseloco({ chunk: 8, k: 1 });
    const layout = layoutOf(8, 3);
    const payload = codec.encode(Float32Array.of(0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0), layout);
    const damaged = (at: number, ...bytes: number[]) => {
      const copy = payload.slice();
      copy.set(bytes, at);
      return codeOf(() => codec.check(copy, layout));
    };
    expect(payload.length).toBe(2 * 20 + 3 + 1);
    expect(damaged(40, 0x01)).toBeUndefined();
    expect(damaged(40, 0x08)).toBe('E_PAYLOAD_FORMAT'); // index 8 of 8
    expect(damaged(41, 0x30)).toBe('E_PAYLOAD_FORMAT'); // index 3 of 3
    expect(damaged(43, payload[43]! | 0x10)).toBe('E_PAYLOAD_FORMAT');
    expect(damaged(0, 0, 0, 0xc0, 0x7f)).toBe('E_PAYLOAD_NOT_FINITE');
    expect(damaged(0, 0xff, 0xff, 0x7f, 0x7f, 0xff, 0xff, 0x7f, 0x7f)).toBe('E_PAYLOAD_NOT_FINITE');

    const two = sparseloco({ chunk: 8, k: 2 });
    const twice = two.encode(Float32Array.of(0, 1, 0, 0, 2, 0, 0, 0), layoutOf(8));
    twice.set([0x04, 0x40, 0x00], 20);
    expect(codeOf(() => two.check(twice, layoutOf(8)))).toBe('E_PAYLOAD_FORMAT'); // 4 and 4
  });
});

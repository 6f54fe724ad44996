import { describe, expect, it } from 'vitest';
import { int8 } from '../../../protocol/codecs/int8.ts';
import { codeOf, describeCodec, firstIndex } from '../../contracts/codec-contract.ts';
import { layoutOf, normalValues } from '../../helpers/layouts.ts';

describeCodec('int8', int8, (update, decoded, layout) => {
  for (const { offset, length } of layout.tensors) {
    for (let start = offset; start < offset + length; start += 4096) {
      const block = update.subarray(start, Math.min(start + 4096, offset + length));
      const absmax = block.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
      const bound = (absmax / 254) * (1 + 2 ** -16) + 2 ** -143;
      expect(firstIndex(block, (value, i) => Math.abs(value - decoded[start + i]!) > bound)).toBe(-1);
    }
  }
});

describe('int8', () => {
  it('is symmetric: the negated update decodes to the negated values', () => {
    const layout = layoutOf(5000);
    const update = normalValues(5000, 1, 1);
    const [plus, minus] = [update, update.map((value) => -value)].map((values) => {
      const out = new Float32Array(5000);
      int8.decode(int8.encode(values, layout), layout, out);
      return out;
    });
    expect(firstIndex(plus!, (value, i) => value + minus![i]! !== 0)).toBe(-1);
  });

  it('refuses what no encoder writes: -128, a minus sign or NaN in a scale, levels of a zero scale', () => {
    const layout = layoutOf(2);
    const payload = int8.encode(Float32Array.of(1, -0.5), layout);
    const damaged = (at: number, value: number) => {
      const copy = payload.slice();
      copy[at] = value;
      return codeOf(() => int8.check(copy, layout));
    };
    expect(damaged(4, 0x80)).toBe('E_PAYLOAD_FORMAT');
    expect(damaged(3, payload[3]! | 0x80)).toBe('E_PAYLOAD_FORMAT');
    const notANumber = payload.slice();
    notANumber.set([0, 0, 0xc0, 0x7f]);
    expect(codeOf(() => int8.check(notANumber, layout))).toBe('E_PAYLOAD_NOT_FINITE');
    const overflowing = payload.slice();
    overflowing.set([0xff, 0xff, 0x7f, 0x7f]);
    expect(codeOf(() => int8.check(overflowing, layout))).toBe('E_PAYLOAD_NOT_FINITE');
    const zeroScale = payload.slice();
    zeroScale.set([0, 0, 0, 0]);
    expect(codeOf(() => int8.check(zeroScale, layout))).toBe('E_PAYLOAD_FORMAT');
  });
});

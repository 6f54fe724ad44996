import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keptOf } from '../../../protocol/codecs/chunks.ts';
import { selectLargest } from '../../../protocol/codecs/select.ts';
import { layoutOf } from '../../helpers/layouts.ts';

/** Sort by magnitude, then index: the definition. */
function byDefinition(values: Float32Array, offset: number, length: number, kept: number): number[] {
  const places = Array.from({ length }, (_, i) => offset + i);
  places.sort((a, b) => Math.abs(values[b]!) - Math.abs(values[a]!) || a - b);
  return places.slice(0, kept).sort((a, b) => a - b);
}

describe('selectLargest', () => {
  it('agrees with a stable sort, ties and all, for any chunk and k', () => {
    const few = fc.constantFrom(0, -0, 1, -1, 1.0000001, 2 ** -149, -(2 ** -148), 3e38);
    const value = fc.oneof(few, fc.float({ noNaN: true, noDefaultInfinity: true }));
    const values = fc.array(value, { minLength: 1, maxLength: 90 });
    const sizes = fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }));
    fc.assert(
      fc.property(values, values, sizes, (first, second, [a, b]) => {
        const selection = { chunk: Math.max(a, b), k: Math.min(a, b) };
        const layout = layoutOf(first.length, second.length);
        const update = Float32Array.from([...first, ...second]);
        const expected = layout.tensors.flatMap(({ offset, length }) => {
          const places: number[] = [];
          for (let done = 0; done < length; done += selection.chunk) {
            const size = Math.min(selection.chunk, length - done);
            places.push(...byDefinition(update, offset + done, size, keptOf(size, selection)));
          }
          return places;
        });
        expect([...selectLargest(update, layout, selection)]).toEqual(expected);
      }),
    );
  });

  it('keeps the same share of a short chunk, at least one and at most all', () => {
    const selection = { chunk: 4096, k: 64 };
    expect([1, 31, 96, 128, 4095, 4096].map((length) => keptOf(length, selection))).toEqual([1, 1, 2, 2, 64, 64]);
    expect(keptOf(3, { chunk: 4096, k: 4096 })).toBe(3);
  });
});

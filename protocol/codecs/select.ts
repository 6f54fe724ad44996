import type { Layout } from '../model.ts';
import { chunkGroups, eachChunk, type Selection, totalOf } from './chunks.ts';
import { bitsOf } from './floats.ts';

/** The 31 bits of a magnitude as digits, most significant first. */
const DIGITS = [
  { shift: 20, size: 1 << 11 },
  { shift: 10, size: 1 << 10 },
  { shift: 0, size: 1 << 10 },
] as const;

const histogram = new Uint32Array(1 << 11);

/**
 * Places of the k values of largest magnitude in every chunk, ascending. Of equal magnitudes the lower index is taken,
 * so that equal updates give equal bytes everywhere.
 */
export function selectLargest(update: Float32Array, layout: Layout, selection: Selection): Uint32Array {
  const bits = bitsOf(update);
  const places = new Uint32Array(totalOf(chunkGroups(layout, selection), ({ kept }) => kept));
  let at = 0;
  eachChunk(layout, selection, (start, length, kept) => {
    const { threshold, ties } = thresholdOf(bits, start, length, kept);
    let tiesLeft = ties;
    for (let i = start; i < start + length; i++) {
      const magnitude = bits[i]! & 0x7fffffff;
      if (magnitude > threshold || (magnitude === threshold && tiesLeft-- > 0)) places[at++] = i;
    }
  });
  return places;
}

/**
 * The smallest magnitude kept, as bits, and how many values of exactly that magnitude. A radix select: three counting
 * passes whatever the values are, where quickselect has inputs that make it quadratic.
 */
function thresholdOf(bits: Uint32Array, start: number, length: number, kept: number) {
  let threshold = 0;
  let mask = 0;
  let ties = kept;
  for (const { shift, size } of DIGITS) {
    histogram.fill(0, 0, size);
    for (let i = start; i < start + length; i++) {
      const magnitude = bits[i]! & 0x7fffffff;
      if ((magnitude & mask) === threshold) histogram[(magnitude >>> shift) & (size - 1)]!++;
    }
    let digit = size - 1;
    for (; histogram[digit]! < ties; digit--) ties -= histogram[digit]!;
    threshold |= digit << shift;
    mask |= (size - 1) << shift;
  }
  return { threshold, ties };
}

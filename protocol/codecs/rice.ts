import type { Layout } from '../model.ts';
import type { BitReader, BitWriter } from './bits.ts';
import { chunkGroups, eachChunk, type Selection } from './chunks.ts';
import { payloadError } from './payload.ts';

/**
 * Golomb-Rice code (Rice 1979) of the gaps between kept places: with parameter r a gap g is `g >> r` ones, a zero, and
 * the low r bits of g. Gaps of a random selection are geometrically distributed, for which it comes near the optimum
 * (64 of 4096: 7.50 bits an index, the bound is 7.36). A gap is the number of places skipped; the first of a chunk
 * counts from its start.
 */
export const RICE_MAX = 12;

/** The gaps of ascending absolute places. */
export function gapsOf(places: Uint32Array, layout: Layout, selection: Selection): Uint16Array {
  const gaps = new Uint16Array(places.length);
  let at = 0;
  eachChunk(layout, selection, (start, _length, kept) => {
    let next = start;
    for (const last = at + kept; at < last; at++) {
      gaps[at] = places[at]! - next;
      next = places[at]! + 1;
    }
  });
  return gaps;
}

/** The parameter with the shortest stream (the lowest of equals) and that stream's length in bytes. */
export function bestRice(gaps: Uint16Array): { rice: number; bytes: number } {
  let best = { rice: 0, bytes: Number.POSITIVE_INFINITY };
  for (let rice = 0; rice <= RICE_MAX; rice++) {
    let bits = gaps.length * (1 + rice);
    for (let i = 0; i < gaps.length; i++) bits += gaps[i]! >>> rice;
    const bytes = Math.ceil(bits / 8);
    if (bytes < best.bytes) best = { rice, bytes };
  }
  return best;
}

/**
 * No update needs a longer stream: a chunk's gaps add up to at most its skipped places, so this bounds every
 * parameter's stream, and the encoder takes the shortest.
 */
export function riceBytesMax(layout: Layout, selection: Selection): number {
  const groups = chunkGroups(layout, selection);
  let best = Number.POSITIVE_INFINITY;
  for (let rice = 0; rice <= RICE_MAX; rice++) {
    let bits = 0;
    for (const { length, kept, count } of groups) bits += count * (kept * (1 + rice) + ((length - kept) >>> rice));
    best = Math.min(best, Math.ceil(bits / 8));
  }
  return best;
}

export function writeGap(writer: BitWriter, gap: number, rice: number): void {
  writer.writeUnary(gap >>> rice);
  writer.write(gap & ((1 << rice) - 1), rice);
}

/**
 * @param room places left in the chunk; a gap must be smaller
 * @throws CodedError `E_PAYLOAD_FORMAT`
 */
export function readGap(reader: BitReader, rice: number, room: number): number {
  const gap = (reader.readUnary(room >>> rice) << rice) | reader.read(rice);
  if (gap >= room) throw payloadError('E_PAYLOAD_FORMAT', `a gap of ${gap} where ${room} places are left in the chunk`);
  return gap;
}

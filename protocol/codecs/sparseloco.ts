import type { Layout } from '../model.ts';
import { BitReader, BitWriter } from './bits.ts';
import { chunkGroups, eachChunk, type Selection, totalOf } from './chunks.ts';
import type { Codec } from './codec.ts';
import { allFiniteBytes, bitsOf, FLOAT_BYTES, isFiniteBits, viewOf } from './floats.ts';
import { assertDecodable, assertEncodable, checkSize, payloadError } from './payload.ts';
import { selectLargest } from './select.ts';

/**
 * SparseLoCo's compression (Sarfi et al. 2025, arXiv 2508.15706; exact definitions also in arXiv 2603.08163):
 *
 *   e <- 0.95 e + pseudo-gradient          (the replica)
 *   v = the k of every 4096 e of largest magnitude
 *   mu = mean(v), sigma = std(v) with n - 1, scale = 6 sigma / 4           (per tensor; scale 1 if that is 0 or NaN)
 *   q = clamp(round((v - mu) / scale + 2), 0, 3)
 *   LUT[q] = mean of v - mu over the bin, 0 for an empty one
 *   decoded = LUT[q] + mu;  e <- e - decoded
 *
 * 14 bits a kept value: a 12-bit index inside the chunk and 2 bits of q, plus 20 bytes a tensor. The decoded error
 * never has more energy than the update, since a bin's mean is at least as near to its values as zero is.
 *
 * Where this and other readings differ:
 * - chunks are contiguous in the flat tensor; the paper cuts matrices into 64 x 64 blocks, its code into the largest
 *   divisor up to 64 (13 columns for a vocabulary of 65). Contiguous chunks need no padding and favour no shape.
 * - the paper averages over all peers (1/R), as `averaging/all.ts` does; its code averages each coordinate over those
 *   who sent it, which makes steps up to R times larger where supports do not overlap.
 * - the code multiplies the update by the outer learning rate before error feedback and again in the outer step; here
 *   it is applied once, in the outer step.
 * - every peer fetches everyone's payload: inbound bytes are (peers - 1) x payload, unlike a ring reduction's.
 *
 * Payload: per tensor float32 mu, LUT[0..3]; then all indices, ascending in a chunk, two in three bytes; then all q,
 * four in a byte; both least significant bit first.
 */
export function sparseloco(selection: Selection): Codec {
  return {
    name: 'sparseloco',
    residualDecay: 0.95,
    bytesMax: (layout) => sectionsOf(layout, selection).end,
    encode: (update, layout) => encode(update, layout, selection),
    sizeOf: (_payload, layout) => sectionsOf(layout, selection).end,
    check: (payload, layout) => check(payload, layout, selection),
    decode: (payload, layout, out) => decode(payload, layout, out, selection),
  };
}

const INDEX_BITS = 12;
const LEVEL_BITS = 2;
const LEVELS = 4;
const TABLE_FLOATS = 1 + LEVELS;
/** Decoded magnitudes stay this far below the largest float32, so that rounding `LUT + mu` never makes one infinite. */
const DECODED_MAX = 2 ** 128 * (1 - 2 ** -20);

function sectionsOf(layout: Layout, selection: Selection) {
  const kept = totalOf(chunkGroups(layout, selection), (group) => group.kept);
  const indicesAt = FLOAT_BYTES * TABLE_FLOATS * layout.tensors.length;
  const levelsAt = indicesAt + Math.ceil((kept * INDEX_BITS) / 8);
  return { indicesAt, levelsAt, end: levelsAt + Math.ceil((kept * LEVEL_BITS) / 8) };
}

function encode(update: Float32Array, layout: Layout, selection: Selection): Uint8Array {
  assertEncodable(update, layout);
  const places = selectLargest(update, layout, selection);
  const { indicesAt, levelsAt, end } = sectionsOf(layout, selection);
  const payload = new Uint8Array(end);
  const indices = new BitWriter(payload, indicesAt);
  let at = 0;
  eachChunk(layout, selection, (start, _length, kept) => {
    for (const last = at + kept; at < last; at++) indices.write(places[at]! - start, INDEX_BITS);
  });
  indices.finish();

  const view = viewOf(payload);
  const levels = new BitWriter(payload, levelsAt);
  let first = 0;
  layout.tensors.forEach(({ offset, length }, tensor) => {
    let last = first;
    while (last < places.length && places[last]! < offset + length) last++;
    const { mean, table, quantized } = quantize(update, places.subarray(first, last));
    [mean, ...table].forEach((value, i) => {
      view.setFloat32(FLOAT_BYTES * (TABLE_FLOATS * tensor + i), value, true);
    });
    for (const level of quantized) levels.write(level, LEVEL_BITS);
    first = last;
  });
  levels.finish();
  return payload;
}

/** Sums are float64; mean and table are rounded to float32 once, and the table is relative to the rounded mean. */
function quantize(update: Float32Array, places: Uint32Array) {
  const count = places.length;
  let sum = 0;
  for (const place of places) sum += update[place]!;
  const mean = Math.fround(count === 0 ? 0 : sum / count);
  let squares = 0;
  for (const place of places) squares += (update[place]! - mean) ** 2;
  const deviation = Math.sqrt(squares / (count - 1)); // NaN for a single value
  const scale = deviation > 0 ? (6 * deviation) / LEVELS : 1;

  const quantized = new Uint8Array(count);
  const binSums = new Float64Array(LEVELS);
  const binCounts = new Float64Array(LEVELS);
  for (let i = 0; i < count; i++) {
    const centred = update[places[i]!]! - mean;
    const level = levelOf(centred / scale + LEVELS / 2);
    quantized[i] = level;
    binSums[level]! += centred;
    binCounts[level]!++;
  }
  const table = Array.from(binSums, (binSum, level) => {
    const centre = binCounts[level] === 0 ? 0 : binSum / binCounts[level]!;
    // the entry and its sum with the mean must both be finite; binds only at the ends of the float32 range
    const low = Math.max(-DECODED_MAX, -DECODED_MAX - mean);
    const high = Math.min(DECODED_MAX, DECODED_MAX - mean);
    return Math.fround(Math.max(low, Math.min(high, centre)));
  });
  return { mean, table, quantized };
}

/** `clamp(round(x), 0, 3)` with ties to even, as `torch.round` has them. */
function levelOf(x: number): number {
  if (x < 1.5) return x <= 0.5 ? 0 : 1;
  return x <= 2.5 ? 2 : 3;
}

function check(payload: Uint8Array, layout: Layout, selection: Selection): void {
  const { indicesAt, levelsAt, end } = sectionsOf(layout, selection);
  checkSize(payload, end);
  const tablesFinite = allFiniteBytes(payload, 0, TABLE_FLOATS * layout.tensors.length);
  const decoded = new Float32Array(LEVELS);
  for (let tensor = 0; tensor < layout.tensors.length; tensor++) {
    readTable(payload, tensor, decoded);
    if (!tablesFinite || !bitsOf(decoded).every(isFiniteBits)) {
      throw payloadError('E_PAYLOAD_NOT_FINITE', `sparseloco payload: a table, or one plus its mean, is not finite`);
    }
  }
  const indices = new BitReader(payload, indicesAt, levelsAt);
  let keptTotal = 0;
  eachChunk(layout, selection, (start, length, kept) => {
    keptTotal += kept;
    for (let i = 0, previous = -1; i < kept; i++) {
      const index = indices.read(INDEX_BITS);
      if (index <= previous || index >= length) {
        const message = `sparseloco payload: index ${index} after ${previous} in the chunk of ${length} at ${start}`;
        throw payloadError('E_PAYLOAD_FORMAT', message);
      }
      previous = index;
    }
  });
  indices.expectEnd();
  const usedBits = (keptTotal * LEVEL_BITS) % 8;
  if (usedBits > 0 && payload[end - 1]! >>> usedBits !== 0) {
    throw payloadError('E_PAYLOAD_FORMAT', 'sparseloco payload: padding bits after the last level are set');
  }
}

/** What the four levels of a tensor decode to. */
function readTable(payload: Uint8Array, tensor: number, decoded: Float32Array): void {
  const view = viewOf(payload);
  const at = FLOAT_BYTES * TABLE_FLOATS * tensor;
  const mean = view.getFloat32(at, true);
  for (let level = 0; level < LEVELS; level++) {
    decoded[level] = view.getFloat32(at + FLOAT_BYTES * (1 + level), true) + mean;
  }
}

function decode(payload: Uint8Array, layout: Layout, out: Float32Array, selection: Selection): void {
  assertDecodable(out, layout);
  out.fill(0);
  const { indicesAt, levelsAt, end } = sectionsOf(layout, selection);
  const indices = new BitReader(payload, indicesAt, levelsAt);
  const levels = new BitReader(payload, levelsAt, end);
  const decoded = new Float32Array(LEVELS);
  let tableOf = -1;
  eachChunk(layout, selection, (start, _length, kept, tensor) => {
    if (tensor !== tableOf) readTable(payload, tensor, decoded);
    tableOf = tensor;
    for (let i = 0; i < kept; i++) out[start + indices.read(INDEX_BITS)] = decoded[levels.read(LEVEL_BITS)]!;
  });
}

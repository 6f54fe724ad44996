import type { Layout } from '../model.ts';
import { BitReader, BitWriter } from './bits.ts';
import { chunkGroups, eachChunk, type Selection, totalOf } from './chunks.ts';
import type { Codec, CodecConfig } from './codec.ts';
import { bfloatOfMagnitude, floatOfBfloat, isBfloatMagnitude } from './float16.ts';
import { viewOf } from './floats.ts';
import { assertDecodable, assertEncodable, checkSize, payloadError } from './payload.ts';
import { bestRice, gapsOf, RICE_MAX, readGap, riceBytesMax, writeGap } from './rice.ts';
import { selectLargest } from './select.ts';

type TopkConfig = Selection & Pick<CodecConfig, 'bits'>;

/**
 * Chunked top-k with entropy-coded indices and levels per chunk. It selects what SparseLoCo does (`sparseloco.ts`) and
 * keeps its error feedback and decay of 0.95, so that the two differ in coding alone:
 *
 *   places: gaps between ascending indices, Golomb-Rice coded (`rice.ts`), 7.5 bits at k = 64 instead of 12
 *   bits = 1: decoded = sign(v) m,                         m = mean|v| over the chunk
 *   bits = 2: decoded = sign(v) (low or high, the nearer), the two-level Lloyd-Max quantizer of |v| over the chunk
 *
 * The k largest of a chunk are bimodal, either side of zero: a code of sign and magnitude wastes no level on the
 * middle, as SparseLoCo's bins around the mean do. Levels are bfloat16: pseudo-gradients shrink with the learning rate
 * and can fall below 6e-5, where binary16 loses bits, while 8 significant bits err far less than the one or two levels
 * themselves. The decoded error never has more energy than the update, and error feedback subtracts exactly what
 * decodes.
 *
 * One Rice parameter a payload: the number kept of a chunk is fixed, so the mean gap is the same in all, and a
 * parameter of its own did not pay for its four bits a chunk (k = 32, 64, 128; normal values, also scaled by row and
 * column).
 *
 * Payload: uint32 length of the gap stream in bytes; uint8 Rice parameter; per chunk `bits` levels, ascending,
 * bfloat16; a symbol of `bits` bits for each kept value (bit 0 sign, bit 1 level), least significant bit first; the gap
 * stream.
 */
export function topk(config: TopkConfig): Codec {
  return {
    name: 'topk',
    residualDecay: 0.95,
    bytesMax: (layout) => sectionsOf(layout, config).gapsAt + riceBytesMax(layout, config),
    encode: (update, layout) => encode(update, layout, config),
    sizeOf: (payload, layout) => sizeOf(payload, layout, config),
    check: (payload, layout) => check(payload, layout, config),
    decode: (payload, layout, out) => decode(payload, layout, out, config),
  };
}

const PREFIX_BYTES = 5;
const LEVEL_BYTES = 2;

function sectionsOf(layout: Layout, config: TopkConfig) {
  const groups = chunkGroups(layout, config);
  const kept = totalOf(groups, (group) => group.kept);
  const chunks = totalOf(groups, () => 1);
  const symbolsAt = PREFIX_BYTES + LEVEL_BYTES * config.bits * chunks;
  return { symbolsAt, gapsAt: symbolsAt + Math.ceil((kept * config.bits) / 8) };
}

function encode(update: Float32Array, layout: Layout, config: TopkConfig): Uint8Array {
  assertEncodable(update, layout);
  const places = selectLargest(update, layout, config);
  const gaps = gapsOf(places, layout, config);
  const { rice, bytes } = bestRice(gaps);
  const { symbolsAt, gapsAt } = sectionsOf(layout, config);
  const payload = new Uint8Array(gapsAt + bytes);
  const view = viewOf(payload);
  view.setUint32(0, bytes, true);
  payload[4] = rice;
  const symbols = new BitWriter(payload, symbolsAt);
  let at = 0;
  let levelAt = PREFIX_BYTES;
  eachChunk(layout, config, (_start, _length, kept) => {
    const magnitudes = new Float32Array(kept);
    for (let i = 0; i < kept; i++) magnitudes[i] = Math.abs(update[places[at + i]!]!);
    const levels = config.bits === 1 ? [meanOf(magnitudes)] : twoLevels(magnitudes);
    const rounded = levels.map(bfloatOfMagnitude);
    for (const level of rounded) {
      view.setUint16(levelAt, level, true);
      levelAt += LEVEL_BYTES;
    }
    const middle = (floatOfBfloat(rounded[0]!) + floatOfBfloat(rounded.at(-1)!)) / 2;
    for (let i = 0; i < kept; i++) {
      const sign = update[places[at + i]!]! < 0 ? 1 : 0;
      const high = config.bits === 2 && magnitudes[i]! > middle ? 2 : 0;
      symbols.write(sign | high, config.bits);
    }
    at += kept;
  });
  symbols.finish();
  const stream = new BitWriter(payload, gapsAt);
  for (const gap of gaps) writeGap(stream, gap, rice);
  stream.finish();
  return payload;
}

function meanOf(magnitudes: Float32Array): number {
  let sum = 0;
  for (const magnitude of magnitudes) sum += magnitude;
  return sum / magnitudes.length;
}

/**
 * The two levels with the least squared error (Lloyd 1982). In one dimension a best split is between sorted neighbours,
 * so all splits are tried instead of iterating: nothing depends on a start or a number of iterations. With sums S and
 * counts n of the two sides the error is least where S1^2/n1 + S2^2/n2 is greatest; the first of equals is taken.
 */
function twoLevels(magnitudes: Float32Array): [number, number] {
  const sorted = magnitudes.toSorted();
  let total = 0;
  for (const magnitude of sorted) total += magnitude;
  const count = sorted.length;
  let levels: [number, number] = [total / count, total / count];
  let best = Number.NEGATIVE_INFINITY;
  for (let split = 1, lowSum = 0; split < count; split++) {
    lowSum += sorted[split - 1]!;
    const low = lowSum / split;
    const high = (total - lowSum) / (count - split);
    const score = low * lowSum + high * (total - lowSum);
    if (score > best) {
      best = score;
      levels = [low, high];
    }
  }
  return levels;
}

function sizeOf(payload: Uint8Array, layout: Layout, config: TopkConfig): number {
  if (payload.length < PREFIX_BYTES) {
    throw payloadError('E_PAYLOAD_SIZE', `topk payload of ${payload.length} bytes has no whole prefix: truncated`);
  }
  const gapBytes = viewOf(payload).getUint32(0, true);
  const gapBytesMax = riceBytesMax(layout, config);
  if (gapBytes > gapBytesMax) {
    const message = `topk payload claims ${gapBytes} bytes of indices, this model has at most ${gapBytesMax}`;
    throw payloadError('E_PAYLOAD_SIZE', message);
  }
  return sectionsOf(layout, config).gapsAt + gapBytes;
}

function check(payload: Uint8Array, layout: Layout, config: TopkConfig): void {
  checkSize(payload, sizeOf(payload, layout, config));
  const rice = payload[4]!;
  if (rice > RICE_MAX) throw payloadError('E_PAYLOAD_FORMAT', `topk payload: Rice parameter ${rice} above ${RICE_MAX}`);
  const { symbolsAt, gapsAt } = sectionsOf(layout, config);
  const view = viewOf(payload);
  const symbols = new BitReader(payload, symbolsAt, gapsAt);
  const stream = new BitReader(payload, gapsAt, payload.length);
  let levelAt = PREFIX_BYTES;
  eachChunk(layout, config, (_start, length, kept) => {
    let previous = 0;
    for (let level = 0; level < config.bits; level++, levelAt += LEVEL_BYTES) {
      const value = view.getUint16(levelAt, true);
      checkLevel(value, previous);
      previous = value;
    }
    let room = length;
    for (let i = 0; i < kept; i++) {
      symbols.read(config.bits);
      room -= readGap(stream, rice, room) + 1;
    }
  });
  symbols.expectEnd();
  stream.expectEnd();
}

function checkLevel(level: number, previous: number): void {
  if ((level & 0x7f80) === 0x7f80) throw payloadError('E_PAYLOAD_NOT_FINITE', 'topk payload: a level is not finite');
  if (!isBfloatMagnitude(level) || level < previous) {
    throw payloadError('E_PAYLOAD_FORMAT', 'topk payload: a level is negative or below the one before it');
  }
}

function decode(payload: Uint8Array, layout: Layout, out: Float32Array, config: TopkConfig): void {
  assertDecodable(out, layout);
  out.fill(0);
  const rice = payload[4]!;
  const { symbolsAt, gapsAt } = sectionsOf(layout, config);
  const view = viewOf(payload);
  const symbols = new BitReader(payload, symbolsAt, gapsAt);
  const stream = new BitReader(payload, gapsAt, payload.length);
  let levelAt = PREFIX_BYTES;
  eachChunk(layout, config, (start, length, kept) => {
    const low = floatOfBfloat(view.getUint16(levelAt, true));
    levelAt += LEVEL_BYTES * config.bits;
    const high = floatOfBfloat(view.getUint16(levelAt - LEVEL_BYTES, true));
    let next = start;
    for (let i = 0; i < kept; i++) {
      const symbol = symbols.read(config.bits);
      const magnitude = symbol & 2 ? high : low;
      next += readGap(stream, rice, start + length - next);
      out[next++] = symbol & 1 ? -magnitude : magnitude;
    }
  });
}

import type { Layout } from '../model.ts';
import { eachChunk } from './chunks.ts';
import type { Codec } from './codec.ts';
import { FLOAT_BYTES, isFiniteBits, viewOf } from './floats.ts';
import { assertDecodable, assertEncodable, checkSize, payloadError } from './payload.ts';

/** Values that share a scale, contiguous inside one tensor: 4 bytes for 4096, so the scale costs 0.1 %. */
const BLOCK = { chunk: 4096, k: 4096 };
const LEVEL_MAX = 127;

/** Largest float32 of which 127 times stays finite in float32: (2^24 - 1) 2^104 / 127, rounded down. */
const SCALE_MAX = 8454659 * 2 ** 98;

function blocksOf(layout: Layout): number {
  return layout.tensors.reduce((count, { length }) => count + Math.ceil(length / BLOCK.chunk), 0);
}

const sizeOf = (_payload: Uint8Array, layout: Layout) => FLOAT_BYTES * blocksOf(layout) + layout.length;

/**
 * Eight bits a value with one scale a block (absmax quantization, as in Dettmers et al. 2021, arXiv 2110.02861, with
 * linear levels):
 *
 *   scale = max|x| / 127,  q = round(x / scale),  decoded = q * scale
 *
 * Levels are symmetric, -127..127: -128 would have no positive counterpart, and so encode(-x) is -encode(x), zero is
 * exact, and a sum of many peers has no bias. Rounding is half away from zero, deterministic: error feedback already
 * returns what a stochastic rounding would keep unbiased (residual decay 1). The error is at most
 * `max|x| / 254 (1 + 2^-16) + 2^-143`; the last term where the scale itself is subnormal.
 *
 * Payload: float32 scale of every block, then one signed byte a value.
 */
export const int8: Codec = {
  name: 'int8',
  residualDecay: 1,
  bytesMax: (layout) => FLOAT_BYTES * blocksOf(layout) + layout.length,
  encode,
  sizeOf,
  check,
  decode,
};

function encode(update: Float32Array, layout: Layout): Uint8Array {
  assertEncodable(update, layout);
  const levelsAt = FLOAT_BYTES * blocksOf(layout);
  const payload = new Uint8Array(levelsAt + layout.length);
  const view = viewOf(payload);
  const levels = levelsOf(payload, levelsAt);
  let block = 0;
  eachChunk(layout, BLOCK, (start, length) => {
    let absmax = 0;
    for (let i = start; i < start + length; i++) absmax = Math.max(absmax, Math.abs(update[i]!));
    const scale = Math.min(Math.fround(absmax / LEVEL_MAX), SCALE_MAX);
    view.setFloat32(FLOAT_BYTES * block++, scale, true);
    if (scale === 0) return; // all zero, or too small for a scale: left to the residual
    for (let i = start; i < start + length; i++) {
      const level = Math.min(LEVEL_MAX, Math.floor(Math.abs(update[i]!) / scale + 0.5));
      levels[i] = update[i]! < 0 ? -level : level;
    }
  });
  return payload;
}

function check(payload: Uint8Array, layout: Layout): void {
  checkSize(payload, sizeOf(payload, layout));
  const view = viewOf(payload);
  const levels = levelsOf(payload, FLOAT_BYTES * blocksOf(layout));
  let block = 0;
  eachChunk(layout, BLOCK, (start, length) => {
    const at = FLOAT_BYTES * block++;
    const scale = view.getFloat32(at, true);
    if (!isFiniteBits(view.getUint32(at, true)) || Math.abs(scale) > SCALE_MAX) {
      throw payloadError('E_PAYLOAD_NOT_FINITE', `int8 payload: block ${block - 1} would decode to NaN or infinity`);
    }
    if (view.getUint32(at, true) > 0x7fffffff) {
      throw payloadError('E_PAYLOAD_FORMAT', `int8 payload: scale of block ${block - 1} has a minus sign`);
    }
    for (let i = start; i < start + length; i++) {
      if (levels[i] === -128 || (scale === 0 && levels[i] !== 0)) {
        throw payloadError('E_PAYLOAD_FORMAT', `int8 payload: level ${levels[i]} of value ${i} is never encoded`);
      }
    }
  });
}

function decode(payload: Uint8Array, layout: Layout, out: Float32Array): void {
  assertDecodable(out, layout);
  const view = viewOf(payload);
  const levels = levelsOf(payload, FLOAT_BYTES * blocksOf(layout));
  let block = 0;
  eachChunk(layout, BLOCK, (start, length) => {
    const scale = view.getFloat32(FLOAT_BYTES * block++, true);
    for (let i = start; i < start + length; i++) out[i] = levels[i]! * scale;
  });
}

/** The levels by parameter index; the layout's tensors lie end to end, so block order is parameter order. */
function levelsOf(payload: Uint8Array, offset: number): Int8Array {
  return new Int8Array(payload.buffer, payload.byteOffset + offset, payload.length - offset);
}

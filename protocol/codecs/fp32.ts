import type { Layout } from '../model.ts';
import type { Codec } from './codec.ts';
import { allFiniteBytes, FLOAT_BYTES, readFloats, writeFloats } from './floats.ts';
import { assertDecodable, assertEncodable, checkSize, payloadError } from './payload.ts';

const sizeOf = (_payload: Uint8Array, layout: Layout) => FLOAT_BYTES * layout.length;

/**
 * No compression: `decode(encode(x)) = x`, 4 bytes a value. What DiLoCo sends (Douillard et al. 2023, arXiv 2311.08105)
 * and what the other codecs are compared with.
 *
 * Payload: every value as little-endian float32.
 */
export const fp32: Codec = {
  name: 'fp32',
  residualDecay: 1,
  bytesMax: (layout) => FLOAT_BYTES * layout.length,
  encode(update, layout) {
    assertEncodable(update, layout);
    const payload = new Uint8Array(FLOAT_BYTES * layout.length);
    writeFloats(update, payload, 0);
    return payload;
  },
  sizeOf,
  check(payload, layout) {
    checkSize(payload, sizeOf(payload, layout));
    if (!allFiniteBytes(payload, 0, layout.length)) {
      throw payloadError('E_PAYLOAD_NOT_FINITE', 'fp32 payload holds NaN or infinity: its author must drop the update');
    }
  },
  decode(payload, layout, out) {
    assertDecodable(out, layout);
    readFloats(payload, 0, out);
  },
};

import type { Layout } from '../model.ts';
import type { Codec } from './codec.ts';
import { floatOfHalf, halfOfFloatBits, isFiniteHalf } from './float16.ts';
import { bitsOf, viewOf } from './floats.ts';
import { assertDecodable, assertEncodable, checkSize, payloadError } from './payload.ts';

const VALUE_BYTES = 2;

const sizeOf = (_payload: Uint8Array, layout: Layout) => VALUE_BYTES * layout.length;

/**
 * Half precision, 2 bytes a value: `decode(encode(x)) = clamp(half(x), -65504, 65504)`, round to nearest even.
 * OpenDiLoCo (Jaghouar et al. 2024, arXiv 2407.07852) saw no loss from it. The error is at most `max(2^-11 |x|, 2^-25)`
 * below the clamp; what is rounded or clamped off stays in the residual, whole (decay 1).
 *
 * Payload: every value as little-endian IEEE binary16.
 */
export const fp16: Codec = {
  name: 'fp16',
  residualDecay: 1,
  bytesMax: (layout) => VALUE_BYTES * layout.length,
  encode(update, layout) {
    assertEncodable(update, layout);
    const payload = new Uint8Array(VALUE_BYTES * layout.length);
    const view = viewOf(payload);
    const bits = bitsOf(update);
    for (let i = 0; i < bits.length; i++) view.setUint16(VALUE_BYTES * i, halfOfFloatBits(bits[i]!), true);
    return payload;
  },
  sizeOf,
  check(payload, layout) {
    checkSize(payload, sizeOf(payload, layout));
    const view = viewOf(payload);
    for (let i = 0; i < layout.length; i++) {
      if (isFiniteHalf(view.getUint16(VALUE_BYTES * i, true))) continue;
      throw payloadError('E_PAYLOAD_NOT_FINITE', `fp16 payload: value ${i} is NaN or infinite`);
    }
  },
  decode(payload, layout, out) {
    assertDecodable(out, layout);
    const view = viewOf(payload);
    for (let i = 0; i < out.length; i++) out[i] = floatOfHalf(view.getUint16(VALUE_BYTES * i, true));
  },
};

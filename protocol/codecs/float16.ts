/**
 * The two 16-bit float formats, from and to the bit pattern of a float32. Both round to nearest, ties to even (IEEE 754
 * §4.3.1), and saturate to the largest finite value instead of becoming infinite: what is cut off stays in the
 * residual.
 *
 * half: sign, 5 exponent bits, 10 mantissa bits (IEEE 754 binary16), finite up to 65504, steps of 2^-24 near zero.
 * bfloat16: the upper half of a float32, so its whole range with 8 significant bits.
 */
const HALF_FINITE_MAX = 0x7bff;
const BFLOAT_FINITE_MAX = 0x7f7f;

/** @param bits a finite float32 */
export function halfOfFloatBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x477fe000) return sign | HALF_FINITE_MAX; // above 65504
  if (magnitude >= 0x38800000) {
    // at least 2^-14, normal in both: move the exponent bias from 127 to 15, round 13 bits away
    const rebased = magnitude - 0x38000000;
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  if (magnitude <= 0x33000000) return sign; // at most 2^-25, half of the smallest step: ties to even zero
  // subnormal half: an integer number of 2^-24, from a mantissa that counts 2^(exponent - 150)
  const shift = 126 - (magnitude >>> 23);
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  return sign | ((mantissa + (1 << (shift - 1)) - 1 + ((mantissa >>> shift) & 1)) >>> shift);
}

/** Exact: every half is a float32. @param half a finite half */
export function floatOfHalf(half: number): number {
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  const magnitude = exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * HALF_STEPS[exponent]!;
  return half & 0x8000 ? -magnitude : magnitude;
}

/** 2^(exponent - 25), the step between halves of that exponent */
const HALF_STEPS = Float64Array.from({ length: 32 }, (_, exponent) => 2 ** (exponent - 25));

export function isFiniteHalf(half: number): boolean {
  return (half & 0x7c00) !== 0x7c00;
}

const floatScratch = new Float32Array(1);
const bitsScratch = new Uint32Array(floatScratch.buffer);

/** @param magnitude finite and not negative */
export function bfloatOfMagnitude(magnitude: number): number {
  floatScratch[0] = magnitude;
  const bits = bitsScratch[0]!;
  return Math.min((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16, BFLOAT_FINITE_MAX);
}

export function floatOfBfloat(bfloat: number): number {
  bitsScratch[0] = bfloat << 16;
  return floatScratch[0]!;
}

/** True for a finite bfloat16 without sign bit; these order like the numbers they stand for. */
export function isBfloatMagnitude(bfloat: number): boolean {
  return bfloat <= BFLOAT_FINITE_MAX;
}

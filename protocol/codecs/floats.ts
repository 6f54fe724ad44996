/**
 * Float32 vectors and their little-endian bytes: memory as it is on nearly every machine, a DataView on a big-endian one.
 */
const IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** The exponent field of a float32; all ones means NaN or infinity. */
const EXPONENT = 0x7f800000;

export const FLOAT_BYTES = 4;

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The same memory as 32-bit patterns: without the sign bit they order like the magnitudes. */
export function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

export function isFiniteBits(bits: number): boolean {
  return (bits & EXPONENT) !== EXPONENT;
}

export function allFinite(values: Float32Array): boolean {
  const bits = bitsOf(values);
  for (let i = 0; i < bits.length; i++) if (!isFiniteBits(bits[i]!)) return false;
  return true;
}

/** True when `count` float32 from byte `offset` on are all finite. */
export function allFiniteBytes(bytes: Uint8Array, offset: number, count: number): boolean {
  const view = viewOf(bytes);
  for (let i = 0; i < count; i++) if (!isFiniteBits(view.getUint32(offset + FLOAT_BYTES * i, true))) return false;
  return true;
}

/** Writes all values from byte `offset` on; returns the offset after them. */
export function writeFloats(values: Float32Array, bytes: Uint8Array, offset: number): number {
  const end = offset + FLOAT_BYTES * values.length;
  if (IS_LITTLE_ENDIAN) bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset);
  else {
    const view = viewOf(bytes);
    for (let i = 0; i < values.length; i++) view.setFloat32(offset + FLOAT_BYTES * i, values[i]!, true);
  }
  return end;
}

/** Fills `out` from byte `offset` on; returns the offset after what was read. */
export function readFloats(bytes: Uint8Array, offset: number, out: Float32Array): number {
  const end = offset + FLOAT_BYTES * out.length;
  if (IS_LITTLE_ENDIAN) new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes.subarray(offset, end));
  else {
    const view = viewOf(bytes);
    for (let i = 0; i < out.length; i++) out[i] = view.getFloat32(offset + FLOAT_BYTES * i, true);
  }
  return end;
}

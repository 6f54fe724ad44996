import { assert, CodedError } from '../errors.ts';
import type { Layout } from '../model.ts';
import type { PayloadErrorCode } from './codec.ts';
import { allFinite } from './floats.ts';

export function payloadError(code: PayloadErrorCode, message: string): CodedError<PayloadErrorCode> {
  return new CodedError(code, message);
}

/** @throws CodedError `E_PAYLOAD_SIZE` */
export function checkSize(payload: Uint8Array, expected: number): void {
  if (payload.length === expected) return;
  const sizes = `payload of ${payload.length} bytes, its prefix and the model imply ${expected}`;
  throw payloadError('E_PAYLOAD_SIZE', `${sizes}: truncated, or of another run`);
}

/** What every encoder demands of its caller. */
export function assertEncodable(update: Float32Array, layout: Layout): void {
  assert(update.length === layout.length, `update of ${update.length} values for a layout of ${layout.length}`);
  assert(allFinite(update), 'update holds NaN or infinity; the replica refuses it before it encodes');
}

export function assertDecodable(out: Float32Array, layout: Layout): void {
  assert(out.length === layout.length, `output of ${out.length} values for a layout of ${layout.length}`);
}

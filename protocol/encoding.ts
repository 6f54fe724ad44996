import { decode, encode } from 'cborg';
import { CodedError } from './errors.ts';

/**
 * Canonical CBOR (RFC 8949 §4.2.1, with the length-first key order of RFC 7049 that cborg and DAG-CBOR use): one value
 * has one encoding, so that hashes and signatures over it are well defined.
 */
export function encodeCanonical(value: unknown): Uint8Array {
  return encode(value, { float64: true });
}

/**
 * Decodes bytes that a stranger sent. The length is checked before anything is parsed; indefinite lengths, duplicate
 * keys, `undefined`, tags and every non-canonical spelling are refused.
 *
 * @throws CodedError `E_TOO_LARGE` over `bytesMax`, `E_MALFORMED` for anything that is not canonical CBOR
 */
export function decodeCanonical(bytes: Uint8Array, bytesMax: number): unknown {
  if (bytes.length > bytesMax) {
    throw new CodedError('E_TOO_LARGE', `message of ${bytes.length} bytes, at most ${bytesMax} are allowed`);
  }
  let value: unknown;
  let canonical: Uint8Array;
  try {
    value = decode(bytes, {
      strict: true,
      allowIndefinite: false,
      allowUndefined: false,
      rejectDuplicateMapKeys: true,
    });
    // in here too: nesting that the decoder just managed can be too deep for the encoder's stack
    canonical = encodeCanonical(value);
  } catch (cause) {
    throw new CodedError('E_MALFORMED', 'not valid CBOR', { cause });
  }
  if (!equalBytes(canonical, bytes)) throw new CodedError('E_MALFORMED', 'CBOR is not canonical');
  return value;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

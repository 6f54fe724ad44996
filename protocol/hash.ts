import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js';

/** SHA-256 of some bytes, as 64 lower-case hexadecimal digits: the name of a blob, a block, a run or a root. */
export type Hash = string;

/** The text of a hash. */
export const HASH_PATTERN = /^[0-9a-f]{64}$/;

/** One-shot SHA-256. A driver may pass a native one where much is hashed (`node:crypto`); the result is the same. */
export type Sha256 = (bytes: Uint8Array) => Uint8Array;

export const HASH_BYTES = 32;

export const sha256: Sha256 = nobleSha256;

export function hashOf(bytes: Uint8Array, digest: Sha256 = sha256): Hash {
  return bytesToHex(digest(bytes));
}

export { bytesToHex, hexToBytes };

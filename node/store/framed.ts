import { createHash } from 'node:crypto';
import { equalBytes } from '../../protocol/encoding.ts';
import { HASH_BYTES } from '../../protocol/hash.ts';

/**
 * Pieces of a file that only grows, one after the other: length (uint32, little-endian), SHA-256, content. What a crash
 * left half written at the end does not have its hash, and is not read.
 */
export function framed(content: Uint8Array): Uint8Array {
  const frame = new Uint8Array(PREFIX_BYTES + content.length);
  new DataView(frame.buffer).setUint32(0, content.length, true);
  frame.set(digest(content), 4);
  frame.set(content, PREFIX_BYTES);
  return frame;
}

/**
 * The contents of all whole frames from the beginning on, as views of `bytes`.
 * @param most frames that are looked at
 * @returns `validBytes`: where the first one that is not whole begins
 */
export function readFramed(
  bytes: Uint8Array,
  most = Number.POSITIVE_INFINITY,
): { contents: Uint8Array[]; validBytes: number } {
  const contents: Uint8Array[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = 0;
  while (contents.length < most && offset + PREFIX_BYTES <= bytes.length) {
    const end = offset + PREFIX_BYTES + view.getUint32(offset, true);
    if (end > bytes.length) break;
    const content = bytes.subarray(offset + PREFIX_BYTES, end);
    if (!equalBytes(digest(content), bytes.subarray(offset + 4, offset + PREFIX_BYTES))) break;
    contents.push(content);
    offset = end;
  }
  return { contents, validBytes: offset };
}

/**
 * Whether what lies behind the last whole frame is what a crash leaves of a frame that was being written: its beginning, or
 * nothing but zeros, where the file had grown and the content was not written yet. Else it was damaged later.
 */
export function isCutOff(rest: Uint8Array): boolean {
  if (rest.every((byte) => byte === 0)) return true;
  const view = new DataView(rest.buffer, rest.byteOffset);
  const endOf = (at: number): number => at + PREFIX_BYTES + view.getUint32(at, true);
  if (rest.length >= PREFIX_BYTES && endOf(0) <= rest.length) return false;
  // where some frame further on is right it is the length of the first that is wrong
  for (let at = 1; at + PREFIX_BYTES <= rest.length; at++) {
    if (endOf(at) <= rest.length && readFramed(rest.subarray(at), 1).validBytes > 0) return false;
  }
  return true;
}

const PREFIX_BYTES = 4 + HASH_BYTES;

function digest(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

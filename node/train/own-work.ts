import type { Codec } from '../../protocol/codecs/codec.ts';
import { FLOAT_BYTES, writeFloats } from '../../protocol/codecs/floats.ts';
import { decodeCanonical, encodeCanonical } from '../../protocol/encoding.ts';
import type { Hash } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { Layout } from '../../protocol/model.ts';
import type { SavedOwnUpdates } from '../../protocol/own-updates.ts';
import type { Replica } from '../../protocol/replica.ts';

/**
 * A peer's own work in a file of its own, written after every update made, since the update is announced before the next
 * checkpoint is written. The update is kept as it was encoded: it is shorter so, and its author always has it, whatever a
 * power cut does to the store of blobs.
 */
export interface SavedOwn {
  /** root that the work builds on */
  base: Hash;
  updates: SavedOwnUpdates;
  /** the pending update, encoded; null when there is none */
  payload: Uint8Array | null;
  /** float32, little-endian, like the next */
  residual: Uint8Array;
  unfinalOwn: Uint8Array | null;
}

/** A model of the largest blob, three vectors of it. */
const OWN_BYTES_MAX = 4 * LIMITS.blobBytesMax;

export function encodeOwn(own: Pick<SavedOwn, 'base' | 'updates' | 'payload'>, replica: Replica): Uint8Array {
  const { residual, unfinalOwn } = replica;
  const saved: SavedOwn = {
    ...own,
    residual: bytesOf(residual),
    unfinalOwn: unfinalOwn ? bytesOf(unfinalOwn) : null,
  };
  return encodeCanonical(saved);
}

export function decodeOwn(bytes: Uint8Array): SavedOwn {
  return decodeCanonical(bytes, OWN_BYTES_MAX) as SavedOwn;
}

/** Puts the work back into a replica. @throws CodedError `E_OWN_FORMAT`, `E_NOT_FINITE`, `PayloadErrorCode` */
export function resumeOwn(replica: Replica, own: SavedOwn, codec: Codec, layout: Layout): void {
  let pending: Uint8Array | null = null;
  if (own.payload) {
    codec.check(own.payload, layout);
    const decoded = new Float32Array(layout.length);
    codec.decode(own.payload, layout, decoded);
    pending = bytesOf(decoded);
  }
  replica.importOwn(ownBytes({ residual: own.residual, pending, unfinalOwn: own.unfinalOwn }));
}

/** As `Replica.importOwn` takes it. */
export function ownBytes(own: {
  residual: Uint8Array;
  pending: Uint8Array | null;
  unfinalOwn: Uint8Array | null;
}): Uint8Array {
  const { residual, pending, unfinalOwn } = own;
  const parts = [residual, pending, unfinalOwn].filter((part) => part !== null);
  const bytes = new Uint8Array(1 + parts.reduce((sum, part) => sum + part.length, 0));
  bytes[0] = (pending ? 1 : 0) | (unfinalOwn ? 2 : 0);
  let offset = 1;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

export function bytesOf(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(FLOAT_BYTES * values.length);
  writeFloats(values, bytes, 0);
  return bytes;
}

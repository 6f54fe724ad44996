import { decodeCanonical, encodeCanonical } from '../../protocol/encoding.ts';
import type { Hash } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { SavedOwnUpdates } from '../../protocol/own-updates.ts';
import type { Replica } from '../../protocol/replica.ts';
import type { AgreedState } from '../../protocol/wire.ts';

/**
 * A peer's own work on disk: with every checkpoint, and in a file of its own after every update made, since the update is
 * announced before the next checkpoint is written.
 */
export interface SavedOwn {
  /** root that the work builds on */
  base: Hash;
  updates: SavedOwnUpdates;
  vectors: Uint8Array;
}

/** What a checkpoint says beside its vectors. */
export interface SavedMeta {
  /** the block that led to this state */
  block: Hash;
  state: AgreedState;
  own: SavedOwnUpdates;
  /** AdamW's step counter; its moments are vectors of the checkpoint */
  updates: number;
}

const META_BYTES_MAX = 1024 * LIMITS.rosterMax;
/** A model of the largest blob, three vectors of it. */
const OWN_BYTES_MAX = 4 * LIMITS.blobBytesMax;

export function encodeOwn(own: SavedOwn): Uint8Array {
  return encodeCanonical(own);
}

export function decodeOwn(bytes: Uint8Array): SavedOwn {
  return decodeCanonical(bytes, OWN_BYTES_MAX) as SavedOwn;
}

/** The vectors of a checkpoint as `Replica.exportOwn` lays them out. */
export function ownBytes(vectors: ReadonlyMap<string, Float32Array>): Uint8Array {
  const residual = vectors.get('residual')!;
  const [pending, unfinalOwn] = [vectors.get('pending'), vectors.get('unfinalOwn')];
  const parts = [residual, pending, unfinalOwn].flatMap((part) => (part ? [part] : []));
  const bytes = new Uint8Array(1 + parts.reduce((sum, part) => sum + part.byteLength, 0));
  bytes[0] = (pending ? 1 : 0) | (unfinalOwn ? 2 : 0);
  let offset = 1;
  for (const part of parts) {
    bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), offset);
    offset += part.byteLength;
  }
  return bytes;
}

export function encodeMeta(meta: SavedMeta): Uint8Array {
  return encodeCanonical(meta);
}

export function decodeMeta(bytes: Uint8Array): SavedMeta {
  return decodeCanonical(bytes, META_BYTES_MAX) as SavedMeta;
}

/** Everything that a checkpoint holds; the agreed state first, so that snapshots can be served out of the file. */
export function checkpointVectors(replica: Replica): Map<string, Float32Array> {
  const { parameters, outerState, residual, pending, unfinalOwn } = replica;
  const vectors = new Map([
    ['parameters', parameters],
    ['outer', outerState],
    ['residual', residual],
  ]);
  if (pending) vectors.set('pending', pending);
  if (unfinalOwn) vectors.set('unfinalOwn', unfinalOwn);
  return vectors;
}

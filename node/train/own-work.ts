import type { Codec } from '../../protocol/codecs/codec.ts';
import { FLOAT_BYTES, readFloats, writeFloats } from '../../protocol/codecs/floats.ts';
import { decodeCanonical, encodeCanonical } from '../../protocol/encoding.ts';
import type { Hash } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { Layout } from '../../protocol/model.ts';
import type { SavedOwnUpdates } from '../../protocol/own-updates.ts';
import type { EncodedUpdate, Replica, Work } from '../../protocol/replica.ts';
import { type Damage, HashedFile } from '../store/hashed-file.ts';

/**
 * A peer's own work in a file of its own, written after every update made, since the update is announced before the next
 * checkpoint is written. The update is kept as it was encoded: it is shorter so, and its author always has it, whatever a
 * power cut does to the store of blobs.
 */
export interface SavedOwn {
  /** root that the work builds on */
  base: Hash;
  /** trainings that are in the work, see `UnderWay` */
  taken: number;
  updates: SavedOwnUpdates;
  /** the pending update; null when there is none */
  pending: EncodedUpdate | null;
  residual: SavedWork;
  unfinalOwn: SavedWork | null;
}

interface SavedWork {
  tokens: number;
  /** float32, little-endian */
  values: Uint8Array;
}

/** A model of the largest blob, three vectors of it. */
const OWN_BYTES_MAX = 4 * LIMITS.blobBytesMax;

export function encodeOwn(own: Pick<SavedOwn, 'base' | 'taken' | 'updates' | 'pending'>, replica: Replica): Uint8Array {
  const { residual, unfinalOwn } = replica.ownWork;
  const saved: SavedOwn = { ...own, residual: savedOf(residual), unfinalOwn: unfinalOwn && savedOf(unfinalOwn) };
  return encodeCanonical(saved);
}

export function decodeOwn(bytes: Uint8Array): SavedOwn {
  return decodeCanonical(bytes, OWN_BYTES_MAX) as SavedOwn;
}

/** The file that it is in. */
export class OwnFile extends HashedFile {
  constructor(path: string) {
    super(path, DAMAGE);
  }
}

const DAMAGE: Damage<'E_OWN_DAMAGED'> = {
  code: 'E_OWN_DAMAGED',
  message: (path) =>
    `${path}, what this peer learned since its last checkpoint, is damaged; remove that file to go on without it`,
};

/** Puts the work back into a replica. @throws CodedError `E_OWN_FORMAT`, `E_NOT_FINITE`, `PayloadErrorCode` */
export function resumeOwn(replica: Replica, own: SavedOwn, codec: Codec, layout: Layout): void {
  const { residual, pending, unfinalOwn } = own;
  replica.importOwn({
    residual: workOf(residual),
    pending: pending && decoded(pending, codec, layout),
    unfinalOwn: unfinalOwn && workOf(unfinalOwn),
  });
}

function decoded({ payload, tokens }: EncodedUpdate, codec: Codec, layout: Layout): Work {
  codec.check(payload, layout);
  const values = new Float32Array(layout.length);
  codec.decode(payload, layout, values);
  return { values, tokens };
}

function savedOf({ values, tokens }: Work): SavedWork {
  const bytes = new Uint8Array(FLOAT_BYTES * values.length);
  writeFloats(values, bytes, 0);
  return { values: bytes, tokens };
}

function workOf({ values, tokens }: SavedWork): Work {
  const floats = new Float32Array(Math.floor(values.length / FLOAT_BYTES));
  readFloats(values, 0, floats);
  return { values: floats, tokens };
}

import { blobManifest, hasManifest } from '../../protocol/blob.ts';
import { isCoded } from '../../protocol/errors.ts';
import type { OwnPayload } from '../../protocol/own-updates.ts';
import type { EncodedUpdate } from '../../protocol/replica.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { type BlobReference, nativeSha256, readBlob, writeBlob } from '../store/blobs.ts';

/** A peer's own payloads among the blobs that its threads share. */

/** Own updates that another history has: for good, and in its unfinal rounds. */
export interface Included<Update> {
  final: Update[];
  unfinal: Update[];
}

/** On the disk at once where it is one file. A larger one would hold its update up, for a loss that can be got over. */
export function writeOwnPayload(store: BlobStore, payload: Uint8Array): Promise<BlobReference> {
  return writeBlob(store, payload, { durable: !hasManifest(payload.length) });
}

/** After a power cut there may be files of it in which nothing is: reading takes those away, so that they are written. */
export async function rewriteOwnPayload(store: BlobStore, payload: Uint8Array): Promise<void> {
  const { id, chunks } = blobManifest(payload, nativeSha256);
  for (const part of [id, ...chunks]) await store.read(part);
  await writeOwnPayload(store, payload);
}

/** @returns null where one of them is not whole any more: others have it, and this peer takes up a state without */
export async function readOwnPayloads(
  store: BlobStore,
  { final, unfinal }: Included<OwnPayload>,
): Promise<Included<EncodedUpdate> | null> {
  const encoded = async ({ id, size, tokens }: OwnPayload): Promise<EncodedUpdate> => {
    return { payload: await readBlob(store, { id, size }), tokens };
  };
  try {
    return { final: await Promise.all(final.map(encoded)), unfinal: await Promise.all(unfinal.map(encoded)) };
  } catch (error) {
    if (!isCoded(error) || error.code !== 'E_BLOB_MISSING') throw error;
    return null;
  }
}

import { createHash } from 'node:crypto';
import { blobManifest, hasManifest, parseManifest } from '../../protocol/blob.ts';
import { CodedError, isCoded } from '../../protocol/errors.ts';
import type { Hash, Sha256 } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { AtomicOptions } from './atomic.ts';
import type { BlobStore } from './blob-store.ts';

/** Whole blobs in a store of chunks. */

export interface BlobReference {
  id: Hash;
  /** bytes */
  size: number;
}

export const nativeSha256: Sha256 = (bytes) => createHash('sha256').update(bytes).digest();

/** Stores a blob's chunks and manifest. @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE`, `E_BLOB_SIZE` */
export async function writeBlob(
  store: BlobStore,
  bytes: Uint8Array,
  options: AtomicOptions = {},
): Promise<BlobReference> {
  const { id, size, manifest, chunks } = blobManifest(bytes, nativeSha256);
  for (const [index, chunk] of chunks.entries()) {
    const start = index * LIMITS.chunkBytes;
    await store.write(chunk, bytes.subarray(start, start + LIMITS.chunkBytes), options);
  }
  if (manifest) await store.write(id, manifest, options);
  return { id, size };
}

/**
 * Everything that a blob is made of, manifest included; undefined when the manifest is not here.
 * @throws CodedError `E_BLOB_SIZE` when it has another size
 */
export async function blobParts(store: BlobStore, { id, size }: BlobReference): Promise<Hash[] | undefined> {
  if (!hasManifest(size)) return [id];
  const manifest = await store.read(id);
  return manifest && [id, ...parseManifest(manifest, id, size, nativeSha256)];
}

/**
 * `blobParts` of a blob that a peer has named: where it has another size than was said, no more than its id belongs to it.
 */
export async function namedParts(store: BlobStore, blob: BlobReference): Promise<Hash[] | undefined> {
  try {
    return await blobParts(store, blob);
  } catch (error) {
    if (isCoded(error) && error.code === 'E_BLOB_SIZE') return [blob.id];
    throw error;
  }
}

/** Whether all of it is here, by reading all of it: what a power cut spoiled is removed by that. */
export async function hasBlob(store: BlobStore, blob: BlobReference): Promise<boolean> {
  const parts = await blobParts(store, blob);
  let missing = parts ? 0 : 1;
  for (const part of parts ?? []) if (!(await store.read(part))) missing++;
  return missing === 0;
}

/** @throws CodedError `E_BLOB_MISSING` when a part is not here or damaged */
export async function readBlob(store: BlobStore, blob: BlobReference): Promise<Uint8Array> {
  const parts = await blobParts(store, blob);
  const chunks = parts && (hasManifest(blob.size) ? parts.slice(1) : parts);
  const bytes = new Uint8Array(blob.size);
  let offset = 0;
  for (const part of chunks ?? []) {
    const chunk = await store.read(part);
    if (!chunk || offset + chunk.length > blob.size) break; // of another size than was said
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  if (!chunks || offset !== blob.size) {
    throw new CodedError(
      'E_BLOB_MISSING',
      `blob ${blob.id.slice(0, 12)} is not whole on this disk: a start of its peer fetches it again`,
    );
  }
  return bytes;
}

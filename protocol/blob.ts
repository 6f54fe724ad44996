import { CodedError } from './errors.ts';
import { bytesToHex, HASH_BYTES, type Hash, hashOf, type Sha256, sha256 } from './hash.ts';
import { LIMITS } from './limits.ts';

/**
 * Blobs: bytes named by their hash, moved in chunks that each verify alone.
 *
 * A blob of at most one chunk is named by its own SHA-256. A larger one is named by the SHA-256 of its manifest: its
 * size as 8 bytes, big-endian, then the SHA-256 of every chunk in order; every chunk but the last has
 * `LIMITS.chunkBytes`. A blob is always asked for by id and size. The size says which of the two the id is, so that a
 * small blob which happens to spell a manifest is never taken for the large one.
 */
export interface BlobManifest {
  id: Hash;
  /** bytes */
  size: number;
  /** absent for a blob of one chunk, whose id is its only chunk's hash */
  manifest?: Uint8Array;
  /** one hash a chunk, in order */
  chunks: Hash[];
}

type BlobErrorCode =
  | 'E_BLOB_SIZE' // a size over the limit, or other than the one asked for
  | 'E_BLOB_HASH'; // bytes that do not hash to the id

const SIZE_BYTES = 8;

/** An empty blob has one empty chunk. */
export function chunkCount(size: number): number {
  return Math.max(1, Math.ceil(size / LIMITS.chunkBytes));
}

/** Bytes of the chunk at an index; its first byte is at `index * LIMITS.chunkBytes`. */
export function chunkSize(size: number, index: number): number {
  return Math.max(0, Math.min(LIMITS.chunkBytes, size - index * LIMITS.chunkBytes));
}

export function hasManifest(size: number): boolean {
  return size > LIMITS.chunkBytes;
}

export function manifestSize(size: number): number {
  return SIZE_BYTES + HASH_BYTES * chunkCount(size);
}

/** @throws CodedError `E_BLOB_SIZE` over the limit */
export function blobManifest(bytes: Uint8Array, digest: Sha256 = sha256): BlobManifest {
  const size = bytes.length;
  checkBlobSize(size);
  if (!hasManifest(size)) {
    const id = hashOf(bytes, digest);
    return { id, size, chunks: [id] };
  }
  const manifest = new Uint8Array(manifestSize(size));
  new DataView(manifest.buffer).setBigUint64(0, BigInt(size));
  const chunks: Hash[] = [];
  for (let index = 0; index < chunkCount(size); index++) {
    const start = index * LIMITS.chunkBytes;
    const hash = digest(bytes.subarray(start, start + chunkSize(size, index)));
    manifest.set(hash, SIZE_BYTES + HASH_BYTES * index);
    chunks.push(bytesToHex(hash));
  }
  return { id: hashOf(manifest, digest), size, manifest, chunks };
}

export function blobIdOf(bytes: Uint8Array, digest: Sha256 = sha256): Hash {
  return blobManifest(bytes, digest).id;
}

/**
 * The chunks of a blob of more than one chunk, from a manifest that a peer sent.
 * @param expectedId the id that the blob was asked for by
 * @param size the size that it was asked for by, in bytes
 * @throws CodedError `E_BLOB_SIZE`, `E_BLOB_HASH`
 */
export function parseManifest(bytes: Uint8Array, expectedId: Hash, size: number, digest: Sha256 = sha256): Hash[] {
  checkBlobSize(size);
  if (!hasManifest(size) || bytes.length !== manifestSize(size)) {
    const wanted = hasManifest(size) ? `has a manifest of ${manifestSize(size)}` : 'has none';
    throw new CodedError<BlobErrorCode>(
      'E_BLOB_SIZE',
      `manifest of ${bytes.length} bytes, a blob of ${size} bytes ${wanted}`,
    );
  }
  if (hashOf(bytes, digest) !== expectedId) {
    throw new CodedError<BlobErrorCode>(
      'E_BLOB_HASH',
      `manifest does not hash to ${expectedId}: ask another peer for it`,
    );
  }
  const claimed = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0);
  if (claimed !== BigInt(size)) {
    throw new CodedError(
      'E_BLOB_SIZE',
      `blob ${expectedId} has ${claimed} bytes, not the ${size} it was announced with`,
    );
  }
  return Array.from({ length: chunkCount(size) }, (_, index) => {
    const start = SIZE_BYTES + HASH_BYTES * index;
    return bytesToHex(bytes.subarray(start, start + HASH_BYTES));
  });
}

function checkBlobSize(size: number): void {
  if (Number.isSafeInteger(size) && size >= 0 && size <= LIMITS.blobBytesMax) return;
  throw new CodedError<BlobErrorCode>(
    'E_BLOB_SIZE',
    `blob of ${size} bytes, between 0 and ${LIMITS.blobBytesMax} are allowed`,
  );
}

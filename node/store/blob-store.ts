import { createHash } from 'node:crypto';
import { rmSync, statSync } from 'node:fs';
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type BlobManifest, chunkSize } from '../../protocol/blob.ts';
import { CodedError, isCoded } from '../../protocol/errors.ts';
import { HASH_PATTERN, type Hash } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import {
  type AtomicOptions,
  type DiskErrorCode,
  diskError,
  namesIn,
  TEMPORARY_ENDING,
  writeFileAtomic,
} from './atomic.ts';

export type BlobStoreErrorCode =
  | 'E_BLOB_CORRUPT' // bytes that do not have the hash they are stored under
  | 'E_DISK_FULL'
  | 'E_DIR_UNWRITABLE';

/** A chunk that is part of another file: a snapshot's, inside a checkpoint. Bytes from the file's start. */
export interface FileRange {
  id: Hash;
  offset: number;
  length: number;
}

/** The ranges of a blob that lies in a file in one piece, from byte `offset`. */
export function rangesOf({ chunks, size }: Pick<BlobManifest, 'chunks' | 'size'>, offset: number): FileRange[] {
  return chunks.map((id, index) => ({
    id,
    offset: offset + index * LIMITS.chunkBytes,
    length: chunkSize(size, index),
  }));
}

/**
 * Chunks by the hash of their bytes, in files `<root>/ab/abcdef…`, or inside other files that are registered.
 *
 * Everything is verified when it is read, so a chunk that a power cut or a bad disk spoiled counts as missing, is removed
 * and can be fetched again; that is also why writing need not wait for the disk. Reading and writing leave the thread
 * free. One process at a time (directory.ts locks).
 */
export class BlobStore {
  readonly #root: string;
  readonly #ranges = new Map<Hash, { file: string; offset: number; length: number }>();

  constructor(root: string) {
    this.#root = root;
  }

  /**
   * @param options.durable waits for the disk, where nobody else has the bytes @default false
   * @throws CodedError<BlobStoreErrorCode> `E_BLOB_CORRUPT` if the bytes are others; nothing is stored then
   */
  async write(id: Hash, bytes: Uint8Array, { durable = false }: AtomicOptions = {}): Promise<void> {
    if (hexDigest(bytes) !== id) {
      throw new CodedError<BlobStoreErrorCode>(
        'E_BLOB_CORRUPT',
        `${bytes.length} bytes do not have the hash ${id}; ask another source`,
      );
    }
    // one inside a registered file goes with that file
    if (this.hasOwn(id)) return;
    await writeFileAtomic(this.#path(id), bytes, { durable });
  }

  /** @returns `undefined` for what is not here (or not a hash at all), also when it turned out to be damaged */
  async read(id: Hash): Promise<Uint8Array | undefined> {
    if (!isHash(id)) return undefined;
    const range = this.#ranges.get(id);
    const bytes = range ? await readRange(range.file, range.offset, range.length) : undefined;
    if (bytes && hexDigest(bytes) === id) return bytes;
    // the file was removed or replaced: its other ranges are found out the same way
    if (range && this.#ranges.get(id) === range) this.#ranges.delete(id);
    return this.#readOwn(id);
  }

  async #readOwn(id: Hash): Promise<Uint8Array | undefined> {
    const path = this.#path(id);
    let bytes: Uint8Array;
    try {
      bytes = await readFile(path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      const error = diskError(cause, path, 'read');
      if (!isFault(error)) throw error;
      bytes = new Uint8Array(0);
    }
    if (hexDigest(bytes) === id) return bytes;
    await rm(path, { force: true });
    return undefined;
  }

  /** Whether it is here, without reading it; `read` may still find it damaged. */
  has(id: Hash): boolean {
    return this.#ranges.has(id) || this.hasOwn(id);
  }

  /** Whether it is in a file of its own, and so stays when a registered file goes. */
  hasOwn(id: Hash): boolean {
    return isHash(id) && statSync(this.#path(id), { throwIfNoEntry: false }) !== undefined;
  }

  /** Removes its own file. What a registered file has is served on, for that goes with the file. */
  remove(id: Hash): void {
    if (!isHash(id)) return;
    rmSync(this.#path(id), { force: true });
  }

  /** Hashes of the chunks in files of their own, sorted. */
  list(): Hash[] {
    return this.#files()
      .map(({ name }) => name)
      .filter(isHash)
      .sort();
  }

  /**
   * Removes every chunk in a file of its own but these, and what killed writers left. Registered ranges stay: they go with
   * their file. No write may be under way.
   * @returns how many chunks went
   */
  retain(keep: ReadonlySet<Hash>): number {
    let removed = 0;
    for (const { folder, name } of this.#files()) {
      const chunk = isHash(name);
      if (chunk ? keep.has(name) : !name.endsWith(TEMPORARY_ENDING)) continue;
      rmSync(join(folder, name), { force: true });
      if (chunk) removed += 1;
    }
    return removed;
  }

  /** Serves chunks out of a file that somebody else keeps. A later file wins where two have the same chunk. */
  register(file: string, ranges: readonly FileRange[]): void {
    for (const { id, offset, length } of ranges) this.#ranges.set(id, { file, offset, length });
  }

  /** Forgets a file's ranges; without it, a file that is gone or changed is noticed when it is read. */
  unregister(file: string): void {
    for (const [id, range] of this.#ranges) if (range.file === file) this.#ranges.delete(id);
  }

  #path(id: Hash): string {
    return join(this.#root, id.slice(0, 2), id);
  }

  #files(): { folder: string; name: string }[] {
    return namesIn(this.#root)
      .filter((name) => /^[0-9a-f]{2}$/.test(name))
      .flatMap((name) => {
        const folder = join(this.#root, name);
        return namesIn(folder).map((file) => ({ folder, name: file }));
      });
  }
}

/** Ids come from strangers and become file names. */
function isHash(id: string): boolean {
  return HASH_PATTERN.test(id);
}

function hexDigest(bytes: Uint8Array): Hash {
  return createHash('sha256').update(bytes).digest('hex');
}

async function readRange(path: string, offset: number, length: number): Promise<Uint8Array | undefined> {
  try {
    const file = await open(path, 'r');
    try {
      const bytes = new Uint8Array(length);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await file.read(bytes, filled, length - filled, offset + filled);
        if (bytesRead === 0) return undefined;
        filled += bytesRead;
      }
      return bytes;
    } finally {
      await file.close();
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    const error = diskError(cause, path, 'read');
    if (isFault(error)) return undefined;
    throw error;
  }
}

/** What the disk has spoiled can be fetched again. */
function isFault(error: unknown): boolean {
  return isCoded(error) && error.code === ('E_DISK_FAULT' satisfies DiskErrorCode);
}

import { readFileSync, rmSync } from 'node:fs';
import * as z from 'zod';
import { HASH_PATTERN } from '../../protocol/hash.ts';
import { writeFileAtomic } from './atomic.ts';
import type { BlobReference } from './blobs.ts';

const schema = z.strictObject({ id: z.string().regex(HASH_PATTERN), size: z.int().positive() });

/**
 * The snapshot that is being fetched, of which parts are on the disk: a peer that is started again goes on with it. It is a
 * hint and no more, so what cannot be read counts as none.
 */
export class Unfinished {
  readonly #path: string;
  #blob: BlobReference | undefined;

  constructor(path: string) {
    this.#path = path;
    try {
      this.#blob = schema.parse(JSON.parse(readFileSync(path, 'utf8')));
    } catch {
      this.#blob = undefined;
    }
  }

  get blob(): BlobReference | undefined {
    return this.#blob;
  }

  /** @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE` */
  async begin({ id, size }: BlobReference): Promise<void> {
    if (this.#blob?.id === id && this.#blob.size === size) return;
    this.#blob = { id, size };
    await writeFileAtomic(this.#path, new TextEncoder().encode(JSON.stringify(this.#blob)));
  }

  /** It is whole, or not wanted any more. */
  end(): void {
    this.#blob = undefined;
    rmSync(this.#path, { force: true });
  }
}

import { existsSync, readFileSync } from 'node:fs';
import { equalBytes } from '../../protocol/encoding.ts';
import { CodedError } from '../../protocol/errors.ts';
import { HASH_BYTES } from '../../protocol/hash.ts';
import { diskError, writeFileAtomic } from './atomic.ts';
import { nativeSha256 } from './blobs.ts';

/** What is said of a file that does not have its hash. */
export interface Damage<Code extends string = string> {
  code: Code;
  /** what it was and what can be done */
  message: (path: string) => string;
}

/**
 * Opaque bytes in a file with their SHA-256 in front, each replacing the ones before. `save` resolves when they are on
 * the disk; only then may what depends on them be sent.
 */
export class HashedFile {
  readonly #path: string;
  readonly #damage: Damage;
  /** settles when everything asked for so far is written or has failed */
  #tail: Promise<void> = Promise.resolve();
  /** a write that has not begun, and so takes the newest bytes */
  #queued: Promise<void> | undefined;
  #newest: Uint8Array = new Uint8Array(0);

  constructor(path: string, damage: Damage) {
    this.#path = path;
    this.#damage = damage;
  }

  /**
   * One write at a time. Calls that come while one is under way share the next, which writes the newest of them.
   * @param bytes not to be changed afterwards
   * @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE`: nothing that depends on the bytes may be sent
   */
  save(bytes: Uint8Array): Promise<void> {
    this.#newest = bytes;
    this.#queued ??= this.#enqueue();
    return this.#queued;
  }

  /** Resolves when no write is under way any more, also of one that nobody waits for: until then the file may change. */
  settled(): Promise<void> {
    return this.#tail;
  }

  #enqueue(): Promise<void> {
    const written = this.#tail.then(() => {
      this.#queued = undefined;
      const bytes = this.#newest;
      this.#newest = new Uint8Array(0); // they may be large, and the next come long after
      return writeFileAtomic(this.#path, [nativeSha256(bytes), bytes]);
    });
    // bytes that could not be written do not keep the next ones from trying
    this.#tail = written.catch(() => undefined);
    return written;
  }

  /** Whether there is a file, whole or not. */
  get isThere(): boolean {
    return existsSync(this.#path);
  }

  /**
   * @returns `undefined` if there is no file
   * @throws CodedError the damage that it was made with, `E_DIR_UNREADABLE`
   */
  load(): Uint8Array | undefined {
    let file: Uint8Array;
    try {
      file = readFileSync(this.#path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw diskError(cause, this.#path, 'read');
    }
    const bytes = new Uint8Array(file.subarray(HASH_BYTES));
    if (equalBytes(nativeSha256(bytes), file.subarray(0, HASH_BYTES))) return bytes;
    throw new CodedError(this.#damage.code, this.#damage.message(this.#path));
  }
}

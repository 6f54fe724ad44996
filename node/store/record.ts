import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { equalBytes } from '../../protocol/encoding.ts';
import { CodedError } from '../../protocol/errors.ts';
import { HASH_BYTES } from '../../protocol/hash.ts';
import { writeFileAtomic } from './atomic.ts';

/**
 * What the peer must still know after a crash before it says anything (its votes, above all): opaque bytes in a file with
 * their SHA-256 in front. `save` resolves when they are on the disk; only then may what depends on them be sent.
 */
export class RecordFile {
  readonly #path: string;
  /** settles when everything asked for so far is written or has failed */
  #tail: Promise<void> = Promise.resolve();
  /** a write that has not begun, and so takes the newest bytes */
  #queued: Promise<void> | undefined;
  #newest: Uint8Array = new Uint8Array(0);

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * One write at a time. Calls that come while one is under way share the next, which writes the newest of them: each
   * record replaces the one before.
   * @param bytes not to be changed afterwards
   * @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE`: nothing that depends on the record may be sent
   */
  save(bytes: Uint8Array): Promise<void> {
    this.#newest = bytes;
    this.#queued ??= this.#enqueue();
    return this.#queued;
  }

  #enqueue(): Promise<void> {
    const written = this.#tail.then(() => {
      this.#queued = undefined;
      return writeFileAtomic(this.#path, [sha256(this.#newest), this.#newest]);
    });
    // a record that could not be written does not keep the next one from trying
    this.#tail = written.catch(() => undefined);
    return written;
  }

  /**
   * @returns `undefined` if there is no record
   * @throws CodedError `E_RECORD_DAMAGED`: the peer may have voted and must not act as if it had not
   */
  load(): Uint8Array | undefined {
    let file: Uint8Array;
    try {
      file = readFileSync(this.#path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw damaged(this.#path, cause);
    }
    const bytes = new Uint8Array(file.subarray(HASH_BYTES));
    if (equalBytes(sha256(bytes), file.subarray(0, HASH_BYTES))) return bytes;
    throw damaged(this.#path);
  }
}

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

function damaged(path: string, cause?: unknown): CodedError<'E_RECORD_DAMAGED'> {
  const message = `the record of past votes in ${path} is damaged; remove its folder and join again as a new peer`;
  return new CodedError('E_RECORD_DAMAGED', message, { cause });
}

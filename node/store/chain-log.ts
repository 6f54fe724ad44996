import { closeSync, fsyncSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import { decodeEntry, encodeEntry } from '../../protocol/messages.ts';
import type { Entry } from '../../protocol/wire.ts';
import { diskError } from './atomic.ts';
import { framed, readFramed } from './framed.ts';

/**
 * The history's blocks with their certificates, appended one after the other as frames (framed.ts). What a crash left
 * half written at the end is cut off when the log is opened.
 */
export class ChainLog {
  /** what the log held when it was opened */
  readonly entries: Entry[];
  readonly path: string;
  readonly #file: number;
  #bytes: number;

  /** @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE` */
  constructor(path: string) {
    this.path = path;
    const { entries, validBytes, size } = readLog(path);
    this.entries = entries;
    this.#bytes = validBytes;
    try {
      if (validBytes < size) truncateSync(path, validBytes);
      this.#file = openSync(path, 'a', 0o600);
    } catch (cause) {
      throw diskError(cause, path);
    }
  }

  /** so long is the log now; what it holds up to there never changes */
  get bytes(): number {
    return this.#bytes;
  }

  /** When this returns the disk has it. @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE` */
  append(entry: Entry): void {
    const frame = framed(encodeEntry(entry));
    try {
      writeSync(this.#file, frame);
      fsyncSync(this.#file);
    } catch (cause) {
      throw diskError(cause, this.path);
    }
    this.#bytes += frame.length;
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** The whole entries of a log, without touching it: for a look at a folder that another process works in. */
export function readChainLog(path: string): Entry[] {
  return readLog(path).entries;
}

/** @param bytes of a log, from its beginning */
export function chainEntries(bytes: Uint8Array): { entries: Entry[]; validBytes: number } {
  const { contents, validBytes } = readFramed(bytes);
  return { entries: contents.map((content) => decodeEntry(content.slice())), validBytes };
}

function readLog(path: string): { entries: Entry[]; validBytes: number; size: number } {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return { entries: [], validBytes: 0, size: 0 };
    throw diskError(cause, path);
  }
  return { ...chainEntries(bytes), size: bytes.length };
}

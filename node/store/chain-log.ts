import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import { equalBytes } from '../../protocol/encoding.ts';
import { HASH_BYTES } from '../../protocol/hash.ts';
import { decodeEntry, encodeEntry } from '../../protocol/messages.ts';
import type { Entry } from '../../protocol/wire.ts';
import { diskError } from './atomic.ts';

/**
 * The history's blocks with their certificates, appended one after the other: length (uint32, little-endian), SHA-256,
 * entry. What a crash left half written at the end is cut off when the log is opened.
 */
export class ChainLog {
  readonly entries: Entry[];
  readonly #file: number;
  readonly #path: string;

  /** @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE` */
  constructor(path: string) {
    this.#path = path;
    const { entries, validBytes, size } = readLog(path);
    this.entries = entries;
    try {
      if (validBytes < size) truncateSync(path, validBytes);
      this.#file = openSync(path, 'a', 0o600);
    } catch (cause) {
      throw diskError(cause, path);
    }
  }

  /** When this returns the disk has it. @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE` */
  append(entry: Entry): void {
    const bytes = encodeEntry(entry);
    const frame = new Uint8Array(PREFIX_BYTES + bytes.length);
    new DataView(frame.buffer).setUint32(0, bytes.length, true);
    frame.set(digest(bytes), 4);
    frame.set(bytes, PREFIX_BYTES);
    try {
      writeSync(this.#file, frame);
      fsyncSync(this.#file);
    } catch (cause) {
      throw diskError(cause, this.#path);
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

const PREFIX_BYTES = 4 + HASH_BYTES;

/** The whole entries of a log, without touching it: for a look at a folder that another process works in. */
export function readChainLog(path: string): Entry[] {
  return readLog(path).entries;
}

function readLog(path: string): { entries: Entry[]; validBytes: number; size: number } {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return { entries: [], validBytes: 0, size: 0 };
    throw diskError(cause, path);
  }
  const entries: Entry[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = 0;
  while (offset + PREFIX_BYTES <= bytes.length) {
    const end = offset + PREFIX_BYTES + view.getUint32(offset, true);
    if (end > bytes.length) break;
    const content = bytes.subarray(offset + PREFIX_BYTES, end);
    if (!equalBytes(digest(content), bytes.subarray(offset + 4, offset + PREFIX_BYTES))) break;
    entries.push(decodeEntry(content.slice()));
    offset = end;
  }
  return { entries, validBytes: offset, size: bytes.length };
}

function digest(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

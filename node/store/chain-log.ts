import { closeSync, fsyncSync, openSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { type Append, GENESIS, type Segment } from '../../protocol/history.ts';
import { decodeBeginning, decodeEntry, encodeBeginning, encodeEntry } from '../../protocol/messages.ts';
import type { Entry } from '../../protocol/wire.ts';
import { diskError, makeFolder, namesIn, writeAllSync, writeFileAtomicSync } from './atomic.ts';
import { framed, readFramed } from './framed.ts';

/**
 * The history: a folder with a file for each segment, so that old ones are forgotten by removing files. A file is made of
 * frames (framed.ts): where the segment begins, then its entries, appended one after the other. What a crash left half
 * written at the end is cut off when the log is opened.
 */
export class ChainLog {
  /** what the log held when it was opened */
  readonly segments: readonly Segment[];
  readonly path: string;
  /** of the files with a whole beginning, oldest first */
  #serials: number[];
  /** the newest, for appending */
  #file: number | undefined;

  /** @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE` */
  constructor(path: string) {
    this.path = path;
    try {
      makeFolder(path);
      const files = readFiles(path);
      this.#serials = files.map(({ serial }) => serial);
      this.segments = files.map(({ segment }) => segment);
      const newest = files.at(-1);
      if (newest && newest.validBytes < newest.bytes.length) truncateSync(newest.path, newest.validBytes);
      if (newest) this.#file = openSync(newest.path, 'a', 0o600);
    } catch (cause) {
      throw diskError(cause, path);
    }
  }

  /**
   * When this returns the disk has all of it.
   * @param appends that follow each other
   * @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE`
   */
  append(...appends: readonly Append[]): void {
    const frames: Uint8Array[] = [];
    for (const { entry, segment } of appends) {
      if (segment || this.#file === undefined) {
        this.#write(frames.splice(0));
        this.#begin(entry, segment);
      } else frames.push(framed(encodeEntry(entry)));
    }
    this.#write(frames);
  }

  #write(frames: readonly Uint8Array[]): void {
    if (this.#file === undefined || frames.length === 0) return;
    try {
      writeAllSync(this.#file, Buffer.concat(frames));
      fsyncSync(this.#file);
    } catch (cause) {
      throw diskError(cause, this.path);
    }
  }

  /** The files as they are now, oldest first: enough to read the history elsewhere (`chainSegments`). */
  copy(): Uint8Array[] {
    return this.#serials.map((serial) => new Uint8Array(readFileSync(pathOf(this.path, serial))));
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #begin(entry: Entry, segment: Append['segment']): void {
    const there = serialsIn(this.path);
    const serial = (there.at(-1) ?? 0) + 1;
    const path = pathOf(this.path, serial);
    writeFileAtomicSync(path, [framed(encodeBeginning(segment ?? GENESIS)), framed(encodeEntry(entry))]);
    this.close();
    this.#serials = [...this.#serials, serial].slice(-(segment?.keep ?? 1));
    try {
      this.#file = openSync(path, 'a', 0o600);
      // damaged ones go with those around them
      const [oldest = serial] = this.#serials;
      const old = there.filter((each) => each < oldest);
      for (const each of old) rmSync(pathOf(this.path, each), { force: true });
    } catch (cause) {
      throw diskError(cause, path);
    }
  }
}

/** What is whole of a log, without touching it: for a look at a folder that another process works in. */
export function readChainLog(path: string): Segment[] {
  return readFiles(path).map(({ segment }) => segment);
}

/** @param files as `ChainLog.copy` gives them */
export function chainSegments(files: readonly Uint8Array[]): Segment[] {
  return files.flatMap((bytes) => segmentIn(bytes)?.segment ?? []);
}

interface SegmentFile {
  serial: number;
  path: string;
  bytes: Uint8Array;
  segment: Segment;
  validBytes: number;
}

function serialsIn(folder: string): number[] {
  const serials = namesIn(folder).flatMap((name) => {
    const digits = /^(\d{1,15})[.]log$/.exec(name)?.[1];
    return digits === undefined ? [] : [Number(digits)];
  });
  return serials.sort((a, b) => a - b);
}

function readFiles(folder: string): SegmentFile[] {
  return serialsIn(folder).flatMap((serial) => {
    const path = pathOf(folder, serial);
    const bytes = new Uint8Array(readFileSync(path));
    // a disk that lost a whole segment: the next one has its own anchors
    const read = segmentIn(bytes);
    return read ? [{ serial, path, bytes, ...read }] : [];
  });
}

/** @returns undefined where not even the anchors are whole */
function segmentIn(bytes: Uint8Array): { segment: Segment; validBytes: number } | undefined {
  const { contents, validBytes } = readFramed(bytes);
  const [beginning, ...entries] = contents.map((content) => content.slice());
  if (!beginning) return undefined;
  return { segment: { ...decodeBeginning(beginning), entries: entries.map(decodeEntry) }, validBytes };
}

function pathOf(folder: string, serial: number): string {
  return join(folder, `${String(serial).padStart(6, '0')}.log`);
}

import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { threadId } from 'node:worker_threads';
import { CodedError } from '../../protocol/errors.ts';

export type DiskErrorCode =
  | 'E_DISK_FULL' // no space, or over a quota
  | 'E_DIR_UNWRITABLE' // not ours to write, read-only, or not a folder
  | 'E_DISK_FAULT' // the device says that it failed
  | 'E_DIR_UNREADABLE'; // not ours to read, or not what it should be

export interface AtomicOptions {
  /** Permission bits of the file. @default 0o600, the owner alone */
  mode?: number;
  /**
   * Whether to wait until the disk has it. Content that is verified when it is read can do without: a power cut may leave
   * a damaged file, a killed process never does. @default true
   */
  durable?: boolean;
  /** names the folder to write to on the command line, for messages @default '--dir' */
  option?: string;
}

/** What is written, in parts so that large vectors need not be joined; a part is asked for when the one before is out. */
export type Content = Uint8Array | Iterable<Uint8Array>;

/** Ends the name of a file that is still being written; one that is found later was left by a process that died. */
export const TEMPORARY_ENDING = '.tmp';

/** One write call moves at most this many bytes: Linux stops near 2 GiB. */
const WRITE_BYTES = 64 * 1024 * 1024;

let written = 0;

/** Unique among the live: one process may write the same file from several threads and calls. */
function temporaryName(path: string): string {
  written += 1;
  return join(dirname(path), `${basename(path)}.${process.pid}-${threadId}-${written}${TEMPORARY_ENDING}`);
}

function partsOf(content: Content): Iterable<Uint8Array> {
  return content instanceof Uint8Array ? [content] : content;
}

/**
 * Replaces a file so that a reader, also after a crash, finds the old content or the new one, never a mixture: a
 * temporary file in the same folder, fsync, rename, fsync of the folder. Makes the folder when it is missing.
 * @throws CodedError<DiskErrorCode>; the old file is then as it was
 */
export function writeFileAtomicSync(path: string, content: Content, options: AtomicOptions = {}): void {
  const { mode = 0o600, durable = true, option } = options;
  const temporary = temporaryName(path);
  try {
    makeFolder(dirname(path));
    const file = openSync(temporary, 'w', mode);
    try {
      for (const part of partsOf(content)) writeAllSync(file, part);
      if (durable) fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    if (durable) syncFolder(dirname(path));
  } catch (cause) {
    removeQuietly(temporary);
    throw diskError(cause, path, 'write', option);
  }
}

/** The same without blocking the thread. Calls for one path at one time must be ordered by the caller. */
export async function writeFileAtomic(path: string, content: Content, options: AtomicOptions = {}): Promise<void> {
  const { mode = 0o600, durable = true, option } = options;
  const temporary = temporaryName(path);
  try {
    makeFolder(dirname(path));
    const file = await open(temporary, 'w', mode);
    try {
      for (const part of partsOf(content)) await writeAll(file, part);
      if (durable) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    if (durable) await syncFolderAsync(dirname(path));
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw diskError(cause, path, 'write', option);
  }
}

/** One call to the system may write less than it was given. */
export function writeAllSync(file: number, part: Uint8Array): void {
  for (let offset = 0; offset < part.length; ) {
    offset += writeSync(file, part, offset, Math.min(WRITE_BYTES, part.length - offset));
  }
}

async function writeAll(file: FileHandle, part: Uint8Array): Promise<void> {
  for (let offset = 0; offset < part.length; ) {
    const { bytesWritten } = await file.write(part, offset, Math.min(WRITE_BYTES, part.length - offset));
    offset += bytesWritten;
  }
}

/** Clears up after a failure, which is what the caller is to hear of, not that clearing up failed too. */
export function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // left for the next start, which removes every temporary file
  }
}

/** Makes a rename durable. Windows cannot open folders and orders renames itself. */
export function syncFolder(folder: string): void {
  if (process.platform === 'win32') return;
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

async function syncFolderAsync(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** What is in a folder: nothing where there is none yet. @throws CodedError `E_DIR_UNREADABLE` */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw diskError(cause, folder, 'read');
  }
}

/**
 * Makes a folder and those above it that are missing. Node's own way never ends below /proc, and says of a read-only file
 * system that something is not there.
 */
export function makeFolder(path: string, mode = 0o700): void {
  const missing: string[] = [];
  for (let at = resolve(path); !existsSync(at); at = dirname(at)) missing.unshift(at);
  for (const folder of missing) makeOne(folder, mode);
  if (!statSync(path).isDirectory()) makeOne(path, mode);
}

function makeOne(path: string, mode: number): void {
  try {
    mkdirSync(path, { mode });
  } catch (cause) {
    // another process may have been first
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST' || !statSync(path).isDirectory()) throw cause;
  }
}

/**
 * Says in the user's words why the disk refused; anything else is passed on as it is.
 * @param option that named the place
 */
export function diskError(cause: unknown, path: string, wanted: 'read' | 'write' = 'write', option = '--dir'): unknown {
  const { code } = cause as NodeJS.ErrnoException;
  // where nothing can be made, as below /proc
  switch (code === 'ENOENT' && wanted === 'write' ? 'EACCES' : code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new CodedError<DiskErrorCode>('E_DISK_FULL', `no space left for ${path}; free some`, { cause });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
    case 'ENOTDIR':
    case 'EEXIST':
    case 'EISDIR': {
      const named = wanted === 'read' ? 'E_DIR_UNREADABLE' : 'E_DIR_UNWRITABLE';
      const fix = `${ownerOf(path)}check its permissions, or use another ${option}`;
      return new CodedError<DiskErrorCode>(named, `cannot ${wanted} ${path} (${(cause as Error).message}); ${fix}`, {
        cause,
      });
    }
    // of a read or a flush Node does not say of which file
    case 'EIO': {
      const message = `cannot ${wanted} ${path} (${(cause as Error).message}): the disk may be failing; look at the system's log`;
      return new CodedError<DiskErrorCode>('E_DISK_FAULT', message, { cause });
    }
    default:
      return cause;
  }
}

/** Told where it is somebody else, as after a start by root: that is the mistake then. */
function ownerOf(path: string): string {
  try {
    const { uid } = statSync(path);
    const self = process.getuid?.();
    return self === undefined || uid === self ? '' : `it belongs to user ${uid}, and this is user ${self}: `;
  } catch {
    return '';
  }
}

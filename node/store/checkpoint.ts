import { createHash, type Hash as Digest } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { decodeCanonical, encodeCanonical, equalBytes } from '../../protocol/encoding.ts';
import { CodedError } from '../../protocol/errors.ts';
import { HASH_BYTES } from '../../protocol/hash.ts';
import { type DiskErrorCode, diskError, namesIn, writeFileAtomic, writeFileAtomicSync } from './atomic.ts';

/** What a peer needs to go on after a round. */
export interface Checkpoint {
  /** number of the round that it ends */
  round: number;
  /** the caller's own canonical bytes */
  meta: Uint8Array;
  /** named float32 vectors; in the file they follow each other in this order without a gap */
  vectors: ReadonlyMap<string, Float32Array>;
}

/** Where a vector is in the file: bytes from its start, little-endian float32. For chunks that are served from there. */
export interface Segment {
  offset: number;
  length: number;
}

export interface SavedCheckpoint {
  path: string;
  segments: ReadonlyMap<string, Segment>;
}

/** A file that was passed over, and why. */
export interface SkippedCheckpoint {
  path: string;
  code: 'E_CHECKPOINT_DAMAGED';
  reason: string;
}

/**
 * The file: MAGIC, length of the header (uint32, little-endian), header (canonical CBOR, zeros up to a multiple of 4),
 * the vectors, SHA-256 of all before. A file that is cut short, torn or changed anywhere does not have its hash.
 */
const MAGIC = new TextEncoder().encode('OLCKPT1\n');
const PREFIX_BYTES = MAGIC.length + 4;
/** Names, lengths and meta. Meta holds a roster of up to thousands of peers and some rounds of certificates. */
const HEADER_BYTES_MAX = 64 * 1024 * 1024;
/** One read call moves at most this many bytes: Linux stops near 2 GiB. */
const READ_BYTES = 64 * 1024 * 1024;
/** Hashed and written at a time: some milliseconds of a thread that has other work. */
const WRITE_BYTES = 4 * 1024 * 1024;

const headerSchema = z.strictObject({
  round: z.number().int().min(0),
  meta: z.custom<Uint8Array>((value) => value instanceof Uint8Array),
  vectors: z.array(z.tuple([z.string().max(100), z.number().int().min(0)])).max(64),
});
type Header = z.infer<typeof headerSchema>;

/** @param serial counts the checkpoints of a folder: a peer may come to one round more than once, on several histories */
export function checkpointPath(folder: string, serial: number): string {
  return join(folder, `checkpoint-${serial}.bin`);
}

/** Serial numbers of the files that there are, newest first, whether or not they are whole. */
export function checkpointSerials(folder: string): number[] {
  const serials = namesIn(folder).flatMap((name) => {
    const match = /^checkpoint-(\d{1,15})[.]bin$/.exec(name);
    return match ? [Number(match[1])] : [];
  });
  return serials.sort((a, b) => b - a);
}

/**
 * Writes a checkpoint; when this resolves the disk has it. The thread is held up by a slice at a time.
 * @param checkpoint its vectors must not change meanwhile
 * @throws CodedError `E_DISK_FULL`, `E_DIR_UNWRITABLE`; earlier checkpoints are then as they were
 */
export async function saveCheckpoint(folder: string, checkpoint: Checkpoint): Promise<SavedCheckpoint> {
  const [newest = -1] = checkpointSerials(folder);
  const path = checkpointPath(folder, newest + 1);
  const { headerLength, content } = fileOf(checkpoint);
  await writeFileAtomic(path, content);
  return { path, segments: segmentsOf(headerLength, lengthsOf(checkpoint)) };
}

/** `saveCheckpoint` under a name of the caller's own, at once, and not safe from a power cut. @throws as that does */
export function writeCheckpointSync(path: string, checkpoint: Checkpoint): void {
  writeFileAtomicSync(path, fileOf(checkpoint).content, { durable: false });
}

function fileOf(checkpoint: Checkpoint): { headerLength: number; content: Iterable<Uint8Array> } {
  const { round, meta, vectors } = checkpoint;
  const header = encodeHeader({ round, meta, vectors: lengthsOf(checkpoint) });
  const content = withHash([header, ...[...vectors.values()].map(bytesOf)]);
  return { headerLength: header.length, content };
}

/** The parts in slices, each hashed when it is asked for, and then their hash. */
function* withHash(parts: readonly Uint8Array[]): Generator<Uint8Array> {
  const digest = createHash('sha256');
  for (const part of parts) {
    for (let offset = 0; offset < part.length; offset += WRITE_BYTES) {
      const slice = part.subarray(offset, offset + WRITE_BYTES);
      digest.update(slice);
      yield slice;
    }
  }
  yield digest.digest();
}

/** Removes all checkpoints but these. @returns the files that went */
export function keepCheckpoints(folder: string, kept: readonly string[]): string[] {
  const files = checkpointSerials(folder).map((serial) => checkpointPath(folder, serial));
  const gone = files.filter((file) => !kept.includes(file));
  for (const file of gone) rmSync(file, { force: true });
  return gone;
}

/** What a file says of itself, without its vectors. */
export interface DescribedCheckpoint extends SavedCheckpoint {
  meta: Uint8Array;
}

/**
 * The checkpoints before one, oldest first. Their vectors are not read and so not verified: whoever reads a chunk of one
 * does that. Files that do not begin as they should are left out.
 */
export function describeCheckpoints(folder: string, before: number): DescribedCheckpoint[] {
  const serials = checkpointSerials(folder).filter((serial) => serial < before);
  return serials.reverse().flatMap((serial) => {
    const path = checkpointPath(folder, serial);
    try {
      return [describeCheckpoint(path)];
    } catch (error) {
      if (!isDamage(error)) throw error;
      return [];
    }
  });
}

/** Does not read the vectors. @throws CodedError `E_CHECKPOINT_DAMAGED`, `E_DIR_UNREADABLE` */
export function describeCheckpoint(path: string): DescribedCheckpoint {
  return withFile(path, (file) => {
    const { content, length } = readHeader(file, fstatSync(file).size, undefined, path);
    return { path, meta: content.meta, segments: segmentsOf(length, content.vectors) };
  });
}

function withFile<T>(path: string, read: (file: number) => T): T {
  try {
    const file = openSync(path, 'r');
    try {
      return read(file);
    } finally {
      closeSync(file);
    }
  } catch (cause) {
    throw diskError(cause, path, 'read');
  }
}

/** A file that may not be read is not one to pass over: its peer would go on from an older state than it has. */
function isDamage(error: unknown): error is CodedError {
  return error instanceof CodedError && error.code !== ('E_DIR_UNREADABLE' satisfies DiskErrorCode);
}

export interface LoadedCheckpoint extends SavedCheckpoint {
  checkpoint: Checkpoint;
}

/**
 * Loads the newest checkpoint that is whole: the last that was saved, of whatever round. Blocks the thread.
 * @param allocate makes the vectors, so that they can be shared with other threads
 * @returns no `loaded` when there is none; `skipped` are newer files that were damaged, for a warning
 * @throws CodedError `E_DIR_UNREADABLE` for one that may not be read
 */
export function loadNewestCheckpoint(
  folder: string,
  allocate?: (length: number) => Float32Array,
): { loaded: (LoadedCheckpoint & { serial: number }) | undefined; skipped: SkippedCheckpoint[] } {
  const skipped: SkippedCheckpoint[] = [];
  for (const serial of checkpointSerials(folder)) {
    const path = checkpointPath(folder, serial);
    try {
      return { loaded: { serial, ...readCheckpoint(path, allocate) }, skipped };
    } catch (error) {
      if (!isDamage(error)) throw error;
      skipped.push({ path, code: 'E_CHECKPOINT_DAMAGED', reason: error.message });
    }
  }
  return { loaded: undefined, skipped };
}

/**
 * Blocks the thread.
 * @param allocate as for `loadNewestCheckpoint` @default plain vectors
 * @throws CodedError `E_CHECKPOINT_DAMAGED`, `E_DIR_UNREADABLE`
 */
export function readCheckpoint(
  path: string,
  allocate: (length: number) => Float32Array = (length) => new Float32Array(length),
): LoadedCheckpoint {
  return withFile(path, (file) => {
    const size = fstatSync(file).size;
    const digest = createHash('sha256');
    const header = readHeader(file, size, digest, path);
    const vectors = new Map<string, Float32Array>();
    for (const [name, length] of header.content.vectors) {
      const values = allocate(length);
      readExactly(file, bytesOf(values), digest, path);
      vectors.set(name, values);
    }
    const trailer = new Uint8Array(HASH_BYTES);
    readExactly(file, trailer, undefined, path);
    if (!equalBytes(digest.digest(), trailer)) throw damaged(path, 'its content does not have its hash');
    const checkpoint = { round: header.content.round, meta: header.content.meta, vectors };
    return { path, checkpoint, segments: segmentsOf(header.length, header.content.vectors) };
  });
}

function encodeHeader(content: Header): Uint8Array {
  const encoded = encodeCanonical(content);
  const bytes = new Uint8Array(PREFIX_BYTES + Math.ceil(encoded.length / 4) * 4);
  bytes.set(MAGIC);
  new DataView(bytes.buffer).setUint32(MAGIC.length, encoded.length, true);
  bytes.set(encoded, PREFIX_BYTES);
  return bytes;
}

/** Reads and checks the header, so that what it claims is what the file has before anything is allocated for it. */
function readHeader(
  file: number,
  size: number,
  digest: Digest | undefined,
  path: string,
): { content: Header; length: number } {
  const prefix = new Uint8Array(PREFIX_BYTES);
  readExactly(file, prefix, digest, path);
  if (!equalBytes(prefix.subarray(0, MAGIC.length), MAGIC)) throw damaged(path, 'it does not begin like a checkpoint');
  const encodedLength = new DataView(prefix.buffer).getUint32(MAGIC.length, true);
  const padded = Math.ceil(encodedLength / 4) * 4;
  if (padded > Math.min(HEADER_BYTES_MAX, size)) throw damaged(path, 'its header is longer than the file');
  const encoded = new Uint8Array(padded);
  readExactly(file, encoded, digest, path);
  const parsed = headerSchema.safeParse(decodeCanonical(encoded.subarray(0, encodedLength), HEADER_BYTES_MAX));
  if (!parsed.success) throw damaged(path, 'its header has other fields');
  const length = PREFIX_BYTES + padded;
  const values = parsed.data.vectors.reduce((sum, [, count]) => sum + count, 0);
  if (size !== length + 4 * values + HASH_BYTES) throw damaged(path, `it has ${size} bytes, not what its header says`);
  return { content: parsed.data, length };
}

function lengthsOf({ vectors }: Checkpoint): Header['vectors'] {
  return [...vectors].map(([name, values]) => [name, values.length]);
}

function segmentsOf(headerLength: number, vectors: Header['vectors']): Map<string, Segment> {
  let offset = headerLength;
  const segments = new Map<string, Segment>();
  for (const [name, count] of vectors) {
    const length = count * Float32Array.BYTES_PER_ELEMENT;
    segments.set(name, { offset, length });
    offset += length;
  }
  return segments;
}

/** The vector's own memory; all platforms of Node that we support are little-endian. */
function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function updateBounded(digest: Digest, bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length; offset += READ_BYTES) {
    digest.update(bytes.subarray(offset, offset + READ_BYTES));
  }
}

function readExactly(file: number, into: Uint8Array, digest: Digest | undefined, path: string): void {
  let filled = 0;
  while (filled < into.length) {
    const read = readSync(file, into, filled, Math.min(READ_BYTES, into.length - filled), null);
    if (read === 0) throw damaged(path, 'it is cut short');
    filled += read;
  }
  if (digest) updateBounded(digest, into);
}

function damaged(path: string, reason: string): CodedError<'E_CHECKPOINT_DAMAGED'> {
  return new CodedError('E_CHECKPOINT_DAMAGED', `${path} is damaged: ${reason}`);
}

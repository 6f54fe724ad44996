import { createHash } from 'node:crypto';
import { blobIdOf, chunkCount } from '../protocol/blob.ts';
import { equalBytes } from '../protocol/encoding.ts';
import type { Hash, Sha256 } from '../protocol/hash.ts';
import { MANIFEST_PART } from './blob-fetch.ts';

const nativeSha256: Sha256 = (bytes) => createHash('sha256').update(bytes).digest();

interface Shelf {
  size: number;
  bytes: Uint8Array;
  /** a bit for each peer that has all of it */
  holders: Uint8Array;
  count: number;
  /** parts of peers that are still fetching */
  partial: Map<number, Set<number>>;
  /** what a codec's check of it says: the same for all, so asked once. Undefined before. */
  verdict: string | null | undefined;
}

/**
 * The blobs on the simulated disks. Bytes are kept once for all peers, with who has them; when nobody has them any more
 * they are gone.
 */
export class BlobLibrary {
  readonly #peers: number;
  readonly #shelves = new Map<Hash, Shelf>();
  /** payloads by the round in which they were last needed, so that a disk can drop the old ones */
  readonly #byRound = new Map<number, Set<Hash>>();

  constructor(peers: number) {
    this.#peers = peers;
  }

  /** The peer has made or fetched it. */
  put(peer: number, blob: Hash, bytes: Uint8Array): void {
    if (!this.#shelves.has(blob)) {
      const holders = new Uint8Array(Math.ceil(this.#peers / 8));
      const shelf = { size: bytes.length, bytes, holders, count: 0, partial: new Map(), verdict: undefined };
      this.#shelves.set(blob, shelf);
    }
    this.hold(peer, blob);
  }

  /**
   * The peer was handed bytes that are said to be this blob.
   * @returns false, with nothing kept, when they are not
   */
  take(peer: number, blob: Hash, { bytes, size }: { bytes: Uint8Array; size: number }): boolean {
    const known = this.#shelves.get(blob)?.bytes;
    const same = known ? bytes === known || equalBytes(bytes, known) : blobIdOf(bytes, nativeSha256) === blob;
    if (!same || bytes.length !== size) return false;
    this.put(peer, blob, bytes);
    return true;
  }

  hold(peer: number, blob: Hash): void {
    const shelf = this.#shelves.get(blob);
    if (!shelf || holds(shelf, peer)) return;
    shelf.holders[peer >> 3]! |= 1 << (peer & 7);
    shelf.count++;
    shelf.partial.delete(peer);
  }

  has(peer: number, blob: Hash): boolean {
    const shelf = this.#shelves.get(blob);
    return shelf !== undefined && holds(shelf, peer);
  }

  hasPart(peer: number, blob: Hash, part: number): boolean {
    const shelf = this.#shelves.get(blob);
    return shelf !== undefined && (holds(shelf, peer) || (shelf.partial.get(peer)?.has(part) ?? false));
  }

  /** A part has come; with the last one the peer holds the blob. */
  takePart(peer: number, blob: Hash, part: number): void {
    const shelf = this.#shelves.get(blob);
    if (!shelf || holds(shelf, peer)) return;
    let parts = shelf.partial.get(peer);
    if (!parts) {
      parts = new Set();
      shelf.partial.set(peer, parts);
    }
    parts.add(part);
    const chunks = chunkCount(shelf.size);
    if (parts.size - Number(parts.has(MANIFEST_PART)) === chunks) this.hold(peer, blob);
  }

  bytes(blob: Hash): Uint8Array | undefined {
    return this.#shelves.get(blob)?.bytes;
  }

  /** The verdict of a check that depends on the bytes alone. */
  verdict(blob: Hash, check: (bytes: Uint8Array) => string | null): string | null {
    const shelf = this.#shelves.get(blob);
    if (!shelf) return 'E_BLOB_UNAVAILABLE';
    if (shelf.verdict === undefined) shelf.verdict = check(shelf.bytes);
    return shelf.verdict;
  }

  drop(peer: number, blob: Hash): void {
    const shelf = this.#shelves.get(blob);
    if (!shelf) return;
    shelf.partial.delete(peer);
    if (holds(shelf, peer)) {
      shelf.holders[peer >> 3]! &= ~(1 << (peer & 7));
      shelf.count--;
    }
    if (shelf.count === 0) this.#shelves.delete(blob);
  }

  /** A payload of this round, for `dropRound`. */
  file(blob: Hash, round: number): void {
    let blobs = this.#byRound.get(round);
    if (!blobs) {
      blobs = new Set();
      this.#byRound.set(round, blobs);
    }
    blobs.add(blob);
  }

  /** The peer's disk drops the payloads of a round, but for those that it needs still. */
  dropRound(peer: number, round: number, needed: ReadonlySet<Hash>): void {
    const blobs = this.#byRound.get(round);
    if (!blobs) return;
    for (const blob of blobs) {
      if (!needed.has(blob)) this.drop(peer, blob);
      if (!this.#shelves.has(blob)) blobs.delete(blob);
    }
    if (blobs.size === 0) this.#byRound.delete(round);
  }
}

function holds(shelf: Shelf, peer: number): boolean {
  return (shelf.holders[peer >> 3]! & (1 << (peer & 7))) !== 0;
}

import { createHash } from 'node:crypto';
import { blobIdOf, chunkCount } from '../protocol/blob.ts';
import { equalBytes } from '../protocol/encoding.ts';
import type { Hash, Sha256 } from '../protocol/hash.ts';
import { MANIFEST_PART } from './blob-fetch.ts';

const nativeSha256: Sha256 = (bytes) => createHash('sha256').update(bytes).digest();

interface Shelf {
  size: number;
  bytes: Uint8Array;
  holders: Peers;
  /** parts of peers that are still fetching */
  partial: Map<number, Set<number>>;
  /** what a codec's check of it says: the same for all, so asked once. Undefined before. */
  verdict: string | null | undefined;
  /** of a payload: the round that it was made in */
  round: RoundShelf | undefined;
}

/** The payloads of a round: disks drop them together. */
interface RoundShelf {
  round: number;
  blobs: Set<Hash>;
  /** peers that have any of them, and have not dropped them */
  holders: Peers;
}

/**
 * The blobs on the simulated disks. Bytes are kept once for all peers, with who has them; when nobody has them any more
 * they are gone.
 */
export class BlobLibrary {
  readonly #peers: number;
  readonly #shelves = new Map<Hash, Shelf>();
  readonly #rounds = new Map<number, RoundShelf>();
  /** payloads of earlier rounds than this are off a peer's disk */
  readonly #droppedBefore: Float64Array;

  constructor(peers: number) {
    this.#peers = peers;
    this.#droppedBefore = new Float64Array(peers);
  }

  /** The peer has made or fetched it. */
  put(peer: number, blob: Hash, bytes: Uint8Array): void {
    this.#hold(peer, this.#shelfOf(blob, bytes));
  }

  /** The peer has made this payload in a round. */
  putPayload(peer: number, blob: Hash, bytes: Uint8Array, round: number): void {
    const shelf = this.#shelfOf(blob, bytes);
    if ((shelf.round?.round ?? -1) < round) {
      shelf.round = this.#roundOf(round);
      shelf.round.blobs.add(blob);
    }
    this.#hold(peer, shelf);
  }

  /**
   * A payload is said to have come to the peer inside a header.
   * @returns what the check of it says, which depends on the bytes alone; undefined, with nothing kept, when they are others
   */
  take(
    peer: number,
    { payload, size }: { payload: Hash; size: number },
    bytes: Uint8Array,
    check: (bytes: Uint8Array) => string | null,
  ): string | null | undefined {
    const known = this.#shelves.get(payload)?.bytes;
    const same = known ? bytes === known || equalBytes(bytes, known) : blobIdOf(bytes, nativeSha256) === payload;
    if (!same || bytes.length !== size) return undefined;
    const shelf = this.#shelfOf(payload, bytes);
    this.#hold(peer, shelf);
    if (shelf.verdict === undefined) shelf.verdict = check(shelf.bytes);
    return shelf.verdict;
  }

  hold(peer: number, blob: Hash): void {
    const shelf = this.#shelves.get(blob);
    if (shelf) this.#hold(peer, shelf);
  }

  has(peer: number, blob: Hash): boolean {
    const shelf = this.#shelves.get(blob);
    return shelf !== undefined && this.#holds(peer, shelf);
  }

  hasPart(peer: number, blob: Hash, part: number): boolean {
    const shelf = this.#shelves.get(blob);
    return shelf !== undefined && (this.#holds(peer, shelf) || (shelf.partial.get(peer)?.has(part) ?? false));
  }

  /** A part has come; with the last one the peer holds the blob. */
  takePart(peer: number, blob: Hash, part: number): void {
    const shelf = this.#shelves.get(blob);
    if (!shelf || this.#holds(peer, shelf)) return;
    let parts = shelf.partial.get(peer);
    if (!parts) {
      parts = new Set();
      shelf.partial.set(peer, parts);
    }
    parts.add(part);
    const chunks = chunkCount(shelf.size);
    if (parts.size - Number(parts.has(MANIFEST_PART)) === chunks) this.#hold(peer, shelf);
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
    shelf.holders.delete(peer);
    if (shelf.holders.size === 0) this.#shelves.delete(blob);
  }

  /** The peer's disk drops the payloads of all rounds before this one. */
  dropPayloads(peer: number, before: number): void {
    this.#droppedBefore[peer] = before;
    for (const [round, shelf] of this.#rounds) {
      if (round >= before) continue;
      shelf.holders.delete(peer);
      if (shelf.holders.size > 0) continue;
      this.#rounds.delete(round);
      for (const blob of shelf.blobs) if (this.#shelves.get(blob)?.round === shelf) this.#shelves.delete(blob);
    }
  }

  #hold(peer: number, shelf: Shelf): void {
    shelf.holders.add(peer);
    shelf.round?.holders.add(peer);
    if (shelf.partial.size > 0) shelf.partial.delete(peer);
  }

  #holds(peer: number, { holders, round }: Shelf): boolean {
    return holders.has(peer) && (round === undefined || round.round >= this.#droppedBefore[peer]!);
  }

  #shelfOf(blob: Hash, bytes: Uint8Array): Shelf {
    let shelf = this.#shelves.get(blob);
    if (!shelf) {
      const holders = new Peers(this.#peers);
      shelf = { size: bytes.length, bytes, holders, partial: new Map(), verdict: undefined, round: undefined };
      this.#shelves.set(blob, shelf);
    }
    return shelf;
  }

  #roundOf(round: number): RoundShelf {
    let shelf = this.#rounds.get(round);
    if (!shelf) {
      shelf = { round, blobs: new Set(), holders: new Peers(this.#peers) };
      this.#rounds.set(round, shelf);
    }
    return shelf;
  }
}

/** A set of peers, a bit each. */
class Peers {
  size = 0;
  readonly #bits: Uint8Array;

  constructor(peers: number) {
    this.#bits = new Uint8Array(Math.ceil(peers / 8));
  }

  has(peer: number): boolean {
    return (this.#bits[peer >> 3]! & (1 << (peer & 7))) !== 0;
  }

  add(peer: number): void {
    if (this.has(peer)) return;
    this.#bits[peer >> 3]! |= 1 << (peer & 7);
    this.size++;
  }

  delete(peer: number): void {
    if (!this.has(peer)) return;
    this.#bits[peer >> 3]! &= ~(1 << (peer & 7));
    this.size--;
  }
}

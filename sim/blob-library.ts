import { blobIdOf, chunkCount } from '../protocol/blob.ts';
import { codecOf } from '../protocol/codecs/index.ts';
import { isCoded } from '../protocol/errors.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import { LIMITS } from '../protocol/limits.ts';
import type { Message, MessageOf } from '../protocol/messages.ts';
import { modelLayout } from '../protocol/model.ts';
import { MANIFEST_PART } from './blob-fetch.ts';
import { nativeSha256 } from './native-hash.ts';

type Header = MessageOf<'header'>;

interface Shelf {
  blob: Hash;
  size: number;
  bytes: Uint8Array;
  holders: Peers;
  /** parts of peers that are still fetching */
  partial: Map<number, Set<number>>;
  /** what a codec's check of it says: the same for all, so asked once. Undefined before. */
  verdict: string | null | undefined;
  /** of a payload: the round that it was made in */
  round: RoundShelf | undefined;
  /** by peer, of a payload that it needs for longer: up to which round */
  kept: Map<number, number>;
}

/** The payloads of a round: disks drop them together. */
interface RoundShelf {
  round: number;
  blobs: Set<Hash>;
  /** peers that have any of them, and have not dropped them */
  holders: Peers;
  /** headers with their payloads inside, by the peer that they came to: far too many to note each payload's holders */
  taken: Map<number, (readonly Header[])[]>;
}

/** What became of payloads that came inside headers. */
export interface Taken {
  /** those whose payload is here */
  taken: readonly Header[];
  /** those among them that the codec refuses, with its codes */
  refused: ReadonlyMap<Header, string>;
  /** those with other bytes inside than they name, of which nothing is kept */
  misnamed: readonly Header[];
}

/** What a codec says of a payload: null, or the code of what is wrong. */
export type PayloadCheck = (bytes: Uint8Array) => string | null;

export function payloadCheck({ codec, model }: Genesis): PayloadCheck {
  const layout = modelLayout(model);
  return (bytes) => {
    try {
      codecOf(codec).check(bytes, layout);
      return null;
    } catch (cause) {
      if (!isCoded(cause)) throw cause;
      return cause.code;
    }
  };
}

/**
 * The blobs on the simulated disks. Bytes are kept once for all peers, with who has them; when nobody has them any more
 * they are gone.
 */
export class BlobLibrary {
  readonly #peers: number;
  readonly #shelves = new Map<Hash, Shelf>();
  readonly #rounds = new Map<number, RoundShelf>();
  /** rounds before this may be off all disks */
  #goneBefore = 0;
  /** headers whose payload is refused, with the codec's code, or is not the one that they name */
  readonly #wrong = new WeakMap<Header, string>();
  #isAnyWrong = false;
  readonly #check: PayloadCheck;

  constructor(peers: number, check: PayloadCheck) {
    this.#peers = peers;
    this.#check = check;
  }

  /** The peer has made or fetched it. */
  put(peer: number, blob: Hash, bytes: Uint8Array): void {
    this.#hold(peer, this.#shelfOf(blob, bytes));
  }

  /** The peer has made this payload in a round. */
  putPayload(peer: number, blob: Hash, bytes: Uint8Array, round: number): void {
    this.#hold(peer, this.#file(this.#shelfOf(blob, bytes), round));
  }

  /** A message is about to be sent, to many: what its payload is like is the same for all, and found out once. */
  inspect(message: Message): void {
    if (message.type !== 'header' || !message.inline) return;
    const { payload, size } = message.update;
    const isNamed = message.inline.length === size && blobIdOf(message.inline, nativeSha256) === payload;
    if (isNamed) this.#announce(this.#shelfOf(payload, message.inline), message.round);
    const error = isNamed ? this.verdict(payload) : MISNAMED;
    if (error === null) return;
    this.#wrong.set(message, error);
    this.#isAnyWrong = true;
  }

  /** What a liar says of a later round does not keep it on any disk. */
  #announce(shelf: Shelf, round: number): void {
    if (!shelf.round || round <= shelf.round.round + LIMITS.payloadRoundsKept) this.#file(shelf, round);
  }

  /** Payloads have come to the peer inside these headers, which `inspect` has seen. */
  take(peer: number, headers: readonly Header[]): Taken {
    const sorted = this.#isAnyWrong ? this.#sort(headers) : { taken: headers, refused: NONE_REFUSED, misnamed: [] };
    const { taken } = sorted;
    if (taken.length === 0) return sorted;
    const { round } = taken[0]!;
    // a peer that stood still for many rounds: the others have dropped what it hears of now
    if (round < this.#goneBefore) {
      for (const { inline, update } of taken) this.#file(this.#shelfOf(update.payload, inline!), round);
    }
    const shelf = this.#roundOf(round);
    const lists = shelf.taken.get(peer);
    if (lists) lists.push(taken);
    else shelf.taken.set(peer, [taken]);
    shelf.holders.add(peer);
    return sorted;
  }

  #sort(headers: readonly Header[]): Taken {
    const refused = new Map<Header, string>();
    for (const header of headers) {
      const error = this.#wrong.get(header);
      if (error !== undefined && error !== MISNAMED) refused.set(header, error);
    }
    const isNamed = (header: Header): boolean => this.#wrong.get(header) !== MISNAMED;
    return { taken: headers.filter(isNamed), refused, misnamed: headers.filter((header) => !isNamed(header)) };
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
  verdict(blob: Hash): string | null {
    const shelf = this.#shelves.get(blob);
    if (!shelf) return 'E_BLOB_UNAVAILABLE';
    if (shelf.verdict === undefined) shelf.verdict = this.#check(shelf.bytes);
    return shelf.verdict;
  }

  /** All else that the peer has of blobs, whole or in part, is gone: so a process clears its disk when it starts. */
  retain(peer: number, keep: ReadonlySet<Hash>): void {
    for (const shelf of this.#shelves.values()) {
      if (keep.has(shelf.blob)) continue;
      shelf.partial.delete(peer);
      shelf.holders.delete(peer);
      shelf.kept.delete(peer);
      if (!shelf.round && shelf.holders.size === 0) this.#shelves.delete(shelf.blob);
    }
    for (const { taken } of this.#rounds.values()) {
      const lists = taken.get(peer);
      if (lists)
        taken.set(
          peer,
          lists.map((headers) => headers.filter(({ update }) => keep.has(update.payload))),
        );
    }
  }

  drop(peer: number, blob: Hash): void {
    const shelf = this.#shelves.get(blob);
    if (!shelf) return;
    shelf.partial.delete(peer);
    shelf.holders.delete(peer);
    shelf.kept.delete(peer);
    if (shelf.holders.size === 0) this.#shelves.delete(blob);
  }

  /** A payload that the peer has is needed as long as those of this round, by this peer. */
  refile(peer: number, blob: Hash, round: number): void {
    const shelf = this.#shelves.get(blob);
    if (!shelf || !this.#holds(peer, shelf)) return;
    this.#hold(peer, shelf);
    shelf.kept.set(peer, Math.max(round, shelf.kept.get(peer) ?? 0));
  }

  /** The peer's disk drops the payloads of all rounds before this one. */
  dropPayloads(peer: number, before: number): void {
    for (const [round, shelf] of this.#rounds) {
      if (round >= before) continue;
      for (const blob of shelf.blobs) this.#dropOf(peer, blob, shelf, before);
      shelf.holders.delete(peer);
      shelf.taken.delete(peer);
      if (shelf.holders.size > 0) continue;
      this.#rounds.delete(round);
      this.#goneBefore = Math.max(this.#goneBefore, round + 1);
      for (const blob of shelf.blobs) this.#passOn(blob, shelf);
    }
  }

  #dropOf(peer: number, blob: Hash, round: RoundShelf, before: number): void {
    const shelf = this.#shelves.get(blob);
    if (shelf?.round !== round || (shelf.kept.get(peer) ?? 0) >= before) return;
    shelf.kept.delete(peer);
    shelf.holders.delete(peer);
  }

  /** All others have dropped it with its round. */
  #passOn(blob: Hash, round: RoundShelf): void {
    const shelf = this.#shelves.get(blob);
    if (shelf?.round !== round) return;
    if (shelf.kept.size === 0) this.#shelves.delete(blob);
    else this.#file(shelf, Math.max(...shelf.kept.values()));
  }

  #hold(peer: number, shelf: Shelf): void {
    shelf.holders.add(peer);
    shelf.round?.holders.add(peer);
    if (shelf.partial.size > 0) shelf.partial.delete(peer);
  }

  /** Filed under the last round in which it is of use, with all who have it then. */
  #file(shelf: Shelf, round: number): Shelf {
    const before = shelf.round;
    if (before && before.round >= round) return shelf;
    const all = before ? Array.from({ length: this.#peers }, (_, peer) => peer) : [];
    const holders = all.filter((peer) => this.#holds(peer, shelf));
    shelf.round = this.#roundOf(round);
    shelf.round.blobs.add(shelf.blob);
    for (const peer of holders) this.#hold(peer, shelf);
    return shelf;
  }

  #holds(peer: number, { blob, holders, round }: Shelf): boolean {
    if (round === undefined) return holders.has(peer);
    if (holders.has(peer)) return true;
    // a payload may be announced in more than one round: it is filed under the last
    for (const { taken } of this.#rounds.values()) {
      const lists = taken.get(peer) ?? [];
      if (lists.some((headers) => headers.some(({ update }) => update.payload === blob))) return true;
    }
    return false;
  }

  #shelfOf(blob: Hash, bytes: Uint8Array): Shelf {
    let shelf = this.#shelves.get(blob);
    if (!shelf) {
      const holders = new Peers(this.#peers);
      const here = { holders, partial: new Map(), kept: new Map() };
      shelf = { blob, size: bytes.length, bytes, ...here, verdict: undefined, round: undefined };
      this.#shelves.set(blob, shelf);
    }
    return shelf;
  }

  #roundOf(round: number): RoundShelf {
    let shelf = this.#rounds.get(round);
    if (!shelf) {
      shelf = { round, blobs: new Set(), holders: new Peers(this.#peers), taken: new Map() };
      this.#rounds.set(round, shelf);
    }
    return shelf;
  }
}

const MISNAMED = 'misnamed';
const NONE_REFUSED: ReadonlyMap<Header, string> = new Map();

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

import './polyfill.ts';
import type { Connection, Stream } from '@libp2p/interface';
import { bytesToHex, HASH_BYTES, type Hash, hexToBytes } from '../../protocol/hash.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { networkError } from './errors.ts';
import { Frames } from './frames.ts';
import { NET_LIMITS } from './limits.ts';
import type { ByteCounters, StreamComponents } from './streams.ts';
import { Turns } from './turns.ts';

export const BLOB_PROTOCOL = '/outerloop/blob/2.0.0';

/** The chunk that one stream is given. */
interface Held {
  id: Hash;
  /** none where it is not here */
  chunk: Uint8Array | undefined;
  /** bytes */
  size: number;
  given: number;
  done: () => void;
}

/** A request: hash, and as 32 bits each, big-endian, the first byte that is wanted and how many. */
const REQUEST_BYTES = HASH_BYTES + 8;

/** Bytes of a chunk, or fewer where that ends before. */
export interface PieceRequest {
  id: Hash;
  offset: number;
  length: number;
}

export function encodePieceRequest({ id, offset, length }: PieceRequest): Uint8Array {
  const bytes = new Uint8Array(REQUEST_BYTES);
  bytes.set(hexToBytes(id));
  const numbers = new DataView(bytes.buffer, HASH_BYTES);
  numbers.setUint32(0, offset);
  numbers.setUint32(4, length);
  return bytes;
}

function decodePieceRequest(bytes: Uint8Array): PieceRequest {
  if (bytes.length !== REQUEST_BYTES) {
    throw networkError('E_MALFORMED', `a request for a piece has ${REQUEST_BYTES} bytes, not ${bytes.length}`);
  }
  const numbers = new DataView(bytes.buffer, bytes.byteOffset + HASH_BYTES);
  return { id: bytesToHex(bytes.subarray(0, HASH_BYTES)), offset: numbers.getUint32(0), length: numbers.getUint32(4) };
}

/** The first byte of an answer; after `here` come the bytes. */
export const BLOB_ANSWER = { here: 0, missing: 1 } as const;

/** What a member may ask for: chunks and manifests, each at most `LIMITS.chunkBytes`. */
export interface BlobSource {
  read(id: Hash): Promise<Uint8Array | undefined>;
}

export interface BlobServerComponents extends StreamComponents {
  source: BlobSource;
}

/**
 * Serves chunks by hash to members, piece by piece. An answer is a status byte and the piece; answers come in the order of
 * the requests, one at a time, so that a peer makes us hold one chunk for each of its few streams. The asker gives the
 * credit: nothing is sent that was not asked for. Strangers take turns, see `Turns`.
 */
export class BlobServer {
  readonly counters: ByteCounters = { bytesSent: 0, bytesReceived: 0 };
  readonly #components: BlobServerComponents;
  readonly #turns = new Turns();
  /** bytes that were read for a peer that is here and not taken by it, and when that was noted */
  readonly #inVain = new Map<PeerId, { bytes: number; atMs: number }>();
  #underWay = 0;
  /** streams that are given a chunk, and when the last piece of any left */
  #holding = 0;
  #gaveMs = Number.NEGATIVE_INFINITY;

  constructor(components: BlobServerComponents) {
    this.#components = components;
  }

  /** Chunks on their way, each for as long as its receiver takes; who asks for no more of one has gone, or has no use for it. */
  get isBusy(): boolean {
    return this.#underWay > 0 || (this.#holding > 0 && performance.now() - this.#gaveMs < NET_LIMITS.blobStallMs);
  }

  async start(): Promise<void> {
    this.#components.members.onChange((peer, change) => {
      if (change === 'down') this.#inVain.delete(peer);
    });
    const options = { maxInboundStreams: NET_LIMITS.streamsPerPeerMax };
    await this.#components.host.node.handle(
      BLOB_PROTOCOL,
      (stream, connection) => this.#serve(stream, connection),
      options,
    );
  }

  async #serve(stream: Stream, connection: Connection): Promise<void> {
    const unreadBytesMax = NET_LIMITS.pieceRequestsQueuedMax * (REQUEST_BYTES + 1);
    const frames = new Frames(stream, { frameBytesMax: REQUEST_BYTES, unreadBytesMax });
    const peer = connection.remotePeer.toString();
    const { members } = this.#components;
    const gone = new AbortController();
    stream.addEventListener('close', () => gone.abort(), { once: true });
    // a chunk is read, and checked, once for all its pieces, and held until the last one is asked for; its turn is one turn
    let held: Held | undefined;
    try {
      await members.admitted(peer);
      for (;;) {
        const request = await frames.read();
        if (!request) break;
        const piece = decodePieceRequest(request);
        if (held?.id !== piece.id) {
          held?.done();
          held = undefined;
          // also on another stream
          if (this.#readInVain(peer) > NET_LIMITS.chunksReadInVainMax * LIMITS.chunkBytes) {
            throw networkError('E_BUSY', `${peer} asks for many chunks and takes little of them`);
          }
          held = await this.#hold(piece.id, peer, gone.signal);
          this.#note(peer, held.size);
        }
        const answer = answerOf(piece, held.chunk);
        held.given += answer.length - 1;
        // who stops in mid-chunk makes up for it with the next one
        this.#note(peer, -2 * (answer.length - 1));
        this.counters.bytesReceived += request.length;
        await this.#give(frames, answer);
        // who asks for the same piece again and again has had its turn, too
        if (Math.max(held.given, piece.offset + piece.length) < held.size) continue;
        held.done();
        held = undefined;
      }
      frames.close();
    } catch (error) {
      frames.abort(error instanceof Error ? error : new Error(String(error)));
    } finally {
      held?.done();
    }
  }

  /** Who fetches from several leaves some to others: a chunk a second is forgiven. */
  #readInVain(peer: PeerId): number {
    const { bytes, atMs } = this.#inVain.get(peer) ?? { bytes: 0, atMs: 0 };
    return Math.max(0, bytes - (LIMITS.chunkBytes * (performance.now() - atMs)) / 1000);
  }

  #note(peer: PeerId, change: number): void {
    const bytes = this.#readInVain(peer) + change;
    if (bytes > 0 && this.#components.members.has(peer)) this.#inVain.set(peer, { bytes, atMs: performance.now() });
    else this.#inVain.delete(peer);
  }

  /** Waits for a turn, and reads the chunk. */
  async #hold(id: Hash, peer: string, signal: AbortSignal): Promise<Held> {
    const { members, source } = this.#components;
    const over = await this.#turns.take(peer, members.isInRoster(peer), signal);
    this.#holding++;
    const done = (): void => {
      over();
      this.#holding--;
    };
    try {
      const chunk = await source.read(id);
      return { id, chunk, size: chunk?.length ?? 0, given: 0, done };
    } catch (error) {
      done();
      throw error;
    }
  }

  async #give(frames: Frames, answer: Uint8Array): Promise<void> {
    this.#underWay++;
    try {
      await frames.write(answer);
      this.counters.bytesSent += answer.length;
    } finally {
      this.#underWay--;
      this.#gaveMs = performance.now();
    }
  }
}

function answerOf({ offset, length }: PieceRequest, chunk: Uint8Array | undefined): Uint8Array {
  if (!chunk || chunk.length > LIMITS.chunkBytes) return Uint8Array.of(BLOB_ANSWER.missing);
  const piece = chunk.subarray(offset, offset + length);
  const answer = new Uint8Array(1 + piece.length);
  answer[0] = BLOB_ANSWER.here;
  answer.set(piece, 1);
  return answer;
}

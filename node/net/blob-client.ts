import './polyfill.ts';
import { createHash } from 'node:crypto';
import type { CodedError } from '../../protocol/errors.ts';
import { assert } from '../../protocol/errors.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { BLOB_ANSWER, BLOB_PROTOCOL, encodePieceRequest, type PieceRequest } from './blob-server.ts';
import { Credit } from './credit.ts';
import { abortedBy } from './deadline.ts';
import { networkError } from './errors.ts';
import type { Frames } from './frames.ts';
import { NET_LIMITS } from './limits.ts';
import { type ByteCounters, openFrames, type StreamComponents } from './streams.ts';

export interface ChunkReference {
  id: Hash;
  /** bytes, as the blob says that it is of */
  size: number;
}

interface Request {
  id: Hash;
  /** filled from its beginning */
  chunk: Uint8Array;
  /** bytes that were asked for, and that are to be: one more than it is said to have, for it may be longer than that */
  asked: number;
  end: number;
  /** it was answered, or nobody waits for it any more */
  isOver: boolean;
  resolve: (bytes: Uint8Array) => void;
  reject: (error: Error) => void;
}

interface Piece extends PieceRequest {
  request: Request;
  askedMs: number;
}

/**
 * Fetches single chunks from members, piece by piece. One stream to each provider is kept and reused; as many pieces are under
 * way on it as its `Credit` allows, the rest wait here, which is all the flow control there is and all that is needed.
 */
export class BlobClient {
  readonly counters: ByteCounters = { bytesSent: 0, bytesReceived: 0 };
  readonly #components: StreamComponents;
  readonly #channels = new Map<PeerId, Promise<Channel>>();
  /** when the last answer came, by `performance.now()` */
  readonly #heardMs = new Map<PeerId, number>();
  readonly #credits = new Map<PeerId, Credit>();

  constructor(components: StreamComponents) {
    this.#components = components;
    components.members.onChange((peer, change) => {
      if (change === 'up') return;
      this.#channels.delete(peer);
      this.#heardMs.delete(peer);
      this.#credits.delete(peer);
    });
  }

  /**
   * The bytes whose SHA-256 is `id`, checked, however many they are.
   * @throws CodedError `E_BLOB_UNAVAILABLE` if the peer does not have them, `E_BLOB_CORRUPT` if it sent others;
   *   `E_NOT_CONNECTED`, `E_STREAM_CLOSED`, `E_TIMEOUT`, `E_TOO_LARGE` if nothing more can be had from it now
   */
  async fetchChunk(peer: PeerId, { id, size }: ChunkReference, signal?: AbortSignal): Promise<Uint8Array> {
    if (signal?.aborted) throw abortedBy(signal);
    const channel = await this.#channelTo(peer);
    if (signal?.aborted) throw abortedBy(signal); // meanwhile: a listener would never hear of it
    return new Promise((resolve, reject) => {
      // what was asked for is then read and thrown away
      const onAbort = (): void => channel.drop(request, abortedBy(signal));
      const settled = (): void => signal?.removeEventListener('abort', onAbort);
      const end = Math.min(size + 1, LIMITS.chunkBytes);
      const request: Request = {
        id,
        chunk: new Uint8Array(end),
        asked: 0,
        end,
        isOver: false,
        resolve: (bytes) => {
          settled();
          resolve(bytes);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      channel.ask(request);
    });
  }

  /** Chunks that this peer can be at, and one more. */
  chunksAtOnce(peer: PeerId): number {
    const pieces = this.#credits.get(peer)?.pieces ?? 1;
    return 1 + Math.ceil((pieces * NET_LIMITS.pieceBytes) / LIMITS.chunkBytes);
  }

  /** When this peer answered last, by `performance.now()`; 0 where it has not. */
  heardMs(peer: PeerId): number {
    return this.#heardMs.get(peer) ?? 0;
  }

  #channelTo(peer: PeerId): Promise<Channel> {
    const known = this.#channels.get(peer);
    if (known) return known;
    const opening = this.#open(peer);
    this.#channels.set(peer, opening);
    opening.catch(() => this.#forget(peer, opening));
    return opening;
  }

  async #open(peer: PeerId): Promise<Channel> {
    const onHeard = (): void => void this.#heardMs.set(peer, performance.now());
    const channel = new Channel({ peer, counters: this.counters, credit: this.#creditOf(peer), onHeard });
    const frames = await openFrames(this.#components, peer, BLOB_PROTOCOL, {
      frameBytesMax: 2 + NET_LIMITS.pieceBytes,
      unreadBytesMax: NET_LIMITS.piecesAskedPerProvider * (2 + NET_LIMITS.pieceBytes + 4),
      queueMax: NET_LIMITS.piecesAskedPerProvider,
      onProgress: () => channel.onProgress(),
    });
    void channel.run(frames).finally(() => this.#forget(peer, this.#channels.get(peer)));
    return channel;
  }

  #creditOf(peer: PeerId): Credit {
    const credit = this.#credits.get(peer) ?? new Credit(this.#credits);
    this.#credits.set(peer, credit);
    return credit;
  }

  #forget(peer: PeerId, channel: Promise<Channel> | undefined): void {
    if (this.#channels.get(peer) === channel) this.#channels.delete(peer);
  }
}

/** One stream to one provider: requests go out as there is credit, answers come back in their order. */
class Channel {
  readonly #peer: PeerId;
  readonly #counters: ByteCounters;
  readonly #credit: Credit;
  readonly #onHeard: () => void;
  /** not asked for in full */
  readonly #waiting: Request[] = [];
  readonly #asked: Piece[] = [];
  #frames: Frames | undefined;
  #failure: CodedError | undefined;
  #stall: NodeJS.Timeout | undefined;
  #chunk: NodeJS.Timeout | undefined;

  constructor(init: { peer: PeerId; counters: ByteCounters; credit: Credit; onHeard: () => void }) {
    this.#peer = init.peer;
    this.#counters = init.counters;
    this.#credit = init.credit;
    this.#onHeard = init.onHeard;
  }

  ask(request: Request): void {
    if (this.#failure) {
      request.reject(this.#failure);
      return;
    }
    this.#waiting.push(request);
    this.#send();
  }

  /** Nobody waits for it any more. */
  drop(request: Request, error: Error): void {
    this.#end(request);
    request.reject(error);
    this.#send();
  }

  onProgress(): void {
    if (this.#asked.length > 0) this.#watchStall();
  }

  /** Reads answers until the stream ends or fails; then every request that is left fails. */
  async run(frames: Frames): Promise<void> {
    this.#frames = frames;
    try {
      this.#send();
      for (;;) {
        const answer = await frames.read();
        if (!answer) throw networkError('E_STREAM_CLOSED', `${this.#peer} ended the blob stream`);
        this.#counters.bytesReceived += answer.length;
        this.#onAnswer(answer);
      }
    } catch (error) {
      this.#fail(error as CodedError);
    }
  }

  #send(): void {
    const frames = this.#frames;
    if (!frames) return;
    if (this.#asked.length === 0) this.#credit.begin(performance.now());
    while (this.#asked.length < this.#credit.pieces) {
      const request = this.#waiting[0];
      if (!request) break;
      const { id, asked: offset, end } = request;
      // no piece of its own for the byte that is not expected
      const length = end - offset <= NET_LIMITS.pieceBytes + 1 ? end - offset : NET_LIMITS.pieceBytes;
      this.#asked.push({ request, id, offset, length, askedMs: performance.now() });
      request.asked += length;
      if (request.asked === end) this.#waiting.shift();
      if (this.#asked.length === 1 && offset === 0) this.#watchChunk();
      const bytes = encodePieceRequest({ id, offset, length });
      this.#counters.bytesSent += bytes.length;
      frames.write(bytes).catch((error: CodedError) => this.#fail(error));
    }
  }

  #onAnswer(answer: Uint8Array): void {
    const isFull = this.#asked.length >= this.#credit.pieces;
    const piece = this.#asked.shift();
    if (!piece) throw networkError('E_MALFORMED', `${this.#peer} sent a piece that was not asked for`);
    // a shorter one takes less time than there is at the least
    if (answer.length > NET_LIMITS.pieceBytes) this.#credit.onPiece(piece.askedMs, performance.now(), isFull);
    if (!piece.request.isOver) this.#onPiece(piece, answer);
    if (piece.request.isOver) {
      this.#onHeard();
      this.#watchChunk();
    }
    this.#send();
  }

  #onPiece({ request, offset, length }: Piece, answer: Uint8Array): void {
    const { id, chunk, end } = request;
    const bytes = answer.subarray(1);
    if (answer[0] === BLOB_ANSWER.missing) {
      this.#end(request);
      return request.reject(networkError('E_BLOB_UNAVAILABLE', `${this.#peer} does not have ${id}`));
    }
    const isSound = answer[0] === BLOB_ANSWER.here && bytes.length <= length;
    if (isSound) chunk.set(bytes, offset);
    const here = offset + bytes.length;
    if (isSound && bytes.length === length && here < LIMITS.chunkBytes) {
      if (here === end) this.#goOn(request);
      return;
    }
    const whole = chunk.subarray(0, here);
    this.#end(request);
    if (isSound && createHash('sha256').update(whole).digest('hex') === id) return request.resolve(whole);
    const error = networkError('E_BLOB_CORRUPT', `${this.#peer} sent other bytes than ${id}`);
    request.reject(error);
    throw error; // what else it has to say is of no use
  }

  /** It is longer than whoever named it said: who has it is not to blame. */
  #goOn(request: Request): void {
    const whole = new Uint8Array(LIMITS.chunkBytes);
    whole.set(request.chunk);
    request.chunk = whole;
    request.end = whole.length;
    this.#waiting.unshift(request);
  }

  #end(request: Request): void {
    request.isOver = true;
    const place = this.#waiting.indexOf(request);
    if (place >= 0) this.#waiting.splice(place, 1);
  }

  #watchStall(): void {
    clearTimeout(this.#stall);
    const { blobStallMs: ms } = NET_LIMITS;
    this.#stall = setTimeout(() => this.#late(`sent nothing for ${ms / 1000} s`), ms);
  }

  /** Both clocks start again: at the first request, and when the next chunk is awaited. */
  #watchChunk(): void {
    clearTimeout(this.#chunk);
    clearTimeout(this.#stall);
    if (this.#asked.length === 0 && this.#waiting.length === 0) return;
    const { blobChunkMs: ms } = NET_LIMITS;
    this.#chunk = setTimeout(() => this.#late(`took over ${ms / 1000} s for a chunk`), ms);
    this.#watchStall();
  }

  #late(what: string): void {
    this.#fail(networkError('E_TIMEOUT', `${this.#peer} ${what}`));
  }

  #fail(error: CodedError): void {
    if (this.#failure) return;
    assert(error instanceof Error, 'a failure is an error');
    this.#failure = error;
    clearTimeout(this.#stall);
    clearTimeout(this.#chunk);
    this.#frames?.abort(error);
    const left = new Set([...this.#asked.splice(0).map(({ request }) => request), ...this.#waiting.splice(0)]);
    for (const request of left) if (!request.isOver) request.reject(error);
  }
}

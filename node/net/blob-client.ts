import './polyfill.ts';
import { createHash } from 'node:crypto';
import type { CodedError } from '../../protocol/errors.ts';
import { assert } from '../../protocol/errors.ts';
import { HASH_BYTES, type Hash, hexToBytes } from '../../protocol/hash.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { BLOB_ANSWER, BLOB_PROTOCOL } from './blob-server.ts';
import { abortedBy } from './deadline.ts';
import { networkError } from './errors.ts';
import type { Frames } from './frames.ts';
import { NET_LIMITS } from './limits.ts';
import { type ByteCounters, openFrames, type StreamComponents } from './streams.ts';

interface Request {
  id: Hash;
  resolve: (bytes: Uint8Array) => void;
  reject: (error: Error) => void;
}

/**
 * Fetches single chunks from members. One stream to each provider is kept and reused; a few requests are under way on
 * it, the rest wait here, which is all the flow control there is and all that is needed.
 */
export class BlobClient {
  readonly counters: ByteCounters = { bytesSent: 0, bytesReceived: 0 };
  readonly #components: StreamComponents;
  readonly #channels = new Map<PeerId, Promise<Channel>>();
  /** when the last answer came, by `performance.now()` */
  readonly #heardMs = new Map<PeerId, number>();

  constructor(components: StreamComponents) {
    this.#components = components;
    components.members.onChange((peer, change) => {
      if (change === 'up') return;
      this.#channels.delete(peer);
      this.#heardMs.delete(peer);
    });
  }

  /**
   * The bytes whose SHA-256 is `id`, checked.
   * @throws CodedError `E_BLOB_UNAVAILABLE` if the peer does not have them, `E_BLOB_CORRUPT` if it sent others;
   *   `E_NOT_CONNECTED`, `E_STREAM_CLOSED`, `E_TIMEOUT`, `E_TOO_LARGE` if nothing more can be had from it now
   */
  async fetchChunk(peer: PeerId, id: Hash, signal?: AbortSignal): Promise<Uint8Array> {
    if (signal?.aborted) throw abortedBy(signal);
    const channel = await this.#channelTo(peer);
    if (signal?.aborted) throw abortedBy(signal); // meanwhile: a listener would never hear of it
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(abortedBy(signal)); // the answer is then read and thrown away
      signal?.addEventListener('abort', onAbort, { once: true });
      const settled = (): void => signal?.removeEventListener('abort', onAbort);
      channel.ask({
        id,
        resolve: (bytes) => {
          settled();
          resolve(bytes);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      });
    });
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
    const channel = new Channel(peer, this.counters, onHeard);
    const frames = await openFrames(this.#components, peer, BLOB_PROTOCOL, {
      frameBytesMax: 1 + LIMITS.chunkBytes,
      unreadBytesMax: NET_LIMITS.chunksAskedPerProvider * (1 + LIMITS.chunkBytes + 4),
      queueMax: NET_LIMITS.chunksAskedPerProvider,
      onProgress: () => channel.onProgress(),
    });
    void channel.run(frames).finally(() => this.#forget(peer, this.#channels.get(peer)));
    return channel;
  }

  #forget(peer: PeerId, channel: Promise<Channel> | undefined): void {
    if (this.#channels.get(peer) === channel) this.#channels.delete(peer);
  }
}

/** One stream to one provider: requests go out a few at a time, answers come back in their order. */
class Channel {
  readonly #peer: PeerId;
  readonly #counters: ByteCounters;
  readonly #onHeard: () => void;
  readonly #waiting: Request[] = [];
  readonly #asked: Request[] = [];
  #frames: Frames | undefined;
  #failure: CodedError | undefined;
  #stall: NodeJS.Timeout | undefined;
  #chunk: NodeJS.Timeout | undefined;

  constructor(peer: PeerId, counters: ByteCounters, onHeard: () => void) {
    this.#peer = peer;
    this.#counters = counters;
    this.#onHeard = onHeard;
  }

  ask(request: Request): void {
    if (this.#failure) {
      request.reject(this.#failure);
      return;
    }
    this.#waiting.push(request);
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
    while (this.#asked.length < NET_LIMITS.chunksAskedPerProvider) {
      const request = this.#waiting.shift();
      if (!request) break;
      this.#asked.push(request);
      if (this.#asked.length === 1) this.#watchChunk();
      this.#counters.bytesSent += HASH_BYTES;
      frames.write(hexToBytes(request.id)).catch((error: CodedError) => this.#fail(error));
    }
  }

  #onAnswer(answer: Uint8Array): void {
    const request = this.#asked.shift();
    if (!request) throw networkError('E_MALFORMED', `${this.#peer} sent a chunk that was not asked for`);
    this.#watchChunk();
    this.#onHeard();
    const bytes = answer.subarray(1);
    if (answer[0] === BLOB_ANSWER.missing) {
      request.reject(networkError('E_BLOB_UNAVAILABLE', `${this.#peer} does not have ${request.id}`));
    } else if (answer[0] === BLOB_ANSWER.here && createHash('sha256').update(bytes).digest('hex') === request.id) {
      request.resolve(bytes);
    } else {
      const error = networkError('E_BLOB_CORRUPT', `${this.#peer} sent other bytes than ${request.id}`);
      request.reject(error);
      throw error; // what else it has to say is of no use
    }
    this.#send();
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
    for (const { reject } of [...this.#asked.splice(0), ...this.#waiting.splice(0)]) reject(error);
  }
}

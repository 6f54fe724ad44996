import './polyfill.ts';
import type { Connection, Stream } from '@libp2p/interface';
import { assert } from '../../protocol/errors.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { within } from './deadline.ts';
import { networkError, printable } from './errors.ts';
import { Frames } from './frames.ts';
import { NET_LIMITS } from './limits.ts';
import { type ByteCounters, openFrames, type StreamComponents } from './streams.ts';

export const SYNC_PROTOCOL = '/outerloop/sync/1.0.0';

/** The first byte of an answer: the answer follows, or text on why there is none. */
const STATUS = { answer: 0, failed: 1 } as const;

/** What is asked and answered is the caller's affair. An error's message is told to the asker. */
export type RequestHandler = (request: Uint8Array, from: PeerId) => Promise<Uint8Array>;

export interface SyncComponents extends StreamComponents {
  onRequest: RequestHandler;
}

/** One request, one answer, one stream: for what a peer that was away has to ask. */
export class Sync {
  readonly counters: ByteCounters = { bytesSent: 0, bytesReceived: 0 };
  readonly #components: SyncComponents;
  readonly #serving = new Map<PeerId, number>();
  /** streams on which strangers have not read their answer, oldest first */
  readonly #unread = new Set<Frames>();

  constructor(components: SyncComponents) {
    this.#components = components;
  }

  async start(): Promise<void> {
    // twice as many streams as requests are worked on, so that one request too many is answered and not cut off
    const options = { maxInboundStreams: 2 * NET_LIMITS.syncRequestsPerPeerMax };
    await this.#components.host.node.handle(
      SYNC_PROTOCOL,
      (stream, connection) => this.#serve(stream, connection),
      options,
    );
  }

  /**
   * @param bytes at least one, at most `historyRequestBytesMax`
   * @returns at most `LIMITS.historyBytesMax` bytes, as the peer sent them
   * @throws CodedError `E_REFUSED` with the peer's words, `E_NOT_CONNECTED`, `E_STREAM_CLOSED`, `E_TIMEOUT`,
   *   `E_TOO_LARGE`, `E_ABORTED`
   */
  async request(peer: PeerId, bytes: Uint8Array, { signal }: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    assert(bytes.length > 0 && bytes.length <= LIMITS.historyRequestBytesMax, `sync request of ${bytes.length} bytes`);
    const init = { frameBytesMax: 1 + LIMITS.historyBytesMax };
    const frames = await openFrames(this.#components, peer, SYNC_PROTOCOL, init, signal);
    try {
      await frames.write(bytes);
      this.counters.bytesSent += bytes.length;
      const answer = await within(frames.read(), { ms: NET_LIMITS.syncMs, what: `answer from ${peer}`, signal });
      if (!answer) throw networkError('E_STREAM_CLOSED', `${peer} ended the stream without an answer`);
      this.counters.bytesReceived += answer.length;
      if (answer[0] === STATUS.answer) return answer.subarray(1);
      const text = printable(new TextDecoder().decode(answer.subarray(1)), NET_LIMITS.textMax);
      throw networkError('E_REFUSED', `${peer} could not answer: ${text}`);
    } finally {
      // whatever else it sends would be kept, and read by nobody
      frames.abort(networkError('E_ABORTED', 'nothing more is wanted of this stream'));
    }
  }

  async #serve(stream: Stream, connection: Connection): Promise<void> {
    const frames = new Frames(stream, { frameBytesMax: LIMITS.historyRequestBytesMax });
    const peer = connection.remotePeer.toString();
    try {
      await this.#components.members.admitted(peer);
      const request = await within(frames.read(), { ms: NET_LIMITS.syncMs, what: 'request' });
      if (!request) throw networkError('E_STREAM_CLOSED', 'the stream ended without a request');
      this.counters.bytesReceived += request.length;
      await this.#reply(frames, request, peer);
      frames.close();
    } catch (error) {
      frames.abort(error as Error);
    }
  }

  /** A request counts until its answer is read: answers that nobody reads are what fills our memory. */
  async #reply(frames: Frames, request: Uint8Array, peer: PeerId): Promise<void> {
    const serving = this.#serving.get(peer) ?? 0;
    if (serving >= NET_LIMITS.syncRequestsPerPeerMax) {
      return this.#write(frames, failed(`${serving} requests of yours are being worked on`));
    }
    this.#serving.set(peer, serving + 1);
    if (!this.#components.members.isInRoster(peer)) this.#noteStranger(frames);
    try {
      await this.#write(frames, await this.#answer(request, peer));
    } finally {
      this.#unread.delete(frames);
      const left = (this.#serving.get(peer) ?? 1) - 1;
      if (left > 0) this.#serving.set(peer, left);
      else this.#serving.delete(peer);
    }
  }

  /** Names cost nothing: with many of them strangers could have us keep as many answers. */
  #noteStranger(frames: Frames): void {
    this.#unread.add(frames);
    const [oldest] = this.#unread;
    if (!oldest || this.#unread.size <= NET_LIMITS.syncStrangersMax) return;
    this.#unread.delete(oldest);
    oldest.abort(networkError('E_BUSY', 'too many answers are read too slowly'));
  }

  async #answer(request: Uint8Array, peer: PeerId): Promise<Uint8Array> {
    try {
      const answer = await this.#components.onRequest(request, peer);
      assert(answer.length <= LIMITS.historyBytesMax, `sync answer of ${answer.length} bytes`);
      return framed(STATUS.answer, answer);
    } catch (error) {
      return failed(error instanceof Error ? error.message : 'unknown error');
    }
  }

  async #write(frames: Frames, answer: Uint8Array): Promise<void> {
    await within(frames.write(answer), { ms: NET_LIMITS.syncMs, what: 'reader for our answer' });
    this.counters.bytesSent += answer.length;
  }
}

function failed(text: string): Uint8Array {
  return framed(STATUS.failed, new TextEncoder().encode(text.slice(0, NET_LIMITS.textMax)));
}

function framed(status: number, body: Uint8Array): Uint8Array {
  const answer = new Uint8Array(1 + body.length);
  answer[0] = status;
  answer.set(body, 1);
  return answer;
}

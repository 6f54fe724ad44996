import './polyfill.ts';
import type { Connection, Stream } from '@libp2p/interface';
import { bytesToHex, HASH_BYTES, type Hash } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { networkError } from './errors.ts';
import { Frames } from './frames.ts';
import { NET_LIMITS } from './limits.ts';
import type { ByteCounters, StreamComponents } from './streams.ts';
import { Turns } from './turns.ts';

export const BLOB_PROTOCOL = '/outerloop/blob/1.0.0';

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
 * Serves chunks by hash to members. A request is a frame of 32 bytes, an answer a status byte and the chunk; answers
 * come in the order of the requests, one at a time, so that a peer makes us hold one chunk for each of its few streams.
 * The asker gives the credit: nothing is sent that was not asked for. Strangers take turns, see `Turns`.
 */
export class BlobServer {
  readonly counters: ByteCounters = { bytesSent: 0, bytesReceived: 0 };
  readonly #components: BlobServerComponents;
  readonly #turns = new Turns();
  #underWay = 0;

  constructor(components: BlobServerComponents) {
    this.#components = components;
  }

  /** Chunks on their way, each for as long as its receiver takes. */
  get isBusy(): boolean {
    return this.#underWay > 0;
  }

  async start(): Promise<void> {
    const options = { maxInboundStreams: NET_LIMITS.streamsPerPeerMax };
    await this.#components.host.node.handle(
      BLOB_PROTOCOL,
      (stream, connection) => this.#serve(stream, connection),
      options,
    );
  }

  async #serve(stream: Stream, connection: Connection): Promise<void> {
    const unreadBytesMax = NET_LIMITS.chunkRequestsQueuedMax * (HASH_BYTES + 1);
    const frames = new Frames(stream, { frameBytesMax: HASH_BYTES, unreadBytesMax });
    const peer = connection.remotePeer.toString();
    const { members } = this.#components;
    const gone = new AbortController();
    stream.addEventListener('close', () => gone.abort(), { once: true });
    try {
      await members.admitted(peer);
      for (;;) {
        const request = await frames.read();
        if (!request) break;
        if (request.length !== HASH_BYTES) throw networkError('E_MALFORMED', 'a blob request is a hash of 32 bytes');
        const done = await this.#turns.take(peer, members.isInRoster(peer), gone.signal);
        this.#underWay++;
        try {
          const answer = await this.#answer(bytesToHex(request));
          await frames.write(answer);
          this.counters.bytesSent += answer.length;
          this.counters.bytesReceived += request.length;
        } finally {
          this.#underWay--;
          done();
        }
      }
      frames.close();
    } catch (error) {
      frames.abort(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #answer(id: Hash): Promise<Uint8Array> {
    const bytes = await this.#components.source.read(id);
    if (!bytes || bytes.length > LIMITS.chunkBytes) return Uint8Array.of(BLOB_ANSWER.missing);
    const answer = new Uint8Array(1 + bytes.length);
    answer[0] = BLOB_ANSWER.here;
    answer.set(bytes, 1);
    return answer;
  }
}

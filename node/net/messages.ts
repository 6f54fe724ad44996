import './polyfill.ts';
import type { Connection, Stream } from '@libp2p/interface';
import { assert } from '../../protocol/errors.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { networkError } from './errors.ts';
import { Frames } from './frames.ts';
import type { Verdict } from './gossip.ts';
import { NET_LIMITS } from './limits.ts';
import { type ByteCounters, openFrames, type StreamComponents, untilAdmitted } from './streams.ts';

export const MESSAGE_PROTOCOL = '/outerloop/message/1.0.0';

export interface MessagesComponents extends StreamComponents {
  validate: (bytes: Uint8Array, from: PeerId) => Verdict;
  onMessage: (bytes: Uint8Array, from: PeerId) => void;
}

/**
 * Control messages to one peer, the same bytes as in gossip: for what a new neighbour must know before the gossip mesh
 * has formed, and for what it must hear again. In order, on one stream that is kept. No answer: delivery is as sure as
 * the connection.
 */
export class Messages {
  readonly counters: ByteCounters & { rejected: number } = { bytesSent: 0, bytesReceived: 0, rejected: 0 };
  readonly #components: MessagesComponents;
  readonly #streams = new Map<PeerId, Promise<Frames>>();

  constructor(components: MessagesComponents) {
    this.#components = components;
    components.members.onChange((peer, change) => {
      if (change === 'down') this.#streams.delete(peer);
    });
  }

  async start(): Promise<void> {
    const options = { maxInboundStreams: NET_LIMITS.streamsPerPeerMax };
    const { node } = this.#components.host;
    await node.handle(MESSAGE_PROTOCOL, (stream, connection) => this.#receive(stream, connection), options);
  }

  /**
   * @param bytes at least one, at most `LIMITS.gossipBytesMax`; not to be changed until the promise resolves
   * @throws CodedError `E_NOT_CONNECTED`, `E_STREAM_CLOSED`, `E_BUSY` when `messagesQueuedMax` wait for a slow peer
   */
  async send(peer: PeerId, bytes: Uint8Array): Promise<void> {
    assert(bytes.length > 0 && bytes.length <= LIMITS.gossipBytesMax, `message of ${bytes.length} bytes`);
    const frames = await this.#streamTo(peer);
    await frames.write(bytes);
    this.counters.bytesSent += bytes.length;
  }

  async #streamTo(peer: PeerId): Promise<Frames> {
    const known = this.#streams.get(peer);
    if (known && (await known).open) return known;
    if (this.#streams.get(peer) !== known) return this.#streamTo(peer); // someone else has renewed it meanwhile
    // the other side sends nothing here
    const init = { frameBytesMax: 1, queueMax: NET_LIMITS.messagesQueuedMax };
    const opening = openFrames(this.#components, peer, MESSAGE_PROTOCOL, init);
    this.#streams.set(peer, opening);
    opening.catch(() => {
      if (this.#streams.get(peer) === opening) this.#streams.delete(peer);
    });
    return opening;
  }

  async #receive(stream: Stream, connection: Connection): Promise<void> {
    const frames = new Frames(stream, {
      frameBytesMax: LIMITS.gossipBytesMax,
      // a sender may be ahead by what one read from the socket brings; messages are taken as they come
      unreadBytesMax: NET_LIMITS.gossipFrameBytesMax,
    });
    const peer = connection.remotePeer.toString();
    try {
      await untilAdmitted(stream, connection, this.#components.members);
      for (;;) {
        const bytes = await frames.read();
        if (!bytes) break;
        this.counters.bytesReceived += bytes.length;
        const verdict = this.#components.validate(bytes, peer);
        if (verdict === 'accept' || verdict === 'keep') this.#components.onMessage(bytes, peer);
        if (verdict !== 'reject') continue;
        this.counters.rejected++;
        throw networkError('E_MALFORMED', `${peer} sent a message that no honest peer sends`);
      }
      frames.close();
    } catch (error) {
      frames.abort(error as Error);
    }
  }
}

import './polyfill.ts';
import { createHash } from 'node:crypto';
import {
  type GossipSub,
  type GossipSubComponents,
  gossipsub,
  type Message,
  TopicValidatorResult,
} from '@chainsafe/libp2p-gossipsub';
import type { Connection, PeerId as Libp2pPeerId } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { assert } from '../../protocol/errors.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { plain } from './frames.ts';
import { gossipOptions } from './gossip-options.ts';
import { NET_LIMITS } from './limits.ts';
import type { Members } from './members.ts';
import { untilAdmitted } from './streams.ts';

/**
 * `accept` is for what is delivered and handed on, `keep` for what is delivered only; `ignore` for what is neither, through no
 * fault of the sender's; `reject` for what no honest peer sends or forwards: it costs the sender its standing.
 */
export type Verdict = 'accept' | 'keep' | 'ignore' | 'reject';

export interface GossipComponents {
  members: Members;
  /** @param from the member that handed it to us, not always its author */
  validate: (bytes: Uint8Array, from: PeerId) => Verdict;
  /** whether anything of this member is looked at now: a message that is looked at and ignored is not taken from others either */
  accepts: (from: PeerId) => boolean;
  onMessage: (bytes: Uint8Array, from: PeerId) => void;
}

export interface GossipInit {
  version: number;
  runId: string;
}

export interface GossipCounters {
  /** messages of ours that reached at least one peer */
  sent: number;
  /** messages of ours that nobody was there to hear */
  unheard: number;
  /** copies of messages that came, first or not */
  received: number;
  duplicates: number;
  ignored: number;
  rejected: number;
  /** of message bodies: ours, once for each recipient. What is forwarded for others is not seen here. */
  bytesSent: number;
  /** of message bodies, copies included */
  bytesReceived: number;
}

export function controlTopic(version: number, runId: string): string {
  return `/outerloop/${version}/${runId}/control`;
}

type Registrar = GossipSubComponents['registrar'];

/** What gossipsub's published type leaves out. */
interface Router extends GossipSub {
  publish(topic: string, data: Uint8Array, options?: { floodPublish?: boolean }): ReturnType<GossipSub['publish']>;
  getMeshPeers(topic: string): PeerId[];
  streamsOutbound: ReadonlyMap<PeerId, unknown>;
  onPeerConnected(peer: Libp2pPeerId, connection: Connection): void;
  /** asked before anything in a frame is looked at */
  acceptFrom(peer: PeerId): boolean;
}

/**
 * Heartbeats, a minute of them, and how many streams are opened again then: gossipsub opens one after the other, and who does not
 * answer keeps the next one waiting for ten seconds.
 */
const REOPEN_BEATS = 86;
const REOPENED_MAX = 4;

/**
 * The one topic of a run, on gossipsub. Create it, give `service` to the host, and call `start` when the host runs.
 *
 * The same bytes are one message, whoever publishes them: within two minutes a repetition goes nowhere. What must reach
 * one peer again is sent to it directly.
 */
export class Gossip {
  readonly counters: GossipCounters = {
    sent: 0,
    unheard: 0,
    received: 0,
    duplicates: 0,
    ignored: 0,
    rejected: 0,
    bytesSent: 0,
    bytesReceived: 0,
  };
  readonly topic: string;
  readonly #components: GossipComponents;
  readonly #views = new WeakMap<Message, Uint8Array>();
  #router: Router | undefined;
  #connections: Pick<GossipSubComponents['connectionManager'], 'getConnections'> | undefined;
  #self: PeerId | undefined;
  #beats = 0;
  #reopened = 0;

  constructor(components: GossipComponents, { version, runId }: GossipInit) {
    this.#components = components;
    this.topic = controlTopic(version, runId);
  }

  readonly service = (components: GossipSubComponents): GossipSub => {
    const { privateKey, peerId, peerStore, connectionManager, logger } = components;
    const registrar = membersOnly(components.registrar, this.#components.members);
    const gated = { privateKey, peerId, peerStore, connectionManager, logger, registrar };
    this.#self = peerId.toString();
    this.#connections = connectionManager;
    this.#router = gossipsub(gossipOptions(this.topic, this.#idOf))(gated) as Router;
    return this.#router;
  };

  start(): void {
    const router = this.#started();
    const isInGoodStanding = router.acceptFrom.bind(router);
    router.acceptFrom = (peer) => isInGoodStanding(peer) && this.#components.accepts(peer);
    router.topicValidators.set(this.topic, (peer, message) => this.#judge(peer, message));
    router.addEventListener('gossipsub:message', ({ detail: { msg, propagationSource } }) => {
      this.#components.onMessage(this.#bytesOf(msg), propagationSource.toString());
    });
    router.addEventListener('gossipsub:heartbeat', () => {
      if (++this.#beats % REOPEN_BEATS === 0) this.#reopen();
    });
    router.subscribe(this.topic);
  }

  /**
   * @param bytes at least one, at most `LIMITS.gossipBytesMax`
   * @returns the peers it was sent to: none if nobody listens yet or the same bytes were published before
   */
  async publish(bytes: Uint8Array): Promise<PeerId[]> {
    assert(bytes.length > 0 && bytes.length <= LIMITS.gossipBytesMax, `gossip of ${bytes.length} bytes`);
    const floodPublish = bytes.length <= NET_LIMITS.floodBytesMax;
    const recipients = await this.#started()
      .publish(this.topic, bytes, { floodPublish })
      .then((result) => result.recipients.map((peer) => peer.toString()))
      .catch((error: Error) => {
        // refused before it is marked as seen, so that the same bytes can be published again
        if (error.message.includes('NoPeersSubscribedToTopic')) return [];
        throw error;
      });
    if (recipients.length > 0) this.counters.sent++;
    else this.counters.unheard++;
    this.counters.bytesSent += bytes.length * recipients.length;
    return recipients;
  }

  /** members that are known to listen to the topic */
  subscribers(): PeerId[] {
    return this.#started()
      .getSubscribers(this.topic)
      .map((peer) => peer.toString());
  }

  /** those of them that messages are relayed to */
  mesh(): PeerId[] {
    return this.#started().getMeshPeers(this.topic);
  }

  /**
   * Whoever takes in more slowly than we have to tell loses its stream, and gossipsub opens another one only when it has a new
   * connection to that peer.
   */
  #reopen(): void {
    const router = this.#started();
    const lost = this.#components.members.list().filter((peer) => !router.streamsOutbound.has(peer));
    // others the next time
    const first = lost.length === 0 ? 0 : this.#reopened % lost.length;
    this.#reopened += REOPENED_MAX;
    for (const peer of [...lost.slice(first), ...lost.slice(0, first)].slice(0, REOPENED_MAX)) {
      const id = peerIdFromString(peer);
      const connection = this.#connections?.getConnections(id).find(({ status }) => status === 'open');
      if (connection) router.onPeerConnected(id, connection);
    }
  }

  #started(): Router {
    assert(this.#router, 'the host has not been created with this gossip service');
    return this.#router;
  }

  /** Called once for every copy that comes (and every message that goes), so copies are counted here. */
  readonly #idOf = (message: Message): Uint8Array => {
    if (message.type !== 'signed' || message.from.toString() !== this.#self) {
      this.counters.received++;
      this.counters.duplicates++;
      this.counters.bytesReceived += message.data.length;
    }
    return createHash('sha256').update(message.data).digest();
  };

  /** Called once for every message that is not a repetition. */
  #judge(peer: Libp2pPeerId, message: Message): TopicValidatorResult {
    this.counters.duplicates--;
    const [bytes, from] = [this.#bytesOf(message), peer.toString()];
    const verdict = this.#verdict(bytes, from);
    if (verdict === 'ignore') this.counters.ignored++;
    if (verdict === 'reject') this.counters.rejected++;
    if (verdict === 'keep') this.#components.onMessage(bytes, from);
    return RESULTS[verdict];
  }

  /** Always the same view of a message: by it the validator's work is found again when the message is delivered. */
  #bytesOf(message: Message): Uint8Array {
    const bytes = this.#views.get(message) ?? plain(message.data);
    this.#views.set(message, bytes);
    return bytes;
  }

  #verdict(bytes: Uint8Array, from: PeerId): Verdict {
    if (bytes.length === 0 || bytes.length > LIMITS.gossipBytesMax) return 'reject';
    return this.#components.validate(bytes, from);
  }
}

const RESULTS = {
  accept: TopicValidatorResult.Accept,
  keep: TopicValidatorResult.Ignore,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject,
} satisfies Record<Verdict, TopicValidatorResult>;

/**
 * The registrar as gossipsub sees it: peers come into being for it when they pass hello. (libp2p's own middleware for
 * streams is not used: the registrar appends the handler to the registered list on every stream.)
 */
function membersOnly(registrar: Registrar, members: Members): Registrar {
  return {
    handle: (protocol, handler, options) => {
      const held: typeof handler = async (stream, connection) => {
        await untilAdmitted(stream, connection, members);
        await handler(stream, connection);
      };
      return registrar.handle(protocol, held, options);
    },
    register: (protocol, topology, options) => {
      const onConnect: typeof topology.onConnect = (peer, connection) => {
        members.admitted(peer.toString()).then(
          () => topology.onConnect?.(peer, connection),
          () => undefined, // gone, or cut off by hello
        );
      };
      return registrar.register(protocol, { ...topology, onConnect }, options);
    },
    unregister: (id) => registrar.unregister(id),
    unhandle: (protocol, options) => registrar.unhandle(protocol, options),
    getProtocols: () => registrar.getProtocols(),
    getHandler: (protocol) => registrar.getHandler(protocol),
    getTopologies: (protocol) => registrar.getTopologies(protocol),
    use: (protocol, middleware) => registrar.use(protocol, middleware),
    unuse: (protocol) => registrar.unuse(protocol),
    getMiddleware: (protocol) => registrar.getMiddleware(protocol),
  };
}

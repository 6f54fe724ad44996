import './polyfill.ts';
import { CodedError } from '../../protocol/errors.ts';
import { PROTOCOL_VERSION } from '../../protocol/genesis.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { type Address, parseAddress } from './addresses.ts';
import { BlobClient } from './blob-client.ts';
import { BlobServer, type BlobSource } from './blob-server.ts';
import { networkError } from './errors.ts';
import { type BlobReference, type BlobSink, type FetchBlobComponents, fetchBlob } from './fetch-blob.ts';
import { unreachable } from './fetch-genesis.ts';
import { Gossip, type GossipCounters, type Verdict } from './gossip.ts';
import { Hello } from './hello.ts';
import { createHost, type Host, type HostInit } from './host.ts';
import type { Identity } from './identity.ts';
import { NET_LIMITS } from './limits.ts';
import { Members, type PeerChange } from './members.ts';
import { Messages } from './messages.ts';
import { PeerBook, type Timers } from './peer-book.ts';
import { type RequestHandler, Sync } from './sync.ts';

export interface NetworkComponents {
  identity: Identity;
  /** chunks and manifests that members may fetch from us */
  blobSource: BlobSource;
  /** they come before strangers: for a place, for chunks and for answers @default nobody: all are strangers alike */
  isInRoster?: (peer: PeerId) => boolean;
  /**
   * A pure verdict on a control message. `from` is the member that handed it to us, which is not always its author.
   */
  validate: (bytes: Uint8Array, from: PeerId) => Verdict;
  /** whether gossip of this member is looked at now @default always */
  accepts?: (from: PeerId) => boolean;
  /** an accepted message; the same one may come more than once, by gossip and directly */
  onMessage: (bytes: Uint8Array, from: PeerId) => void;
  /** a peer has passed hello, or its last connection has closed */
  onPeer: (peer: PeerId, change: PeerChange) => void;
  onRequest: RequestHandler;
  /** a peer was turned away, or turned us away; for the log */
  onRefused?: (peer: PeerId, error: Error) => void;
  /** for redials @default the system's */
  timers?: Timers;
}

export interface NetworkInit extends HostInit {
  /** @default PROTOCOL_VERSION */
  version?: number;
  /** time that a new connection has to say hello @default NET_LIMITS.helloMs */
  helloMs?: number;
}

export interface RunReference {
  runId: string;
  genesisBytes: Uint8Array;
}

export interface NetworkCounters {
  /** bytes of messages, chunks and answers, without what libp2p adds and without gossip forwarded for others */
  bytesSent: number;
  bytesReceived: number;
  gossip: Readonly<GossipCounters>;
  /** peers that gossip is relayed to; 0 for long means that this peer hears only what is sent to all at once */
  mesh: number;
}

interface Parts {
  host: Host;
  gossip: Gossip;
  hello: Hello;
  book: PeerBook;
  blobs: BlobClient;
  blobServer: BlobServer;
  sync: Sync;
  messages: Messages;
}

/** A real peer's network: everything in this folder behind one small interface. It knows nothing of training. */
export class Network {
  readonly #components: NetworkComponents;
  readonly #init: NetworkInit;
  readonly #members: Members;
  #parts: Parts | undefined;
  #stopped = false;

  constructor(components: NetworkComponents, init: NetworkInit = {}) {
    this.#components = components;
    this.#init = init;
    const { isInRoster } = components;
    const { helloMs } = init;
    this.#members = new Members({ ...(helloMs ? { helloMs } : {}), ...(isInRoster ? { isInRoster } : {}) });
  }

  /** Listens. @throws CodedError `E_MULTIADDR`, `E_PORT_TAKEN`, `E_LISTEN` */
  async start(run: RunReference): Promise<void> {
    const { identity, blobSource, validate, accepts = () => true, onRequest, onPeer, timers } = this.#components;
    const members = this.#members;
    const { version = PROTOCOL_VERSION, helloMs } = this.#init;
    const onMessage = (bytes: Uint8Array, from: PeerId): void => {
      if (!this.#stopped) this.#components.onMessage(bytes, from);
    };
    const gossip = new Gossip({ members, validate, accepts, onMessage }, { version, runId: run.runId });
    const host = await createHost({ identity, gossip: gossip.service }, this.#init);
    const dial = (addresses: readonly string[]): Promise<PeerId> => this.#connect(addresses);
    const book = new PeerBook({ self: host.self, members, dial, ...(timers ? { timers } : {}) });
    const hello = new Hello(
      {
        host,
        members,
        onAddresses: (addresses) => book.learn(addresses),
        onRefused: (peer, error) => this.#components.onRefused?.(peer, error),
      },
      { version, software: this.#init.software ?? 'outerloop', ...run, ...(helloMs ? { helloMs } : {}) },
    );
    const blobs = new BlobClient({ host, members });
    const blobServer = new BlobServer({ host, members, source: blobSource });
    const sync = new Sync({ host, members, onRequest });
    const messages = new Messages({ host, members, validate, onMessage });
    members.onChange((peer, change) => {
      if (!this.#stopped) onPeer(peer, change);
    });
    this.#parts = { host, gossip, hello, book, blobs, blobServer, sync, messages };
    gossip.start();
    await Promise.all([blobServer.start(), sync.start(), messages.start()]);
    await hello.start();
  }

  /** Closes everything within two seconds; a second call does nothing. Peers that go down by it are not reported. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#parts?.book.stop();
    this.#parts?.hello.stop();
    await this.#parts?.host.stop();
    this.#members.clear();
  }

  get self(): PeerId {
    return this.#components.identity.self;
  }

  /** where others can dial this peer, each with its peer id: announced, else loopback, local network, public */
  addresses(): string[] {
    return this.#started().host.addresses();
  }

  /** what this peer listens on, for a file: others are told `addresses` */
  listening(): string[] {
    return this.#started().host.listening();
  }

  /** addresses of others, connected now or earlier: for a file, so that a restart finds them again */
  knownAddresses(): string[] {
    return this.#started().book.addresses();
  }

  /** Dials peers that were here before this one was started, in the background and for good. */
  remember(addresses: readonly string[]): void {
    this.#started().book.remember(addresses);
  }

  /** those that are connected and have passed hello */
  peers(): PeerId[] {
    return this.#members.list();
  }

  /**
   * Connects to a user's address and says hello. The address is remembered and dialed again whenever nobody is there,
   * also after `E_BOOTSTRAP`.
   * @throws CodedError `E_MULTIADDR`, `E_BOOTSTRAP`, `E_OTHER_RUN`, `E_OTHER_VERSION`
   */
  async dial(address: string): Promise<PeerId> {
    const { text, peer } = parseAddress(address);
    if (peer === this.self)
      throw networkError('E_BOOTSTRAP', `${text} is this peer itself: give another peer's address`);
    try {
      return await this.#started().book.dialPinned(text, peer);
    } catch (error) {
      if (error instanceof CodedError && error.code.startsWith('E_OTHER_')) throw error;
      throw unreachable([{ address: text, error }]);
    }
  }

  /**
   * Tells all members: by gossip, and directly those whom gossip cannot reach yet (its streams and its mesh take a
   * moment to form after hello) or again (the same bytes go through it only once).
   * @returns the number of peers it was sent to; others hear it from them
   */
  async broadcast(bytes: Uint8Array): Promise<number> {
    const { gossip, messages } = this.#started();
    const recipients = await gossip.publish(bytes);
    // what is not flooded is relayed by the mesh to all that listen
    const flooded = recipients.length === 0 || bytes.length <= NET_LIMITS.floodBytesMax;
    const reached = new Set(flooded ? recipients : gossip.subscribers());
    const rest = this.#members.list().filter((peer) => !reached.has(peer));
    const sent = await Promise.allSettled(rest.map((peer) => messages.send(peer, bytes)));
    return recipients.length + sent.filter(({ status }) => status === 'fulfilled').length;
  }

  /** Throws as `Messages.send`. */
  sendTo(peer: PeerId, bytes: Uint8Array): Promise<void> {
    return this.#started().messages.send(peer, bytes);
  }

  /** Throws as `Sync.request`. */
  request(peer: PeerId, bytes: Uint8Array, options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    return this.#started().sync.request(peer, bytes, options);
  }

  /** Fetches a blob chunk by chunk; `providers` defaults to all members. Throws as `fetchBlob` in fetch-blob.ts. */
  fetchBlob(
    blob: BlobReference,
    sink: BlobSink,
    {
      providers,
      signal,
      rare,
    }: Partial<Pick<FetchBlobComponents, 'providers' | 'rare'>> & { signal?: AbortSignal } = {},
  ): Promise<void> {
    const { blobs } = this.#started();
    const components = {
      fetchChunk: blobs.fetchChunk.bind(blobs),
      chunksAtOnce: blobs.chunksAtOnce.bind(blobs),
      heardMs: blobs.heardMs.bind(blobs),
      providers: providers ?? (() => this.#members.list()),
      sink,
      ...(rare ? { rare } : {}),
    };
    return fetchBlob(components, blob, signal);
  }

  /** Somebody is being sent a chunk. */
  get isServing(): boolean {
    return this.#started().blobServer.isBusy;
  }

  counters(): NetworkCounters {
    const { gossip, blobs, blobServer, sync, messages } = this.#started();
    const all = [gossip, blobs, blobServer, sync, messages].map(({ counters }) => counters);
    return {
      bytesSent: all.reduce((sum, { bytesSent }) => sum + bytesSent, 0),
      bytesReceived: all.reduce((sum, { bytesReceived }) => sum + bytesReceived, 0),
      gossip: gossip.counters,
      mesh: gossip.mesh().length,
    };
  }

  /** One peer by all its addresses at once; an address that names no peer counts only where the others fail. */
  async #connect(texts: readonly string[]): Promise<PeerId> {
    const addresses = texts.map((text) => parseAddress(text));
    const named = addresses.filter(({ peer }) => peer !== undefined);
    const attempts = [...(named.length > 0 ? [named] : []), ...addresses.filter(({ peer }) => !peer).map((a) => [a])];
    let failure: unknown;
    for (const attempt of attempts) {
      try {
        return await this.#connectTo(attempt);
      } catch (error) {
        failure = error;
        if (error instanceof CodedError && error.code.startsWith('E_OTHER_')) break;
      }
    }
    throw failure;
  }

  async #connectTo(addresses: readonly Address[]): Promise<PeerId> {
    const { host, hello } = this.#started();
    const multiaddrs = addresses.map(({ multiaddr }) => multiaddr);
    let connection = await host.node.dial(multiaddrs);
    // libp2p gives an open connection where there is one. If the other side dialed it, the hello is theirs to say, or
    // has been refused already; one of our own settles it.
    if (connection.direction === 'inbound' && !this.#members.has(connection.remotePeer.toString())) {
      connection = await host.node.dial(multiaddrs, { force: true });
    }
    return connection.direction === 'outbound' ? hello.greet(connection) : connection.remotePeer.toString();
  }

  #started(): Parts {
    if (!this.#parts || this.#stopped) throw networkError('E_ABORTED', 'the network is not running: call start first');
    return this.#parts;
  }
}

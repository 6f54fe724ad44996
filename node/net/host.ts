import './polyfill.ts';
import type { GossipSub, GossipSubComponents } from '@chainsafe/libp2p-gossipsub';
import { type Identify, identify } from '@libp2p/identify';
import type { Connection, Libp2p } from '@libp2p/interface';
import { noise } from '@libp2p/noise';
import { peerIdFromString } from '@libp2p/peer-id';
import { type Ping, ping } from '@libp2p/ping';
import { type TCPSocketOptions, tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { createLibp2p, type Libp2pOptions } from 'libp2p';
import type { PeerId } from '../../protocol/identity.ts';
import { isLoopbackAddress, parseAddress, parseListenAddress } from './addresses.ts';
import { networkError, reasonOf } from './errors.ts';
import type { Identity } from './identity.ts';
import { NET_LIMITS } from './limits.ts';
import { PeerEntries } from './peer-entries.ts';

export const DEFAULT_LISTEN: readonly string[] = ['/ip4/0.0.0.0/tcp/0'];

type TransportFactory = ReturnType<typeof tcp>;

/** Puts something between libp2p and TCP: delays, limits, loss. The seam is the upgrader given to dial and listener. */
export type TransportWrapper = (factory: TransportFactory) => TransportFactory;

export interface HostComponents {
  identity: Identity;
  /** makes the gossip service; without it the host does not gossip */
  gossip?: (components: GossipSubComponents) => GossipSub;
}

export interface HostInit {
  /** multiaddrs; an empty list only dials @default ['/ip4/0.0.0.0/tcp/0'] */
  listen?: readonly string[];
  /** addresses to tell others instead of those listened on: a forwarded port, a host name */
  announce?: readonly string[];
  /** IP address of this machine that connections are made from @default the system's choice */
  dialFrom?: string;
  /** name and version of this program, shown to others @default 'outerloop' */
  software?: string;
  transport?: TransportWrapper;
}

interface Services {
  [name: string]: unknown;
  identify: Identify;
  ping: Ping;
  listening: { addresses(): string[] };
}

/** A started libp2p node and the two things that its public interface lacks. */
export interface Host {
  readonly self: PeerId;
  readonly node: Libp2p<Services>;
  /** where this peer can be dialed, each with its peer id */
  addresses(): string[];
  /** what this peer listens on */
  listening(): string[];
  /** Never rejects; done within `stopMs` whatever peers do. */
  stop(): Promise<void>;
}

/**
 * Starts a libp2p node: TCP, noise, yamux, identify, ping and, if given, gossip.
 * @throws CodedError `E_MULTIADDR`, `E_PORT_TAKEN`, `E_LISTEN`
 */
export async function createHost(components: HostComponents, init: HostInit = {}): Promise<Host> {
  const datastore = new PeerEntries(() => [node.peerId, ...node.getPeers()]);
  const node: Libp2p<Services> = await createLibp2p({ ...hostOptions(components, init), datastore, start: false });
  try {
    await node.start();
  } catch (error) {
    throw listenError(error, init.listen ?? DEFAULT_LISTEN);
  }
  const announce = init.announce?.map((text) => parseAddress(text).text);
  const listening = (): string[] => node.services.listening.addresses();
  const whole = (text: string): string => (text.includes('/p2p/') ? text : `${text}/p2p/${components.identity.self}`);
  return {
    self: components.identity.self,
    node,
    addresses: () => [...new Set(announce ?? listening())].map(whole),
    listening,
    stop: () => stopWithin(node, NET_LIMITS.stopMs),
  };
}

/** The whole configuration of libp2p. Every line that departs from a default has its reason. */
export function hostOptions({ identity, gossip }: HostComponents, init: HostInit): Libp2pOptions<Services> {
  // what is in `dialOpts` goes to `net.connect`
  const transport = tcp(init.dialFrom ? { dialOpts: { localAddress: init.dialFrom } as TCPSocketOptions } : {});
  return {
    privateKey: identity.privateKey,
    nodeInfo: { name: 'outerloop', userAgent: init.software ?? 'outerloop' },
    addresses: {
      listen: (init.listen ?? DEFAULT_LISTEN).map((text) => parseListenAddress(text).text),
      // identify would tell strangers every interface, also where `announce` says what others are to know: hello tells members
      announceFilter: () => [],
    },
    transports: [init.transport ? init.transport(transport) : transport],
    connectionEncrypters: [noise()],
    // Default windows: larger ones were slower on loopback, and autotuning fills 80 Mbit/s at 200 ms anyway.
    streamMuxers: [yamux()],
    connectionMonitor: {
      // Nobody else notices a peer that is gone without a word (asleep, or on another network): yamux only logs what its
      // keepalive finds, and TCP repeats itself for a quarter of an hour. The default of five seconds would cut off a
      // peer whose event loop is blocked, or whose link is full of a large blob, from everybody at once.
      pingInterval: NET_LIMITS.pingEveryMs,
      pingTimeout: { minTimeout: NET_LIMITS.silentMs, maxTimeout: NET_LIMITS.silentMs },
      abortConnectionOnPingFailure: true,
    },
    connectionManager: {
      maxConnections: NET_LIMITS.connectionsMax,
      inboundConnectionThreshold: NET_LIMITS.inboundPerSecondMax,
      maxIncomingPendingConnections: NET_LIMITS.pendingInboundMax,
      maxParallelDials: NET_LIMITS.connectionsWanted,
      dialTimeout: NET_LIMITS.dialMs,
      // Redials are made by `PeerBook`, which knows who refused us and why.
      reconnectRetries: 0,
    },
    services: {
      identify: identify({ maxMessageSize: NET_LIMITS.identifyBytesMax }),
      // several are under way on a slow link; one that is refused for their number would end the connection
      ping: ping({
        timeout: NET_LIMITS.silentMs,
        maxInboundStreams: NET_LIMITS.pingsUnderWayMax,
        maxOutboundStreams: NET_LIMITS.pingsUnderWayMax,
      }),
      // libp2p's own list leaves out public addresses until a stranger has confirmed them, which takes a service we do
      // not run: a peer on a rented server would tell nobody where it is. Hence the listeners' addresses.
      listening: ({ transportManager }) => ({
        addresses: () => [...new Set(transportManager.getAddrs().map((address) => address.toString()))],
      }),
      ...(gossip ? { gossip } : {}),
    },
  };
}

function listenError(error: unknown, listen: readonly string[]): Error {
  const text = error instanceof Error ? error.message : String(error);
  // libp2p has a line for each address that failed
  const lines = text.split('\n');
  const failed = (code: string): string => {
    const named = listen.filter((address) =>
      lines.some((line) => line.includes(`${address}: `) && line.includes(code)),
    );
    return (named.length > 0 ? named : listen).join(', ');
  };
  if (text.includes('EADDRINUSE')) {
    const where = failed('EADDRINUSE');
    const fix = 'stop it or listen on another port';
    return networkError('E_PORT_TAKEN', `${where} is taken by another program: ${fix}`, error);
  }
  if (text.includes('EACCES')) {
    const where = failed('EACCES');
    return networkError('E_LISTEN', `not allowed to listen on ${where}: choose a port above 1023`, error);
  }
  if (text.includes('EADDRNOTAVAIL')) {
    const where = failed('EADDRNOTAVAIL');
    return networkError('E_LISTEN', `${where} is not an address of this machine: listen on /ip4/0.0.0.0/tcp/0`, error);
  }
  return networkError('E_LISTEN', `cannot listen on ${listen.join(', ')}: ${reasonOf(error)}`, error);
}

/** Graceful first, so that the other sides see an end and not a failure; then by force. */
async function stopWithin(node: Libp2p<Services>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  const stopping = Promise.resolve(node.stop()).catch(() => undefined);
  await Promise.race([stopping, late]);
  clearTimeout(timer);
  for (const connection of node.getConnections()) {
    connection.abort(networkError('E_ABORTED', 'this peer has stopped'));
  }
}

/** An open connection to that peer. @throws CodedError `E_NOT_CONNECTED` */
export function connectionTo(node: Libp2p, peer: PeerId): Connection {
  const open = node.getConnections(peerIdFromString(peer)).find((connection) => connection.status === 'open');
  if (!open) throw networkError('E_NOT_CONNECTED', `not connected to ${peer}`);
  return open;
}

export function isLoopbackConnection(connection: Connection): boolean {
  return isLoopbackAddress(connection.remoteAddr);
}

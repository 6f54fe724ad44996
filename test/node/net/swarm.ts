import { createHash } from 'node:crypto';
import type { GossipSub } from '@chainsafe/libp2p-gossipsub';
import type { Connection } from '@libp2p/interface';
import { Gossip } from '../../../node/net/gossip.ts';
import { Hello } from '../../../node/net/hello.ts';
import { createHost, type Host } from '../../../node/net/host.ts';
import {
  createIdentity,
  Network,
  type NetworkComponents,
  type NetworkInit,
  type RunReference,
  type Verdict,
} from '../../../node/net/index.ts';
import { Members } from '../../../node/net/members.ts';
import { PROTOCOL_VERSION } from '../../../protocol/genesis.ts';
import type { Hash } from '../../../protocol/hash.ts';
import type { PeerId } from '../../../protocol/identity.ts';

/** A network on loopback that records what the layer above is told. */
export interface TestPeer {
  network: Network;
  id: PeerId;
  messages: { text: string; from: PeerId }[];
  changes: string[];
  refusals: { peer: PeerId; error: Error & { code?: string } }[];
  blobs: Map<Hash, Uint8Array>;
}

export const GENESIS = new TextEncoder().encode('the genesis of a test run');
export const RUN: RunReference = { runId: sha256Hex(GENESIS), genesisBytes: GENESIS };

export function sha256Hex(bytes: Uint8Array): Hash {
  return createHash('sha256').update(bytes).digest('hex');
}

export function textBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Starts peers and stops them all. Messages that begin with "bad" are rejected, with "late" ignored, with "mine" not handed on. */
export class Swarm {
  readonly #peers: TestPeer[] = [];
  readonly #hosts: Host[] = [];

  async peer(init: NetworkInit & Partial<NetworkComponents> & { run?: RunReference } = {}): Promise<TestPeer> {
    const { run = RUN, identity = createIdentity(), ...rest } = init;
    const peer: Omit<TestPeer, 'network'> = {
      id: identity.self,
      messages: [],
      changes: [],
      refusals: [],
      blobs: new Map(),
    };
    const components: NetworkComponents = {
      identity,
      blobSource: { read: async (id) => peer.blobs.get(id) },
      validate: (bytes) => verdictOn(new TextDecoder().decode(bytes)),
      onMessage: (bytes, from) => peer.messages.push({ text: new TextDecoder().decode(bytes), from }),
      onPeer: (id, change) => peer.changes.push(`${change} ${id}`),
      onRequest: async (request) => request,
      onRefused: (id, error) => peer.refusals.push({ peer: id, error }),
      ...rest,
    };
    const network = new Network(components, { listen: ['/ip4/127.0.0.1/tcp/0'], ...rest });
    const started = Object.assign(peer, { network });
    this.#peers.push(started);
    await network.start(run);
    return started;
  }

  /** A peer without the manners of `Network`: its parts, to be misused. */
  async raw({ hello = true, identity = createIdentity(), now = () => performance.now() } = {}) {
    const members = new Members();
    const heard: number[] = [];
    const components = {
      members,
      validate: () => 'accept' as const,
      accepts: () => true,
      onMessage: (bytes: Uint8Array) => heard.push(bytes.length),
    };
    const gossip = new Gossip(components, { version: PROTOCOL_VERSION, runId: RUN.runId });
    const host = await createHost({ identity, gossip: gossip.service }, { listen: ['/ip4/127.0.0.1/tcp/0'] });
    this.#hosts.push(host);
    gossip.start();
    const init = { version: PROTOCOL_VERSION, software: 'raw', ...RUN, now };
    const greeter = new Hello({ host, members, onAddresses: () => {}, onRefused: () => {} }, init);
    if (hello) await greeter.start();
    const greet = (connection: Connection): Promise<PeerId> => greeter.greet(connection);
    return { host, members, gossip, heard, greet, router: host.node.services.gossip as GossipSub };
  }

  /** Peers that all know the first one's address only. */
  async joined(count: number): Promise<TestPeer[]> {
    const first = await this.peer();
    const peers = [first];
    for (let i = 1; i < count; i++) {
      const peer = await this.peer();
      await peer.network.dial(addressOf(first));
      peers.push(peer);
    }
    await eventually(() => peers.every(({ network }) => network.peers().length === count - 1), 'a full mesh');
    return peers;
  }

  async stop(): Promise<void> {
    const all = [...this.#peers.splice(0).map(({ network }) => network), ...this.#hosts.splice(0)];
    await Promise.all(all.map((each) => each.stop()));
  }
}

export function addressOf(peer: TestPeer): string {
  const address = peer.network.addresses()[0];
  if (!address) throw new Error('the peer does not listen');
  return address;
}

function verdictOn(text: string): Verdict {
  if (text.startsWith('bad')) return 'reject';
  if (text.startsWith('mine')) return 'keep';
  return text.startsWith('late') ? 'ignore' : 'accept';
}

/** Resolves when the condition holds, looked at between events; the test's own time limit ends the wait. */
export async function eventually(condition: () => boolean, what: string): Promise<void> {
  const start = performance.now();
  while (!condition()) {
    if (performance.now() - start > 60_000) throw new Error(`never came to pass: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The `code` of the error that a promise rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return String((error as { code?: unknown }).code);
  }
  return 'no error';
}

import { readdirSync, readFileSync } from 'node:fs';
import type { GossipSub } from '@chainsafe/libp2p-gossipsub';
import { multiaddr } from '@multiformats/multiaddr';
import { afterEach, describe, expect, it } from 'vitest';
import { Frames } from '../../../node/net/frames.ts';
import { controlTopic } from '../../../node/net/gossip.ts';
import { gossipOptions } from '../../../node/net/gossip-options.ts';
import { encodeGreeting } from '../../../node/net/greeting.ts';
import { HELLO_PROTOCOL } from '../../../node/net/hello.ts';
import { hostOptions } from '../../../node/net/host.ts';
import { createIdentity, NET_LIMITS } from '../../../node/net/index.ts';
import { MESSAGE_PROTOCOL } from '../../../node/net/messages.ts';
import { SYNC_PROTOCOL } from '../../../node/net/sync.ts';
import { PROTOCOL_VERSION } from '../../../protocol/genesis.ts';
import { LIMITS } from '../../../protocol/limits.ts';
import { addressOf, eventually, RUN, Swarm, textBytes } from './swarm.ts';

const swarm = new Swarm();
afterEach(() => swarm.stop());

async function heartbeats({ router }: { router: GossipSub }, count: number): Promise<void> {
  let seen = 0;
  await new Promise<void>((resolve) => {
    router.addEventListener('gossipsub:heartbeat', () => {
      if (++seen === count) resolve();
    });
  });
}

const TOPIC = controlTopic(PROTOCOL_VERSION, RUN.runId);

describe('configuration', () => {
  it('has the polyfill before every libp2p package, in every file', () => {
    const folder = new URL('../../../node/net/', import.meta.url);
    const files = readdirSync(folder).filter((name) => name.endsWith('.ts') && name !== 'polyfill.ts');
    const using = files.filter((name) =>
      /from '(@?libp2p|@chainsafe|it-)/.test(readFileSync(new URL(name, folder), 'utf8')),
    );
    expect(using.length).toBeGreaterThan(5);
    for (const name of using) {
      expect(readFileSync(new URL(name, folder), 'utf8').split('\n')[0], name).toBe("import './polyfill.ts';");
    }
  });

  it('keeps connections when the event loop is blocked or a ping is late', () => {
    const options = hostOptions({ identity: createIdentity() }, {});
    const { pingInterval = 0, pingTimeout } = options.connectionMonitor ?? {};
    expect(pingTimeout?.minTimeout).toBeGreaterThanOrEqual(60_000);
    // all that are under way at a time have room, on both sides
    expect(NET_LIMITS.pingsUnderWayMax).toBeGreaterThan((pingTimeout?.maxTimeout ?? 0) / pingInterval);
    expect(options.connectionManager?.inboundConnectionThreshold).toBeGreaterThanOrEqual(64);
    expect(options.connectionManager?.maxIncomingPendingConnections).toBeGreaterThanOrEqual(64);
  });

  it('gives a connection up on which nothing is answered any more', () => {
    const { connectionMonitor } = hostOptions({ identity: createIdentity() }, {});
    expect(connectionMonitor?.abortConnectionOnPingFailure).toBe(true);
    expect(connectionMonitor?.pingTimeout?.maxTimeout).toBeLessThanOrEqual(180_000);
    // idle sockets live for two minutes
    expect(connectionMonitor?.pingInterval).toBeLessThan(60_000);
  });

  it('bounds gossip: topics, frames, backlog; and lets a frame hold the largest message', () => {
    const options = gossipOptions(TOPIC, () => new Uint8Array());
    expect(options.allowedTopics).toEqual([TOPIC]);
    expect(options.globalSignaturePolicy).toBe('StrictSign');
    expect(options.maxInboundDataLength).toBeGreaterThan(2 * LIMITS.gossipBytesMax);
    expect(options.maxOutboundBufferSize).toBeGreaterThan(0);
    expect(options.scoreParams?.IPColocationFactorWeight).toBe(0);
  });
});

describe('gossip among real peers', () => {
  it('keeps its mesh with twelve peers at one address', async () => {
    const peers = await Promise.all(Array.from({ length: 12 }, () => swarm.raw()));
    for (const [i, { host }] of peers.entries()) {
      for (const other of peers.slice(0, i)) await host.node.dial(multiaddr(other.host.addresses()[0] ?? ''));
    }
    await eventually(() => peers.every(({ members }) => members.size === 11), 'everybody knows everybody');
    // scores are counted at heartbeats: only a mesh that outlives some of them is one
    await Promise.all(peers.map((peer) => heartbeats(peer, 3)));
    expect(Math.min(...peers.map(({ gossip }) => gossip.mesh().length))).toBeGreaterThanOrEqual(2);
    // over the size of what is sent to all at once, so relayed
    await peers[0]!.gossip.publish(new Uint8Array(NET_LIMITS.floodBytesMax + 1));
    await eventually(() => peers.slice(1).every(({ heard }) => heard.length === 1), 'the message relayed to all');
  }, 120_000);

  it('refuses a message over the limit, and after a few the sender', async () => {
    const victim = await swarm.peer();
    const raw = await swarm.raw();
    await raw.host.node.dial(multiaddr(addressOf(victim)));
    await eventually(() => raw.gossip.subscribers().includes(victim.id), 'the victim listens');
    await raw.router.publish(TOPIC, new Uint8Array(LIMITS.gossipBytesMax + 1));
    await eventually(() => victim.network.counters().gossip.rejected === 1, 'the message rejected');
    for (const text of ['bad 1', 'bad 2']) await raw.gossip.publish(textBytes(text));
    await eventually(() => victim.network.counters().gossip.rejected === 3, 'all rejected');
    await heartbeats(raw, 3); // the victim looks at scores once a heartbeat
    expect(await raw.gossip.publish(textBytes('good, but who believes it'))).toEqual([victim.id]);
    await raw.host.node.services.ping.ping(multiaddr(addressOf(victim)));
    await heartbeats(raw, 2);
    expect(victim.messages).toEqual([]);
    expect(victim.network.counters().gossip.received).toBe(3);
  });

  it('delivers the very bytes that were validated, so that nothing is decoded twice', async () => {
    const validated: Uint8Array[] = [];
    const delivered: Uint8Array[] = [];
    const hearer = await swarm.peer({
      validate: (bytes) => {
        validated.push(bytes);
        return 'accept';
      },
      onMessage: (bytes) => delivered.push(bytes),
    });
    const raw = await swarm.raw();
    await raw.host.node.dial(multiaddr(addressOf(hearer)));
    await eventually(() => raw.gossip.subscribers().includes(hearer.id), 'the other listens');
    await raw.gossip.publish(textBytes('vote'));
    await eventually(() => delivered.length === 1, 'the message delivered');
    expect(validated).toHaveLength(1);
    expect(delivered[0]).toBe(validated[0]);
  });

  it('delivers what is to be kept, and does not hand it on', async () => {
    const keeper = await swarm.peer();
    // they know the keeper, and not each other
    const [sayer, hearer] = [await swarm.raw(), await swarm.raw()];
    for (const { host } of [sayer, hearer]) await host.node.dial(multiaddr(addressOf(keeper)));
    await eventually(() => sayer.gossip.subscribers().includes(keeper.id), 'the keeper listens');
    await eventually(() => keeper.network.counters().mesh === 2, 'it hands on to both');
    for (const text of ['mine', 'for all']) await sayer.gossip.publish(textBytes(text));
    await eventually(() => hearer.heard.length === 1, 'what came after it is handed on');
    expect(hearer.heard).toEqual(['for all'.length]);
    expect(keeper.messages.map(({ text }) => text)).toEqual(['mine', 'for all']);
  });

  it('takes from others what it did not look at, since too much came from who was first', async () => {
    const denied = new Set<string>();
    const hearer = await swarm.peer({ accepts: (peer) => !denied.has(peer) });
    const [first, second] = [await swarm.raw(), await swarm.raw()];
    for (const { host } of [first, second]) await host.node.dial(multiaddr(addressOf(hearer)));
    await eventually(() => hearer.network.counters().mesh === 2, 'it is in a mesh with both');
    denied.add(first.host.self);
    await first.gossip.publish(textBytes('vote'));
    await first.host.node.services.ping.ping(multiaddr(addressOf(hearer)));
    expect(hearer.network.counters().gossip.received).toBe(0);
    await second.gossip.publish(textBytes('vote'));
    await eventually(() => hearer.messages.length === 1, 'the vote');
    expect(hearer.messages).toEqual([{ text: 'vote', from: second.host.self }]);
  });

  it('neither hears nor tells who has not said hello', async () => {
    const victim = await swarm.peer();
    const raw = await swarm.raw({ hello: false });
    const connection = await raw.host.node.dial(multiaddr(addressOf(victim)));
    raw.members.admit(victim.id, { addresses: [], software: '', connection: connection.id });
    await raw.host.node.services.ping.ping(connection.remotePeer);
    expect(await raw.gossip.publish(textBytes('hear me'))).toEqual([]);
    expect(await victim.network.broadcast(textBytes('secret'))).toBe(0);
    expect([victim.messages, raw.heard]).toEqual([[], []]);
  });
});

describe('two connections between two peers', () => {
  it('go together, so that gossip never lives on in one direction only', async () => {
    const [x, y] = [await swarm.raw(), await swarm.raw()];
    const first = await x.host.node.dial(multiaddr(y.host.addresses()[0] ?? ''));
    await eventually(() => x.members.has(y.host.self) && y.members.has(x.host.self), 'members of each other');
    const second = await y.host.node.dial(multiaddr(x.host.addresses()[0] ?? ''), { force: true });
    await eventually(() => x.host.node.getConnections().length === 2, 'both connections');
    await first.close();
    await eventually(() => x.members.size === 0 && y.members.size === 0, 'both sides see the other go');
    expect(second.status).not.toBe('open');
  });
});

describe('a stranger', () => {
  it('that says nothing is cut off, and so is one that does not speak hello', async () => {
    const victim = await swarm.peer({ helloMs: 50 });
    const raw = await swarm.raw({ hello: false });
    const connection = await raw.host.node.dial(multiaddr(addressOf(victim)));
    await eventually(() => connection.status !== 'open', 'the silent connection closed');
    expect(victim.refusals[0]).toMatchObject({ peer: raw.host.self, error: { code: 'E_NO_HELLO' } });
    const mute = raw.host.addresses()[0] ?? '';
    await expect(victim.network.dial(mute)).rejects.toMatchObject({
      code: 'E_BOOTSTRAP',
      message: expect.stringContaining('is it outerloop that listens there?'),
    });
  });

  it.each([
    ['garbage', Uint8Array.of(0xff, 0x00, 0x13)],
    [
      'a hello with a field too many',
      encodeGreeting({
        version: PROTOCOL_VERSION,
        runId: RUN.runId,
        software: '',
        addresses: [],
        peers: [],
        extra: 1,
      } as never),
    ],
    [
      'more peers than a hello may name',
      encodeGreeting({
        version: PROTOCOL_VERSION,
        runId: RUN.runId,
        software: '',
        addresses: [],
        peers: Array(65).fill('/ip4/1.2.3.4/tcp/1'),
      }),
    ],
    ['a frame over the limit', new Uint8Array(NET_LIMITS.helloBytesMax + 1)],
  ])('that greets with %s is not admitted', async (_, bytes) => {
    const victim = await swarm.peer();
    const raw = await swarm.raw({ hello: false });
    const connection = await raw.host.node.dial(multiaddr(addressOf(victim)));
    const frames = new Frames(await connection.newStream(HELLO_PROTOCOL), { frameBytesMax: NET_LIMITS.helloBytesMax });
    await frames.write(bytes).catch(() => undefined);
    await frames.read().catch(() => undefined);
    frames.close();
    await eventually(() => connection.status !== 'open', 'the connection closed');
    expect(victim.refusals).toHaveLength(1);
    expect(victim.network.peers()).toEqual([]);
  });

  it.each([
    ['request', SYNC_PROTOCOL, LIMITS.historyRequestBytesMax],
    ['message', MESSAGE_PROTOCOL, LIMITS.gossipBytesMax],
  ])('that is a member has its stream reset for a %s over the limit', async (_, protocol, max) => {
    const requests: number[] = [];
    const victim = await swarm.peer({
      onRequest: async (request) => {
        requests.push(request.length);
        return request;
      },
    });
    const raw = await swarm.raw();
    const connection = await raw.host.node.dial(multiaddr(addressOf(victim)));
    await eventually(() => victim.network.peers().length === 1, 'the peer a member');
    const frames = new Frames(await connection.newStream(protocol), { frameBytesMax: 1 });
    await frames.write(new Uint8Array(max + 1)).catch(() => undefined);
    await frames.read().catch(() => undefined);
    await eventually(() => !frames.open, 'the stream reset');
    expect([victim.messages, requests, connection.status]).toEqual([[], [], 'open']);
  });

  it('cannot make us dial addresses that are none, nor ourselves', async () => {
    const victim = await swarm.peer();
    const raw = await swarm.raw({ hello: false });
    const connection = await raw.host.node.dial(multiaddr(addressOf(victim)));
    const frames = new Frames(await connection.newStream(HELLO_PROTOCOL), { frameBytesMax: NET_LIMITS.helloBytesMax });
    const peers = ['/ip4/1.2.3.4', '\u0000', 'x'.repeat(256), '/ip4/127.0.0.1/tcp/9', addressOf(victim)];
    await frames.write(
      encodeGreeting({
        version: PROTOCOL_VERSION,
        runId: RUN.runId,
        software: '\u001b[31mred',
        addresses: peers,
        peers,
      }),
    );
    expect(await frames.read()).toBeDefined();
    expect(victim.network.peers()).toEqual([raw.host.self]);
    const other = await swarm.peer();
    await other.network.dial(addressOf(victim));
    expect(other.network.peers()).toEqual([victim.id]);
  });
});

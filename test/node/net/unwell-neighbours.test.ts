import { peerIdFromString } from '@libp2p/peer-id';
import { afterEach, expect, it, onTestFinished, vi } from 'vitest';
import { parseAddress } from '../../../node/net/addresses.ts';
import { BLOB_PROTOCOL } from '../../../node/net/blob-server.ts';
import { Frames } from '../../../node/net/frames.ts';
import { createIdentity, NET_LIMITS } from '../../../node/net/index.ts';
import { SYNC_PROTOCOL } from '../../../node/net/sync.ts';
import { blobManifest } from '../../../protocol/blob.ts';
import { addressOf, codeOf, eventually, Swarm, textBytes } from './swarm.ts';

const swarm = new Swarm();
afterEach(() => swarm.stop());

const BYTES = new Uint8Array(1000).fill(7);
const BLOB = { id: blobManifest(BYTES).id, size: BYTES.length };
const SINK = { has: () => false, write: () => undefined };

it.each([
  ['says nothing to the first request', NET_LIMITS.blobStallMs, 0],
  ['gives a chunk byte by byte', NET_LIMITS.blobChunkMs, NET_LIMITS.blobStallMs / 2],
])('gives up a provider that %s', async (_, afterMs, everyMs) => {
  const [fetcher, provider] = [await swarm.peer(), await swarm.raw()];
  let asked = false;
  let drip = (): void => undefined;
  await provider.host.node.handle(BLOB_PROTOCOL, (stream) => {
    stream.addEventListener('message', () => {
      // a frame of 1001 bytes begins
      if (!asked && everyMs > 0) stream.send(Uint8Array.of(0x80 | 105, 7, 0));
      if (everyMs > 0) drip = () => void (stream.status === 'open' && stream.send(Uint8Array.of(0)));
      asked = true;
    });
  });
  await fetcher.network.dial(provider.host.addresses()[0]!);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  let code: string | undefined;
  void codeOf(fetcher.network.fetchBlob(BLOB, SINK)).then((result) => {
    code = result;
  });
  await eventually(() => asked, 'the request');
  for (let ms = 0; ms <= afterMs && code === undefined; ms += everyMs || afterMs) {
    drip();
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    await vi.advanceTimersByTimeAsync(everyMs || afterMs);
  }
  expect(code).toBe('E_BLOB_UNAVAILABLE');
});

it('keeps nothing of what comes after an answer', async () => {
  const [asker, other] = [await swarm.peer(), await swarm.raw()];
  let ended = false;
  await other.host.node.handle(SYNC_PROTOCOL, async (stream) => {
    stream.addEventListener('close', () => {
      ended = true;
    });
    const frames = new Frames(stream, { frameBytesMax: 1024 });
    await frames.read();
    await frames.write(Uint8Array.of(0, 5));
    // and it never ends the stream
  });
  const peer = await asker.network.dial(other.host.addresses()[0]!);
  expect(await asker.network.request(peer, textBytes('question'))).toEqual(Uint8Array.of(5));
  await eventually(() => ended, 'the end of the stream');
});

it('hears what a neighbour says just before it goes', async () => {
  const [leaver, ...others] = await swarm.joined(3);
  // gossip has come to work between them
  for (let n = 0; others.some(({ network }) => network.counters().gossip.received === 0); n++) {
    await leaver!.network.broadcast(textBytes(`word ${n}`));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await leaver!.network.broadcast(textBytes('good-bye'));
  await leaver!.network.stop();
  await eventually(() => others.every(({ messages }) => messages.some(({ text }) => text === 'good-bye')), 'the word');
});

it('takes the newer connection of who comes again, if the one before is old', async () => {
  let passedMs = 0;
  const here = await swarm.raw({ now: () => passedMs });
  const identity = createIdentity();
  const changes: string[] = [];
  here.members.onChange((_, change) => changes.push(change));
  const address = parseAddress(here.host.addresses()[0]!).multiaddr;
  const come = async (): Promise<void> => {
    const { host, greet } = await swarm.raw({ identity });
    await greet(await host.node.dial(address));
  };
  const admitted = () => here.members.get(identity.self)?.connection;
  await come();
  const first = admitted();
  await come();
  // both may have dialed at once
  expect([admitted(), ...changes]).toEqual([first, 'up']);
  passedMs += 2 * NET_LIMITS.helloMs;
  await come();
  expect(admitted()).not.toBe(first);
  expect(changes).toEqual(['up', 'down', 'up']);
});

it('gossips again with whoever lost its stream on a living connection', async () => {
  const [far, between, other] = [await swarm.peer(), await swarm.raw(), await swarm.raw()];
  await far.network.dial(between.host.addresses()[0]!);
  await other.greet(await other.host.node.dial(parseAddress(between.host.addresses()[0]!).multiaddr));
  const relayed = async (): Promise<void> => {
    const before = other.heard.length;
    for (let n = 0; other.heard.length === before; n++) {
      await far.network.broadcast(textBytes(`word ${before} ${n}`));
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await relayed();
  const gossipStreams = () =>
    between.host.node
      .getConnections(peerIdFromString(other.host.self))
      .flatMap(({ streams }) => streams.filter(({ protocol }) => protocol.includes('meshsub')));
  for (const stream of gossipStreams()) stream.abort(new Error('it could not keep up'));
  await eventually(() => gossipStreams().length === 0, 'the end of the streams');
  for (let beat = 0; beat < 100; beat++) between.router.dispatchEvent(new CustomEvent('gossipsub:heartbeat'));
  await relayed();
  expect(between.host.node.getConnections()).toHaveLength(2);
});

it('tells strangers no addresses', async () => {
  const [peer, stranger] = [await swarm.peer(), await swarm.raw({ hello: false })];
  const told = new Promise<string[]>((resolve) => {
    stranger.host.node.addEventListener('peer:identify', ({ detail }) => resolve(detail.listenAddrs.map(String)));
  });
  await stranger.host.node.dial(parseAddress(addressOf(peer)).multiaddr);
  expect(await told).toEqual([]);
});

import { expect, test } from 'vitest';
import type { Message } from '../../protocol/messages.ts';
import { randomStream } from '../../protocol/random.ts';
import { Broadcasts } from '../../sim/broadcast.ts';
import { constant } from '../../sim/distribution.ts';
import { NETWORK_PARAMETERS } from '../../sim/gossip-parameters.ts';
import { Inboxes } from '../../sim/inbox.ts';
import { Kernel } from '../../sim/kernel.ts';
import { Ledger } from '../../sim/ledger.ts';
import { type LinkConfig, Links } from '../../sim/links.ts';
import { Overlay } from '../../sim/overlay.ts';

/** Peers that are all connected, and when each reads what; messages are told apart by their numbers alone. */
function swarm(peers: number, config: Partial<LinkConfig>) {
  const [kernel, ledger, overlay] = [new Kernel(), new Ledger(peers), new Overlay(peers, randomStream(1, 'overlay'))];
  for (let a = 0; a < peers; a++) for (let b = 0; b < a; b++) overlay.link(a, b);
  const base: LinkConfig = { latency: constant(40), asymmetric: false, loss: 0, regions: [], peers: {} };
  const links = new Links({ ...base, ...config }, 1);
  const read: { peer: number; number: number; atMs: number }[] = [];
  const inboxes = new Inboxes(
    {
      kernel,
      connected: () => true,
      onRead: (peer, { numbers }) => {
        for (const number of numbers) read.push({ peer, number, atMs: kernel.nowMs });
      },
    },
    { peers, everyMs: 0 },
  );
  const random = randomStream(1, 'loss');
  const broadcasts = new Broadcasts({ kernel, links, overlay, ledger, inboxes, random }, peers);
  const sending = (number: number, size: number) => ({ message: {} as Message, number, size });
  const settle = () => kernel.run({ until: () => false });
  return { kernel, ledger, links, overlay, broadcasts, read, sending, settle };
}

const { copiesAMeshNeighbour, floodBytesMax, frameBytes, gossipEnvelopeBytes } = NETWORK_PARAMETERS;
const MBIT = 1e6;

test('messages that come at once share a downlink: the k-th is there after l + k B / b', async () => {
  const { broadcasts, read, sending, settle } = swarm(5, { downloadBits: 8 * MBIT, uploadBits: 80 * MBIT });
  for (const from of [1, 2, 3, 4]) broadcasts.send(from, 0, sending(from, 10_000 - frameBytes));
  await settle();
  // 10 kB at 1000 B/ms
  expect(read.map(({ atMs }) => atMs)).toEqual([50, 60, 70, 80]);
});

test('a downlink that is no narrower than the uplink adds nothing to one sender’s messages', async () => {
  const { broadcasts, read, sending, settle } = swarm(2, { downloadBits: 8 * MBIT, uploadBits: 8 * MBIT });
  for (const number of [0, 1, 2]) broadcasts.send(1, 0, sending(number, 10_000 - frameBytes));
  await settle();
  expect(read.map(({ atMs }) => atMs)).toEqual([50, 60, 70]);
});

test.each([
  { what: 'votes', bytes: 2000, kbit: 500 },
  { what: 'headers with an update of 22 kB', bytes: 22_000, kbit: 5000 },
])('a downlink takes every copy of gossip: 16 peers, $what at $kbit kbit/s', async ({ bytes, kbit }) => {
  const [peers, rate] = [16, kbit / 8];
  const { broadcasts, ledger, overlay, read, sending, settle } = swarm(peers, { downloadBits: 1000 * kbit });
  for (let peer = 0; peer < peers; peer++) broadcasts.publish(peer, sending(peer, bytes - gossipEnvelopeBytes));
  await settle();
  const flood = bytes - gossipEnvelopeBytes <= floodBytesMax;
  const copiesOf = (peer: number) => copiesAMeshNeighbour[flood ? 'flooded' : 'relayed'] * overlay.meshDegree(peer);
  let sumMs = 0;
  for (let peer = 0; peer < peers - 1; peer++) {
    const lastMs = read.filter((each) => each.peer === peer).at(-1)!.atMs;
    // all is through but for the further copies of what was published last
    const allMs = (ledger.received.gossip[peer]! - (copiesOf(peer) - 1) * bytes) / rate;
    // who hands it on has had a queue before that; and then a way of a few hops
    if (flood) expect(lastMs).toBeCloseTo(allMs + 40, 6);
    else expect(lastMs).toBeGreaterThan(allMs + 40 - 1e-6);
    sumMs += lastMs / (peers - 1);
  }
  // 15 messages, each about 6 times: 90 x 22 kB are 3.2 s
  if (!flood) expect(Math.abs(sumMs / 3168 - 1)).toBeLessThan(0.1);
});

test.each([
  { latencyMs: 40, stallMs: 200 },
  { latencyMs: 150, stallMs: 600 },
])('a message meets a stall as often as one of its packets is lost: $stallMs ms at $latencyMs ms', async (each) => {
  const { latencyMs, stallMs } = each;
  const [messages, segments] = [4000, 3];
  const { broadcasts, links, read, sending, settle } = swarm(2, { loss: 0.01, latency: constant(latencyMs) });
  const size = segments * NETWORK_PARAMETERS.segmentBytes - frameBytes;
  for (let number = 0; number < messages; number++) broadcasts.send(0, 1, sending(number, size));
  await settle();
  expect(links.stallChance(size + frameBytes)).toBeCloseTo(1 - 0.99 ** segments, 12);
  expect(links.stallMs(0, 1)).toBe(stallMs);
  expect(read).toHaveLength(messages);
  const late = read.filter(({ atMs }) => atMs !== latencyMs);
  expect(new Set(late.map(({ atMs }) => atMs))).toEqual(new Set([latencyMs + stallMs]));
  // three standard deviations of a share of 3 %
  expect(Math.abs(late.length / messages - (1 - 0.99 ** segments))).toBeLessThan(0.008);
});

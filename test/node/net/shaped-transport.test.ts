import { afterEach, expect, it } from 'vitest';
import { type LinkShape, ShapedLink } from '../../../node/net/shaped-transport.ts';
import { addressOf, eventually, Swarm, sha256Hex, textBytes } from './swarm.ts';

let swarm: Swarm;

afterEach(() => swarm.stop());

async function pair(shape: LinkShape) {
  swarm = new Swarm();
  const links = [new ShapedLink(shape), new ShapedLink(shape)] as const;
  const a = await swarm.peer({ transport: links[0].wrap });
  const b = await swarm.peer({ transport: links[1].wrap });
  const startedMs = performance.now();
  await b.network.dial(addressOf(a));
  return { a, b, links, dialMs: performance.now() - startedMs };
}

async function elapsed(run: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await run();
  return performance.now() - startedMs;
}

it('delays: nothing is there before its latency, a dial not before its round trips', async () => {
  const { a, b, dialMs } = await pair({ oneWayMs: 50 });
  // TCP is on loopback, so the handshake's first round trip is not in it: noise, yamux and hello are
  expect(dialMs).toBeGreaterThanOrEqual(200);
  await b.network.sendTo(a.id, textBytes('opens the stream'));
  await eventually(() => a.messages.length === 1, 'the first message');
  const ms = await elapsed(async () => {
    await b.network.sendTo(a.id, textBytes('again'));
    await eventually(() => a.messages.length === 2, 'the second message');
  });
  expect(ms).toBeGreaterThanOrEqual(49);
});

it('limits: a blob cannot come faster than its sender sends or its receiver takes', async () => {
  for (const limit of [{ uploadBits: 8e6 }, { downloadBits: 8e6 }]) {
    const { a, b, links } = await pair({ oneWayMs: 1, ...limit });
    const bytes = new Uint8Array(200_000).fill(7);
    const id = sha256Hex(bytes);
    a.blobs.set(id, bytes);
    const before = links[0].counters.bytesSent;
    const got: Uint8Array[] = [];
    const sink = { has: () => false, write: (_: string, chunk: Uint8Array) => void got.push(chunk) };
    // a megabyte a second
    expect(await elapsed(() => b.network.fetchBlob({ id, size: bytes.length }, sink))).toBeGreaterThanOrEqual(195);
    expect(got).toEqual([bytes]);
    expect(links[0].counters.bytesSent - before).toBeGreaterThan(bytes.length);
    await swarm.stop();
  }
});

it('loses: a stalled message comes late and keeps its place', async () => {
  // the first pieces pass, so that the connection stands; from then on every one is lost once
  let losing = false;
  const { a, b } = await pair({ oneWayMs: 1, loss: 0.5, random: () => (losing ? 0 : 1) });
  await b.network.sendTo(a.id, textBytes('opens the stream'));
  await eventually(() => a.messages.length === 1, 'the first message');
  losing = true;
  const ms = await elapsed(async () => {
    await b.network.sendTo(a.id, textBytes('one'));
    losing = false;
    await b.network.sendTo(a.id, textBytes('two'));
    await eventually(() => a.messages.length === 3, 'both');
  });
  expect(ms).toBeGreaterThanOrEqual(199);
  expect(a.messages.map(({ text }) => text)).toEqual(['opens the stream', 'one', 'two']);
});

it('carries two nodes whose links differ', async () => {
  swarm = new Swarm();
  const near = await swarm.peer({ transport: new ShapedLink({ oneWayMs: 2 }).wrap });
  const far = await swarm.peer({ transport: new ShapedLink({ oneWayMs: 20, uploadBits: 50e6 }).wrap });
  await far.network.dial(addressOf(near));
  expect(near.network.peers()).toEqual([far.id]);
  await far.network.stop();
  await eventually(() => near.network.peers().length === 0, 'the end of the connection');
});

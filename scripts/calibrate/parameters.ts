import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { createIdentity, Network } from '../../node/net/index.ts';
import { ShapedLink } from '../../node/net/shaped-transport.ts';
import { blobManifest } from '../../protocol/blob.ts';
import { type Hash, hashOf } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';

/** Real networks in this process, on loopback behind links with latency: what they send is counted, not modelled. */

/** Long enough for what a busy machine adds to be little beside it. */
const FAR_MS = 300;
const NEAR_MS = 20;
const MESSAGES = 24;

interface Member {
  network: Network;
  link: ShapedLink;
  blobs: Map<Hash, Uint8Array>;
  /** messages that came, each once */
  heard: Set<Hash>;
}

const genesisBytes = new TextEncoder().encode('a run for measuring');
const run = { runId: hashOf(genesisBytes), genesisBytes };
const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();

async function withSwarm<T>(count: number, oneWayMs: number, use: (swarm: Member[]) => Promise<T>): Promise<T> {
  const swarm: Member[] = [];
  try {
    for (let i = 0; i < count; i++) swarm.push(await startMember(oneWayMs));
    const [first, ...rest] = swarm as [Member, ...Member[]];
    for (const { network } of rest) await network.dial(first.network.addresses()[0]!);
    await until(() => swarm.every(({ network }) => network.peers().length === count - 1), 'everybody knows everybody');
    const meshed = Math.min(3, count - 1);
    await until(() => swarm.every(({ network }) => network.counters().mesh >= meshed), 'the mesh has formed');
    return await use(swarm);
  } finally {
    await Promise.all(swarm.map(({ network }) => network.stop()));
  }
}

async function startMember(oneWayMs: number): Promise<Member> {
  const link = new ShapedLink({ oneWayMs });
  const [blobs, heard] = [new Map<Hash, Uint8Array>(), new Set<Hash>()];
  const network = new Network(
    {
      identity: createIdentity(),
      blobSource: { read: async (id) => blobs.get(id) },
      validate: () => 'accept',
      onMessage: (bytes) => heard.add(hashOf(bytes)),
      onPeer: () => undefined,
      onRequest: async (bytes) => bytes,
    },
    { listen: ['/ip4/127.0.0.1/tcp/0'], transport: link.wrap },
  );
  await network.start(run);
  return { network, link, blobs, heard };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + 60_000;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`never came to pass: ${what}`);
    await delay(5);
  }
}

const wireBytes = (swarm: readonly Member[]): number =>
  swarm.reduce((sum, { link }) => sum + link.counters.bytesSent, 0);

function randomBytes(size: number, number: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i += 32) bytes.set(sha256(Uint8Array.of(number, i >> 5, i >> 13)).subarray(0, size - i), i);
  return bytes;
}

/** Everybody in turn publishes; each message is waited for. @returns copies that came for each that was new */
async function copies(swarm: readonly Member[], size: number): Promise<number> {
  const counted = () => swarm.map(({ network }) => network.counters().gossip);
  const before = counted().map(({ received, duplicates }) => ({ received, duplicates }));
  for (let i = 0; i < MESSAGES; i++) {
    const bytes = randomBytes(size, i);
    const author = swarm[i % swarm.length]!;
    await author.network.broadcast(bytes);
    const others = swarm.filter((member) => member !== author);
    await until(() => others.every(({ heard }) => heard.has(hashOf(bytes))), 'a message is everywhere');
  }
  await delay(10 * NEAR_MS);
  const after = counted();
  const sum = (of: 'received' | 'duplicates') => after.reduce((all, each, i) => all + each[of] - before[i]![of], 0);
  return sum('received') / (sum('received') - sum('duplicates'));
}

export async function measureCopies(count: number): Promise<{ flooded: number; relayed: number; mesh: number }> {
  return withSwarm(count, NEAR_MS, async (swarm) => {
    const mesh = swarm.reduce((sum, { network }) => sum + network.counters().mesh, 0) / count;
    return { mesh, flooded: await copies(swarm, 600), relayed: await copies(swarm, 12_000) };
  });
}

/** What a message has on the wire besides itself, by gossip and directly; what is sent anyway is taken off. Bytes. */
export async function measureOverhead(): Promise<{
  gossip: number;
  relayed: number;
  direct: number;
  idleASecond: number;
}> {
  return withSwarm(2, 1, async (swarm) => {
    const [a, b] = swarm as [Member, Member];
    const startMs = performance.now();
    const idleFrom = wireBytes(swarm);
    await delay(3000);
    const idle = (wireBytes(swarm) - idleFrom) / (performance.now() - startMs);
    const each = async (size: number, say: (bytes: Uint8Array) => Promise<unknown>, salt: number): Promise<number> => {
      const [fromMs, from] = [performance.now(), wireBytes(swarm)];
      for (let i = 0; i < MESSAGES; i++) {
        const bytes = randomBytes(size, salt + i);
        await say(bytes);
        await until(() => b.heard.has(hashOf(bytes)), 'the message is there');
        await delay(20); // gossip packs what comes together into one frame
      }
      const ms = performance.now() - fromMs;
      return (wireBytes(swarm) - from - idle * ms) / MESSAGES - size;
    };
    const direct = (bytes: Uint8Array) => a.network.sendTo(b.network.self, bytes);
    await direct(randomBytes(10, 255)); // opens the stream
    return {
      gossip: await each(400, (bytes) => a.network.broadcast(bytes), 0),
      relayed: await each(12_000, (bytes) => a.network.broadcast(bytes), 50),
      direct: await each(400, direct, 100),
      idleASecond: 1000 * idle,
    };
  });
}

/** From the dial to the admitted member, and what opening a stream adds to the first thing on it. Round trips. */
export async function measureRoundTrips(): Promise<{ dial: number; streamOpen: number }> {
  const roundTripMs = 2 * FAR_MS;
  const [a, b] = [await startMember(FAR_MS), await startMember(FAR_MS)];
  const timed = async (act: () => Promise<unknown>): Promise<number> => {
    const fromMs = performance.now();
    await act();
    return (performance.now() - fromMs) / roundTripMs;
  };
  try {
    const dial = await timed(async () => {
      await b.network.dial(a.network.addresses()[0]!);
      await until(() => a.network.peers().length === 1, 'both know');
    });
    const tell = (text: string) => async () => {
      const bytes = new TextEncoder().encode(text);
      await b.network.sendTo(a.network.self, bytes);
      await until(() => a.heard.has(hashOf(bytes)), 'the message is there');
    };
    const [first, second] = [await timed(tell('one')), await timed(tell('two'))];
    return { dial, streamOpen: first - second };
  } finally {
    await Promise.all([a.network.stop(), b.network.stop()]);
  }
}

export interface BlobFigures {
  chunks: number;
  /** that would take as long, if nothing but round trips took time */
  inFlight: number;
  /** on the wire besides the chunks, for each: from the provider, and from the asker */
  answerBytes: number;
  requestBytes: number;
}

/** One blob from one provider, over a link that is long and wide. */
export async function measureBlob(): Promise<BlobFigures> {
  return withSwarm(2, FAR_MS, async ([asker, provider]) => {
    const chunks = 32;
    const fetch = async (size: number, salt: number): Promise<number> => {
      const bytes = new Uint8Array(size).map((_, i) => (i * 31 + (i >> 8) + (i >> 18) * 7 + salt) & 255);
      const { id, manifest, chunks: ids } = blobManifest(bytes, sha256);
      const { chunkBytes } = LIMITS;
      for (const [i, each] of ids.entries()) {
        provider!.blobs.set(each, bytes.subarray(i * chunkBytes, (i + 1) * chunkBytes));
      }
      if (manifest) provider!.blobs.set(id, manifest);
      const fromMs = performance.now();
      await asker!.network.fetchBlob({ id, size }, { has: () => false, write: () => undefined });
      return performance.now() - fromMs;
    };
    await fetch(8 * LIMITS.chunkBytes, 1); // opens the stream, and its window to what the link needs
    const before = [provider!, asker!].map(({ link }) => link.counters.bytesSent);
    const ms = await fetch(chunks * LIMITS.chunkBytes, 2);
    const [sent, asked] = [provider!, asker!].map(({ link }, i) => link.counters.bytesSent - before[i]!) as [
      number,
      number,
    ];
    return {
      chunks,
      inFlight: chunks / (ms / (2 * FAR_MS) - 1),
      answerBytes: (sent - chunks * LIMITS.chunkBytes) / chunks,
      requestBytes: asked / chunks,
    };
  });
}

import { multiaddr } from '@multiformats/multiaddr';
import { afterEach, describe, expect, it } from 'vitest';
import { BlobClient } from '../../../node/net/blob-client.ts';
import { BLOB_PROTOCOL, encodePieceRequest } from '../../../node/net/blob-server.ts';
import { Frames } from '../../../node/net/frames.ts';
import { createHost } from '../../../node/net/host.ts';
import { createIdentity, NET_LIMITS } from '../../../node/net/index.ts';
import { blobManifest } from '../../../protocol/blob.ts';
import type { Hash } from '../../../protocol/hash.ts';
import { LIMITS } from '../../../protocol/limits.ts';
import { randomStream } from '../../../protocol/random.ts';
import { addressOf, codeOf, eventually, Swarm, type TestPeer } from './swarm.ts';

const swarm = new Swarm();
afterEach(() => swarm.stop());

/** 3.1 MB, thirteen chunks, no two alike */
const BYTES = randomBytes(12 * LIMITS.chunkBytes + 5);
const BLOB = blobManifest(BYTES);

function randomBytes(length: number): Uint8Array {
  const stream = randomStream(7, 'blob');
  return Uint8Array.from({ length }, () => stream.uint32() & 255);
}

/** Chunks and manifest by their hash, as a store holds them. */
function stored(bytes: Uint8Array = BYTES): Map<Hash, Uint8Array> {
  const { manifest, chunks, id } = blobManifest(bytes);
  const store = new Map<Hash, Uint8Array>(manifest ? [[id, manifest]] : []);
  for (const [i, hash] of chunks.entries())
    store.set(hash, bytes.slice(i * LIMITS.chunkBytes, (i + 1) * LIMITS.chunkBytes));
  return store;
}

function sinkOf(map: Map<Hash, Uint8Array>) {
  const written: Hash[] = [];
  return {
    written,
    has: (id: Hash) => map.has(id),
    write: (id: Hash, bytes: Uint8Array) => {
      written.push(id);
      map.set(id, bytes.slice());
    },
    read: async (id: Hash) => map.get(id),
  };
}

function whole(map: Map<Hash, Uint8Array>): Uint8Array {
  return Buffer.concat(BLOB.chunks.map((id) => map.get(id) ?? new Uint8Array()));
}

async function providersFor(
  fetcher: TestPeer,
  sources: ((id: Hash) => Promise<Uint8Array | undefined>)[],
): Promise<TestPeer[]> {
  const providers = await Promise.all(sources.map((read) => swarm.peer({ blobSource: { read } })));
  for (const provider of providers) await fetcher.network.dial(addressOf(provider));
  return providers;
}

describe('a blob over real streams', () => {
  it('comes from three providers, of which one lies and one leaves midway', async () => {
    const fetcher = await swarm.peer();
    const store = stored();
    let served = 0;
    const leave: { now: () => void } = { now: () => {} };
    const providers = await providersFor(fetcher, [
      async (id) => store.get(id),
      async (id) => (id === BLOB.id ? store.get(id) : new Uint8Array(LIMITS.chunkBytes)),
      async (id) => {
        if (++served === 3) leave.now();
        return store.get(id);
      },
    ]);
    leave.now = () => void providers[2]?.network.stop();
    const sink = sinkOf(fetcher.blobs);
    // the liar and the leaver first, so that they are asked
    const order = [providers[1], providers[2], providers[0]].map((provider) => provider!.id);
    await fetcher.network.fetchBlob(BLOB, sink, { providers: () => order });
    expect(Buffer.compare(whole(fetcher.blobs), BYTES)).toBe(0);
    expect(served).toBeGreaterThanOrEqual(3);
    expect(sink.written.toSorted()).toEqual([BLOB.id, ...BLOB.chunks].toSorted());
  });

  it('goes on after an interruption with what is still missing', async () => {
    const fetcher = await swarm.peer();
    const store = stored();
    const [provider] = await providersFor(fetcher, [async (id) => store.get(id)]);
    const controller = new AbortController();
    const first = sinkOf(fetcher.blobs);
    const interrupting = {
      ...first,
      write: (id: Hash, bytes: Uint8Array) => {
        first.write(id, bytes);
        if (first.written.length === 5) controller.abort();
      },
    };
    const cut = fetcher.network.fetchBlob(BLOB, interrupting, { signal: controller.signal });
    expect(await codeOf(cut)).toBe('E_ABORTED');
    const second = sinkOf(fetcher.blobs);
    await fetcher.network.fetchBlob(BLOB, second, { providers: () => [provider!.id] });
    expect(second.written.some((id) => first.written.includes(id))).toBe(false);
    expect(Buffer.compare(whole(fetcher.blobs), BYTES)).toBe(0);
    const third = sinkOf(fetcher.blobs);
    await fetcher.network.fetchBlob(BLOB, third, { providers: () => [] });
    expect(third.written).toEqual([]);
  });

  it('of one chunk has no manifest, of no bytes too', async () => {
    const fetcher = await swarm.peer();
    for (const bytes of [Uint8Array.of(1, 2, 3), new Uint8Array()]) {
      const store = stored(bytes);
      await providersFor(fetcher, [async (id) => store.get(id)]);
      const { id, size } = blobManifest(bytes);
      await fetcher.network.fetchBlob({ id, size }, sinkOf(fetcher.blobs));
      expect(fetcher.blobs.get(id)).toEqual(bytes);
    }
  });

  it('fails by name when nobody has it, and when all lie', async () => {
    const fetcher = await swarm.peer();
    await providersFor(fetcher, [async () => undefined]);
    const sink = sinkOf(fetcher.blobs);
    await expect(fetcher.network.fetchBlob(BLOB, sink)).rejects.toMatchObject({ code: 'E_BLOB_UNAVAILABLE' });
    const [liar] = await providersFor(fetcher, [async () => Uint8Array.of(6)]);
    const lied = fetcher.network.fetchBlob(BLOB, sink, { providers: () => [liar!.id] });
    expect(await codeOf(lied)).toBe('E_BLOB_CORRUPT');
    expect(sink.written).toEqual([]);
  });

  it('is counted, and fetched on one stream however many chunks it has', async () => {
    const fetcher = await swarm.peer();
    const store = stored();
    const [provider] = await providersFor(fetcher, [async (id) => store.get(id)]);
    await Promise.all([0, 1, 2].map(() => fetcher.network.fetchBlob(BLOB, sinkOf(new Map()))));
    expect(fetcher.network.counters().bytesReceived).toBeGreaterThanOrEqual(3 * BYTES.length);
    await eventually(() => provider!.network.counters().bytesSent >= 3 * BYTES.length, 'the sender counts too');
  });
});

describe('a chunk', () => {
  it('that is longer than somebody said is whole, and who has it not to blame', async () => {
    const store = stored();
    const provider = await swarm.peer({ blobSource: { read: async (id) => store.get(id) } });
    const { host, members } = await swarm.raw();
    await host.node.dial(multiaddr(addressOf(provider)));
    await eventually(() => members.has(provider.id), 'the provider a member');
    const client = new BlobClient({ host, members });
    const [id, other] = BLOB.chunks as [Hash, Hash];
    const sizes = [0, 1, 40_000, 64 * 1024, LIMITS.chunkBytes - 1];
    const asked = sizes.map((size) => client.fetchChunk(provider.id, { id, size }));
    const besides = client.fetchChunk(provider.id, { id: other, size: LIMITS.chunkBytes });
    for (const bytes of await Promise.all(asked)) expect(Buffer.compare(bytes, store.get(id)!)).toBe(0);
    expect(Buffer.compare(await besides, store.get(other)!)).toBe(0);
    const last = BLOB.chunks.at(-1)!;
    expect((await client.fetchChunk(provider.id, { id: last, size: LIMITS.chunkBytes })).length).toBe(5);
    // a blob that is said to be shorter is named for what it is
    const blob = { id, size: 40_000 };
    const fetcher = await swarm.peer();
    await fetcher.network.dial(addressOf(provider));
    expect(await codeOf(fetcher.network.fetchBlob(blob, sinkOf(new Map())))).toBe('E_BLOB_CORRUPT');
  });

  it('is waited for no longer when the caller stops while its stream is being opened', async () => {
    const provider = await swarm.peer({ blobSource: { read: () => new Promise(() => {}) } });
    const { host, members } = await swarm.raw();
    await host.node.dial(multiaddr(addressOf(provider)));
    await eventually(() => members.has(provider.id), 'the provider a member');
    const controller = new AbortController();
    const chunk = { id: BLOB.chunks[0]!, size: LIMITS.chunkBytes };
    const fetched = new BlobClient({ host, members }).fetchChunk(provider.id, chunk, controller.signal);
    controller.abort();
    expect(await codeOf(fetched)).toBe('E_ABORTED');
  });
});

describe('the blob server', () => {
  async function stranger(provider: TestPeer): Promise<Awaited<ReturnType<typeof open>>> {
    const host = await createHost({ identity: createIdentity() }, { listen: [] });
    return open(host, provider);
  }

  async function open(host: Awaited<ReturnType<typeof createHost>>, provider: TestPeer) {
    const stream = await host.node.dialProtocol(multiaddr(addressOf(provider)), BLOB_PROTOCOL);
    return { host, frames: new Frames(stream, { frameBytesMax: 1 + LIMITS.chunkBytes }) };
  }

  it('serves nothing to who has not said hello, and cuts off who asks too much at once', async () => {
    let reads = 0;
    const provider = await swarm.peer({
      blobSource: {
        read: async () => {
          reads++;
          return Uint8Array.of(1);
        },
      },
    });
    const { host, frames } = await stranger(provider);
    try {
      const flood = new Uint8Array(40);
      const asking = (async () => {
        for (;;) await frames.write(flood);
      })();
      expect(await codeOf(asking)).toBe('E_STREAM_CLOSED');
      expect(reads).toBe(0);
    } finally {
      await host.stop();
    }
  });

  it('reads a chunk once for all its pieces, and not many chunks for who takes little of each', async () => {
    const store = stored();
    const reads: Hash[] = [];
    const read = async (id: Hash) => {
      reads.push(id);
      return store.get(id);
    };
    const provider = await swarm.peer({ blobSource: { read } });
    const { host, members } = await swarm.raw();
    await host.node.dial(multiaddr(addressOf(provider)));
    await eventually(() => members.has(provider.id), 'the provider a member');
    const [first, second] = BLOB.chunks as [Hash, Hash];
    const client = new BlobClient({ host, members });
    for (let times = 0; times < 20; times++) {
      const id = BLOB.chunks[times % 12]!;
      expect((await client.fetchChunk(provider.id, { id, size: LIMITS.chunkBytes })).length).toBe(LIMITS.chunkBytes);
    }
    expect(reads).toEqual(Array.from({ length: 20 }, (_, times) => BLOB.chunks[times % 12]));
    reads.length = 0;
    // nor is one held for who asks for the same piece of it again and again
    const again = await open(host, provider);
    const most = { id: first, offset: 0, length: LIMITS.chunkBytes - 1 };
    for (let times = 0; times < 6; times++) {
      await again.frames.write(encodePieceRequest(most));
      expect((await again.frames.read())!.length).toBe(LIMITS.chunkBytes);
    }
    expect(reads).toEqual([first, first, first]);
    again.frames.close();
    expect(await again.frames.read()).toBeUndefined();
    reads.length = 0;
    const { frames } = await open(host, provider);
    const asking = async () => {
      for (let times = 0; times < 100; times++) {
        await frames.write(encodePieceRequest({ id: times % 2 === 0 ? first : second, offset: 0, length: 1 }));
        if (!(await frames.read())) return;
      }
    };
    await asking().catch(() => undefined);
    expect(reads.length).toBe(NET_LIMITS.chunksReadInVainMax + 1);
    // another stream is no other peer
    const other = await open(host, provider);
    await other.frames.write(encodePieceRequest(most));
    expect(await other.frames.read().catch(() => 'cut off')).toBe('cut off');
    expect(reads.length).toBe(NET_LIMITS.chunksReadInVainMax + 1);
  });
});

import fc from 'fast-check';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { ChunkReference } from '../../../node/net/blob-client.ts';
import { networkError } from '../../../node/net/errors.ts';
import { fetchBlob } from '../../../node/net/fetch-blob.ts';
import { blobManifest } from '../../../protocol/blob.ts';
import type { Hash } from '../../../protocol/hash.ts';
import { LIMITS } from '../../../protocol/limits.ts';
import { codeOf } from './swarm.ts';

const CHUNKS = 5;
const BYTES = Uint8Array.from({ length: CHUNKS * LIMITS.chunkBytes }, (_, i) => Math.floor(i / LIMITS.chunkBytes));
const BLOB = blobManifest(BYTES);
const STORE = new Map<Hash, Uint8Array>([
  [BLOB.id, BLOB.manifest!],
  ...BLOB.chunks.map((id, i): [Hash, Uint8Array] => [
    id,
    BYTES.subarray(i * LIMITS.chunkBytes, (i + 1) * LIMITS.chunkBytes),
  ]),
]);

type Behaviour = 'honest' | 'lies' | 'leaves' | 'lacks' | 'hangs';

/** Fetches from scripted providers; a provider that hangs never answers unless told to stop. */
async function fetchFrom(behaviours: Behaviour[], sink = new Map<Hash, Uint8Array>()) {
  const asked: string[] = [];
  const fetchChunk = (peer: string, { id }: ChunkReference, signal?: AbortSignal): Promise<Uint8Array> => {
    asked.push(peer);
    const behaviour = behaviours[Number(peer)];
    if (behaviour === 'honest') return Promise.resolve(STORE.get(id)!);
    if (behaviour === 'lies') return Promise.reject(networkError('E_BLOB_CORRUPT', `${peer} lies`));
    if (behaviour === 'leaves') return Promise.reject(networkError('E_STREAM_CLOSED', `${peer} leaves`));
    if (behaviour === 'lacks') return Promise.reject(networkError('E_BLOB_UNAVAILABLE', `${peer} lacks it`));
    return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
  };
  const providers = (): string[] => behaviours.map((_, i) => String(i));
  const components = {
    fetchChunk,
    providers,
    patienceMs: 1,
    sink: { has: (id: Hash) => sink.has(id), write: (id: Hash, bytes: Uint8Array) => void sink.set(id, bytes) },
  };
  const code = await codeOf(fetchBlob(components, BLOB));
  return { code, asked, sink };
}

describe('fetchBlob', () => {
  it('ends well with any crowd in which one is honest', async () => {
    const anyone = fc.constantFrom<Behaviour>('honest', 'lies', 'leaves', 'lacks', 'hangs');
    await fc.assert(
      fc.asyncProperty(fc.array(anyone, { maxLength: 6 }), fc.nat(6), async (others, place) => {
        const behaviours = others.toSpliced(Math.min(place, others.length), 0, 'honest');
        const { code, sink } = await fetchFrom(behaviours);
        expect(code).toBe('no error');
        expect([...sink.keys()].toSorted()).toEqual([...STORE.keys()].toSorted());
      }),
      { numRuns: 100 },
    );
  });

  it('asks nobody twice for what comes in time', async () => {
    const { asked } = await fetchFrom(['honest', 'honest', 'honest']);
    expect(asked.length).toBe(1 + CHUNKS);
  });

  it('asks the same share of everybody, and of nobody more at a time than it can be at', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const bytes = Uint8Array.from({ length: 60 * LIMITS.chunkBytes }, (_, i) => Math.floor(i / LIMITS.chunkBytes));
    const blob = blobManifest(bytes);
    const parts = new Map([
      [blob.id, blob.manifest!],
      ...blob.chunks.map((id, i): [Hash, Uint8Array] => [
        id,
        bytes.subarray(i * LIMITS.chunkBytes, (i + 1) * LIMITS.chunkBytes),
      ]),
    ]);
    const given: Record<string, number> = { a: 0, b: 0, c: 0 };
    const underWay: Record<string, number> = { a: 0, b: 0, c: 0 };
    let [freeMs, most] = [0, 0];
    const fetchChunk = async (peer: string, { id }: ChunkReference): Promise<Uint8Array> => {
      given[peer]!++;
      underWay[peer]!++;
      most = Math.max(most, ...Object.values(underWay));
      freeMs = Math.max(freeMs, performance.now() + 40) + 21;
      await new Promise((resolve) => setTimeout(resolve, freeMs - performance.now()));
      underWay[peer]!--;
      return parts.get(id)!;
    };
    const sink = new Set<Hash>();
    const components = { has: (id: Hash) => sink.has(id), write: (id: Hash) => void sink.add(id) };
    const of = { fetchChunk, chunksAtOnce: () => 2, providers: () => Object.keys(given), sink: components };
    const done = fetchBlob(of, blob);
    await vi.advanceTimersByTimeAsync(20_000);
    await done;
    expect(sink.size).toBe(61);
    for (const count of Object.values(given)) expect(Math.abs(count - 61 / 3)).toBeLessThan(3);
    expect(most).toBe(2);
  });

  it('asks twice for the last chunks alone on a link on which a chunk takes longer than its patience, and not again and again who lacks the blob', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const asked: string[] = [];
    let freeMs = 0;
    const fetchChunk = async (peer: string, { id }: ChunkReference): Promise<Uint8Array> => {
      asked.push(peer);
      if (peer !== 'a' && peer !== 'b') throw networkError('E_BLOB_UNAVAILABLE', `${peer} lacks it`);
      freeMs = Math.max(freeMs, performance.now()) + 4000;
      await new Promise((resolve) => setTimeout(resolve, freeMs - performance.now()));
      return STORE.get(id)!;
    };
    const sink = new Set<Hash>();
    const components = { has: (id: Hash) => sink.has(id), write: (id: Hash) => void sink.add(id) };
    const others = Array.from({ length: 20 }, (_, i) => `other ${i}`);
    const done = fetchBlob({ fetchChunk, providers: () => ['a', 'b', ...others], sink: components }, BLOB);
    await vi.advanceTimersByTimeAsync(200_000);
    await done;
    expect(sink.size).toBe(1 + CHUNKS);
    const given = asked.filter((peer) => peer === 'a' || peer === 'b');
    // the manifest, and the last ones, where there is nothing else to ask for
    expect(given.length).toBeLessThanOrEqual(1 + 2 * CHUNKS);
    expect(asked.length - given.length).toBeLessThanOrEqual(2 * others.length);
  });

  it('is patient with a provider as long as its chunks come, and asks another when they stop', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    for (const stops of [false, true]) {
      const asked: string[] = [];
      let freeMs = performance.now();
      const fetchChunk = (peer: string, { id }: ChunkReference, signal?: AbortSignal): Promise<Uint8Array> => {
        asked.push(peer);
        if (peer === 'idle') return Promise.resolve(STORE.get(id)!);
        // one after the other, each in a little less than is waited for, all together in much more
        freeMs = Math.max(freeMs, performance.now()) + 90;
        if (stops && asked.length > 3) freeMs = performance.now() + 1e6;
        return new Promise((resolve, reject) => {
          setTimeout(() => resolve(STORE.get(id)!), freeMs - performance.now());
          signal?.addEventListener('abort', () => reject(signal.reason));
        });
      };
      const order = ['slow', 'idle'];
      // the second one comes when all is asked for, and has nothing to do
      const providers = () => (asked.length < 4 ? order.slice(0, 1) : order);
      const { id, size, manifest } = blobManifest(BYTES.subarray(0, 4 * LIMITS.chunkBytes));
      const sink = { has: (part: Hash) => part === id, read: async () => manifest!, write: () => undefined };
      const fetching = fetchBlob({ fetchChunk, providers, patienceMs: 100, sink }, { id, size });
      await vi.advanceTimersByTimeAsync(2000);
      await fetching;
      expect(asked.includes('idle')).toBe(stops);
    }
  });

  it('is patient with a provider that is giving what other fetches asked for', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const id = BLOB.chunks[0]!;
    const fetching = async (heardMs: () => number): Promise<string[]> => {
      const asked: string[] = [];
      const fetchChunk = async (peer: string): Promise<Uint8Array> => {
        asked.push(peer);
        await new Promise((resolve) => setTimeout(resolve, 500));
        return STORE.get(id)!;
      };
      const sink = { has: () => false, write: () => undefined };
      const components = { fetchChunk, heardMs, providers: () => ['busy', 'idle'], patienceMs: 100, sink };
      const done = fetchBlob(components, { id, size: LIMITS.chunkBytes });
      await vi.advanceTimersByTimeAsync(2000);
      await done;
      return asked;
    };
    expect(await fetching(() => performance.now())).toEqual(['busy']);
    expect(await fetching(() => 0)).toEqual(['busy', 'idle']);
  });

  it('asks again those who lacked it where the only one that had it is silent for long', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const asked: string[] = [];
    const startMs = performance.now();
    const fetchChunk = (peer: string, { id }: ChunkReference, signal?: AbortSignal): Promise<Uint8Array> => {
      asked.push(peer);
      if (peer === 'drips')
        return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
      const has = performance.now() >= startMs + 5000;
      return has ? Promise.resolve(STORE.get(id)!) : Promise.reject(networkError('E_BLOB_UNAVAILABLE', 'not yet'));
    };
    const sink = new Set<Hash>();
    const components = { has: (id: Hash) => sink.has(id), write: (id: Hash) => void sink.add(id) };
    const done = fetchBlob({ fetchChunk, providers: () => ['drips', 'later'], sink: components }, BLOB);
    await vi.advanceTimersByTimeAsync(60_000);
    await done;
    expect(sink.size).toBe(1 + CHUNKS);
    // the manifest twice, the chunks once each
    expect(asked.filter((peer) => peer === 'later')).toHaveLength(2 + CHUNKS);
  });

  it('ends in time where fewer give the rest than lack it, unless it comes soon', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const bytes = Uint8Array.from({ length: 80 * LIMITS.chunkBytes }, (_, i) => Math.floor(i / LIMITS.chunkBytes));
    const { id, size, manifest, chunks } = blobManifest(bytes);
    const parts = new Map(
      chunks.map((chunk, i) => [chunk, bytes.subarray(i * LIMITS.chunkBytes, (i + 1) * LIMITS.chunkBytes)]),
    );
    type Pace = number | ((given: number) => number) | null;
    /** @param gives of each provider, ms for a chunk, one after the other; null lacks all, and names strangers */
    const fetching = async (gives: Pace[], strangers: number[] = []) => {
      const freeMs = gives.map(() => 0);
      const fetchChunk = async (peer: string, { id: chunk }: ChunkReference): Promise<Uint8Array> => {
        const pace = gives[Number(peer)];
        const ms = typeof pace === 'function' ? pace(came.size - 1) : pace;
        if (ms === null || ms === undefined) throw networkError('E_BLOB_UNAVAILABLE', `${peer} lacks it`);
        freeMs[Number(peer)] = Math.max(performance.now(), freeMs[Number(peer)] ?? 0) + ms;
        await new Promise((resolve) => setTimeout(resolve, (freeMs[Number(peer)] ?? 0) - performance.now()));
        return parts.get(chunk) ?? new Uint8Array();
      };
      const came = new Set<Hash>([id]);
      const sink = {
        has: (part: Hash) => came.has(part),
        write: (part: Hash) => void came.add(part),
        read: async () => manifest,
      };
      const rare = { afterMs: 60_000, isCounted: (peer: string) => !strangers.includes(Number(peer)) };
      const providers = () => gives.map((_, i) => String(i));
      const code = codeOf(fetchBlob({ fetchChunk, providers, sink, rare }, { id, size }));
      await vi.advanceTimersByTimeAsync(60 * 60_000);
      return { code: await code, came: came.size - 1 };
    };
    const whole = { code: 'no error', came: chunks.length };
    const [slow, fast] = [6000, 900];
    expect(await fetching([slow])).toEqual(whole);
    expect(await fetching([null, slow])).toEqual(whole);
    const rare = await fetching([null, null, slow]);
    expect(rare.code).toBe('E_BLOB_UNAVAILABLE');
    // what came stays for the next time
    expect(rare.came).toBeGreaterThanOrEqual(9);
    expect(rare.came).toBeLessThanOrEqual(11);
    // who gave much at first may be in no hurry with the rest
    const tired = await fetching([null, null, (given) => (given < 60 ? 900 : 110_000)]);
    expect(tired.code).toBe('E_BLOB_UNAVAILABLE');
    expect(tired.came).toBeGreaterThanOrEqual(60);
    expect(tired.came).toBeLessThan(75);
    // who lacks it and is a stranger does not count, and what comes soon is waited for
    expect(await fetching([null, null, slow], [0])).toEqual(whole);
    expect(await fetching([null, null, null, fast])).toEqual(whole);
    expect(await fetching([null, null, null, fast, 30_000], [4])).toEqual(whole);
  });

  it('asks a liar once, and who lacks a chunk not again for that chunk', async () => {
    const { asked } = await fetchFrom(['lies', 'lacks', 'honest']);
    // manifest and chunks are two fetches, and the chunks are asked for four at a time
    expect(asked.filter((peer) => peer === '0').length).toBeLessThanOrEqual(1 + 4);
    expect(asked.filter((peer) => peer === '1').length).toBeLessThanOrEqual(1 + CHUNKS);
  });

  it('says corrupt only when all lied', async () => {
    expect((await fetchFrom(['lies', 'lies'])).code).toBe('E_BLOB_CORRUPT');
    expect((await fetchFrom(['lies', 'lacks'])).code).toBe('E_BLOB_UNAVAILABLE');
    expect((await fetchFrom(['leaves'])).code).toBe('E_BLOB_UNAVAILABLE');
    expect((await fetchFrom([])).code).toBe('E_BLOB_UNAVAILABLE');
  });

  it('passes on a fault of the sink, and waits for its last write', async () => {
    const fetchChunk = (_: string, { id }: ChunkReference): Promise<Uint8Array> => Promise.resolve(STORE.get(id)!);
    const full = Object.assign(new Error('disk full'), { code: 'E_DISK_FULL' });
    const sink = { has: () => false, write: () => Promise.reject(full) };
    expect(await codeOf(fetchBlob({ fetchChunk, providers: () => ['0'], sink }, BLOB))).toBe('E_DISK_FULL');
    let written = 0;
    const slow = {
      has: () => false,
      write: async () => {
        await new Promise((resolve) => setImmediate(resolve));
        written++;
      },
    };
    await fetchBlob({ fetchChunk, providers: () => ['0', '1'], sink: slow }, BLOB);
    expect(written).toBe(1 + CHUNKS);
  });

  it('refuses sizes that no blob has, before anything is asked', async () => {
    const never = {
      fetchChunk: () => Promise.reject(new Error('asked')),
      providers: () => ['0'],
      sink: { has: () => false, write: () => {} },
    };
    for (const size of [-1, 0.5, Number.NaN, LIMITS.blobBytesMax + 1]) {
      expect(await codeOf(fetchBlob(never, { id: BLOB.id, size }))).toBe('E_TOO_LARGE');
    }
  });

  it('notices chunks of another size than the blob was announced with', async () => {
    const bytes = Uint8Array.of(1, 2, 3);
    const { id } = blobManifest(bytes);
    const sink = { has: () => false, write: () => {} };
    const components = { fetchChunk: () => Promise.resolve(bytes), providers: () => ['0'], sink };
    expect(await codeOf(fetchBlob(components, { id, size: 4 }))).toBe('E_BLOB_CORRUPT');
  });
});

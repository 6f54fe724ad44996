import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { buildGenesis, tokenizerFor } from '../../node/defaults.ts';
import type { ChunkReference } from '../../node/net/blob-client.ts';
import { fetchBlob } from '../../node/net/fetch-blob.ts';
import { Payloads } from '../../node/payloads.ts';
import { BlobStore, rangesOf } from '../../node/store/blob-store.ts';
import { type BlobReference, blobParts, hasBlob, readBlob, writeBlob } from '../../node/store/blobs.ts';
import { blobManifest } from '../../protocol/blob.ts';
import { codecOf } from '../../protocol/codecs/index.ts';
import { CodedError } from '../../protocol/errors.ts';
import type { Hash } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { modelLayout } from '../../protocol/model.ts';
import { testSigner } from '../helpers/signers.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

/** Two chunks, as a payload of this model has, so that it could be one. */
const TEXT = new TextEncoder().encode('It was the best of times, it was the worst of times. '.repeat(6000));
const tokenizer = tokenizerFor('char', TEXT);
const VOCABULARY = tokenizer.blob!;
const author = testSigner('member').self;
const genesis = buildGenesis({ model: 'micro', codec: 'fp32' }, author, { name: 'text', bytes: TEXT }, tokenizer);
const layout = modelLayout(genesis.model);
const codec = codecOf(genesis.codec);
const text = genesis.data.blob;
const vocabulary = { id: blobManifest(VOCABULARY).id, size: VOCABULARY.length };

const ROUND = 3;
const LONG_AFTER = ROUND + LIMITS.payloadRoundsKept + 1;

let folder: string;
let store: BlobStore;
/** what the one member has, and is asked for */
let member: BlobStore;
let asked: Hash[];
/** it never comes to the end of a chunk */
let drips: boolean;
let payloads: Payloads;

beforeEach(async () => {
  folder = temporaryFolder();
  store = new BlobStore(join(folder, 'here'));
  member = new BlobStore(join(folder, 'member'));
  asked = [];
  drips = false;
  for (const bytes of [TEXT, VOCABULARY]) await writeBlob(store, bytes);
  const fetchChunk = async (_: string, { id }: ChunkReference): Promise<Uint8Array> => {
    asked.push(id);
    if (drips) return new Promise(() => undefined);
    const bytes = await member.read(id);
    if (!bytes) throw new CodedError('E_BLOB_UNAVAILABLE', `the member lacks ${id}`);
    return bytes;
  };
  const network: ConstructorParameters<typeof Payloads>[0]['network'] = {
    peers: () => [author],
    fetchBlob: (blob, sink, { providers, signal } = {}) =>
      fetchBlob({ fetchChunk, sink, providers: providers! }, blob, signal),
  };
  const check = async (payload: BlobReference) => codec.check(await readBlob(store, payload), layout);
  payloads = new Payloads({ network, store, worker: { check } }, genesis);
});

function updateOf({ id, size }: BlobReference) {
  return { author, payload: id, size, tokens: 1, steps: 1, loss: 1, signature: new Uint8Array(64) };
}

function fetch(blob: BlobReference, round = ROUND): Promise<string | null> {
  return payloads.fetch(updateOf(blob), [author], round);
}

/** A valid payload of two chunks; the first is that of every other one. */
function payload(last: number): Uint8Array {
  return codec.encode(new Float32Array(layout.length).fill(last, layout.length - 1), layout);
}

/** What is on the disk here and belongs to neither text nor vocabulary. */
async function leftovers(): Promise<Hash[]> {
  const data = [...((await blobParts(store, text)) ?? []), vocabulary.id];
  return store.list().filter((id) => !data.includes(id));
}

describe('a payload', () => {
  it('is fetched and checked, stays while its round can be asked for, and goes then', async () => {
    const blob = await writeBlob(member, payload(1));
    expect(await fetch(blob)).toBeNull();
    await payloads.dropOld(LONG_AFTER - 1);
    expect(await hasBlob(store, blob)).toBe(true);
    await payloads.dropOld(LONG_AFTER);
    expect(await leftovers()).toEqual([]);
  });

  it('is not fetched any longer once no round can need it, however slowly it comes', async () => {
    const blob = await writeBlob(member, payload(1));
    drips = true;
    const fetched = fetch(blob);
    await payloads.dropOld(LONG_AFTER);
    expect(await fetched).toBe('E_BLOB_UNAVAILABLE');
    // what is needed again is another matter
    drips = false;
    expect(await fetch(blob, LONG_AFTER)).toBeNull();
  });

  it('stays whole when an older one goes that has a chunk with it', async () => {
    const [older, newer] = [await writeBlob(member, payload(1)), await writeBlob(member, payload(2))];
    await fetch(older);
    await fetch(newer, ROUND + 1);
    await payloads.dropOld(LONG_AFTER);
    expect(await hasBlob(store, older)).toBe(false);
    expect(await hasBlob(store, newer)).toBe(true);
    await payloads.dropOld(LONG_AFTER + 1);
    expect(await leftovers()).toEqual([]);
  });

  it('of this peer itself stays whole too, whatever was said of its size before', async () => {
    await fetch(await writeBlob(member, payload(1)));
    const own = await writeBlob(store, payload(2));
    expect(await fetch({ id: own.id, size: own.size - 1 })).toBe('E_BLOB_SIZE');
    await payloads.dropOld(ROUND);
    payloads.need(own.id, own.size, ROUND + 1);
    await payloads.dropOld(LONG_AFTER);
    expect(await hasBlob(store, own)).toBe(true);
    await payloads.dropOld(LONG_AFTER + 1);
    expect(await leftovers()).toEqual([]);
  });

  it('stays whole when somebody has said another size of it', async () => {
    const blob = await writeBlob(member, payload(1));
    expect(await fetch(blob, ROUND + 1)).toBeNull();
    expect(await fetch({ id: blob.id, size: blob.size - 1 })).toBe('E_BLOB_SIZE');
    await payloads.dropOld(LONG_AFTER);
    expect(await hasBlob(store, blob)).toBe(true);
  });

  it('is not fetched where it is larger than its codec makes any', async () => {
    const blob = await writeBlob(member, new Uint8Array(codec.bytesMax(layout) + 1));
    expect(await fetch(blob)).toBe('E_PAYLOAD_SIZE');
    expect(await fetch({ id: blob.id, size: LIMITS.blobBytesMax })).toBe('E_PAYLOAD_SIZE');
    expect(asked).toEqual([]);
  });

  it('that was refused goes like any other', async () => {
    const blob = await writeBlob(member, payload(1).fill(0xff, 0, 4));
    expect(await fetch(blob)).toBe('E_PAYLOAD_NOT_FINITE');
    await payloads.dropOld(LONG_AFTER);
    expect(await leftovers()).toEqual([]);
  });
});

describe('the text and the vocabulary stay whole when a header names as its payload', () => {
  it.each([
    ['the text', async () => text],
    ['the text, under another size', async () => ({ ...text, size: text.size + 1 })],
    ['the text, as of one chunk', async () => ({ ...text, size: 100 })],
    ['a chunk of the text', async () => ({ id: (await blobParts(store, text))![1]!, size: LIMITS.chunkBytes })],
    ['a chunk of the text, under another size', async () => ({ id: (await blobParts(store, text))![2]!, size: 100 })],
    ['the vocabulary', async () => vocabulary],
    ['the vocabulary, under another size', async () => ({ ...vocabulary, size: 300_000 })],
  ])('%s', async (_, named) => {
    expect(await fetch(await named())).toMatch(/^E_/);
    await payloads.dropOld(LONG_AFTER);
    expect(await hasBlob(store, text)).toBe(true);
    expect(await hasBlob(store, vocabulary)).toBe(true);
  });

  it('the vocabulary, and has it inside', async () => {
    const of = { run: text.id, base: text.id, round: ROUND };
    const header = { ...of, type: 'header' as const, update: updateOf(vocabulary), inline: VOCABULARY };
    expect([...(await payloads.take([header], ROUND)).values()]).toEqual(['E_PAYLOAD_SIZE']);
    await payloads.dropOld(LONG_AFTER);
    expect(await hasBlob(store, vocabulary)).toBe(true);
  });
});

describe('a state that is served', () => {
  /** Served out of a file, as out of a checkpoint; with these values it could be a payload. */
  async function served(bytes: Uint8Array, name: string, removed: string[] = []) {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    const manifest = blobManifest(bytes);
    await store.write(manifest.id, manifest.manifest!);
    const gone = payloads.register({ path, snapshot: manifest.id, ranges: rangesOf(manifest, 0), removed });
    await payloads.removeSnapshots(gone);
    return { path, blob: { id: manifest.id, size: bytes.length } };
  }

  it('stays whole when a payload goes that is the same, or names a part of it', async () => {
    const { blob } = await served(payload(1), 'first');
    await writeBlob(member, payload(1));
    const [, chunk] = (await blobParts(store, blob))!;
    expect(await fetch(blob)).toBeNull();
    expect(await fetch({ ...blob, size: blob.size - 1 })).toBe('E_BLOB_SIZE');
    expect(await fetch({ id: chunk!, size: LIMITS.chunkBytes })).toBe('E_PAYLOAD_SIZE');
    await payloads.dropOld(LONG_AFTER);
    expect(await hasBlob(store, blob)).toBe(true);
    // out of the checkpoint, with nothing but the manifest beside it
    expect(await leftovers()).toEqual([blob.id]);
  });

  it('goes with its checkpoint, and leaves a payload whole that is the same', async () => {
    const first = await served(payload(1), 'first');
    await writeBlob(member, payload(1));
    expect(await fetch(first.blob)).toBeNull();
    rmSync(first.path);
    const second = await served(payload(2), 'second', [first.path]);
    expect(await hasBlob(store, first.blob)).toBe(true);
    await payloads.dropOld(LONG_AFTER);
    rmSync(second.path);
    const third = await served(payload(3), 'third', [second.path]);
    expect(await leftovers()).toEqual([third.blob.id]);
  });

  it('leaves nothing where it could not be fetched to its end, but what others have', async () => {
    const first = await served(payload(1), 'first');
    const bytes = payload(2);
    const blob = await writeBlob(store, bytes);
    store.remove((await blobParts(store, blob))!.at(-1)!);
    await payloads.dropUnfinished(blob);
    expect(await leftovers()).toEqual([first.blob.id]);
    await payloads.dropUnfinished(first.blob);
    expect(await hasBlob(store, first.blob)).toBe(true);
  });

  it('leaves no chunks of its own where it was fetched', async () => {
    const blob = await writeBlob(store, payload(1));
    await payloads.dropChunks(blob);
    expect(await leftovers()).toEqual([blob.id]);
  });
});

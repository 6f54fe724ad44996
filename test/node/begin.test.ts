import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';

import { buildGenesis, tokenizerFor } from '../../node/defaults.ts';
import { begin } from '../../node/run.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { type BlobReference, writeBlob } from '../../node/store/blobs.ts';
import { runPaths } from '../../node/store/directory.ts';
import { Unfinished } from '../../node/store/unfinished.ts';
import { blobManifest } from '../../protocol/blob.ts';
import { firstHead } from '../../protocol/chain.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { encodeRecord } from '../../protocol/record.ts';
import { blockHash, proposalBytes } from '../../protocol/signing.ts';
import type { Update } from '../../protocol/wire.ts';
import { signedEntry } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const TEXT = new TextEncoder().encode('to be or not to be '.repeat(50));
const SNAPSHOT = Uint8Array.from({ length: 3 * LIMITS.chunkBytes }, (_, i) => 1 + Math.floor(i / LIMITS.chunkBytes));

let paths: ReturnType<typeof runPaths>;
let store: BlobStore;
/** payloads that are to go in their time */
let noted: string[];
const identity = testSigner('joiner');
const genesis = buildGenesis({}, identity.self, { name: 'text', bytes: TEXT }, tokenizerFor('char', TEXT));

beforeEach(() => {
  paths = runPaths(temporaryFolder());
  store = new BlobStore(paths.blobs);
  noted = [];
});

/** A start of a peer that has these states. @returns what is known of a snapshot after it */
async function started(
  states: string[],
  record?: Uint8Array,
  open: readonly BlobReference[] = [],
): Promise<Unfinished> {
  const unfinished = new Unfinished(paths.unfinished);
  const onDisk = states.map((snapshot) => ({ block: '', state: { round: 1, snapshot }, file: {} }));
  const keep = (payloads: readonly Pick<Update, 'payload'>[]) => noted.push(...payloads.map(({ payload }) => payload));
  const rest = { peer: { keep, serve: () => undefined, start: () => undefined }, record: { load: () => record } };
  const kept = { ...rest, opened: { states: onDisk, open }, chain: { segments: [] }, store, genesis, identity };
  await begin({ ...kept, unfinished } as unknown as Parameters<typeof begin>[0]);
  return unfinished;
}

it('keeps the parts of a state that was being fetched, but for those that are spoiled, until it is whole', async () => {
  const { id, chunks } = blobManifest(SNAPSHOT);
  await writeBlob(store, SNAPSHOT);
  const [first, second, third] = chunks as [string, string, string];
  store.remove(third);
  writeFileSync(join(paths.blobs, second.slice(0, 2), second), new Uint8Array(LIMITS.chunkBytes));
  await new Unfinished(paths.unfinished).begin({ id, size: SNAPSHOT.length });

  expect((await started(['ab'.repeat(32)])).blob).toEqual({ id, size: SNAPSHOT.length });
  expect([id, first, second].map((part) => store.hasOwn(part))).toEqual([true, true, false]);
  // it was taken up in the moment in which the process ended
  expect((await started([id])).blob).toBeUndefined();
  expect(new Unfinished(paths.unfinished).blob).toBeUndefined();
  expect(store.hasOwn(first)).toBe(false);
});

it.each(['', '{"id":"x","size":1}', `{"id":"${'ab'.repeat(32)}","size":0}`])('takes %j for none', async (content) => {
  writeFileSync(paths.unfinished, content);
  expect(new Unfinished(paths.unfinished).blob).toBeUndefined();
});

it('keeps the payloads of a block that may yet be decided', async () => {
  const run = runIdOf(genesis);
  const head = firstHead(genesis, run);
  const { block, certificate } = signedEntry(run, head, [identity]);
  const [locked, dropped] = [await writeBlob(store, Uint8Array.of(1)), await writeBlob(store, Uint8Array.of(2))];
  const updates = block.updates.map((update) => ({ ...update, payload: locked.id, size: locked.size }));
  const message = { type: 'certificate' as const, run, certificate, block: { ...block, updates } };
  message.certificate = { ...certificate, block: blockHash(message.block) };
  const record = encodeRecord({ height: 1, votes: [], certificates: [message], proposals: [], headers: [] });
  await started([], record);
  expect([locked, dropped].map(({ id }) => store.hasOwn(id))).toEqual([true, false]);
  expect(noted).toEqual([locked.id]);
});

it('keeps the payloads of what it voted for in an earlier view, and of its own updates that may come to count', async () => {
  const run = runIdOf(genesis);
  const { block } = signedEntry(run, firstHead(genesis, run), [identity]);
  const [voted, own, dropped] = await Promise.all([1, 2, 3].map((byte) => writeBlob(store, Uint8Array.of(byte))));
  const updates = block.updates.map((update) => ({ ...update, payload: voted!.id, size: voted!.size }));
  const place = { run, author: identity.self, height: 1, view: 0, parentView: -1, block: { ...block, updates } };
  const signature = identity.sign(proposalBytes(run, 1, 0, -1, blockHash(place.block)));
  const proposal = { type: 'proposal' as const, ...place, justification: [], signature };
  const record = encodeRecord({ height: 1, votes: [], certificates: [], proposals: [proposal], headers: [] });
  await started([], record, [own!]);
  expect([voted, own, dropped].map((blob) => store.hasOwn(blob!.id))).toEqual([true, true, false]);
});

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { charTokenizer } from '../../../node/data/tokenizer.ts';
import { buildGenesis } from '../../../node/defaults.ts';
import { BlobStore } from '../../../node/store/blob-store.ts';
import { blobParts, readBlob, writeBlob } from '../../../node/store/blobs.ts';
import { checkpointPath, loadNewestCheckpoint } from '../../../node/store/checkpoint.ts';
import { openDirectory, type RunDirectory } from '../../../node/store/directory.ts';
import type { SavedState } from '../../../node/train/checkpoints.ts';
import { type AppliedState, type Contribution, PeerWorker } from '../../../node/train/peer-worker.ts';
import { firstHead, rootOf, stateAt } from '../../../protocol/chain.ts';
import type { StateOnDisk } from '../../../protocol/events.ts';
import { encodeGenesis, type Genesis, runIdOf } from '../../../protocol/genesis.ts';
import { hashOf } from '../../../protocol/hash.ts';
import { LIMITS } from '../../../protocol/limits.ts';
import type { AgreedState } from '../../../protocol/wire.ts';
import { testSigner } from '../../helpers/signers.ts';

/** The training thread's object, called directly: what it computes, keeps and writes. */

const text = new TextEncoder().encode('It was the best of times, it was the worst of times. '.repeat(200));
let folder: string;
let directory: RunDirectory;
let genesis: Genesis;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'outerloop-worker-'));
  const tokenizer = charTokenizer(text);
  const choices = { model: 'micro', codec: 'int8', innerSteps: 1, batch: 2 } as const;
  genesis = buildGenesis(choices, testSigner('founder').self, { name: 'test', bytes: text }, tokenizer);
  directory = openDirectory(join(folder, 'run'), encodeGenesis(genesis));
  const store = new BlobStore(directory.paths.blobs);
  await writeBlob(store, text);
  if (tokenizer.blob) await writeBlob(store, tokenizer.blob);
});

afterEach(() => {
  directory.release();
  rmSync(folder, { recursive: true, force: true });
});

async function open(): Promise<{ worker: PeerWorker; applied: StateOnDisk | undefined; states: SavedState[] }> {
  const worker = new PeerWorker();
  const genesisBytes = encodeGenesis(genesis);
  const opened = await worker.open({ genesisBytes, directory: directory.path, backend: 'wasm', deterministic: true });
  return { worker, applied: opened.states.at(-1), states: opened.states };
}

function initialState({ snapshot, snapshotBytes }: AppliedState): AgreedState {
  return stateAt(firstHead(genesis, runIdOf(genesis)), { id: snapshot, bytes: snapshotBytes });
}

/** One round of a peer alone. */
async function round(worker: PeerWorker, state: AgreedState): Promise<AgreedState> {
  const contribution = await train(worker, state);
  return apply(worker, state, contribution, true);
}

async function train(worker: PeerWorker, state: AgreedState): Promise<Contribution> {
  const plan = { firstStep: state.round, steps: 1, firstPosition: 2 * state.round };
  const contribution = await worker.train(rootOf(state), plan);
  if (typeof contribution === 'string') throw new Error(contribution);
  return contribution;
}

async function apply(worker: PeerWorker, state: AgreedState, { payload, size, tokens }: Contribution, final: boolean) {
  const next = {
    round: state.round + 1,
    roster: state.roster,
    cursor: state.cursor + 2,
    tokens: state.tokens + tokens,
  };
  const block = hashOf(new TextEncoder().encode(`block ${state.round}`));
  const updates = [{ payload, size, tokens }];
  const request = { base: rootOf(state), block, updates, own: 0, final, keep: [], state: next, evaluateAll: false };
  const applied = await worker.apply(request);
  await worker.saved();
  return { ...next, snapshot: applied.snapshot, snapshotBytes: applied.snapshotBytes };
}

function savedResidual(): Float32Array {
  const { loaded } = loadNewestCheckpoint(directory.paths.checkpoints);
  return loaded?.checkpoint.vectors.get('residual') ?? new Float32Array(0);
}

test('200 rounds leave no tensors, files or chunks behind', async () => {
  const { worker } = await open();
  let state = initialState(await worker.initialize());
  const tensors: number[] = [];
  const payloads = new Set<string>();
  for (let i = 0; i < 200; i++) {
    state = await round(worker, state);
    payloads.add(state.snapshot);
    if (i % 50 === 49) tensors.push(worker.usage().tensors);
  }
  expect(payloads.size).toBe(200); // it did train
  expect(new Set(tensors).size).toBe(1);
  expect(readdirSync(directory.paths.checkpoints)).toHaveLength(LIMITS.snapshotsKept);
}, 240_000);

test('a restart goes on from the checkpoint with the same own work, as if it had not happened', async () => {
  const first = await open();
  const begun = await round(first.worker, initialState(await first.worker.initialize()));
  const contribution = await train(first.worker, begun);
  const second = await open();
  expect(second.applied?.state).toEqual(begun);
  const [uninterrupted, restarted] = [
    await apply(first.worker, begun, contribution, true),
    await apply(second.worker, begun, contribution, true),
  ];
  expect(restarted).toEqual(uninterrupted);
});

test('a restart can serve the states before the newest as well', async () => {
  const { worker } = await open();
  const made = [initialState(await worker.initialize())];
  for (let i = 0; i < 2; i++) made.push(await round(worker, made[i]!));
  await worker.close();
  const { states } = await open();
  expect(states.map(({ state }) => state)).toEqual(made);
  const store = new BlobStore(directory.paths.blobs);
  for (const { state, file } of states) {
    store.register(file.path, file.ranges);
    expect(await readBlob(store, { id: state.snapshot, size: state.snapshotBytes })).toHaveLength(state.snapshotBytes);
  }
});

test('an update that was announced before the restart is not counted twice when a block has it', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const contribution = await train(worker, begun);
  const again = await open();
  await apply(again.worker, begun, contribution, true);
  // had the update stayed in the residual too, the next one would carry it a second time
  const restarted = savedResidual();
  await apply(worker, begun, contribution, true);
  expect(restarted).toEqual(savedResidual());
  expect(restarted.some((value) => value !== 0)).toBe(true);
});

test('an own update is known by its place, though another author names the same payload', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const contribution = await train(worker, begun);
  const again = await open();
  await apply(again.worker, begun, contribution, true);
  const alone = savedResidual();
  const { payload, size, tokens } = contribution;
  const [copy, own] = [
    { payload, size, tokens },
    { payload, size, tokens },
  ];
  const next = { round: 1, roster: begun.roster, cursor: 2, tokens: 2 * tokens };
  const block = hashOf(new TextEncoder().encode('a block with a copy'));
  const common = { base: rootOf(begun), block, final: true, keep: [], state: next, evaluateAll: false };
  await worker.apply({ ...common, updates: [copy, own], own: 1 });
  await worker.saved();
  // counted once: what the codec left out stays, no more and no less
  expect(savedResidual()).toEqual(alone);
});

test('a crash before the checkpoint of a round is written goes on from the one before it, with the same own work', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const first = await train(worker, begun);
  const state = await apply(worker, begun, first, true);
  const second = await train(worker, state);
  rmSync(checkpointPath(directory.paths.checkpoints, 1));
  const again = await open();
  expect(again.applied?.state).toEqual(begun);
  expect(await apply(again.worker, begun, first, true)).toEqual(state);
  const ends = [
    await apply(worker, state, second, true),
    savedResidual(),
    await apply(again.worker, state, second, true),
  ];
  expect(ends[2]).toEqual(ends[0]);
  expect(savedResidual()).toEqual(ends[1]);
});

test('an update outlives the blobs that were on their way to the disk', async () => {
  const first = await open();
  const begun = initialState(await first.worker.initialize());
  const contribution = await train(first.worker, begun);
  const expected = await apply(first.worker, begun, contribution, true);
  rmSync(checkpointPath(directory.paths.checkpoints, 1));
  const store = new BlobStore(directory.paths.blobs);
  for (const part of (await blobParts(store, { id: contribution.payload, size: contribution.size })) ?? []) {
    store.remove(part);
  }
  const again = await open();
  expect(await apply(again.worker, begun, contribution, true)).toEqual(expected);
});

test('training that an apply overtakes ends, and its work is in the next update', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const contribution = await train(worker, begun);
  const overtaken = worker.train(rootOf(begun), { firstStep: 1, steps: 1000, firstPosition: 2 });
  const state = await apply(worker, begun, contribution, true);
  expect(await overtaken).toBe('overtaken');
  expect(state.round).toBe(1);
});

test('closing in mid-round keeps what was learned: the next life begins with it as residual', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const training = worker.train(rootOf(begun), { firstStep: 0, steps: 100_000, firstPosition: 0 });
  // a few turns of the event loop are a few steps
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  await worker.close();
  expect(await training).toBe('overtaken');
  const again = await open();
  expect(again.applied?.state).toEqual(begun);
  await apply(again.worker, begun, await train(again.worker, begun), true);
  const carried = savedResidual();
  rmSync(directory.paths.own);
  rmSync(directory.paths.checkpoints, { recursive: true });
  const fresh = await open();
  const same = initialState(await fresh.worker.initialize());
  await apply(fresh.worker, same, await train(fresh.worker, same), true);
  expect(carried).not.toEqual(savedResidual());
});

test('finish cuts a round short and contributes the steps that were done', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const training = worker.train(rootOf(begun), { firstStep: 0, steps: 100_000, firstPosition: 0 });
  setImmediate(() => worker.finish());
  const contribution = await training;
  if (typeof contribution === 'string') throw new Error(contribution);
  expect(contribution.steps).toBeLessThan(100_000);
  expect(contribution.tokens).toBe(contribution.steps * 2 * genesis.model.context);
});

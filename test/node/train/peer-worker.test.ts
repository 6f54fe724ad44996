import { cpSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { charTokenizer } from '../../../node/data/tokenizer.ts';
import { buildGenesis } from '../../../node/defaults.ts';
import { BlobStore } from '../../../node/store/blob-store.ts';
import { blobParts, readBlob, writeBlob } from '../../../node/store/blobs.ts';
import {
  type Checkpoint,
  checkpointPath,
  loadNewestCheckpoint,
  readCheckpoint,
  writeCheckpointSync,
} from '../../../node/store/checkpoint.ts';
import { openDirectory, type RunDirectory, runPaths } from '../../../node/store/directory.ts';
import { decodeOwn, OwnFile } from '../../../node/train/own-work.ts';
import { PeerWorker } from '../../../node/train/peer-worker.ts';
import { connect, type Remote } from '../../../node/train/rpc.ts';
import { spawnWorker } from '../../../node/train/spawn-worker.ts';
import type {
  AppliedState,
  Contribution,
  Opened,
  StepNotice,
  WorkerInit,
  WorkerNotice,
} from '../../../node/train/worker-calls.ts';
import { firstHead, rootOf, stateAt } from '../../../protocol/chain.ts';
import { decodeCanonical, encodeCanonical } from '../../../protocol/encoding.ts';
import type { StateOnDisk } from '../../../protocol/events.ts';
import { encodeGenesis, type Genesis, runIdOf } from '../../../protocol/genesis.ts';
import { hashOf } from '../../../protocol/hash.ts';
import { LIMITS } from '../../../protocol/limits.ts';
import { NO_HISTORY } from '../../../protocol/own-updates.ts';
import type { AgreedState } from '../../../protocol/wire.ts';
import { testSigner } from '../../helpers/signers.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** The training thread's object, called directly: what it computes, keeps and writes. */

const text = new TextEncoder().encode('It was the best of times, it was the worst of times. '.repeat(200));
let folder: string;
let directory: RunDirectory;
let genesis: Genesis;

beforeEach(async () => {
  folder = temporaryFolder();
  const tokenizer = charTokenizer(text);
  const choices = { model: 'micro', codec: 'int8', innerSteps: 1, batch: 2 } as const;
  genesis = buildGenesis(choices, testSigner('founder').self, { name: 'test', bytes: text }, tokenizer);
  directory = openDirectory(join(folder, 'run'), encodeGenesis(genesis));
  const store = new BlobStore(directory.paths.blobs);
  await writeBlob(store, text);
  if (tokenizer.blob) await writeBlob(store, tokenizer.blob);
});

afterEach(() => directory.release());

interface Opening extends Pick<Opened, 'states' | 'warnings'> {
  worker: PeerWorker;
  applied: StateOnDisk | undefined;
}

async function open(init: Pick<WorkerInit, 'alwaysParameters'> = {}, path = directory.path): Promise<Opening> {
  const worker = new PeerWorker();
  const settings = { directory: path, backend: 'wasm', deterministic: true, ...init } as const;
  const opened = await worker.open({ genesisBytes: encodeGenesis(genesis), ...settings });
  return { worker, applied: opened.states.at(-1), states: opened.states, warnings: opened.warnings };
}

function initialState({ snapshot, snapshotBytes }: AppliedState): AgreedState {
  return stateAt(firstHead(genesis, runIdOf(genesis)), { id: snapshot, bytes: snapshotBytes });
}

/** All of a state but its vectors. */
function factsOf({ snapshot, snapshotBytes, ...facts }: AgreedState) {
  return facts;
}

/** One round of a peer alone. */
async function round(worker: PeerWorker, state: AgreedState): Promise<AgreedState> {
  const contribution = await train(worker, state);
  return apply(worker, state, contribution, true);
}

async function train(worker: PeerWorker | Remote<PeerWorker>, state: AgreedState): Promise<Contribution> {
  const plan = { firstStep: state.round, steps: 1, firstPosition: 2 * state.round };
  const contribution = await worker.train(rootOf(state), plan);
  if (typeof contribution === 'string') throw new Error(contribution);
  return contribution;
}

async function apply(
  worker: PeerWorker | Remote<PeerWorker>,
  state: AgreedState,
  { payload, size, tokens }: Contribution,
  final: boolean,
  author: 'self' | 'another' = 'self',
  { history = '', keep = [] }: { history?: string; keep?: string[] } = {},
) {
  const next = {
    ...factsOf(state),
    round: state.round + 1,
    cursor: state.cursor + 2,
    tokens: state.tokens + tokens,
  };
  const block = hashOf(new TextEncoder().encode(`block ${state.round}${history}`));
  const updates = [{ payload, size, tokens }];
  const request = {
    base: rootOf(state),
    block,
    updates,
    own: author === 'self' ? 0 : undefined,
    final,
    keep,
    state: next,
    evaluateAll: false,
  };
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

test.each<[string, (checkpoint: Checkpoint) => Partial<Checkpoint>]>([
  ['cannot be decoded', ({ meta }) => ({ meta: meta.map((byte, i) => (i === 0 ? byte ^ 1 : byte)) })],
  ['has other fields', ({ meta }) => ({ meta: encodeCanonical({ ...metaOf(meta), block: null }) })],
  ['has a state with other fields', ({ meta }) => ({ meta: encodeCanonical({ ...metaOf(meta), state: {} }) })],
  ['says another size', ({ meta }) => ({ meta: withState(meta, { snapshotBytes: 300_000 }) })],
  ['says a size of one chunk', ({ meta }) => ({ meta: withState(meta, { snapshotBytes: 5 }) })],
  ['names no snapshot', ({ meta }) => ({ meta: withState(meta, { snapshot: '../../identity.key' }) })],
  ['has other vectors', ({ vectors }) => ({ vectors: new Map([['qarameters', vectors.get('parameters')!]]) })],
])('an earlier checkpoint that %s is left out', async (_, change) => {
  const { worker } = await open();
  const made = [initialState(await worker.initialize())];
  for (let i = 0; i < 2; i++) made.push(await round(worker, made[i]!));
  await worker.close();
  const path = checkpointPath(directory.paths.checkpoints, 0);
  const { checkpoint } = readCheckpoint(path);
  writeCheckpointSync(path, { ...checkpoint, ...change(checkpoint) });
  const { states } = await open();
  expect(states.map(({ state }) => state)).toEqual(made.slice(1));
});

function metaOf(meta: Uint8Array): { state: AgreedState } {
  return decodeCanonical(meta, meta.length) as { state: AgreedState };
}

function withState(meta: Uint8Array, changed: Partial<AgreedState>): Uint8Array {
  const { state, ...rest } = metaOf(meta);
  return encodeCanonical({ ...rest, state: { ...state, ...changed } });
}

test('the newest states stay on disk, and those that are named, of whatever round and history', async () => {
  const { worker } = await open();
  const made = [initialState(await worker.initialize())];
  for (let i = 0; i < 3; i++) made.push(await round(worker, made[i]!));
  const [, first, second, third] = made as [AgreedState, AgreedState, AgreedState, AgreedState];
  const block = hashOf(new TextEncoder().encode('block 0'));
  await worker.restore(first, block, { own: NO_HISTORY, keep: [second.snapshot, third.snapshot] });
  let state = first;
  const other = [];
  for (let i = 0; i < 2; i++) {
    const plan = { firstStep: state.round, steps: 1, firstPosition: 40 + i };
    const contribution = (await worker.train(rootOf(state), plan)) as Contribution;
    const settings = { history: ' of another history', keep: [third.snapshot] };
    state = await apply(worker, state, contribution, true, 'self', settings);
    other.push(state);
  }
  const { states } = await open();
  // the later rounds of the history that was left come before those of the other
  expect(states.map(({ state }) => state)).toEqual([third, first, ...other]);
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
  const next = { ...factsOf(begun), round: 1, cursor: 2, tokens: 2 * tokens };
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

test.each(['lost', 'spoiled'])('an update outlives the blobs that were on their way to the disk, %s', async (what) => {
  const first = await open();
  const begun = initialState(await first.worker.initialize());
  const contribution = await train(first.worker, begun);
  const expected = await apply(first.worker, begun, contribution, true);
  rmSync(checkpointPath(directory.paths.checkpoints, 1));
  const store = new BlobStore(directory.paths.blobs);
  for (const part of (await blobParts(store, { id: contribution.payload, size: contribution.size })) ?? []) {
    if (what === 'lost') store.remove(part);
    else writeFileSync(join(directory.paths.blobs, part.slice(0, 2), part), '');
  }
  const again = await open();
  expect(await apply(again.worker, begun, contribution, true)).toEqual(expected);
});

test('the payload of the last round is there again, for the others may have it no more than this peer', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const contribution = await train(worker, begun);
  await apply(worker, begun, contribution, true);
  const { payload, size } = contribution;
  const store = new BlobStore(directory.paths.blobs);
  const parts = async () => (await blobParts(store, { id: payload, size })) ?? [];
  const before = await parts();
  for (const part of before) store.remove(part);
  await open();
  expect(before.length).toBeGreaterThan(0);
  expect((await parts()).every((part) => store.has(part))).toBe(true);
});

test('the work of an update whose payload cannot be written is in the next one, also after a restart', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const write = vi.spyOn(BlobStore.prototype, 'write').mockRejectedValueOnce(new Error('no room'));
  await expect(train(worker, begun)).rejects.toThrow('no room');
  write.mockRestore();
  await worker.close();
  const { tokens } = await train((await open()).worker, begun);
  expect(tokens).toBe(2 * 2 * genesis.model.context);
});

test('closing waits for the state that is being taken up, and lets no other be', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  await round(worker, begun);
  let isRestored = false;
  const restoring = worker.restore(begun, runIdOf(genesis), { own: NO_HISTORY, keep: [] }).then(() => {
    isRestored = true;
  });
  await worker.close();
  expect(isRestored).toBe(true);
  await restoring;
  await expect(worker.initialize()).rejects.toMatchObject({ code: 'E_WORKER' });
  expect((await open()).applied?.state).toEqual(begun);
});

test('of a large model every fourth state is written, and that of the last round', async () => {
  genesis = { ...genesis, rounds: 6 };
  const { worker } = await open({ alwaysParameters: 0 });
  let state = initialState(await worker.initialize());
  const onDisk: number[] = [];
  for (let i = 0; i < 6; i++) {
    state = await round(worker, state);
    onDisk.push(loadNewestCheckpoint(directory.paths.checkpoints).loaded!.checkpoint.round);
  }
  expect(onDisk).toEqual([0, 0, 0, 4, 4, 6]);
});

test('closing writes the state of a large model where that is not on disk, and its own work goes on from there', async () => {
  const { worker } = await open({ alwaysParameters: 0 });
  const begun = initialState(await worker.initialize());
  const first = await train(worker, begun);
  const state = await apply(worker, begun, first, true);
  const contribution = await train(worker, state);
  // as a kill leaves it
  const killed = join(folder, 'killed');
  cpSync(directory.path, killed, { recursive: true });
  await worker.close();
  const again = await open({ alwaysParameters: 0 });
  expect(again.applied?.state).toEqual(state);
  const ended = await apply(again.worker, state, contribution, true);
  const other = await open({ alwaysParameters: 0 }, killed);
  expect(await apply(other.worker, begun, first, true)).toEqual(state);
  expect(await apply(other.worker, state, contribution, true)).toEqual(ended);
});

/** Of a large model, four rounds and an update after a checkpoint; on the disk is that, and own work of the newest round. */
async function longAfterCheckpoint() {
  const { worker } = await open({ alwaysParameters: 0 });
  const begun = initialState(await worker.initialize());
  // as it comes from others
  const { vectors } = loadNewestCheckpoint(directory.paths.checkpoints).loaded!.checkpoint;
  const snapshot = [vectors.get('parameters')!, vectors.get('outer')!].map(({ buffer }) => new Uint8Array(buffer));
  await writeBlob(new BlobStore(directory.paths.blobs), Buffer.concat(snapshot));
  let state = begun;
  for (let i = 0; i < 3; i++) state = await round(worker, state);
  await train(worker, state);
  const back = async (each: PeerWorker): Promise<Float32Array> => {
    await each.restore(begun, runIdOf(genesis), { own: NO_HISTORY, keep: [] });
    return savedResidual();
  };
  return { worker, begun, state, back };
}

test.each(['killed', 'closed'])(
  'own work of a round that a peer, %s, does not reach again is taken along to another state',
  async (how) => {
    const { worker, begun, back } = await longAfterCheckpoint();
    if (how === 'closed') {
      // on the way to the newest round
      const next = await open({ alwaysParameters: 0 });
      expect(next.applied?.state).toEqual(begun);
      await next.worker.close();
    }
    const again = await open({ alwaysParameters: 0 });
    const residual = await back(again.worker);
    expect(residual.some((value) => value !== 0)).toBe(true);
    expect(residual).toEqual(await back(worker));
  },
);

test('own work of a round that is on no way any more is given up, as some of it may count already', async () => {
  const { begun } = await longAfterCheckpoint();
  const warnings: string[] = [];
  const { remote, kill } = await thread(undefined, (code) => warnings.push(code), { alwaysParameters: 0 });
  const { tokens } = await train(remote, begun);
  expect(tokens).toBe(2 * genesis.model.context);
  expect(warnings).toEqual(['W_OWN_LOST']);
  await kill();
});

test('own work of another state, as new as a checkpoint with an update pending, is newer than that', async () => {
  const large = { alwaysParameters: 0 };
  const { worker } = await open(large);
  const initial = initialState(await worker.initialize());
  const first = await train(worker, initial);
  const begun = await apply(worker, initial, first, true);
  await train(worker, begun);
  await worker.close();
  const next = await open(large);
  expect(next.applied?.state).toEqual(begun);
  // without the update, which is in the residual then; what closing writes last is cut off
  const ended = await apply(next.worker, begun, first, true, 'another');
  await next.worker.close();
  const newest = readdirSync(directory.paths.checkpoints).sort().at(-1)!;
  rmSync(join(directory.paths.checkpoints, newest));
  const again = await open(large);
  expect(again.applied?.state).toEqual(begun);
  expect(await apply(again.worker, begun, first, true, 'another')).toEqual(ended);
  expect((await train(again.worker, ended)).tokens).toBe(2 * 2 * genesis.model.context);
});

test('own work outlives the loss of all checkpoints', async () => {
  const { worker, begun, back } = await longAfterCheckpoint();
  for (const name of readdirSync(directory.paths.checkpoints)) rmSync(join(directory.paths.checkpoints, name));
  const again = await open({ alwaysParameters: 0 });
  expect(again.applied).toBeUndefined();
  const residual = await back(again.worker);
  expect(residual.some((value) => value !== 0)).toBe(true);
  expect(residual).toEqual(await back(worker));
  expect(begun.round).toBe(0);
});

test('a file of own work that somebody has removed takes all of it along, lest some counts twice', async () => {
  const { worker } = await open();
  const initial = initialState(await worker.initialize());
  expect(existsSync(directory.paths.own)).toBe(true);
  // the first is late, and in the second
  const first = await train(worker, initial);
  const begun = await apply(worker, initial, first, true, 'another');
  const second = await train(worker, begun);
  expect(second.tokens).toBe(2 * 2 * genesis.model.context);
  rmSync(directory.paths.own);
  const again = await open();
  expect(again.warnings.map(({ code }) => code)).toEqual(['W_OWN_LOST']);
  const ended = await apply(again.worker, begun, second, true);
  expect((await train(again.worker, ended)).tokens).toBe(2 * genesis.model.context);
});

test('nor does it count after another kill, before the next checkpoint was on the disk', async () => {
  const { worker } = await open();
  const initial = initialState(await worker.initialize());
  const begun = await apply(worker, initial, await train(worker, initial), true, 'another');
  await worker.close();
  const names = readdirSync(directory.paths.checkpoints);
  const second = await train((await open()).worker, begun);
  expect(second.tokens).toBe(2 * 2 * genesis.model.context);
  rmSync(directory.paths.own);
  const again = await open();
  await apply(again.worker, begun, second, true);
  await again.worker.close();
  for (const name of readdirSync(directory.paths.checkpoints)) {
    if (!names.includes(name)) rmSync(join(directory.paths.checkpoints, name));
  }
  const third = await open();
  expect(third.applied?.state).toEqual(begun);
  expect(third.warnings).toEqual([]);
  const ended = await apply(third.worker, begun, second, true);
  expect((await train(third.worker, ended)).tokens).toBe(2 * genesis.model.context);
});

test('nor does training that was written while it was under way, which is in what was announced since', async () => {
  const begun = await killedInMidRound();
  const { worker } = await open();
  const made = (await worker.train(rootOf(begun), LONG)) as Contribution;
  expect(existsSync(directory.paths.underWay)).toBe(true);
  rmSync(directory.paths.own);
  const again = await open();
  const ended = await apply(again.worker, begun, made, true);
  expect((await train(again.worker, ended)).tokens).toBe(2 * genesis.model.context);
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

test('what is trained beyond an update is in the next one, once, also after a restart', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const contribution = await train(worker, begun);
  const base = rootOf(begun);
  const step = 2 * genesis.model.context;
  const kept = { outcome: 'done', isKept: true, skipped: 0 };
  expect(await worker.trainOn(base, { firstStep: 1, steps: 2, firstPosition: 2 })).toMatchObject(kept);
  // as if killed: nothing is closed
  const next = await open();
  expect(await next.worker.trainOn(base, { firstStep: 3, steps: 1, firstPosition: 6 })).toMatchObject(kept);
  const overtaken = next.worker.trainOn(base, { firstStep: 4, steps: 1000, firstPosition: 8 });
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  const applying = apply(next.worker, begun, contribution, true);
  expect(await overtaken).toMatchObject({ outcome: 'overtaken', isKept: true });
  // also what it had learned, before its round is over
  const written = decodeOwn(new OwnFile(directory.paths.own).load()!).residual.tokens;
  expect(written).toBeGreaterThan(3 * step);
  const { tokens } = await train(next.worker, await applying);
  expect(contribution.tokens).toBe(step);
  expect(tokens).toBe(Math.min(written + step, (1 + LIMITS.lateRoundsMax) * step));
});

test('nothing is trained beyond an update that the next one could not carry', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  await train(worker, begun);
  const outcomes: string[] = [];
  for (let further = 1; further <= 6; further++) {
    const plan = { firstStep: further, steps: 1, firstPosition: 2 * further };
    // another process does not begin to count anew
    const { outcome } = await (further === 4 ? (await open()).worker : worker).trainOn(rootOf(begun), plan);
    outcomes.push(outcome);
    if (further === 4) break;
  }
  expect(outcomes).toEqual(['done', 'done', 'done', 'done']);
  const after = (await open()).worker;
  const plan = { firstStep: 5, steps: 1, firstPosition: 10 };
  expect(await after.trainOn(rootOf(begun), plan)).toMatchObject({ outcome: 'full', isKept: false });
});

test('what is trained beyond an update is kept when the peer is closed', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  await train(worker, begun);
  const trained = worker.trainOn(rootOf(begun), { firstStep: 1, steps: 1000, firstPosition: 2 });
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  await worker.close();
  expect(await trained).toMatchObject({ outcome: 'overtaken', isKept: true });
  const { residual, pending } = decodeOwn(new OwnFile(directory.paths.own).load()!);
  expect(residual.tokens).toBeGreaterThan(0);
  expect(pending!.tokens).toBe(2 * genesis.model.context);
});

test('training that is asked for while its round ends is overtaken by that', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const contribution = await train(worker, begun);
  const applied = apply(worker, begun, contribution, true);
  expect(await worker.train(rootOf(begun), { firstStep: 1, steps: 20, firstPosition: 2 })).toBe('overtaken');
  const state = await applied;
  expect((await train(worker, state)).tokens).toBe(2 * genesis.model.context);
});

test('closing in mid-round keeps what was learned: the next life goes on from there', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const training = worker.train(rootOf(begun), { firstStep: 0, steps: 100_000, firstPosition: 0 });
  // a few turns of the event loop are a few steps
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  await worker.close();
  expect(await training).toBe('overtaken');
  const again = await open();
  expect(again.applied?.state).toEqual(begun);
  // planned are fewer than were done before
  const { steps, tokens } = await train(again.worker, begun);
  expect(steps).toBeGreaterThan(1);
  expect(tokens).toBe(steps * 2 * genesis.model.context);
});

const LONG = { firstStep: 0, steps: 300, firstPosition: 0 };

/** A training thread of its own on a folder, which can be killed. */
async function thread(
  onStep: (notice: StepNotice) => void = () => undefined,
  onWarning = (_: string) => {},
  init: Pick<WorkerInit, 'alwaysParameters'> = {},
) {
  const worker = spawnWorker(new URL('../../../node/train/peer-worker.ts', import.meta.url));
  const remote = connect<PeerWorker>(
    worker,
    (notice) => {
      const told = notice as WorkerNotice;
      if ('code' in told) onWarning(told.code);
      else onStep(told);
    },
    () => undefined,
  );
  const genesisBytes = encodeGenesis(genesis);
  const settings = { backend: 'wasm', deterministic: true, underWay: { everyMs: 0, share: 1 } } as const;
  await remote.open({ genesisBytes, directory: directory.path, ...settings, ...init });
  return { remote, kill: () => worker.terminate() };
}

/** Trains the long round until some of it is on the disk, and is killed. @returns the state that it began from */
async function killedInMidRound(): Promise<AgreedState> {
  let onStep = (_: number): void => undefined;
  const { remote, kill } = await thread(({ step }) => onStep(step));
  const begun = initialState(await remote.initialize());
  const isOnDisk = new Promise<void>((resolve) => {
    onStep = (step) => step > LONG.steps / 2 && existsSync(directory.paths.underWay) && resolve();
  });
  const training = remote.train(rootOf(begun), LONG).catch(() => 'killed');
  expect(await Promise.race([isOnDisk, training])).toBeUndefined();
  await kill();
  expect(await training).toBe('killed');
  return begun;
}

test('a process that is killed in mid-round goes on from there, to the very update that it would have made', async () => {
  const begun = await killedInMidRound();
  const steps: number[] = [];
  const { remote, kill } = await thread(({ step }) => steps.push(step));
  const resumed = await remote.train(rootOf(begun), LONG);
  await kill();
  rmSync(directory.paths.underWay);
  rmSync(directory.paths.own);
  const { worker } = await open();
  const uninterrupted = await worker.train(rootOf(begun), LONG);
  expect({ ...(resumed as Contribution), trainMs: 0 }).toEqual({ ...(uninterrupted as Contribution), trainMs: 0 });
  expect(steps[0]).toBeGreaterThan(1);
  expect(steps.at(-1)).toBe(LONG.steps);
});

test('what a killed process had learned is own work, once, when the round has ended without it', async () => {
  const begun = await killedInMidRound();
  const others = await updateOfAnother(begun);
  const { local } = Object.fromEntries(readCheckpoint(directory.paths.underWay).checkpoint.vectors);
  const theta = loadNewestCheckpoint(directory.paths.checkpoints).loaded!.checkpoint.vectors.get('parameters')!;
  const learned = theta.map((value, i) => value - local![i]!);
  expect(learned.some((value) => value !== 0)).toBe(true);
  const { worker } = await open();
  await apply(worker, begun, others, true, 'another');
  expect(isSame(savedResidual(), learned)).toBe(true);
  // the round is given up for another history, and the process killed once more: it is in the residual already
  await worker.restore(begun, runIdOf(genesis), { own: NO_HISTORY, keep: [] });
  const again = await open();
  expect(again.applied?.state).toEqual(begun);
  await apply(again.worker, begun, others, true, 'another');
  expect(isSame(savedResidual(), learned)).toBe(true);
});

test('training that became an update is not taken up a second time', async () => {
  const { remote, kill } = await thread();
  const begun = initialState(await remote.initialize());
  const made = (await remote.train(rootOf(begun), LONG)) as Contribution;
  await kill();
  cpSync(directory.path, join(folder, 'copy'), { recursive: true });
  expect(existsSync(directory.paths.underWay)).toBe(true);
  await apply((await open()).worker, begun, made, true);
  const residual = savedResidual();
  rmSync(directory.paths.checkpoints, { recursive: true });
  cpSync(join(folder, 'copy'), directory.path, { recursive: true });
  rmSync(directory.paths.underWay);
  await apply((await open()).worker, begun, made, true);
  expect(isSame(residual, savedResidual())).toBe(true);
});

test('own work saved in the round before does not take the place of newer, when the peer goes back to that round', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const state = await apply(worker, begun, await train(worker, begun), false);
  // what is on disk now: the state, and own work of the round before
  const again = await open();
  await train(again.worker, state);
  await again.worker.restore(begun, runIdOf(genesis), { own: NO_HISTORY, keep: [] });
  const { tokens } = await train(again.worker, begun);
  expect(tokens).toBe(3 * 2 * genesis.model.context);
});

test('own work of a state that the peer has left and come back to does not take the place of newer', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const state = await apply(worker, begun, await train(worker, begun), false);
  const training = worker.train(rootOf(state), { firstStep: 1, steps: 100_000, firstPosition: 2 });
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  await worker.restore(begun, runIdOf(genesis), { own: NO_HISTORY, keep: [] });
  expect(await training).toBe('overtaken');
  // a second life: the update's own work is on disk as it was, and what was learned after it in the checkpoint alone
  const again = await open();
  const { tokens } = await train(worker, begun);
  expect(tokens).toBeGreaterThan(2 * 2 * genesis.model.context);
  expect((await train(again.worker, begun)).tokens).toBe(tokens);
});

test('an update that was pending at the initial state is counted once after it', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  await train(worker, begun);
  await worker.initialize();
  await worker.close();
  const { tokens } = await train((await open()).worker, begun);
  expect(tokens).toBe(2 * 2 * genesis.model.context);
});

test.each(['final', 'unfinal'])(
  'a state with an own update in it, %s, is taken up without own work where its payload is lost',
  async (kind) => {
    const warnings: string[] = [];
    const { remote, kill } = await thread(undefined, (code) => warnings.push(code));
    const begun = initialState(await remote.initialize());
    const { payload, ...rest } = await train(remote, begun);
    const state = await apply(remote, begun, { payload, ...rest }, false);
    new BlobStore(directory.paths.blobs).remove(payload);
    const own = { included: [{ payload, final: kind === 'final' }], begins: 0 };
    const block = hashOf(new TextEncoder().encode('block of another history'));
    const restored = await remote.restore(state, block, { own, keep: [] });
    expect(restored).toMatchObject({ forgot: true, open: [], snapshot: state.snapshot });
    expect(savedResidual().every((value) => value === 0)).toBe(true);
    // and trains on from there
    expect((await apply(remote, state, await train(remote, state), true)).round).toBe(2);
    expect(warnings).toEqual(['W_OWN_LOST']);
    await kill();
  },
);

test('training under way that is damaged on disk is named, and the round is trained from its beginning', async () => {
  const begun = await killedInMidRound();
  writeFileSync(directory.paths.underWay, 'nonsense that is long enough to be looked at, as any file would be');
  const { worker, warnings } = await open();
  expect(warnings).toEqual([{ code: 'E_CHECKPOINT_DAMAGED', message: expect.stringContaining('from its beginning') }]);
  expect((await train(worker, begun)).steps).toBe(1);
});

test('own work that is damaged on disk is refused, and its file named: without it the peer goes on', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  await train(worker, begun);
  writeFileSync(directory.paths.own, 'nonsense that is long enough to be looked at, as any file would be');
  const message = expect.stringMatching(/own\.bin.*remove that file/);
  writeFileSync(directory.paths.underWay, 'of the same training');
  await expect(open()).rejects.toMatchObject({ code: 'E_OWN_DAMAGED', message });
  expect(existsSync(directory.paths.underWay)).toBe(false);
  rmSync(directory.paths.own);
  expect((await open()).applied?.state).toEqual(begun);
});

test('where no checkpoint is whole, that is said', async () => {
  const { worker } = await open();
  await worker.initialize();
  await worker.close();
  for (const name of readdirSync(directory.paths.checkpoints)) {
    writeFileSync(join(directory.paths.checkpoints, name), 'nonsense that is long enough to be looked at');
  }
  const { states, warnings } = await open();
  expect(states).toEqual([]);
  expect(warnings.map(({ code }) => code)).toEqual(['E_CHECKPOINT_DAMAGED']);
});

/** Shown as a difference, so many numbers take minutes. */
function isSame(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** Made with other data in a folder of its own, and fetched. */
async function updateOfAnother(state: AgreedState): Promise<Contribution> {
  const path = join(folder, 'another');
  cpSync(directory.path, path, { recursive: true });
  rmSync(runPaths(path).underWay);
  const another = new PeerWorker();
  await another.open({ genesisBytes: encodeGenesis(genesis), directory: path, backend: 'wasm', deterministic: true });
  const made = await another.train(rootOf(state), { firstStep: 0, steps: 1, firstPosition: 50 });
  if (typeof made === 'string') throw new Error(made);
  const bytes = await readBlob(new BlobStore(runPaths(path).blobs), { id: made.payload, size: made.size });
  await writeBlob(new BlobStore(directory.paths.blobs), bytes);
  return made;
}

test('finish before the first step waits for it: a peer that has begun late contributes too', async () => {
  const { worker } = await open();
  const begun = initialState(await worker.initialize());
  const training = worker.train(rootOf(begun), { firstStep: 0, steps: 100_000, firstPosition: 0 });
  worker.finish();
  expect(await training).toMatchObject({ steps: 1, tokens: 2 * genesis.model.context });
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

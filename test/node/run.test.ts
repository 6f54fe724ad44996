import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createIdentity } from '../../node/net/index.ts';
import type { PeerEvent } from '../../node/peer-events.ts';
import { openRun, type RunningPeer, type StartOptions } from '../../node/run.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { openDirectory } from '../../node/store/directory.ts';
import { isLocked } from '../../node/store/lock.ts';
import { RecordFile } from '../../node/store/record.ts';
import { PROTOCOL_VERSION } from '../../protocol/genesis.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { codeOf, eventually, Swarm } from './net/swarm.ts';

const MACHINE = { backend: 'auto', deterministic: false } as const;

let peers: RunningPeer[] = [];

afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  for (const peer of peers) await peer.close();
  peers = [];
});

/** A peer on loopback, with what it has told until training began. */
async function started(options: Partial<StartOptions>) {
  const events: PeerEvent[] = [];
  const common: StartOptions = { bootstrap: [], choices: { model: 'micro' }, ...MACHINE };
  const peer = await openRun({ ...common, ...options }, (event) => events.push(event));
  peers.push(peer);
  peer.run().catch(() => undefined); // ended by the test
  return { peer, events, ready: events.find((event) => event.event === 'ready') };
}

it('finds a run that was cut off before its text was on disk never begun', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const options: StartOptions = { bootstrap: [], choices: { model: 'micro' }, dir, ...MACHINE };
  vi.spyOn(BlobStore.prototype, 'write').mockRejectedValueOnce(new Error('killed'));
  await expect(openRun(options, () => undefined)).rejects.toThrow('killed');
  vi.restoreAllMocks();
  await expect(openRun(options, () => undefined)).rejects.toMatchObject({
    code: 'E_DIR_INCOMPLETE',
    message: expect.stringContaining('remove the folder and start again'),
  });
});

/** A run that its peer began and left after a round. */
async function afterRound(dir: string) {
  const first = await started({ dir, listen: ['/ip4/127.0.0.1/tcp/0'] });
  await eventually(() => first.events.some(({ event }) => event === 'round'), 'a round');
  await first.peer.close();
  return first;
}

it('forgets what is owed for work whose file somebody has removed', async () => {
  const dir = join(temporaryFolder(), 'peer');
  await afterRound(dir);
  const path = join(dir, 'receipts.json');
  const saved = JSON.parse(readFileSync(path, 'utf8')) as { owed: unknown[] };
  saved.owed.push({ round: 1, payload: 'ab'.repeat(32) });
  writeFileSync(path, JSON.stringify(saved));
  rmSync(join(dir, 'own.bin'));
  const again = await started({ dir, listen: ['/ip4/127.0.0.1/tcp/0'] });
  expect(again.events).toContainEqual(expect.objectContaining({ event: 'warning', code: 'W_OWN_LOST' }));
  await again.peer.close();
  expect(readFileSync(path, 'utf8')).not.toContain('ab'.repeat(32));
});

it('names a key that is gone, and makes no other in its place unless a new peer is wanted', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const first = await afterRound(dir);
  const key = join(dir, 'identity.key');
  rmSync(key);
  const options: StartOptions = { bootstrap: [], choices: { model: 'micro' }, dir, ...MACHINE };
  const message = expect.stringMatching(/identity\.key is missing.*put it back/);
  await expect(openRun(options, () => undefined)).rejects.toMatchObject({ code: 'E_DIR_INCOMPLETE', message });
  expect(existsSync(key)).toBe(false);
  // what is owed to the peer before, and what it had learned, is not the new one's
  const nobody = [`/ip4/127.0.0.1/tcp/1/p2p/${createIdentity().self}`];
  const { events, ready } = await started({ dir, bootstrap: nobody, choices: {} });
  expect(ready?.peerId).not.toBe(first.ready?.peerId);
  const told = events.flatMap((event) => (event.event === 'warning' ? [event.code] : [event.event]));
  expect(told).toContain('W_OWN_LOST');
  expect(told).not.toContain('receipt');
});

it('begins nothing where the backend cannot be had', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const options: StartOptions = { bootstrap: [], choices: { model: 'micro' }, dir, ...MACHINE };
  const refused = openRun({ ...options, backend: 'webgpu', deterministic: true }, () => undefined);
  await expect(refused).rejects.toMatchObject({ code: 'E_BACKEND' });
  await started({ dir, choices: { model: 'micro', rounds: 3 } });
});

it('begins nothing where it cannot listen', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const { ready } = await started({ dir: join(temporaryFolder(), 'other'), listen: ['/ip4/127.0.0.1/tcp/0'] });
  const [port] = /\/tcp\/\d+/.exec(ready?.addresses[0] ?? '') ?? [];
  const options: StartOptions = { bootstrap: [], choices: { model: 'micro' }, dir, ...MACHINE };
  const taken = openRun({ ...options, listen: [`/ip4/127.0.0.1${port}`] }, () => undefined);
  await expect(taken).rejects.toMatchObject({ code: 'E_PORT_TAKEN' });
  // with other settings, too
  await started({ dir, choices: { model: 'micro', rounds: 3 } });
});

it('keeps what a folder has whose genesis is gone', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const choices = { model: 'micro', innerSteps: 1, batch: 1, rounds: 1 } as const;
  await (await started({ dir, choices })).peer.close();
  const genesis = join(dir, 'genesis.cbor');
  const bytes = readFileSync(genesis);
  const key = readFileSync(join(dir, 'identity.key'));
  rmSync(genesis);
  const options: StartOptions = { bootstrap: [], choices, dir, ...MACHINE };
  const refused = { code: 'E_DIR_INCOMPLETE', message: expect.stringContaining('without its genesis.cbor') };
  await expect(openRun(options, () => undefined)).rejects.toMatchObject(refused);
  // as one does that has had the genesis from another peer, and cannot begin after all
  openDirectory(dir, bytes).discard();
  expect(readFileSync(join(dir, 'identity.key'))).toEqual(key);
});

it('says that it waits for others where its checkpoints are gone, or its history', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const choices = { model: 'micro', innerSteps: 1, batch: 1, rounds: 10 } as const;
  const first = await started({ dir, choices });
  await eventually(() => first.events.some(({ event }) => event === 'done'), 'the end');
  await first.peer.close();
  const warningsWithout = async (name: string) => {
    const copy = join(temporaryFolder(), 'copy');
    cpSync(dir, copy, { recursive: true });
    rmSync(join(copy, name), { recursive: true });
    const { events, peer } = await started({ dir: copy });
    await peer.close();
    return events.filter((event) => event.event === 'warning').map(({ code }) => code);
  };
  expect(await warningsWithout('checkpoints')).toContain('W_FOLDER_LOSS');
  expect(await warningsWithout('chain')).toContain('W_FOLDER_LOSS');
  expect(await warningsWithout('journal')).not.toContain('W_FOLDER_LOSS');
});

it('says so after a few rounds, too, which the founder cannot make again', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const choices = { model: 'micro', innerSteps: 1, batch: 1, rounds: 2 } as const;
  const first = await started({ dir, choices });
  await eventually(() => first.events.some(({ event }) => event === 'done'), 'the end');
  await first.peer.close();
  rmSync(join(dir, 'checkpoints'), { recursive: true });
  const { events } = await started({ dir });
  expect(events).toContainEqual(expect.objectContaining({ event: 'warning', code: 'W_FOLDER_LOSS' }));
});

it('goes on after a single round without a word of loss', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const choices = { model: 'micro', innerSteps: 1, batch: 1, rounds: 1 } as const;
  const first = await started({ dir, choices });
  await eventually(() => first.events.some(({ event }) => event === 'done'), 'the end');
  await first.peer.close();
  const { events } = await started({ dir });
  expect(events.filter(({ event }) => event === 'warning')).toEqual([]);
});

it('makes connections from anywhere while it has not the address that they were to be made from', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const listen = ['/ip4/127.0.0.1/tcp/0'];
  await (await started({ dir, listen, dialFrom: '127.0.0.1' })).peer.close();
  const path = join(dir, 'whereabouts.json');
  // of a network for documentation: nobody has it
  writeFileSync(path, readFileSync(path, 'utf8').replace('"dialFrom":"127.0.0.1"', '"dialFrom":"192.0.2.77"'));
  const { events, peer } = await started({ dir });
  const warnings = events.filter((event) => event.event === 'warning').map(({ code }) => code);
  expect(warnings).toEqual(['W_DIAL_FROM']);
  await peer.close();
  expect(readFileSync(path, 'utf8')).toContain('192.0.2.77');
});

it('listens and tells where it was told to before, after a restart that says nothing of it', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const announce = ['/dns4/peer.example/tcp/4001'];
  const first = await started({ dir, listen: ['/ip4/127.0.0.1/tcp/0'] });
  expect(first.ready?.addresses).toEqual([expect.stringContaining('/ip4/127.0.0.1/tcp/')]);
  await first.peer.close();
  const again = await started({ dir });
  expect(again.ready?.addresses).toEqual(first.ready?.addresses);
  await again.peer.close();
  const told = await started({ dir, announce });
  await told.peer.close();
  expect((await started({ dir })).ready?.addresses).toEqual([expect.stringContaining(announce[0]!)]);
});

it('tells once that it cannot write down where others are, and who is refused', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const listen = ['/ip4/127.0.0.1/tcp/0'];
  await (await started({ dir, listen })).peer.close();
  rmSync(join(dir, 'whereabouts.json'));
  mkdirSync(join(dir, 'whereabouts.json'));
  const { events, ready } = await started({ dir, listen });
  const swarm = new Swarm();
  onTestFinished(() => swarm.stop());
  const run = { runId: ready?.runId ?? '', genesisBytes: readFileSync(join(dir, 'genesis.cbor')) };
  const address = ready?.addresses[0] ?? '';
  const other = await swarm.peer({ run, version: PROTOCOL_VERSION + 1 });
  expect(await codeOf(other.network.dial(address))).toBe('E_OTHER_VERSION');
  const warnings = () => events.filter((event) => event.event === 'warning').map(({ code }) => code);
  await eventually(() => warnings().includes('W_REFUSED'), 'the refusal');
  const same = await swarm.peer({ run });
  expect(await same.network.dial(address)).toBe(ready?.peerId);
  expect(warnings()).toEqual(['W_WHEREABOUTS', 'E_DIR_UNWRITABLE', 'W_REFUSED']);
});

it('holds its folder until its record is on the disk', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const { peer } = await started({ dir, listen: ['/ip4/127.0.0.1/tcp/0'] });
  const held: boolean[] = [];
  const settled = RecordFile.prototype.settled;
  vi.spyOn(RecordFile.prototype, 'settled').mockImplementation(async function (this: RecordFile) {
    await settled.call(this);
    await new Promise(setImmediate);
    held.push(isLocked(dir));
  });
  await peer.close();
  expect(held).toEqual([true]);
  expect(isLocked(dir)).toBe(false);
});

describe('without --dir', () => {
  const listen = ['/ip4/127.0.0.1/tcp/0'];

  beforeEach(() => {
    vi.stubEnv('HOME', temporaryFolder());
  });

  it('passes over a folder whose key is damaged, and goes on with the run of before', async () => {
    const first = await started({ listen });
    await first.peer.close();
    const old = join(dirname(first.ready?.directory ?? ''), 'an-old-run-1');
    mkdirSync(old);
    writeFileSync(join(old, 'identity.key'), 'damaged');
    const { events, ready } = await started({ listen });
    expect(ready).toMatchObject({ directory: first.ready?.directory, resumed: true });
    const message = expect.stringContaining(`${old} is passed over`);
    expect(events[0]).toEqual({ event: 'warning', code: 'E_IDENTITY_DAMAGED', message });
  });

  it('joins again where the address that it joined by does not answer', async () => {
    const founder = await started({ listen, dir: join(temporaryFolder(), 'founder') });
    const bootstrap = founder.ready?.addresses ?? [];
    const joiner = await started({ listen, bootstrap, choices: {} });
    await joiner.peer.close();
    await founder.peer.close();
    bootstrap.push(`/ip4/127.0.0.1/tcp/1/p2p/${createIdentity().self}`);
    const again = await started({ listen, bootstrap, choices: {} });
    expect(again.ready).toMatchObject({
      directory: joiner.ready?.directory,
      peerId: joiner.ready?.peerId,
      resumed: true,
    });
    const warning = again.events.find((event) => event.event === 'warning');
    expect(warning?.code).toBe('E_BOOTSTRAP');
    for (const address of bootstrap) expect(warning?.message).toContain(`${address}: connection refused`);
  });

  it('names the run that was joined last where it begins another', async () => {
    const founder = await started({ listen, dir: join(temporaryFolder(), 'founder') });
    const joiner = await started({ listen, bootstrap: founder.ready?.addresses ?? [], choices: {} });
    await joiner.peer.close();
    const { events, ready, peer } = await started({ listen });
    expect(ready?.resumed).toBe(false);
    const message = expect.stringContaining(`goes on with --dir ${joiner.ready?.directory}`);
    expect(events[0]).toEqual({ event: 'warning', code: 'W_OTHER_RUN_HERE', message });
    await peer.close();
    // the newest is its own now
    expect((await started({ listen })).events[0]).toMatchObject({ event: 'ready', resumed: true });
  });

  it('says that it goes on with its own run where another process is in another, and not where it is in the same', async () => {
    const first = await started({ listen });
    const second = await started({ listen });
    for (const { peer } of [first, second]) await peer.close();
    const [again, beside] = [await started({ listen }), await started({ listen })];
    expect(again.events[0]).toMatchObject({ event: 'ready', resumed: true });
    const what = `this goes on with the run in ${beside.ready?.directory}, while`;
    const message = expect.stringMatching(new RegExp(`^${what}.*--bootstrap /ip4/`));
    expect(beside.events[0]).toEqual({ event: 'warning', code: 'W_OTHER_RUN_HERE', message });
    for (const { peer } of [again, beside]) await peer.close();

    const founder = await started({ listen, choices: { model: 'micro', seed: 7 } });
    const joiner = await started({ listen, bootstrap: founder.ready?.addresses ?? [], choices: {} });
    expect(joiner.ready?.runId).toBe(founder.ready?.runId);
    await founder.peer.close();
    expect((await started({ listen, choices: { model: 'micro', seed: 7 } })).events[0]).toMatchObject({
      event: 'ready',
    });
  });
});

it('fails where what the last round learned cannot be written', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const peer = await openRun(
    { bootstrap: [], choices: { model: 'micro' }, dir, listen: ['/ip4/127.0.0.1/tcp/0'], ...MACHINE },
    () => undefined,
  );
  peers.push(peer);
  const ended = peer.run();
  ended.catch(() => undefined); // looked at below
  const own = join(dir, 'own.bin');
  // the training thread writes it too
  while (!statSync(own, { throwIfNoEntry: false })?.isDirectory()) {
    rmSync(own, { force: true });
    try {
      mkdirSync(own);
    } catch {
      // it was there again
    }
  }
  await peer.leave();
  await expect(ended).rejects.toMatchObject({ code: 'E_DIR_UNWRITABLE' });
});

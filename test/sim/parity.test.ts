import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PeerProcess, type RoundLine } from '../../node/chaos/peer-process.ts';
import { loadText } from '../../node/data/sources.ts';
import { buildGenesis, tokenizerFor } from '../../node/defaults.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { writeBlob } from '../../node/store/blobs.ts';
import { readChainLog } from '../../node/store/chain-log.ts';
import { openDirectory, readGenesisFile, runPaths } from '../../node/store/directory.ts';
import { createSeed, loadIdentity, saveIdentity } from '../../node/store/identity.ts';
import { decodeGenesis, encodeGenesis, type Genesis } from '../../protocol/genesis.ts';
import type { PeerId, Signer } from '../../protocol/identity.ts';
import type { Entry } from '../../protocol/wire.ts';
import { Identities } from '../../sim/identity.ts';
import { RealHost } from '../../sim/real-host.ts';
import type { RoundRow } from '../../sim/round-rows.ts';
import { makeScenario, type ScenarioText } from '../../sim/scenario.ts';
import { Simulation } from '../../sim/simulation.ts';
import { WHOLE } from '../helpers/history.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

/** The simulator against real processes: same identities, genesis and data, so the same root at every round. */

let folder: string;
let peers: PeerProcess[];

beforeEach(() => {
  folder = temporaryFolder();
  peers = [];
});

afterEach(async () => {
  await Promise.all(peers.map((peer) => peer.kill('SIGKILL')));
});

const [INNER_STEPS, BATCH] = [4, 4];
const TOKENS_OF_ONE = INNER_STEPS * BATCH * 32;
/** A round waits so long for a peer that a busy machine keeps from its steps: nobody is cut short. */
const GRACE_MS = 120_000;

function start(name: string, options: string[]): PeerProcess {
  const peer = new PeerProcess(join(folder, name), ['--listen', '/ip4/127.0.0.1/tcp/0', '--deterministic', ...options]);
  peers.push(peer);
  return peer;
}

/** A founder's folder as `outerloop start` makes it, with a patience that no option gives. */
async function makeFounder(name: string, count: number, rounds: number | null): Promise<void> {
  const source = loadText();
  const tokenizer = tokenizerFor('char', source.bytes);
  const identitySeed = createSeed();
  const { self } = new Identities().fromSeed(identitySeed);
  const size = { innerSteps: INNER_STEPS, batch: BATCH };
  const choices = { model: 'micro', ...size, seed: 11, waitFor: count, ...(rounds ? { rounds } : {}) } as const;
  const genesis = buildGenesis(choices, self, source, tokenizer);
  const patient: Genesis = { ...genesis, timing: { ...genesis.timing, graceMs: GRACE_MS } };
  const { paths, release } = openDirectory(join(folder, name), encodeGenesis(patient));
  saveIdentity(paths.identity, identitySeed);
  const store = new BlobStore(paths.blobs);
  await writeBlob(store, source.bytes);
  if (tokenizer.blob) await writeBlob(store, tokenizer.blob);
  release();
}

async function startAll(count: number, rounds: number | null): Promise<PeerProcess[]> {
  await makeFounder('peer-0', count, rounds);
  const founder = start('peer-0', []);
  await founder.ready();
  for (let i = 1; i < count; i++) start(`peer-${i}`, ['--bootstrap', founder.address]);
  return [...peers];
}

/** The identities and the genesis that the processes left on disk. */
function worldOf(processes: readonly PeerProcess[]): { genesis: Genesis; signers: Signer[] } {
  const identities = new Identities();
  const signers = processes.map(({ dir }) => identities.fromSeed(loadIdentity(runPaths(dir).identity)!));
  return { genesis: decodeGenesis(readGenesisFile(processes[0]!.dir)!), signers };
}

/** @param rounds after which to stop, where the run itself does not */
async function simulate(
  { genesis, signers }: { genesis: Genesis; signers: Signer[] },
  workers: number,
  scenario: ScenarioText = {},
  rounds = Number.POSITIVE_INFINITY,
): Promise<{ rows: RoundRow[]; entries: Entry[] }> {
  const { bytes: text } = loadText();
  const { blob: tokenizer } = tokenizerFor('char', text);
  const genesisBytes = readGenesisFile(peers[0]!.dir)!;
  const host = await RealHost.open({ genesisBytes, text, tokenizer, backend: 'auto', deterministic: true }, workers);
  try {
    const world = makeScenario(scenario, signers.length);
    const simulation = new Simulation({ genesis, signers, scenario: world, seed: 1, host, evaluateEvery: 0 });
    const enough = new AbortController();
    const onRound = ({ round }: RoundRow): void => {
      if (round >= rounds) enough.abort();
    };
    const { rows } = await simulation.run({ signal: enough.signal, onRound });
    const { machine } = simulation.peers[0]!;
    return { rows, entries: machine?.history(WHOLE).entries ?? [] };
  } finally {
    await host.close();
  }
}

/** The round whose block let the peer in: it trains from the next one on. */
function admissionOf(entries: readonly Entry[], peer: PeerId): number | undefined {
  return entries.find(({ block }) => block.joins.some(({ author }) => author === peer))?.block.round;
}

/** Everybody who was there took all steps. */
function isFull({ contributors, tokens }: RoundLine, members: number): boolean {
  return contributors.length === members && tokens === contributors.length * TOKENS_OF_ONE;
}

const roots = (rounds: readonly { root: string }[]): string[] => rounds.map(({ root }) => root);
const MINUTES = 60_000;

test(
  'four real processes and four virtual peers have the same root at every round',
  async () => {
    const swarm = await startAll(4, 5);
    expect(await Promise.all(swarm.map((peer) => peer.exited))).toEqual([0, 0, 0, 0]);
    const real = swarm[0]!.rounds;
    expect(real).toHaveLength(5);
    expect(real.filter((line) => isFull(line, 4))).toHaveLength(5);
    const world = worldOf(swarm);
    expect(roots((await simulate(world, 1)).rows)).toEqual(roots(real));
    const { rows } = await simulate(world, 2, { latency: 'lognormal(150ms,0.5)' });
    expect(roots(rows)).toEqual(roots(real));
  },
  4 * MINUTES,
);

const ROUNDS_TOGETHER = 3;

/** Three real processes, and a fourth that comes while they train; stopped after a few rounds of all four. */
async function runWithLateJoiner(): Promise<{ swarm: PeerProcess[]; admitted: number; real: RoundLine[] }> {
  const three = await startAll(3, null);
  const [founder] = three as [PeerProcess];
  await founder.reached(2);
  const late = start('late', ['--bootstrap', three[1]!.address]);
  const swarm = [...three, late];
  await late.until(() => late.contribution(late.id, 0) !== undefined);
  await founder.reached(late.contribution(late.id, 0)!.round + ROUNDS_TOGETHER);
  const { id } = late;
  await Promise.all(swarm.map((peer) => peer.kill('SIGKILL')));
  const admitted = admissionOf(
    readChainLog(runPaths(founder.dir).chain).flatMap(({ entries }) => entries),
    id,
  )!;
  return { swarm, admitted, real: founder.rounds };
}

test(
  'a peer that joins late: the same root at every round when it is let in at the same round, and only then',
  async () => {
    const { swarm, admitted, real } = await runWithLateJoiner();
    expect(admitted).toBeGreaterThanOrEqual(2);
    // the line of a round has its number from one, its block from zero
    const full = real.filter((line) => isFull(line, line.round > admitted + 1 ? 4 : 3));
    expect(full).toHaveLength(real.length);
    const world = worldOf(swarm);
    const link = { latency: 'lognormal(50ms,0.5)', step: '1s' };
    const alone = { ...link, events: [{ do: 'join' as const, at: '1000000s', peers: [3] }] };
    const { rows: before } = await simulate(world, 2, alone, admitted + 1);
    const joinIn = (round: number) => {
      // just after the round began, which leaves its steps to fetch what a joiner needs
      const at = `${Math.ceil(before.find((row) => row.round === round)!.virtualMs)}ms`;
      return simulate(world, 2, { ...link, events: [{ do: 'join', at, peers: [3] }] }, real.length);
    };
    const same = await joinIn(admitted);
    expect(admissionOf(same.entries, world.signers[3]!.self)).toBe(admitted);
    expect(roots(same.rows)).toEqual(roots(real));
    const later = await joinIn(admitted + 1);
    expect(admissionOf(later.entries, world.signers[3]!.self)).toBe(admitted + 1);
    // the root is of the roster too, so the round that let it in differs already
    expect(roots(later.rows).slice(0, admitted)).toEqual(roots(real).slice(0, admitted));
    expect(roots(later.rows)[admitted]).not.toBe(roots(real)[admitted]);
  },
  6 * MINUTES,
);

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PeerProcess, type RoundLine } from '../../node/chaos/peer-process.ts';
import { loadText } from '../../node/data/sources.ts';
import { tokenizerFor } from '../../node/defaults.ts';
import { readGenesisFile, runPaths } from '../../node/store/directory.ts';
import { loadIdentity } from '../../node/store/identity.ts';
import { decodeGenesis, type Genesis } from '../../protocol/genesis.ts';
import type { Signer } from '../../protocol/identity.ts';
import { Identities } from '../../sim/identity.ts';
import { RealHost } from '../../sim/real-host.ts';
import { makeScenario, type ScenarioText } from '../../sim/scenario.ts';
import { type RoundRow, Simulation } from '../../sim/simulation.ts';

/** The simulator against real processes: same identities, genesis and data, so the same root at every round. */

let folder: string;
let peers: PeerProcess[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'outerloop-parity-'));
  peers = [];
});

afterEach(async () => {
  await Promise.all(peers.map((peer) => peer.kill('SIGKILL')));
  rmSync(folder, { recursive: true, force: true });
});

const [INNER_STEPS, BATCH] = [4, 4];
const TOKENS_OF_ONE = INNER_STEPS * BATCH * 32;
const OPTIONS = ['--model', 'micro', '--inner-steps', String(INNER_STEPS), '--batch', String(BATCH), '--seed', '11'];

function start(name: string, options: string[]): PeerProcess {
  const peer = new PeerProcess(join(folder, name), ['--listen', '/ip4/127.0.0.1/tcp/0', '--deterministic', ...options]);
  peers.push(peer);
  return peer;
}

function startAll(count: number, rounds: number): Promise<PeerProcess[]> {
  const common = [...OPTIONS, '--wait-for', String(count), '--rounds', String(rounds)];
  const founder = start('peer-0', common);
  return founder
    .ready()
    .then(() => [
      founder,
      ...Array.from({ length: count - 1 }, (_, i) => start(`peer-${i + 1}`, ['--bootstrap', founder.address])),
    ]);
}

/** The identities and the genesis that the processes left on disk. */
function worldOf(processes: readonly PeerProcess[]): { genesis: Genesis; signers: Signer[] } {
  const identities = new Identities();
  const signers = processes.map(({ dir }) => identities.fromSeed(loadIdentity(runPaths(dir).identity)!));
  return { genesis: decodeGenesis(readGenesisFile(processes[0]!.dir)!), signers };
}

async function simulate(
  { genesis, signers }: { genesis: Genesis; signers: Signer[] },
  workers: number,
  scenario: ScenarioText = {},
): Promise<RoundRow[]> {
  const { bytes: text } = loadText();
  const { blob: tokenizer } = tokenizerFor('char', text);
  const genesisBytes = readGenesisFile(peers[0]!.dir)!;
  const host = await RealHost.open({ genesisBytes, text, tokenizer, backend: 'auto', deterministic: true }, workers);
  try {
    const world = makeScenario(scenario, signers.length);
    const simulation = new Simulation({ genesis, signers, scenario: world, seed: 1, host, evaluateEvery: 0 });
    return (await simulation.run()).rows;
  } finally {
    await host.close();
  }
}

/** Nobody was cut short: a busy machine can make a real peer late, and then it contributes what it has. */
function isFull({ contributors, tokens }: RoundLine): boolean {
  return tokens === contributors.length * TOKENS_OF_ONE;
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
    const full = real.filter((line) => isFull(line) && line.contributors.length === 4);
    expect(full, 'the machine was too busy for a real peer to finish its steps: run this again').toHaveLength(5);
    const world = worldOf(swarm);
    expect(roots(await simulate(world, 1))).toEqual(roots(real));
    expect(roots(await simulate(world, 2, { latency: 'lognormal(150ms,0.5)' }))).toEqual(roots(real));
  },
  4 * MINUTES,
);

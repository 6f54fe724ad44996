import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { assert } from '../../protocol/errors.ts';
import { encodeGenesis, type Genesis } from '../../protocol/genesis.ts';
import type { Signer } from '../../protocol/identity.ts';
import { Identities } from '../../sim/identity.ts';
import { RealHost } from '../../sim/real-host.ts';
import type { ReplicaHost } from '../../sim/replica-host.ts';
import { DEFAULT_SCENARIO, makeScenario, type Scenario, type ScenarioText } from '../../sim/scenario.ts';
import { Simulation, type SimulationInit } from '../../sim/simulation.ts';
import { SyntheticHost, syntheticGenesis } from '../../sim/synthetic.ts';
import { loadText } from '../data/sources.ts';
import { buildGenesis, DEFAULT_SEED, type RunChoices, tokenizerFor } from '../defaults.ts';
import type { BackendName } from '../train/backend.ts';

export const TRAINERS = ['real', 'synthetic'] as const;
export type TrainerName = (typeof TRAINERS)[number];

export interface SimChoices {
  /** of the run; `waitFor` follows from who joins late */
  run: Omit<RunChoices, 'waitFor' | 'rounds'> & { rounds: number };
  peers: number;
  scenario: ScenarioText;
  trainer: TrainerName;
  /** @default one a core, one a peer at most */
  workers?: number;
  backend: BackendName | 'auto';
  microBatch?: number;
  evaluateEvery: number;
  onStep?: SimulationInit['onStep'];
}

export interface OpenedSimulation {
  simulation: Simulation;
  genesis: Genesis;
  signers: Signer[];
  host: ReplicaHost;
  /** for people: what computes */
  backend: string;
  isReal: boolean;
  seed: number;
  /** everything that decides what happens, defaults filled in */
  configuration: Record<string, unknown>;
}

/**
 * A swarm ready to run. Real training is always deterministic here: the same seed gives the same results anywhere.
 * @throws CodedError of `loadText`, `buildGenesis`, `makeScenario`, `createEngine`
 */
export async function openSimulation(choices: SimChoices): Promise<OpenedSimulation> {
  const { run, peers, trainer, evaluateEvery, onStep } = choices;
  const { seed = DEFAULT_SEED } = run;
  const scenario = makeScenario(choices.scenario, peers);
  const signers = new Identities().swarm(seed, peers);
  const { genesis, host, backend } = await openHost(choices, signers, scenario, seed);
  const simulation = new Simulation({
    genesis,
    signers,
    scenario,
    seed,
    host,
    evaluateEvery,
    ...(onStep ? { onStep } : {}),
  });
  const written = { ...DEFAULT_SCENARIO, ...choices.scenario };
  const { microBatch = 'auto' } = choices;
  const configuration = { peers, trainer, backend, microBatch, evaluateEvery, scenario: written, genesis };
  const isReal = trainer === 'real';
  return { simulation, genesis, signers, host, backend, isReal, seed, configuration };
}

async function openHost(
  choices: SimChoices,
  signers: readonly Signer[],
  scenario: Scenario,
  seed: number,
): Promise<{ genesis: Genesis; host: ReplicaHost; backend: string }> {
  const { run, peers, trainer, microBatch, backend } = choices;
  const [first] = signers;
  assert(first, 'a swarm has a peer');
  const founder = first.self;
  const late = scenario.events.flatMap((event) => (event.do === 'join' ? event.peers : []));
  const waitFor = peers - new Set(late).size;
  const source = loadText(run.data);
  const tokenizer = tokenizerFor(run.tokenizer, source.bytes);
  const genesis = buildGenesis({ ...run, seed, waitFor }, founder, source, tokenizer);
  if (trainer === 'synthetic') {
    const { innerSteps, codec, outer, rounds, timing } = genesis;
    const synthetic = syntheticGenesis({ founder, seed, innerSteps, codec, outer, rounds, waitFor, timing });
    return { genesis: synthetic, host: new SyntheticHost(synthetic, peers), backend: 'noisy quadratic' };
  }
  const workers = choices.workers ?? Math.min(availableParallelism(), peers);
  const host = await RealHost.open(
    {
      genesisBytes: encodeGenesis(genesis),
      text: source.bytes,
      tokenizer: tokenizer.blob,
      backend,
      deterministic: true,
      ...(microBatch === undefined ? {} : { microBatch }),
    },
    workers,
  );
  return { genesis, host, backend: host.backend };
}

/** The commit that runs, with `+` when files differ from it; null outside of a clone. */
export function commitOf(): string | null {
  const cwd = fileURLToPath(new URL('../..', import.meta.url));
  const git = (...args: string[]) => spawnSync('git', args, { cwd, encoding: 'utf8' });
  const head = git('rev-parse', 'HEAD');
  const top = git('rev-parse', '--show-prefix');
  // an installed copy may lie in somebody else's repository
  if (head.status !== 0 || top.stdout.trim() !== '') return null;
  const changed = git('status', '--porcelain', '--untracked-files=no').stdout.trim() !== '';
  return `${head.stdout.trim()}${changed ? '+' : ''}`;
}

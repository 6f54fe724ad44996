import type { Genesis } from '../../protocol/genesis.ts';
import { constant, type Distribution } from '../../sim/distribution.ts';
import { Identities } from '../../sim/identity.ts';
import { idealScenario, makeScenario, type Scenario, type ScenarioText } from '../../sim/scenario.ts';
import type { SeatObserver } from '../../sim/seat.ts';
import { Simulation, type SimulationInit } from '../../sim/simulation.ts';
import { type Quadratic, type SyntheticChoices, SyntheticHost, syntheticGenesis } from '../../sim/synthetic.ts';

/** A swarm on the noisy quadratic, small enough for a test. */
export interface SyntheticWorld extends Partial<Omit<SyntheticChoices, 'founder' | 'seed'>> {
  peers: number;
  rounds: number;
  seed?: number;
  scenario?: ScenarioText;
  /** instead of a scenario: links that cost nothing */
  idealStep?: Distribution;
  quadratic?: Quadratic;
  /** @default the smallest */
  model?: Genesis['model'];
  /** every peer computes its states itself */
  observer?: SeatObserver;
  onStep?: SimulationInit['onStep'];
}

export const NO_END_MS = 86_400_000;

export function syntheticWorld(options: SyntheticWorld) {
  const { peers, rounds, seed = 7, scenario = {}, idealStep, quadratic, model, observer, onStep, ...choices } = options;
  const signers = new Identities().swarm(seed, peers);
  const world: Scenario = idealStep ? idealScenario(idealStep) : makeScenario(scenario, peers);
  const smallest = syntheticGenesis({
    founder: signers[0]!.self,
    seed,
    innerSteps: 5,
    codec: { name: 'fp32', chunk: 4096, k: 64, bits: 2 },
    outer: { name: 'sgd', learningRate: 1, momentum: 0 },
    rounds,
    waitFor: peers,
    timing: { graceMs: 2000, viewMs: 2000, quorumWaitMs: 10_000 },
    ...choices,
  });
  const genesis = model ? { ...smallest, model } : smallest;
  const host = new SyntheticHost(genesis, peers, quadratic, observer);
  const simulation = new Simulation({
    genesis,
    signers,
    scenario: world,
    seed,
    host,
    evaluateEvery: 1,
    ...(onStep ? { onStep } : {}),
  });
  return { simulation, host, genesis, signers };
}

export const ONE_SECOND = constant(1000);

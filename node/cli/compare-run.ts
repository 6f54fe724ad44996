import { availableParallelism } from 'node:os';
import { encodeGenesis, type Genesis } from '../../protocol/genesis.ts';
import { peerIdOf } from '../../protocol/identity.ts';
import type { BaseRequest, ComparisonInit, HostUse } from '../../sim/comparison-runs.ts';
import { RealHost } from '../../sim/real-host.ts';
import type { ReplicaHost } from '../../sim/replica-host.ts';
import { DEFAULT_SCENARIO, makeScenario, type ScenarioText } from '../../sim/scenario.ts';
import { pooledQuadratic, SyntheticHost, syntheticGenesis } from '../../sim/synthetic.ts';
import { loadText } from '../data/sources.ts';
import { buildGenesis, DEFAULT_SEED, type RunChoices, tokenizerFor } from '../defaults.ts';
import type { BackendName } from '../train/backend.ts';
import type { TrainerName } from './sim-run.ts';

export interface ComparisonChoices {
  run: RunChoices;
  scenario: ScenarioText;
  peers: number;
  seeds: number;
  trainer: TrainerName;
  /** @default one a core */
  workers?: number;
  backend?: BackendName | 'auto';
  microBatch?: number;
}

interface OpenedComparison {
  init: Pick<ComparisonInit, 'peers' | 'seeds' | 'scenario' | 'workers' | 'base' | 'open'>;
  title: string;
  configuration: Record<string, unknown>;
}

/**
 * What all runs of a comparison have in common. Real training is always deterministic here.
 * @throws CodedError of `loadText`, `buildGenesis`, `makeScenario`
 */
export function openComparison(choices: ComparisonChoices): OpenedComparison {
  const { run, peers, trainer, backend = 'auto', microBatch, workers = availableParallelism() } = choices;
  const scenario = makeScenario(choices.scenario, peers);
  const { seed: firstSeed = DEFAULT_SEED } = run;
  const seeds = Array.from({ length: choices.seeds }, (_, i) => firstSeed + i);
  const source = loadText(run.data);
  const tokenizer = tokenizerFor(run.tokenizer, source.bytes);
  const late = scenario.events.flatMap((event) => (event.do === 'join' ? event.peers : []));
  const waitFor = peers - new Set(late).size;
  const plain = buildGenesis(run, peerIdOf(new Uint8Array(32)), source, tokenizer);
  const { innerSteps, batch } = plain;

  const base = ({ seed, founder, steps, batches }: BaseRequest): Genesis => {
    if (trainer === 'synthetic') {
      const { codec, outer, timing } = plain;
      const asked = { founder, seed, innerSteps, codec, outer, rounds: null, waitFor, timing };
      return { ...syntheticGenesis(asked), batch: batches };
    }
    // rounds of one step, so that the learning rate falls over just these steps
    const asked = { ...run, seed, waitFor, rounds: steps, innerSteps: 1, batch: batch * batches };
    return { ...buildGenesis(asked, founder, source, tokenizer), innerSteps };
  };
  const open = async (genesis: Genesis, { replicas, pooled }: HostUse): Promise<ReplicaHost> => {
    if (trainer === 'synthetic') {
      return new SyntheticHost(genesis, replicas, pooled === null ? undefined : pooledQuadratic(pooled));
    }
    const init = { genesisBytes: encodeGenesis(genesis), text: source.bytes, tokenizer: tokenizer.blob, backend };
    // several runs are under way at once instead
    const threads = 1;
    return RealHost.open(
      { ...init, deterministic: true, ...(microBatch === undefined ? {} : { microBatch }) },
      threads,
    );
  };
  const written = { ...DEFAULT_SCENARIO, ...choices.scenario };
  const title = trainer === 'synthetic' ? 'noisy quadratic' : plain.title;
  const { title: _, founder: __, ...genesis } = base({ seed: firstSeed, founder: plain.founder, steps: 1, batches: 1 });
  // what computes, and how much of it at once, decides the last bits
  const configuration = { trainer, backend, microBatch: microBatch ?? 'auto', scenario: written, genesis };
  return { init: { peers, seeds, scenario, workers, base, open }, title, configuration };
}

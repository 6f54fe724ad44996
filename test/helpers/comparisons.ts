import type { ComparisonInit } from '../../sim/comparison-runs.ts';
import { makeScenario } from '../../sim/scenario.ts';
import { parseStrategies } from '../../sim/strategy.ts';
import { pooledQuadratic, SyntheticHost, syntheticGenesis } from '../../sim/synthetic.ts';

/** A comparison on the noisy quadratic that takes a moment: 4 peers, 100 steps, 20 in a round. */
export function comparisonInit(init: Partial<ComparisonInit>): ComparisonInit {
  const { peers = 4 } = init;
  const timing = { graceMs: 2000, viewMs: 2000, quorumWaitMs: 10_000 };
  const codec = { name: 'fp32', chunk: 4096, k: 64, bits: 2 } as const;
  const outer = { name: 'sgd', learningRate: 1, momentum: 0 } as const;
  return {
    peers,
    seeds: [1],
    tokens: 100 * peers * 4,
    strategies: parseStrategies('ddp,diloco'),
    scenario: makeScenario({ latency: '20ms', bandwidth: '10mbit' }, peers),
    evaluations: 5,
    baselineRates: [1],
    workers: 1,
    base: ({ seed, founder, batches }) => {
      const asked = { founder, seed, innerSteps: 20, codec, outer, rounds: null, waitFor: peers, timing };
      return { ...syntheticGenesis(asked), batch: batches };
    },
    open: async (genesis, { replicas, pooled }) =>
      new SyntheticHost(genesis, replicas, pooled === null ? undefined : pooledQuadratic(pooled)),
    ...init,
  };
}

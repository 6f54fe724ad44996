import { COMMITTEE } from '../../../protocol/genesis.ts';
import { drawPlan, type Fault, type Plan } from '../../../sim/swarm/plan.ts';

/** Four correct peers, and nothing that goes wrong but these. */
export function calm(faults: Fault[], options: Partial<Plan> = {}): Plan {
  const plan = drawPlan(1);
  const timing = { graceMs: 500, viewMs: 500, quorumWaitMs: 2000 };
  const codec = { name: 'fp32', chunk: 64, k: 8, bits: 2 } as const;
  const outer = { name: 'sgd', learningRate: 1, momentum: 0 } as const;
  const genesis = { innerSteps: 4, codec, outer, waitFor: 4, committee: COMMITTEE, rounds: null, timing };
  const costs = {
    stepMs: 60,
    latencyMs: 20,
    encodeMs: 5,
    applyMs: 5,
    diskMs: 1,
    readMs: 0,
    bootMs: 0,
    inlineBytesMax: 0,
    sendMs: null,
    apart: [],
  };
  return {
    ...plan,
    ...costs,
    seed: 5,
    peers: 4,
    liars: 0,
    genesis,
    safetyMs: 30_000,
    leftDown: [],
    returns: false,
    faults,
    ...options,
  };
}

export const cut = (groups: number[][], atMs: number, forMs: number): Fault => {
  return { kind: 'cut', groups, atMs, forMs, noticedMs: 300 };
};

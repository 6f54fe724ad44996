import { openSimulation } from '../node/cli/sim-run.ts';
import { Machine } from '../protocol/machine.ts';
import { SimulatedNetwork } from '../sim/network.ts';

const peers = Number(process.argv[2] ?? 200);
const o = await openSimulation({
  scenario: { latency: 'lognormal(40ms,0.3)' },
  backend: 'auto',
  evaluateEvery: 0,
  run: { rounds: 1 },
  peers,
  trainer: 'synthetic',
} as any);
const now = () => (o.simulation.kernel.nowMs / 1000).toFixed(2);
const B = SimulatedNetwork.prototype as any;
const ob = B.broadcast;
let votes: Record<string, number> = {};
B.broadcast = function (from: number, m: any) {
  if (m.type === 'proposal')
    console.log(
      now(),
      'proposal by',
      from,
      'h',
      m.height,
      'v',
      m.view,
      m.block.kind,
      'joins',
      m.block.joins.length,
      'parent',
      m.parentView,
      JSON.stringify(votes),
    );
  if (m.type === 'vote') {
    const k = `${m.height}/${m.view}/${m.kind}`;
    votes[k] = (votes[k] ?? 0) + 1;
  }
  if (m.type === 'proposal') votes = {};
  ob.call(this, from, m);
};
const r = await o.simulation.run({ onRound: () => console.log(now(), 'round'), turn: async () => {} });

/**
 * What the simulator costs:
 *
 *   node --import tsx scripts/bench-sim.ts                       events at 10, 30 and 100 peers, real peers, one thread and two
 *   node --import tsx scripts/bench-sim.ts --peers 100,1000      other swarms on the noisy quadratic
 *   node --import tsx scripts/bench-sim.ts --rounds 20 --no-real
 *
 * Real peers are compared with the bare steps that they contain, in turn, for other work on the machine changes speed.
 */
import { parseArgs } from 'node:util';
import { openSimulation, type SimChoices } from '../node/cli/sim-run.ts';
import { makeDataset } from '../node/data/dataset.ts';
import { loadText } from '../node/data/sources.ts';
import { tokenizerFor } from '../node/defaults.ts';
import { createEngine, Trainer } from '../node/train/index.ts';
import type { Genesis } from '../protocol/genesis.ts';
import { initialParameters } from '../protocol/model.ts';

const { values: options } = parseArgs({
  options: {
    peers: { type: 'string', default: '10,30,100' },
    rounds: { type: 'string', default: '10' },
    real: { type: 'boolean', default: true },
  },
  allowNegative: true,
});

const COMMON = { scenario: { latency: 'lognormal(40ms,0.3)' }, backend: 'auto', evaluateEvery: 0 } as const;

async function swarm(choices: Pick<SimChoices, 'run' | 'peers' | 'trainer' | 'workers'>) {
  const opened = await openSimulation({ ...COMMON, ...choices });
  const startedMs = performance.now();
  const roundsMs: number[] = [];
  const result = await opened.simulation.run({ onRound: () => roundsMs.push(performance.now() - startedMs) });
  await opened.host.close();
  return { genesis: opened.genesis, result, wallMs: performance.now() - startedMs, roundsMs };
}

/** All rounds after the first, which has the joining of everybody in it. */
async function benchSynthetic(peers: number, rounds: number): Promise<void> {
  const { result, wallMs, roundsMs } = await swarm({ run: { rounds }, peers, trainer: 'synthetic' });
  const [firstMs = 0, lastMs = 0] = [roundsMs[0], roundsMs.at(-1)];
  const deliveries = peers * peers; // headers alone
  const roundMs = (lastMs - firstMs) / Math.max(1, rounds - 1);
  console.log(
    `${String(peers).padStart(5)} peers: joining and round 1 ${(firstMs / 1000).toFixed(1)} s, then ` +
      `${roundMs.toFixed(0)} ms a round (${((1000 * roundMs) / deliveries).toFixed(0)} us a header delivered); ` +
      `${result.events} events, ${((1000 * wallMs) / result.events).toFixed(0)} us each; ` +
      `${(process.memoryUsage().rss / 1e6).toFixed(0)} MB, ended by ${result.reason}`,
  );
}

/** The inner steps of all peers and rounds, and nothing else. */
async function bareSteps(
  { model, inner, innerSteps, ...rest }: Genesis,
  rounds: number,
  peers: number,
): Promise<number> {
  const { bytes } = loadText();
  const genesis = { model, inner, innerSteps, ...rest };
  const engine = await createEngine({ model, inner, backend: 'auto', deterministic: true });
  await engine.writeParameters(initialParameters(model, genesis.seed));
  const splits = makeDataset(bytes, tokenizerFor('char', bytes), genesis.data.validationFraction);
  const trainer = new Trainer({ engine, splits, genesis });
  await trainer.trainRound({ firstStep: 0, steps: 1, firstPosition: 0 });
  const startedMs = performance.now();
  await trainer.trainRound({ firstStep: 0, steps: innerSteps * rounds * peers, firstPosition: 0 });
  const wallMs = performance.now() - startedMs;
  engine.dispose();
  return wallMs;
}

async function benchReal(): Promise<void> {
  const [peers, rounds] = [8, 3];
  const run = { model: 'nano', innerSteps: 10, rounds } as const;
  const one = await swarm({ run, peers, trainer: 'real', workers: 1 });
  const bareMs = await bareSteps(one.genesis, rounds, peers);
  const two = await swarm({ run, peers, trainer: 'real', workers: 2 });
  console.log(`${peers} real nano peers, ${rounds} rounds of ${run.innerSteps} steps, one thread:`);
  console.log(
    `  ${(one.wallMs / bareMs).toFixed(3)} of the bare steps; two threads ${(one.wallMs / two.wallMs).toFixed(2)} x one`,
  );
  console.log(
    `  trace ${one.result.traceHash === two.result.traceHash ? 'equal' : 'DIFFERS'} with one and two threads`,
  );
}

for (const peers of options.peers.split(',')) await benchSynthetic(Number(peers), Number(options.rounds));
if (options.real) await benchReal();

/**
 * What the simulator costs. Other work on the machine changes speed, so costs are CPU time and ratios inside one run:
 *
 *   npm run bench:sim                                   events of a swarm on the noisy quadratic, then real peers
 *   npm run bench:sim -- --peers 300,4096 --rounds 2    other swarms; rounds by default fall with the size
 *   npm run bench:sim -- --no-real                      without the real peers
 *   npm run bench:sim -- --no-synthetic                 without the swarms
 *   npm run bench:sim -- --repetitions 3                real peers and bare steps in turn, so many times
 *
 * A roster ends at 4096 peers (`rosterMax` in protocol/limits.ts), and so do the swarms here. The messages read in a round
 * grow with the square of the peers, and what each costs as a swarm leaves the processor's caches.
 */
import { openSimulation, type SimChoices } from '../node/cli/sim-run.ts';
import { makeDataset } from '../node/data/dataset.ts';
import { loadText } from '../node/data/sources.ts';
import { tokenizerFor } from '../node/defaults.ts';
import { createEngine, Trainer } from '../node/train/index.ts';
import type { Genesis } from '../protocol/genesis.ts';
import { initialParameters } from '../protocol/model.ts';
import { readArguments } from './arguments.ts';

const { values: options } = readArguments(import.meta.url, {
  options: {
    peers: { type: 'string', default: '100,300,1000' },
    rounds: { type: 'string' },
    real: { type: 'boolean', default: true },
    synthetic: { type: 'boolean', default: true },
    repetitions: { type: 'string', default: '1' },
  },
  allowNegative: true,
});

const COMMON = { scenario: { latency: 'lognormal(40ms,0.3)' }, backend: 'auto', evaluateEvery: 0 } as const;

/** Seconds that this process has computed, all threads together. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

async function swarm(choices: Pick<SimChoices, 'run' | 'peers' | 'trainer' | 'workers'>) {
  const opened = await openSimulation({ ...COMMON, ...choices });
  const [startedMs, startedCpu] = [performance.now(), cpuSeconds()];
  const roundsCpu: number[] = [];
  const result = await opened.simulation.run({ onRound: () => roundsCpu.push(cpuSeconds() - startedCpu) });
  const [wallMs, cpu] = [performance.now() - startedMs, cpuSeconds() - startedCpu];
  await opened.host.close();
  return { genesis: opened.genesis, result, wallMs, cpu, roundsCpu };
}

/** All rounds after the first, which has the joining of everybody in it. */
async function benchSynthetic(peers: number, rounds: number): Promise<void> {
  const { result, cpu, wallMs, roundsCpu } = await swarm({ run: { rounds }, peers, trainer: 'synthetic' });
  const [first = 0, last = 0] = [roundsCpu[0], roundsCpu.at(-1)];
  const { events, deliveries, reason } = result;
  const { maxRSS } = process.resourceUsage();
  const ofMessage = `${(deliveries / events).toFixed(1)} messages each, ${((1e9 * cpu) / deliveries).toFixed(0)} ns a message`;
  console.log(
    `${String(peers).padStart(5)} peers: joining and round 1 ${first.toFixed(1)} s, ` +
      `then ${((last - first) / Math.max(1, rounds - 1)).toFixed(2)} s a round; ` +
      `${events} events of ${((1e6 * cpu) / events).toFixed(0)} us with ${ofMessage}; ` +
      `${cpu.toFixed(0)} s of CPU time in ${(wallMs / 1000).toFixed(0)} s; ` +
      `peak ${Math.round(maxRSS / 1e3)} MB; ended by ${reason}`,
  );
}

/** The inner steps of all peers and rounds, and nothing else. @returns seconds of CPU time */
async function bareSteps(genesis: Genesis, rounds: number, peers: number): Promise<number> {
  const { model, inner, innerSteps, data, seed } = genesis;
  const { bytes } = loadText();
  const engine = await createEngine({ model, inner, backend: 'auto', deterministic: true });
  await engine.writeParameters(initialParameters(model, seed));
  const splits = makeDataset(bytes, tokenizerFor('char', bytes), data.validationFraction);
  const trainer = new Trainer({ engine, splits, genesis });
  await trainer.trainRound({ firstStep: 0, steps: innerSteps, firstPosition: 0 });
  const startedCpu = cpuSeconds();
  await trainer.trainRound({ firstStep: 0, steps: innerSteps * rounds * peers, firstPosition: 0 });
  const cpu = cpuSeconds() - startedCpu;
  engine.dispose();
  return cpu;
}

const REAL_PEERS = 8;

/** Real peers against the bare steps that they contain, in turn, and two training threads against one. */
async function benchReal(model: 'micro' | 'nano', innerSteps: number, rounds: number): Promise<void> {
  const run = { model, innerSteps, rounds };
  const sums = { bare: 0, one: 0, later: 0, two: 0, oneMs: 0, twoMs: 0 };
  const traces = new Set<string>();
  for (let i = 0; i < Number(options.repetitions); i++) {
    const one = await swarm({ run, peers: REAL_PEERS, trainer: 'real', workers: 1 });
    sums.bare += await bareSteps(one.genesis, rounds, REAL_PEERS);
    const two = await swarm({ run, peers: REAL_PEERS, trainer: 'real', workers: 2 });
    sums.one += one.cpu;
    sums.later += (one.roundsCpu.at(-1) ?? 0) - (one.roundsCpu[0] ?? 0);
    sums.two += two.cpu;
    sums.oneMs += one.wallMs;
    sums.twoMs += two.wallMs;
    traces.add(one.result.traceHash).add(two.result.traceHash);
  }
  console.log(
    `${REAL_PEERS} real ${model} peers, ${rounds} rounds of ${innerSteps} steps: ` +
      `${((rounds * sums.later) / ((rounds - 1) * sums.bare)).toFixed(3)} of the CPU time of the bare steps ` +
      `(${(sums.one / sums.bare).toFixed(3)} with starting and joining); ` +
      `two threads ${(sums.oneMs / sums.twoMs).toFixed(2)} x as fast as one, for ` +
      `${(sums.two / sums.one).toFixed(2)} of its CPU time; traces ${traces.size === 1 ? 'equal' : 'DIFFER'}`,
  );
}

if (options.synthetic) {
  for (const peers of options.peers.split(',').map(Number)) {
    const rounds = Number(options.rounds ?? Math.round(Math.min(10, Math.max(2, 6000 / peers))));
    await benchSynthetic(peers, rounds);
  }
}
if (options.real) {
  await benchReal('micro', 50, 6);
  await benchReal('nano', 20, 4);
}

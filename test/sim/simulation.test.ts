import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { initialParameters } from '../../protocol/model.ts';
import { ComputeModel } from '../../sim/compute.ts';
import { idealScenario, readScenario, type ScenarioText } from '../../sim/scenario.ts';
import type { SimulationResult } from '../../sim/simulation.ts';
import { WHOLE } from '../helpers/history.ts';
import { NO_END_MS, ONE_SECOND, syntheticWorld } from './world.ts';

function expectWhole(result: SimulationResult, rounds: number): void {
  expect(result.reason).toBe('rounds');
  expect(result.diverged).toEqual([]);
  expect(result.rows.map(({ round }) => round)).toEqual(Array.from({ length: rounds }, (_, i) => i + 1));
}

const FAULTS = readScenario(
  JSON.stringify({
    latency: 'lognormal(80ms,0.3)',
    bandwidth: '50mbit/20mbit',
    loss: '0.5%',
    stragglers: '20%x2',
    churn: '10%/round',
    events: [
      { at: '4s', do: 'crash', peers: [2] },
      { at: '6s', do: 'pause', peers: [3], for: '1s' },
      { at: '9s', do: 'restart', peers: [2] },
      { at: '12s', do: 'leave', peers: [1] },
      { at: '5s', do: 'join', peers: [6] },
    ],
  }),
);

test('the same seed gives the same trace, another seed another', async () => {
  const hashes = [];
  for (const seed of [1, 1, 2]) {
    const { simulation } = syntheticWorld({ peers: 7, rounds: 8, waitFor: 6, seed, scenario: FAULTS });
    const result = await simulation.run();
    expectWhole(result, 8);
    hashes.push(result.traceHash);
  }
  expect(hashes[1]).toBe(hashes[0]);
  expect(hashes[2]).not.toBe(hashes[0]);
  // the same on any machine and version of Node; a change of the protocol changes it (`vitest -u`)
  expect(hashes[0]).toMatchInlineSnapshot(`"c56f23e4644f877372ebf548a06bc700209a8c6d53f9ca0419cbdc990f14d7c1"`);
});

test('whoever has computed a state has its bytes, also where the first to come to it is killed meanwhile', async () => {
  const nothing = () => undefined;
  const alone = { onTrain: nothing, onWork: nothing, onTrained: nothing, onSave: nothing, onRestart: nothing };
  const observer = { ...alone, onForgotten: nothing };
  for (const at of [5900, 7500, 10_900]) {
    const events: ScenarioText['events'] = [
      { at: `${at}ms`, do: 'crash', peers: [0] },
      { at: `${at + 200}ms`, do: 'join', peers: [4] },
    ];
    const scenario = { step: '1s', apply: '500ms', bandwidth: '50mbit/20mbit', events };
    const world = { peers: 5, waitFor: 4, rounds: 8, innerSteps: 1, scenario, seed: 1 };
    const together = await syntheticWorld(world).simulation.run();
    expect(together.reason).toBe('rounds');
    const apart = await syntheticWorld({ ...world, observer }).simulation.run();
    expect(together.traceHash).toBe(apart.traceHash);
  }
});

const LOG_NORMAL = { kind: 'lognormal', median: 1000, sigma: 0.5 } as const;

test('a round whose links cost nothing takes as long as its slowest peer, whatever that drew', async () => {
  const [peers, rounds, seed] = [3, 60, 3];
  const timing = { graceMs: NO_END_MS, viewMs: 2000, quorumWaitMs: null };
  const { simulation } = syntheticWorld({ peers, rounds, innerSteps: 1, seed, idealStep: LOG_NORMAL, timing });
  const { rows } = await simulation.run();
  const drawn = new ComputeModel(idealScenario(LOG_NORMAL).compute, { peers, seed });
  const slowest = rows.map(() => Math.max(...[0, 1, 2].map((peer) => drawn.stepEnds(peer, 1)[0]!)));
  for (const [i, { virtualMs }] of rows.entries()) {
    if (i > 0) expect(virtualMs - rows[i - 1]!.virtualMs).toBeCloseTo(slowest[i]!, 6);
  }
});

test('what the ledger calls waiting is what the slower peer took longer, whatever was drawn', async () => {
  const [peers, rounds, seed] = [2, 100, 3];
  const timing = { graceMs: NO_END_MS, viewMs: 2000, quorumWaitMs: null };
  const { simulation } = syntheticWorld({ peers, rounds, innerSteps: 1, seed, idealStep: LOG_NORMAL, timing });
  const { rows, ledger } = await simulation.run();
  const drawn = new ComputeModel(idealScenario(LOG_NORMAL).compute, { peers, seed });
  const waited = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const [first, second] = [0, 1].map((peer) => drawn.stepEnds(peer, 1)[0]!) as [number, number];
    waited[0]! += Math.max(0, second - first);
    waited[1]! += Math.max(0, first - second);
  }
  const endMs = rows.at(-1)!.virtualMs; // from then on nobody trains any more
  const spans = ledger.spans.filter(({ activity, fromMs }) => activity === 'waiting' && fromMs < endMs);
  for (const peer of [0, 1]) {
    const booked = spans.filter((span) => span.peer === peer).reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);
    expect(booked).toBeCloseTo(waited[peer]!, 6);
  }
});

test('waiting at the barrier: E[max] - E[t] of two log-normal times as in closed form, within 2 %', () => {
  const draws = 40_000;
  const model = new ComputeModel(idealScenario(LOG_NORMAL).compute, { peers: 2, seed: 3 });
  let [slower, waiting] = [0, 0];
  for (let i = 0; i < draws; i++) {
    const [first, second] = [model.stepEnds(0, 1)[0]!, model.stepEnds(1, 1)[0]!];
    slower += Math.max(first, second);
    waiting += Math.abs(first - second) / 2;
  }
  // E[max(t1, t2)] = (1 + erf(sigma / 2)) exp(mu + sigma^2 / 2); erf(0.25) = 0.2763263902
  const stepMs = 1000 * Math.exp(LOG_NORMAL.sigma ** 2 / 2);
  expect(Math.abs(slower / draws / ((1 + 0.2763263902) * stepMs) - 1)).toBeLessThan(0.02);
  expect(Math.abs(waiting / draws / (0.2763263902 * stepMs) - 1)).toBeLessThan(0.02);
});

test('of 100 steps with a barrier of 1024 peers about 20 % is waiting that a barrier of two would not take', () => {
  // steps of LogNormal(1, 0.5), and the figure, as in NoLoCo (arXiv 2506.10911)
  const step = { kind: 'lognormal', median: Math.E, sigma: Math.SQRT1_2 } as const;
  const [peers, rounds] = [1024, 20];
  const model = new ComputeModel(idealScenario(step).compute, { peers, seed: 3 });
  let [ofAll, ofPairs] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const times = Array.from({ length: peers }, (_, peer) => model.stepEnds(peer, 100).at(-1)!);
    ofAll += Math.max(...times);
    for (let i = 0; i < peers; i += 2) ofPairs += Math.max(times[i]!, times[i + 1]!) / (peers / 2);
  }
  expect(Math.abs(1 - ofPairs / ofAll - 0.2)).toBeLessThan(0.03);
});

test('with steps of one length and links that cost nothing a round is its steps, to the millisecond', async () => {
  const { simulation } = syntheticWorld({ peers: 4, rounds: 4, innerSteps: 3, idealStep: ONE_SECOND });
  const { rows, ledger, computeFraction } = await simulation.run();
  // the end that peers stay for is no part of it
  expect(computeFraction).toBeCloseTo(12_000 / rows.at(-1)!.virtualMs, 3);
  for (const [i, row] of rows.entries()) {
    if (i > 0) expect(row.virtualMs - rows[i - 1]!.virtualMs).toBeCloseTo(3000, 9);
    expect(row.contributors).toBe(4);
  }
  for (const peer of [0, 1, 2, 3]) expect(ledger.ofPeer(peer).spentMs.training).toBe(12_000);
});

test('without noise the swarm comes closer to the mean optimum by exactly q^H a round', async () => {
  const quadratic = { learningRate: 0.1, curvatureMin: 0.1, spread: 0.5, noise: 0 };
  const [peers, innerSteps, rounds] = [3, 4, 6];
  const { simulation, host, genesis } = syntheticWorld({ peers, rounds, innerSteps, quadratic });
  const { trainer } = host;
  const optima = Array.from({ length: peers }, (_, peer) => trainer.optimum(peer));
  const mean = trainer.center.map((_, j) => optima.reduce((sum, optimum) => sum + optimum[j]!, 0) / peers);
  const { rows } = await simulation.run();
  const start = initialParameters(genesis.model, genesis.seed);
  for (const { round, valLoss } of rows) {
    let expected = 0;
    for (const [j, h] of trainer.curvatures.entries()) {
      const contraction = (1 - quadratic.learningRate * h) ** (innerSteps * round);
      const x = mean[j]! + contraction * (start[j]! - mean[j]!);
      expected += (h * (x - trainer.center[j]!) ** 2) / 2;
    }
    expect(Math.abs(valLoss! / expected - 1)).toBeLessThan(1e-4);
  }
});

test('a crash loses what was not durable, and the peer that comes back contributes to the same roots', async () => {
  const scenario = {
    events: [
      { at: '3s', do: 'crash' as const, peers: [3] },
      { at: '6s', do: 'restart' as const, peers: [3] },
    ],
  };
  const { simulation } = syntheticWorld({ peers: 5, rounds: 14, scenario });
  const result = await simulation.run();
  expectWhole(result, 14);
  const counts = result.rows.map(({ contributors }) => contributors);
  expect(Math.min(...counts)).toBe(4);
  expect(counts.at(-1)).toBe(5);
  expect(result.rows.every(({ final }) => final)).toBe(true);
  expect(result.ledger.ofPeer(3).spentMs.down).toBeGreaterThanOrEqual(3000);
});

test('a late peer fetches the state, joins and contributes', async () => {
  const scenario = { events: [{ at: '4s', do: 'join' as const, peers: [3] }] };
  const { simulation } = syntheticWorld({ peers: 4, rounds: 12, waitFor: 3, scenario });
  const result = await simulation.run();
  expectWhole(result, 12);
  expect(result.rows[0]!.contributors).toBe(3);
  expect(result.rows.at(-1)!.contributors).toBe(4);
});

test('a swarm that is cut in two goes on in unfinal rounds, and has one history when it is healed', async () => {
  const { simulation } = syntheticWorld({ peers: 4, rounds: 45, scenario: { partition: '50%@4s+25s' } });
  const result = await simulation.run();
  expectWhole(result, 45);
  expect(result.warnings.W_UNFINAL).toBeGreaterThan(0);
  expect(result.rows.at(-1)).toMatchObject({ final: true, contributors: 4 });
});

test('stragglers are told to finish and contribute fewer steps', async () => {
  const { simulation } = syntheticWorld({ peers: 4, rounds: 4, innerSteps: 100, scenario: { stragglers: '25%x5' } });
  const result = await simulation.run();
  expectWhole(result, 4);
  const full = 4 * 100 * 4;
  expect(result.rows.every(({ contributors, tokens }) => contributors === 4 && tokens < full)).toBe(true);
});

test('bytes that are sent are received, and every kind is booked', async () => {
  const { simulation } = syntheticWorld({ peers: 4, rounds: 3 });
  const { ledger, rows } = await simulation.run();
  const sum = (vector: Float64Array) => vector.reduce((total, bytes) => total + bytes, 0);
  for (const kind of ['gossip', 'direct', 'payload', 'history'] as const) {
    expect(sum(ledger.sent[kind])).toBeCloseTo(sum(ledger.received[kind]), 3);
  }
  expect(ledger.bytes()).toBeGreaterThanOrEqual(rows.at(-1)!.bytes);
  expect(sum(ledger.sent.gossip)).toBeGreaterThan(0);
});

test('a stopped run gives the rounds so far', async () => {
  const { simulation } = syntheticWorld({ peers: 3, rounds: 50 });
  const abort = new AbortController();
  const onRound = ({ round }: { round: number }) => round === 3 && abort.abort();
  const result = await simulation.run({ signal: abort.signal, onRound });
  expect(result.reason).toBe('stopped');
  expect(result.rows.length).toBeGreaterThanOrEqual(3);
  expect(result.rows.length).toBeLessThan(50);
});

test('a swarm that is down for an hour is not stuck when it comes back, nor one of slow machines', async () => {
  const all = [0, 1, 2, 3];
  const events = [
    { at: '10s', do: 'crash' as const, peers: all },
    { at: '1h', do: 'restart' as const, peers: all },
  ];
  const { simulation } = syntheticWorld({ peers: 4, rounds: 20, scenario: { events } });
  const result = await simulation.run();
  expectWhole(result, 20);
  expect(result.virtualMs).toBeGreaterThan(3_600_000);

  const timing = { graceMs: 2000, viewMs: 2000, quorumWaitMs: null };
  const peers = { 0: { step: '5min' }, 1: { step: '5min' } };
  const slow = syntheticWorld({ peers: 2, rounds: 2, timing, scenario: { step: '1ms', peers } });
  expectWhole(await slow.simulation.run(), 2);
});

test('a swarm that can go on no more is stuck, once nothing is to come', async () => {
  const events = [
    { at: '10s', do: 'crash' as const, peers: [1, 2, 3] },
    { at: '20s', do: 'pause' as const, peers: [0], for: '2h' },
  ];
  const timing = { graceMs: 2000, viewMs: 2000, quorumWaitMs: null };
  const { simulation } = syntheticWorld({ peers: 4, rounds: 50, timing, scenario: { events } });
  const { reason } = await simulation.run();
  expect(reason).toBe('stuck');
  expect(simulation.kernel.nowMs).toBeGreaterThan(7_220_000 + 600_000);
});

test('of two halves that went on alone the rounds of the one that is left are those of the run', async () => {
  const roots = [0, 1, 2, 3].map(() => new Map<number, string>());
  const overruled = new Set<number>();
  const { simulation } = syntheticWorld({
    peers: 4,
    rounds: 30,
    innerSteps: 10,
    seed: 2,
    scenario: { partition: '50%@10s+25s', step: 'lognormal(100ms,0.2)' },
    timing: { graceMs: 500, viewMs: 2000, quorumWaitMs: 3000 },
    onStep: ({ index }, _, effects) => {
      for (const effect of effects) {
        if (effect.type !== 'report') continue;
        const { report } = effect;
        if (report.kind === 'round') roots[index]!.set(report.round, report.root);
        if (report.kind === 'warning' && report.code === 'W_OVERRULED') overruled.add(index);
      }
    },
  });
  const { rows } = await simulation.run();
  const unfinal = rows.filter(({ final }) => !final);
  const left = [0, 1, 2, 3].find((peer) => !overruled.has(peer))!;
  expect(overruled.size).toBeGreaterThan(0);
  expect(unfinal.length).toBeGreaterThan(0);
  expect(unfinal.map(({ root }) => root)).toEqual(unfinal.map(({ round }) => roots[left]!.get(round)));
});

test('tells which events of the scenario were to come only after its end', async () => {
  const events: ScenarioText['events'] = [
    { at: '2s', do: 'pause', peers: [1], for: '1s' },
    { at: '500s', do: 'crash', peers: [1] },
  ];
  const { simulation } = syntheticWorld({ peers: 3, rounds: 4, scenario: { events } });
  const { reason, missed } = await simulation.run();
  expect({ reason, missed }).toEqual({ reason: 'rounds', missed: [{ do: 'crash', atMs: 500_000 }] });
});

test('peers whose training breaks down try again and say so, and are not said to be lost', async () => {
  const quadratic = { learningRate: 1e30, curvatureMin: 0.1, spread: 0.1, noise: 0.1 };
  const { simulation } = syntheticWorld({ peers: 2, rounds: 3, quadratic, innerSteps: 50 });
  const { reason, rows, warnings } = await simulation.run();
  expect({ reason, rows }).toEqual({ reason: 'stuck', rows: [] });
  // nobody is left to wait for: they go on trying
  expect(Object.keys(warnings)).toEqual(['W_DIVERGED_HERE']);
  expect(warnings.W_DIVERGED_HERE).toBeGreaterThan(2 * 3);
});

test('a swarm of which nobody is left did not come to its end', async () => {
  const events = [{ at: '10s', do: 'crash' as const, peers: [0, 1, 2, 3] }];
  const { simulation } = syntheticWorld({ peers: 4, rounds: 50, scenario: { events } });
  const { reason, rows } = await simulation.run();
  expect(reason).toBe('stuck');
  expect(rows.length).toBeGreaterThan(0);
  expect(rows.length).toBeLessThan(50);
});

test('a run is stopped at once while it waits for a training', async () => {
  const { simulation, host } = syntheticWorld({ peers: 3, rounds: 2 });
  const abort = new AbortController();
  host.contribute = () => {
    void nextTurn().then(() => abort.abort());
    return new Promise(() => undefined);
  };
  const { reason, rows } = await simulation.run({ signal: abort.signal });
  expect({ reason, rows }).toEqual({ reason: 'stopped', rows: [] });
});

test('a run is stopped while the last evaluation is under way', async () => {
  const { simulation, host } = syntheticWorld({ peers: 3, rounds: 2 });
  const abort = new AbortController();
  host.evaluate = () => new Promise(() => undefined);
  const run = simulation.run({ signal: abort.signal });
  while (simulation.peers.some(({ finished }) => !finished)) await nextTurn();
  abort.abort();
  const { reason, rows } = await run;
  expect(reason).toBe('stopped');
  expect(rows).toHaveLength(2);
});

test('how much a peer reads at once changes when things happen, not what is agreed on', async () => {
  const roots = [];
  for (const read of ['0ms', '1ms', '300ms']) {
    const { simulation } = syntheticWorld({ peers: 6, rounds: 4, scenario: { latency: 'lognormal(50ms,0.5)', read } });
    const result = await simulation.run();
    expectWhole(result, 4);
    expect(result.rows.every(({ contributors, final }) => final && contributors === 6)).toBe(true);
    roots.push(result.rows.map(({ root }) => root));
  }
  expect(roots[1]).toEqual(roots[0]);
  expect(roots[2]).toEqual(roots[0]);
});

test('a swarm of which a committee votes, drawn anew every two blocks, joins within seconds, and all contribute', async () => {
  const scenario = { latency: 'lognormal(40ms,0.3)' };
  const committee = { size: 31, heights: 2 };
  const { simulation } = syntheticWorld({ peers: 90, rounds: 4, innerSteps: 50, scenario, committee });
  const result = await simulation.run();
  expectWhole(result, 4);
  expect(result.rows.map(({ contributors }) => contributors)).toEqual([90, 90, 90, 90]);
  expect(result.rows[0]!.virtualMs).toBeLessThan(20_000);
  expect(result.warnings).toEqual({});
});

test('where an upload takes longer than genesis plans, rounds soon wait as long as a quorum needs, and no work is left out', async () => {
  // 58 kB to three others at 0.2 Mbit/s: 7 s, where half a second of training and two of grace are planned
  const model = { layers: 1, heads: 1, width: 32, context: 4, vocabulary: 64 };
  const scenario = { bandwidth: '50mbit/0.2mbit' };
  const { simulation } = syntheticWorld({ peers: 4, rounds: 8, scenario, model });
  const { rows } = await simulation.run();
  const contributors = rows.map(({ contributors }) => contributors);
  expect(contributors[0]).toBe(1);
  expect(contributors.slice(2)).toEqual([4, 4, 4, 4, 4, 4]);
  const tokensOfAll = 4 * 5 * model.context;
  expect(rows.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(8 * tokensOfAll);
});

test('who has a slow uplink does not go on alone while the others wait for what it uploads', async () => {
  // 58 kB to three others at 0.07 Mbit/s: 20 s, of the 32 that they wait; longer than a quorum is waited for
  const model = { layers: 1, heads: 1, width: 32, context: 4, vocabulary: 64 };
  const scenario = { bandwidth: '50mbit/50mbit', step: '12s', peers: { 3: { bandwidth: '50mbit/0.07mbit' } } };
  const { simulation } = syntheticWorld({ peers: 4, rounds: 6, scenario, model });
  const { rows, warnings } = await simulation.run();
  expect(warnings).toEqual({});
  expect(rows.map(({ final, contributors }) => [final, contributors])).toEqual(
    Array.from({ length: 6 }, () => [true, 4]),
  );
});

test('where a decision takes longer than a view, later heights get views that are long enough', async () => {
  const { simulation } = syntheticWorld({ peers: 4, rounds: 99, scenario: { latency: '1200ms' } });
  const enough = new AbortController();
  await simulation.run({ signal: enough.signal, onRound: ({ round }) => round === 8 && enough.abort() });
  const views = simulation.peers[0]!.machine!.history(WHOLE).entries.map(({ certificate }) => certificate.view);
  expect(views.some((view) => view > 0)).toBe(true);
  expect(views.slice(-6)).toEqual([0, 0, 0, 0, 0, 0]);
});

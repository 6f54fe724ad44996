import { describe, expect, test, vi } from 'vitest';
import type { Span } from '../../sim/ledger.ts';
import { SimulatedNetwork } from '../../sim/network.ts';
import type { ScenarioText } from '../../sim/scenario.ts';
import type { SimulationResult } from '../../sim/simulation.ts';
import { type SyntheticWorld, syntheticWorld } from './world.ts';

/** Who was down when, until the last round was there; a peer that has not come yet counts. */
async function downTimes(scenario: ScenarioText, choices: Partial<SyntheticWorld> = {}) {
  const { simulation } = syntheticWorld({ peers: 7, rounds: 40, ...choices, scenario });
  const result = await simulation.run();
  expect(result).toMatchObject({ reason: 'rounds', diverged: [] });
  const endMs = result.rows.at(-1)!.virtualMs;
  const down = result.ledger.spans.filter(({ activity, fromMs }) => activity === 'down' && fromMs < endMs);
  return { simulation, result, down };
}

function mostAtOnce(down: readonly Span[]): number {
  const downAt = (ms: number) => down.filter(({ fromMs, toMs }) => fromMs <= ms && ms < toMs).length;
  return Math.max(...down.map(({ fromMs }) => downAt(fromMs)));
}

function allFinal({ rows }: SimulationResult): boolean {
  return rows.every(({ final }) => final);
}

describe('churn', () => {
  test('takes peers down and brings them back, never more at once than the protocol tolerates', async () => {
    const { result, down } = await downTimes({ churn: '60%/round', latency: 'lognormal(60ms,0.5)' }, { seed: 1 });
    expect(down.length).toBeGreaterThan(10);
    expect(new Set(down.map(({ peer }) => peer)).size).toBeGreaterThan(4);
    expect(mostAtOnce(down)).toBe(2);
    expect(allFinal(result)).toBe(true);
  });

  test('counts members alone: who has not come yet is not down', async () => {
    const events = [{ at: '60s', do: 'join' as const, peers: [4, 5, 6, 7] }];
    const { down } = await downTimes({ churn: '60%/round', events }, { peers: 8, waitFor: 4 });
    const before = down.filter(({ peer, fromMs }) => peer < 4 && fromMs < 50_000);
    expect(before.length).toBeGreaterThan(2);
    expect(mostAtOnce(before)).toBe(1);
  });

  test('leaves those alone who come and go at given times', async () => {
    const events = [
      { at: '5s', do: 'crash' as const, peers: [2] },
      { at: '30s', do: 'restart' as const, peers: [2] },
      { at: '20s', do: 'leave' as const, peers: [1] },
    ];
    const { simulation, down } = await downTimes({ churn: '60%/round', events });
    const of = (index: number) => down.filter(({ peer }) => peer === index);
    expect(of(2).map(({ fromMs, toMs }) => [fromMs, toMs])).toEqual([[5000, 30_000]]);
    expect(of(1)).toHaveLength(1);
    expect(of(1)[0]!.fromMs).toBeGreaterThanOrEqual(20_000);
    expect(simulation.peers[0]!.machine).toBeUndefined();
    expect(down.length).toBeGreaterThan(5);
  });
});

test('a peer that was cut off and came to the end alone does not end the run of the others', async () => {
  const scenario = { latency: '150ms', partition: '25%@5s+60s' };
  const { simulation } = syntheticWorld({ peers: 4, rounds: 30, scenario });
  const told: { round: number; final: boolean }[] = [];
  const result = await simulation.run({ onRound: (row) => told.push(row) });
  expect(told).toContainEqual(expect.objectContaining({ round: 30, final: false }));
  expect(result).toMatchObject({ reason: 'rounds', virtualMs: result.rows.at(-1)!.virtualMs });
  expect(allFinal(result)).toBe(true);
  const times = result.rows.map(({ virtualMs }) => virtualMs);
  expect(times).toEqual([...times].sort((a, b) => a - b));
});

describe('a process that stands still', () => {
  test('gives nothing away, but for what it had been asked for before', async () => {
    // six chunks to three others at 2 Mbit/s: twenty seconds
    const model = { layers: 2, heads: 2, width: 128, context: 16, vocabulary: 64 };
    const events = [{ at: '10s', do: 'pause' as const, peers: [1], for: '60s' }];
    const scenario = { latency: '40ms', bandwidth: '50mbit/2mbit', step: '100ms', events };
    const timing = { graceMs: 60_000, viewMs: 4000, quorumWaitMs: null };
    const { simulation } = syntheticWorld({ peers: 4, rounds: 2, model, timing, scenario });
    const given: number[][] = [];
    for (const ms of [10_000, 20_000, 70_000]) {
      simulation.kernel.at(ms, () => given.push([...simulation.ledger.sent.payload]));
    }
    await simulation.run();
    const [before, then, after] = given as [number[], number[], number[]];
    expect(before[1]).toBeGreaterThan(500_000);
    expect(after[2]! - then[2]!).toBeGreaterThan(500_000);
    expect(after[1]! - then[1]!).toBeLessThan(5000);
  });

  test('says nothing when a write of it ends', async () => {
    const events = Array.from({ length: 50 }, (_, i) => {
      return { at: `${3000 + 701 * i}ms`, do: 'pause' as const, peers: [1 + (i % 3)], for: '500ms' };
    });
    const scenario = { latency: '40ms', step: '100ms', disk: '20ms', events };
    const { simulation } = syntheticWorld({ peers: 4, rounds: 30, seed: 3, innerSteps: 10, scenario });
    const { broadcast } = SimulatedNetwork.prototype;
    const paused: boolean[] = [];
    const heard = vi.spyOn(SimulatedNetwork.prototype, 'broadcast').mockImplementation(function (
      this: SimulatedNetwork,
      from,
      message,
    ) {
      paused.push(simulation.peers[from]!.isPaused);
      broadcast.call(this, from, message);
    });
    await simulation.run();
    heard.mockRestore();
    expect(paused.length).toBeGreaterThan(100);
    expect(paused).not.toContain(true);
  });
});

test('a run that no quorum ended says so', async () => {
  const events = [{ at: '5s', do: 'crash' as const, peers: [1] }];
  const { simulation } = syntheticWorld({ peers: 2, rounds: 10, scenario: { events } });
  expect(await simulation.run()).toMatchObject({ reason: 'unfinal' });
});

describe('joins and leaves at a rate', () => {
  /** Without churn every member contributes to every round that it is there for. */
  async function sizes(scenario: ScenarioText, choices: Partial<SyntheticWorld>) {
    const { simulation } = syntheticWorld({ peers: 10, rounds: 40, ...choices, scenario });
    const result = await simulation.run();
    expect(result).toMatchObject({ reason: 'rounds', diverged: [] });
    expect(allFinal(result)).toBe(true);
    return { result, members: result.rows.map(({ contributors }) => contributors) };
  }

  test('who is late comes when drawn, until all are there', async () => {
    const { members } = await sizes({ late: '60%', joins: '20%/round' }, { waitFor: 4 });
    expect(members[0]).toBe(4);
    expect(members).toEqual([...members].sort((a, b) => a - b));
    expect(new Set(members).size).toBeGreaterThan(3);
    expect(members.at(-1)).toBe(10);
  });

  test('members leave in good order, and four stay', async () => {
    const { members } = await sizes({ leaves: '30%/round' }, { peers: 7, rounds: 20 });
    expect(members[0]).toBe(7);
    expect(members.slice(-5)).toEqual([4, 4, 4, 4, 4]);
  });

  test('who has left comes back by joins', async () => {
    const { members } = await sizes({ leaves: '10%/round', joins: '30%/round' }, {});
    expect(Math.min(...members)).toBeLessThan(9);
    const grew = members.filter((size, i) => i > 0 && size > members[i - 1]!);
    expect(grew.length).toBeGreaterThan(3);
  });

  test('beside churn, no more go than the others can do without; and the same seed draws the same', async () => {
    const scenario = { churn: '30%/round', leaves: '20%/round', joins: '20%/round', late: '20%' };
    const { result } = await sizes(scenario, { waitFor: 8, rounds: 30 });
    const again = await sizes(scenario, { waitFor: 8, rounds: 30 });
    expect(again.result.traceHash).toBe(result.traceHash);
  });
});

import { expect, it } from 'vitest';
import { chargeAllReduce } from '../../sim/all-reduce.ts';
import { makeScenario } from '../../sim/scenario.ts';

const charge = (text: Parameters<typeof makeScenario>[0], peers: number, parameters = 1000) =>
  chargeAllReduce({ scenario: makeScenario(text, peers), seed: 1 }, { peers, steps: 3, parameters });

it('takes 2 (R - 1) passes of latency and an R-th of the bytes', () => {
  // 4000 B in 4 parts at 1000 B/ms: 10 ms + 1 ms a pass
  const { exchangeMs, bytesAStep, ends } = charge({ latency: '10ms', bandwidth: '8mbit', step: '100ms' }, 4);
  expect(exchangeMs).toBeCloseTo(6 * 11, 9);
  expect(bytesAStep).toBe(6000);
  expect([...ends]).toEqual([166, 332, 498]);
});

it('is as slow as its slowest link and its slowest peer', () => {
  const peers = { 2: { bandwidth: '800kbit', step: '300ms' } };
  const { exchangeMs, ends } = charge({ latency: '10ms', bandwidth: '8mbit', step: '100ms', peers }, 4);
  expect(exchangeMs).toBeCloseTo(6 * 20, 9);
  expect(ends[0]).toBeCloseTo(420, 9);
});

it('costs one peer nothing', () => {
  expect(charge({ step: '100ms' }, 1)).toMatchObject({ bytesAStep: 0, exchangeMs: 0, trainingMs: 300 });
});

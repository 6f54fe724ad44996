import { expect, it } from 'vitest';
import { comparisonBefore, simulationBefore } from '../../../sim/report/read.ts';
import type { Report } from '../../../sim/report/report.ts';

const configuration = { peers: 2, scenario: { latency: '40ms', churn: undefined } };
const SIMULATION = { version: 1, kind: 'sim', seed: 1, configuration: { peers: 2, scenario: { latency: '40ms' } } };
const RESULTS = expect.objectContaining({ code: 'E_RESULTS' });

it.each([
  ['nothing', undefined],
  ['the same simulation', SIMULATION],
])('lets a simulation write where there is %s', (_, found) => {
  expect(() => simulationBefore(found, 'out', { seed: 1, configuration })).not.toThrow();
});

it.each([
  ['a comparison', { version: 1, kind: 'compare' }, 'is of outerloop compare'],
  ['one of another version', { ...SIMULATION, version: 2 }, 'is not of outerloop sim in this version'],
  ['something else', 3, 'is not of outerloop sim in this version'],
  ['null', null, 'is not of outerloop sim in this version'],
  ['another seed', { ...SIMULATION, seed: 2 }, 'with other seed'],
  ['another world', { ...SIMULATION, configuration: { peers: 2, scenario: {} } }, 'with other scenario'],
  ['no configuration', { version: 1, kind: 'sim', seed: 1 }, 'with other peers, scenario'],
])('keeps a simulation from %s', (_, found, says) => {
  const check = () => simulationBefore(found, 'out', { seed: 1, configuration });
  expect(check).toThrow(RESULTS);
  expect(check).toThrow(says);
});

const settings = { exchange: 'rounds', innerSteps: 10 };
const ASKED = {
  title: 't',
  peers: 2,
  seeds: [1],
  tokens: 100,
  configuration,
  strategies: [{ name: 'a', about: 'b', settings }],
};
const runs = [{ series: 'a', reason: 'rounds' }];
const COMPARISON = { version: 1, kind: 'compare', runs, ...ASKED };

it('goes on with the same comparison, and with more seeds or strategies', () => {
  const more = { ...ASKED, seeds: [1, 2], strategies: [{ name: 'c', about: 'd', settings }, ...ASKED.strategies] };
  const found = JSON.parse(JSON.stringify(COMPARISON)) as Report;
  expect(comparisonBefore(undefined, 'out', ASKED)).toBeUndefined();
  expect(comparisonBefore(found, 'out', ASKED)).toBe(found);
  expect(comparisonBefore(found, 'out', more)).toBe(found);
});

it('goes on where only what is said of a strategy is another', () => {
  const asked = { ...ASKED, strategies: [{ ...ASKED.strategies[0]!, about: 'in other words' }] };
  expect(comparisonBefore(JSON.parse(JSON.stringify(COMPARISON)), 'out', asked)).toBeDefined();
});

it.each([
  ['a simulation', SIMULATION, 'is of outerloop sim'],
  [
    'one from before the kind was named',
    { ...COMPARISON, kind: undefined },
    'is not of outerloop compare in this version',
  ],
  [
    'other settings',
    { ...COMPARISON, strategies: [{ ...ASKED.strategies[0], settings: {} }] },
    'with other strategies',
  ],
  ['another world', { ...COMPARISON, configuration: { peers: 2 } }, 'with other scenario'],
  ['more seeds', { ...COMPARISON, seeds: [1, 2] }, 'with other seeds'],
])('keeps a comparison from %s', (_, found, says) => {
  const check = () => comparisonBefore(JSON.parse(JSON.stringify(found)), 'out', ASKED);
  expect(check).toThrow(RESULTS);
  expect(check).toThrow(says);
});

import { describe, expect, it } from 'vitest';
import type { Strategy } from '../../sim/strategy.ts';
import { checkStrategies, parseStrategies, STRATEGIES, strategyGenesis } from '../../sim/strategy.ts';
import { comparisonInit } from '../helpers/comparisons.ts';

const base = comparisonInit({}).base({ seed: 1, founder: 'x'.repeat(52), steps: 100, batches: 1 });
const genesisOf = (text: string) => strategyGenesis(base, parseStrategies(text)[0]!, 100);

describe('parseStrategies', () => {
  it('reads names and parameters', () => {
    const [first, second] = parseStrategies('diloco:H=20, topk:k=128:bits=1');
    expect(first).toMatchObject({ name: 'diloco:H=20', innerSteps: 20, codec: { name: 'fp32' } });
    expect(second).toMatchObject({ name: 'topk:k=128:bits=1', codec: { name: 'topk', k: 128, bits: 1 } });
  });

  it.each([
    ['diloco:H=20', 'DiLoCo: fp32 updates, Nesterov 0.7 / 0.9'],
    ['topk:k=128:bits=1', 'topk: 128 of 4096 values, 1 bit each, error feedback, plain average'],
    ['diloco-int8:outer=0.5:momentum=0.8', 'int8 updates, Nesterov 0.5 / 0.8'],
    ['diloco:momentum=0', 'fp32 updates, SGD 0.7'],
    ['sparseloco:k=32', 'sparseloco: 32 of 4096 values, error feedback, plain average'],
    ['own:outer=0.5', 'mine; here int8 updates, Nesterov 0.5 / 0.9'],
  ])('says of %s what it is with its parameters', (text, about) => {
    const own: Strategy = { name: 'own', about: 'mine' };
    expect(parseStrategies(text, [own]).map((each) => each.about)).toEqual([about]);
  });

  it('prefers a strategy of the caller to a known one', () => {
    const own: Strategy = { name: 'diloco', about: 'mine', innerSteps: 3 };
    expect(parseStrategies('diloco', [own])).toEqual([own]);
  });

  it.each([
    ['nope', /no strategy "nope"; known are ddp, diloco/],
    ['', /no strategy is named/],
    ['diloco,diloco', /named twice/],
    ['ddp:H=2', /takes no parameters/],
    ['diloco:Q=2', /"Q=2" is not <parameter>=<number>; there are H, k/],
    ['diloco:H', /"H" is not/],
    ['diloco:H=many', /"H=many" is not/],
    ['diloco:constructor=2', /is not <parameter>/],
  ])('refuses "%s" with the cause', (text, message) => {
    expect(() => parseStrategies(text)).toThrow(
      expect.objectContaining({ code: 'E_STRATEGY', message: expect.stringMatching(message) }),
    );
  });
});

describe('strategyGenesis', () => {
  it.each(STRATEGIES.map(({ name }) => name))('%s makes a genesis', (name) => {
    expect(genesisOf(name)).toMatchObject({ seed: base.seed, rounds: 100 / base.innerSteps });
  });

  it('has the settings that a name says', () => {
    expect(genesisOf('diloco').outer).toEqual({ name: 'nesterov', learningRate: 0.7, momentum: 0.9 });
    expect(genesisOf('sparseloco-k128')).toMatchObject({
      codec: { name: 'sparseloco', k: 128, chunk: 4096 },
      outer: { name: 'sgd', learningRate: 1, momentum: 0 },
    });
    expect(genesisOf('topk-k128-1bit').codec).toEqual({ name: 'topk', k: 128, chunk: 4096, bits: 1 });
    expect(genesisOf('diloco:outer=0.5:momentum=0:H=10')).toMatchObject({
      innerSteps: 10,
      rounds: 10,
      outer: { name: 'sgd', learningRate: 0.5, momentum: 0 },
    });
    const { inner } = genesisOf('diloco:rate=2');
    const doubled = { learningRate: 2 * base.inner.learningRate, learningRateMin: 2 * base.inner.learningRateMin };
    expect(inner).toEqual({ ...base.inner, ...doubled });
  });

  it.each(['sparseloco:bits=1', 'diloco:k=7', 'diloco-int8:chunk=64'])('refuses %s, which would do nothing', (text) => {
    const message = expect.stringMatching(/ has no (bits|k|chunk); leave it out/);
    expect(() => genesisOf(text)).toThrow(expect.objectContaining({ code: 'E_STRATEGY', message }));
  });

  it.each(['diloco:H=0', 'topk:bits=3', 'topk:k=5000', 'diloco:momentum=1', 'diloco:rate=0'])('refuses %s', (text) => {
    expect(() => genesisOf(text)).toThrow(expect.objectContaining({ code: 'E_STRATEGY' }));
  });
});

describe('checkStrategies', () => {
  it('takes one or several', () => {
    const own: Strategy = { name: 'own', about: 'mine' };
    expect(checkStrategies(own, 'own.ts')).toEqual([own]);
    expect(checkStrategies([own], 'own.ts')).toEqual([own]);
    const misspelled = { ...own, innerStep: 5 };
    const message = expect.stringMatching(/has a field "innerStep"; a strategy has .*innerSteps/);
    expect(() => checkStrategies(misspelled, 'own.ts')).toThrow(
      expect.objectContaining({ code: 'E_STRATEGY', message }),
    );
  });

  it.each([
    undefined,
    null,
    {},
    { name: 'a b', about: '' },
    { name: 'a' },
    { name: 'centralized', about: 'a baseline' },
    { name: 'one-peer', about: 'the other one' },
    { name: 'a', about: '', exchange: 'step' },
    { name: 'a', about: '', exchange: 'steps', codec: { name: 'fp16' } },
  ])('refuses %j', (value) => {
    expect(() => checkStrategies(value, 'own.ts')).toThrow(expect.objectContaining({ code: 'E_STRATEGY' }));
  });
});

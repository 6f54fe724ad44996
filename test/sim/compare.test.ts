import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import patient from '../../docs/strategy-example.ts';
import { CodedError } from '../../protocol/errors.ts';
import { modelLayout } from '../../protocol/model.ts';
import { compare, planSteps } from '../../sim/compare.ts';
import type { ReplicaHost } from '../../sim/replica-host.ts';
import { makeScenario } from '../../sim/scenario.ts';
import { parseStrategies } from '../../sim/strategy.ts';
import { comparisonInit } from '../helpers/comparisons.ts';

describe('compare', () => {
  it('runs the baselines and every strategy with every seed, on the same tokens', async () => {
    const strategies = parseStrategies('ddp,diloco:H=10,sparseloco');
    const { runs, steps, tokens } = await compare(comparisonInit({ seeds: [1, 2], strategies }));
    const names = ['centralized', 'one-peer', 'ddp', 'diloco:H=10', 'sparseloco'];
    expect(runs.map(({ series, seed }) => `${series} ${seed}`)).toEqual(names.flatMap((n) => [`${n} 1`, `${n} 2`]));
    expect({ steps, tokens }).toEqual({ steps: 100, tokens: 1600 });
    for (const run of runs) {
      expect(run).toMatchObject({ reason: 'rounds', tokens });
      expect(run.loss).toBeGreaterThan(0);
      expect(run.points.length).toBeGreaterThanOrEqual(5);
      expect(run.points.at(-1)).toMatchObject({ tokens, virtualMs: run.virtualMs });
    }
    const seeds = runs.filter(({ series }) => series === 'diloco:H=10').map(({ traceHash }) => traceHash);
    expect(new Set(seeds).size).toBe(2);
  });

  it('charges ddp for its exchanges over the training of the baseline', async () => {
    const init = comparisonInit({});
    const { runs } = await compare(init);
    const [central, , ddp, diloco] = runs;
    const { length } = modelLayout(init.base({ seed: 1, founder: 'x'.repeat(52), steps: 1, batches: 1 }).model);
    const all = 100 * 6 * 4 * length;
    expect(ddp?.bytesByKind).toEqual({ 'all-reduce': all });
    expect(ddp?.bytes).toBeCloseTo((2 * all) / 4, 6);
    expect(ddp?.points.map(({ loss }) => loss)).toEqual(central?.points.map(({ loss }) => loss));
    // 100 steps of 100 ms, and as many exchanges of 6 passes over 20 ms at 1250 B/ms
    expect(central?.virtualMs).toBeCloseTo(10_000, 6);
    expect(ddp?.virtualMs).toBeCloseTo(10_000 + 600 * (20 + length / 1250), 6);
    expect(diloco?.virtualMs).toBeGreaterThan(10_000);
    expect(diloco?.virtualMs).toBeLessThan(ddp!.virtualMs);
    expect(diloco?.computeFraction).toBeGreaterThan(ddp!.computeFraction);
  });

  it('takes the common step for the baselines, whatever peers have of their own', async () => {
    const scenario = makeScenario({ peers: { 0: { step: '1s' } }, stragglers: '100%x3' }, 4);
    const { runs } = await compare(comparisonInit({ scenario, strategies: parseStrategies('ddp') }));
    const times = runs.map(({ series, virtualMs }) => [series, Math.round(virtualMs / 100)]);
    expect(times.slice(0, 2)).toEqual([
      ['centralized', 100],
      ['one-peer', 400],
    ]);
    expect(runs[2]!.virtualMs).toBeGreaterThan(100 * 3000);
  });

  it('does not depend on how many runs are under way at once', async () => {
    const one = await compare(comparisonInit({ seeds: [1, 2], workers: 1 }));
    const three = await compare(comparisonInit({ seeds: [1, 2], workers: 3 }));
    expect(three).toEqual(one);
  });

  it('trains the baseline at the rate that ends lowest with the first seed', async () => {
    const seeds = [1, 2];
    const at = async (rate: number) => {
      const { runs } = await compare(comparisonInit({ seeds, baselineRates: [rate] }));
      return runs.filter(({ series }) => series === 'centralized').map(({ loss }) => loss);
    };
    const [slow, fast] = [await at(0.05), await at(1)];
    const { runs, rates } = await compare(comparisonInit({ seeds, baselineRates: [0.05, 1], workers: 2 }));
    expect(rates).toEqual([
      { rate: 0.05, loss: slow[0] },
      { rate: 1, loss: fast[0] },
    ]);
    expect(slow[0]).not.toBe(fast[0]);
    const best = Number(slow[0]) < Number(fast[0]) ? slow : fast;
    expect(runs.filter(({ series }) => series === 'centralized').map(({ loss }) => loss)).toEqual(best);
  });

  it('keeps what was done when it is stopped', async () => {
    const abort = new AbortController();
    const onRun = () => abort.abort();
    const { runs } = await compare(comparisonInit({ seeds: [1, 2] }), { signal: abort.signal, onRun });
    expect(runs.map(({ series, seed, loss }) => ({ series, seed, done: loss !== null }))).toEqual([
      { series: 'centralized', seed: 1, done: true },
      { series: 'ddp', seed: 1, done: true },
    ]);
  });

  it('goes on where it was stopped, to the same results', async () => {
    const init = comparisonInit({ seeds: [1, 2], baselineRates: [0.5, 1], strategies: parseStrategies('ddp,diloco') });
    const whole = await compare(init);
    for (const runsBefore of [1, 3, 5, 7]) {
      const abort = new AbortController();
      let runs = 0;
      const onRun = () => ++runs === runsBefore && abort.abort();
      const before = await compare(init, { signal: abort.signal, onRun });
      const made: string[] = [];
      let told = [0, 0];
      const rest = await compare(
        { ...init, before: JSON.parse(JSON.stringify(before)) },
        { onRun: ({ series, seed }) => made.push(`${series} ${seed}`), onProgress: (...progress) => (told = progress) },
      );
      expect(rest).toEqual(whole);
      expect(told).toEqual([7 * 1600, 7 * 1600]);
      const known = before.runs
        .filter(({ reason }) => reason === 'rounds')
        .map(({ series, seed }) => `${series} ${seed}`);
      expect(made.filter((name) => known.includes(name) && !/centralized 1|ddp 1/.test(name))).toEqual([]);
    }
  });

  it('makes the baseline again for a strategy that is charged over it and was added', async () => {
    const seeds = [1, 2];
    const before = await compare(comparisonInit({ seeds, strategies: parseStrategies('diloco') }));
    const init = comparisonInit({ seeds, strategies: parseStrategies('ddp,diloco') });
    expect(await compare({ ...init, before })).toEqual(await compare(init));
  });

  it('ends a run under way when it is stopped', async () => {
    const abort = new AbortController();
    const strategies = parseStrategies('diloco:H=1');
    const onProgress = (done: number, all: number) => done > 0.8 * all && abort.abort();
    const { runs } = await compare(comparisonInit({ strategies }), { signal: abort.signal, onProgress });
    const last = runs.at(-1);
    expect(last).toMatchObject({ series: 'diloco:H=1', reason: 'stopped', loss: null });
    expect(last?.tokens).toBeGreaterThan(0);
    expect(last?.tokens).toBeLessThan(1600);
  });

  it.each([
    ['while the host opens', 'open'],
    ['in the last evaluation', 'evaluate'],
  ])('stops %s without an error of the work that is cut off', async (_, when) => {
    const unheard: unknown[] = [];
    const listener = (reason: unknown): void => void unheard.push(reason);
    process.on('unhandledRejection', listener);
    try {
      const abort = new AbortController();
      const init = comparisonInit({ strategies: parseStrategies('ddp'), evaluations: 1 });
      const open: typeof init.open = async (genesis, use) => {
        if (when === 'open') abort.abort();
        return workerLike(await init.open(genesis, use), (all) => all && abort.abort());
      };
      const { runs } = await compare({ ...init, open }, { signal: abort.signal });
      await nextTurn();
      expect(abort.signal.aborted).toBe(true);
      expect(runs.map(({ reason }) => reason)).toEqual(['stopped', 'stopped']);
      expect(unheard).toEqual([]);
    } finally {
      process.off('unhandledRejection', listener);
    }
  });

  it('tells of all tokens', async () => {
    let told = [0, 0];
    await compare(comparisonInit({}), { onProgress: (...progress) => (told = progress) });
    expect(told).toEqual([3 * 1600, 3 * 1600]);
  });

  it('keeps the timeline of the strategy that was chosen', async () => {
    const strategies = parseStrategies('diloco,sparseloco');
    const { timeline } = await compare(comparisonInit({ strategies, timeline: 'sparseloco' }));
    expect(timeline).toMatchObject({ series: 'sparseloco', seed: 1, peers: 4, rounds: 5 });
    expect(timeline?.spans.some(({ activity }) => activity === 'training')).toBe(true);
  });

  it('makes a run again to draw it, if another one is to be drawn than before', async () => {
    const init = comparisonInit({ strategies: parseStrategies('diloco,sparseloco') });
    const before = await compare(init);
    expect(before.timeline?.series).toBe('diloco');
    const again = async (timeline?: string) => {
      const made: string[] = [];
      const asked = { ...init, ...(timeline === undefined ? {} : { timeline }), before };
      const compared = await compare(asked, { onRun: ({ series }) => made.push(series) });
      expect(compared.runs).toEqual(before.runs);
      return { made, drawn: compared.timeline?.series };
    };
    expect(await again('sparseloco')).toEqual({ made: ['sparseloco'], drawn: 'sparseloco' });
    expect(await again('diloco')).toEqual({ made: [], drawn: 'diloco' });
    before.timeline!.series = 'sparseloco';
    expect(await again()).toEqual({ made: [], drawn: 'sparseloco' });
  });

  it('runs the example of a strategy of one’s own', async () => {
    const strategies = parseStrategies('patient:H=10', [patient]);
    const { runs } = await compare(comparisonInit({ strategies }));
    const run = runs.at(-1);
    expect(run).toMatchObject({ series: 'patient:H=10', reason: 'rounds' });
    expect(run?.loss).toBeLessThan(run?.points[0]?.loss ?? 0);
  });
});

/** As a host of worker threads is: what is under way fails when it is closed. Evaluations are never done. */
function workerLike(host: ReplicaHost, onEvaluate: (all: boolean) => void): ReplicaHost {
  let close = (): void => undefined;
  const closed = new Promise<never>((_, reject) => {
    close = () => reject(new CodedError('E_WORKER', 'the training thread stopped'));
  });
  closed.catch(() => undefined);
  return Object.assign(Object.create(host) as ReplicaHost, {
    parameters: host.parameters,
    initialize: (peer: number) => Promise.race([closed, nextTurn().then(() => host.initialize(peer))]),
    train: host.train.bind(host),
    contribute: host.contribute.bind(host),
    apply: host.apply.bind(host),
    evaluate: (_peer: number, all: boolean) => {
      onEvaluate(all);
      // each call fails on its own
      return closed.then();
    },
    close: async () => close(),
  });
}

describe('planSteps', () => {
  const plan = (strategies: string, tokens: number) =>
    planSteps(comparisonInit({ strategies: parseStrategies(strategies), tokens }));

  it('gives every strategy whole rounds', () => {
    expect(plan('diloco:H=20,diloco:H=50', 1600)).toEqual({ steps: 100, tokensAStep: 16 });
    expect(plan('diloco:H=20,diloco:H=50', 2500).steps).toBe(200);
    expect(plan('ddp', 1600).steps).toBe(100);
  });

  it('says how many tokens rounds need that do not go together', () => {
    expect(() => plan('diloco:H=7,diloco:H=50', 1600)).toThrow(
      expect.objectContaining({ code: 'E_COMPARISON', message: expect.stringMatching(/need 350; give at least 2800/) }),
    );
    expect(() => plan('diloco:H=7,diloco:H=50', 2800)).not.toThrow();
  });

  it.each([
    ['diloco:H=0', /^"diloco:H=0": H is 0, .*; give 1 or more$/],
    ['diloco,diloco:H=2.5', /^"diloco:H=2.5": H is 2.5, /],
    ['diloco:H=99999999', /^"diloco:H=99999999": .*innerSteps/],
    ['topk:k=0', /^"topk:k=0": .*codec.k/],
    ['diloco:H=7,topk:H=50:bits=3', /^"topk:H=50:bits=3": .*codec.bits/],
    ['diloco:momentum=1', /^"diloco:momentum=1": .*outer.momentum/],
    ['diloco:outer=0', /^"diloco:outer=0": .*outer.learningRate/],
  ])('refuses %s by its name and number, before it asks for tokens', (strategies, message) => {
    expect(() => plan(strategies, 16)).toThrow(
      expect.objectContaining({ code: 'E_STRATEGY', message: expect.stringMatching(message) }),
    );
  });

  it('knows the strategies that have a timeline', () => {
    expect(() => planSteps(comparisonInit({ timeline: 'ddp' }))).toThrow(
      expect.objectContaining({ code: 'E_COMPARISON' }),
    );
  });
});

import { ALONE, CENTRALIZED, type RunRecord } from './comparison.ts';
import {
  type Compared,
  type ComparisonInit,
  type ComparisonOptions,
  isTimelineOf,
  runAlone,
  runCentralized,
  runStrategy,
  type Timeline,
  type Work,
} from './comparison-runs.ts';
import { comparisonError } from './errors.ts';
import { Identities } from './identity.ts';
import { type Strategy, strategyGenesis } from './strategy.ts';

/**
 * Trains by every strategy and by the two baselines, with every seed, and charges each for its bytes and its time. Runs
 * that were finished when the signal came are kept; those under way end where they are.
 * @throws CodedError `E_COMPARISON`, `E_STRATEGY`, and those of `open`
 */
export async function compare(init: ComparisonInit, options: ComparisonOptions = {}): Promise<Compared> {
  const { strategies, seeds, workers, baselineRates } = init;
  const { signal, onProgress, onRun } = options;
  const { steps, tokensAStep } = planSteps(init);
  let timeline = init.before?.timeline ?? null;
  let done = 0;
  const withRounds = strategies.filter(({ exchange }) => exchange !== 'steps');
  const all = (seeds.length * (2 + withRounds.length) + baselineRates.length - 1) * steps * tokensAStep;
  const advance = (tokens: number): void => {
    done += tokens;
    onProgress?.(done, all);
  };
  const keepTimeline = (kept: Timeline): void => {
    timeline = kept;
  };
  const work: Work = { init, options, steps, tokensAStep, advance, keepTimeline };
  const [first = 0] = seeds;
  const tried: Trial[] = triedBefore(init);
  const results: RunRecord[] = runsBefore(init);
  for (const _ of tried) advance(steps * tokensAStep);
  const charged = strategies.filter(({ exchange }) => exchange === 'steps').map(({ name }) => name);
  for (const { series, tokens } of results) if (!charged.includes(series)) advance(tokens);
  const soFar = (): Compared => {
    const runs = inOrder([...(bestOf(tried)?.runs ?? []), ...results], strategies);
    const rates = tried
      .flatMap(({ rate, loss }) => (loss === null ? [] : [{ rate, loss }]))
      .sort((a, b) => a.rate - b.rate);
    return { runs, timeline, steps, tokens: steps * tokensAStep, rates };
  };
  const rates = baselineRates.filter((rate) => !tried.some((trial) => trial.rate === rate));
  const sweep = rates.map((rate) => async () => {
    const runs = await runCentralized(work, first, rate);
    tried.push({ rate, loss: runs[0]?.loss ?? null, runs });
    for (const run of runs) onRun?.(run, soFar());
  });
  await inParallel(sweep, workers, signal);
  const rate = bestOf(tried)?.rate ?? 1;
  const isDone = (series: string, seed: number) => results.some((run) => run.series === series && run.seed === seed);
  // one seed after the other, so that what was done when somebody stops it can be compared
  const jobs = seeds.flatMap((seed) => [
    { series: CENTRALIZED, seed, run: () => runCentralized(work, seed, rate) },
    { series: ALONE, seed, run: () => runAlone(work, seed) },
    ...withRounds.map((strategy) => {
      return { series: strategy.name, seed, run: async () => [await runStrategy(work, strategy, seed)] };
    }),
  ]);
  const due = jobs.filter(({ series, seed }) => !isDone(series, seed) && (series !== CENTRALIZED || seed !== first));
  const told = due.map(({ run }) => async () => {
    const records = await run();
    await options.turn?.(); // a small run has too few events for one: a signal must be heard all the same
    for (const record of records) {
      results.push(record);
      onRun?.(record, soFar());
    }
  });
  await inParallel(told, workers, signal);
  return soFar();
}

/** The centralized baseline at one rate, with the first seed. */
interface Trial {
  /** of the inner learning rate */
  rate: number;
  /** null when it was stopped */
  loss: number | null;
  /** with those of `ddp`; none for one that was made before and is not the best */
  runs: RunRecord[];
}

/** Of the rates that were tried to the end, the one with the lowest loss; of none, any. */
function bestOf(tried: readonly Trial[]): Trial | undefined {
  const loss = (trial: Trial) => trial.loss ?? Number.POSITIVE_INFINITY;
  return tried.reduce<Trial | undefined>((best, each) => (!best || loss(each) < loss(best) ? each : best), undefined);
}

/** Made by one trainer on everybody's data. */
function isPooled({ series }: RunRecord, strategies: readonly Strategy[]): boolean {
  return series === CENTRALIZED || strategies.some(({ name, exchange }) => name === series && exchange === 'steps');
}

function isWhole({ reason }: RunRecord): boolean {
  return reason !== 'stopped';
}

/**
 * The baseline's runs with this seed, and what strategies that exchange every step are charged over the same training.
 * None where one of them is missing, since a strategy was added: they are made together.
 */
function pooledBefore({ before, strategies }: ComparisonInit, seed: number): RunRecord[] {
  const runs = before?.runs.filter((run) => isPooled(run, strategies) && run.seed === seed && isWhole(run)) ?? [];
  return runs.length === 1 + strategies.filter(({ exchange }) => exchange === 'steps').length ? runs : [];
}

function triedBefore(init: ComparisonInit): Trial[] {
  const { before, seeds } = init;
  const trials = before?.rates.map((trial): Trial => ({ ...trial, runs: [] })) ?? [];
  const best = bestOf(trials);
  if (!best) return [];
  best.runs = pooledBefore(init, seeds[0]!);
  return best.runs.length > 0 ? trials : trials.filter((trial) => trial !== best);
}

/** All but those of the baseline's first seed, which belong to the rates that were tried. */
function runsBefore(init: ComparisonInit): RunRecord[] {
  const { before, seeds, strategies } = init;
  // nothing was kept of the run that the timeline is to be of now, unless it was of that one before
  const isDrawn = (run: RunRecord) => !isTimelineOf(init, run) || before?.timeline?.series === run.series;
  const isSimulated = (run: RunRecord) => isWhole(run) && !isPooled(run, strategies);
  const simulated = before?.runs.filter((run) => isSimulated(run) && isDrawn(run)) ?? [];
  const others = new Set(before?.runs.map(({ seed }) => seed).filter((seed) => seed !== seeds[0]));
  return [...[...others].flatMap((seed) => pooledBefore(init, seed)), ...simulated];
}

/** So many jobs at once, begun in order; after the signal none is begun. */
async function inParallel(
  jobs: readonly (() => Promise<void>)[],
  workers: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < jobs.length && !signal?.aborted) await jobs[next++]!();
  };
  await Promise.all(Array.from({ length: Math.min(workers, jobs.length) }, worker));
}

/**
 * Inner steps of one peer: those that the tokens are enough for, rounded so that every strategy has whole rounds.
 * @throws CodedError `E_COMPARISON` where that is far from what was asked, `E_STRATEGY` for a strategy that cannot be
 */
export function planSteps(init: ComparisonInit): { steps: number; tokensAStep: number } {
  const { peers, tokens, seeds, strategies, base, timeline } = init;
  const [seed = 0] = seeds;
  const [first] = new Identities().swarm(seed, 1);
  const genesis = base({ seed, founder: first!.self, steps: 1, batches: 1 });
  const withRounds = strategies.filter(({ exchange }) => exchange !== 'steps');
  if (timeline !== undefined && !withRounds.some(({ name }) => name === timeline)) {
    throw comparisonError(`no strategy "${timeline}" with rounds is compared; name one of them for the timeline`);
  }
  const tokensAStep = peers * genesis.batch * genesis.model.context;
  const lengths = withRounds.map(({ inner: _, ...strategy }) => {
    // its numbers first: how many tokens are enough for rounds that cannot be is no question
    const { innerSteps = genesis.innerSteps } = strategy;
    return strategyGenesis(genesis, strategy, innerSteps).innerSteps;
  });
  const unit = lengths.reduce(leastCommonMultiple, 1);
  const wanted = tokens / tokensAStep;
  const steps = unit * Math.max(1, Math.round(wanted / unit));
  if (!(steps <= 2 * wanted)) {
    const rounds = [...new Set(lengths)].join(', ');
    const least = Math.ceil((steps * tokensAStep) / 2);
    const cause = `${tokens} tokens are ${wanted.toFixed(1)} steps of ${peers} peers, rounds of ${rounds || 1} steps need ${unit}`;
    throw comparisonError(`${cause}; give at least ${least} tokens, or other H`);
  }
  for (const strategy of withRounds) strategyGenesis(genesis, strategy, steps);
  return { steps, tokensAStep };
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}

/** Baselines, then strategies as they were named, each by its seeds: whatever ended first. */
function inOrder(runs: readonly RunRecord[], strategies: readonly Strategy[]): RunRecord[] {
  const order = [CENTRALIZED, ALONE, ...strategies.map(({ name }) => name)];
  return [...runs].sort((a, b) => order.indexOf(a.series) - order.indexOf(b.series) || a.seed - b.seed);
}

import type { Genesis } from '../../protocol/genesis.ts';
import { defaultTarget, type RunPoint, type RunRecord, type SummaryRow, summarize } from '../comparison.ts';
import type { Compared, ComparisonInit, Timeline } from '../comparison-runs.ts';
import { Identities } from '../identity.ts';
import { type Strategy, strategyGenesis } from '../strategy.ts';

/** Everything that a report is made from; `results.json` of a comparison is this. */
export interface Report {
  version: 1;
  /** the command that made it */
  kind: 'compare' | 'sim';
  /** like `nano on shakespeare.txt` */
  title: string;
  /** makes it again */
  command: string;
  /** of this program, where it runs from a clone */
  commit: string | null;
  /** false when it was stopped before its end */
  complete: boolean;
  wallSeconds: number;
  peers: number;
  seeds: number[];
  /** of all peers in a complete run, and inner steps of one peer */
  tokens: number;
  tokensAsked: number;
  steps: number;
  /** loss to which time is measured; null when nothing was finished */
  target: number | null;
  strategies: StrategyFacts[];
  /** whole loss of the centralized baseline with the first seed, by multiple of the inner learning rate */
  rates: { rate: number; loss: number }[];
  /** everything that decided what happened, defaults filled in */
  configuration: Record<string, unknown>;
  summary: SummaryRow[];
  runs: RunRecord[];
  /** of a single simulation: the loss of each round's batches */
  training?: RunPoint[];
  timeline: Timeline | null;
}

/** A strategy as it was run: what it says of itself, and what it comes to with all defaults filled in. */
export interface StrategyFacts extends Pick<Strategy, 'name' | 'about'> {
  settings: Partial<Pick<Genesis, 'innerSteps' | 'codec' | 'averaging' | 'outer' | 'inner'>> & { exchange: string };
}

/** @param steps inner steps of a peer in the whole run */
export function describeStrategies(init: ComparisonInit, steps: number): StrategyFacts[] {
  const { strategies, seeds, base } = init;
  const [seed = 0] = seeds;
  const [first] = new Identities().swarm(seed, 1);
  const genesis = base({ seed, founder: first!.self, steps, batches: 1 });
  return strategies.map((strategy) => {
    const { name, about, exchange = 'rounds' } = strategy;
    if (exchange === 'steps') return { name, about, settings: { exchange } };
    const { innerSteps, codec, averaging, outer, inner } = strategyGenesis(genesis, strategy, steps);
    return { name, about, settings: { exchange, innerSteps, codec, averaging, outer, inner } };
  });
}

export type ReportFacts = Pick<
  Report,
  | 'title'
  | 'command'
  | 'commit'
  | 'complete'
  | 'wallSeconds'
  | 'peers'
  | 'seeds'
  | 'tokensAsked'
  | 'configuration'
  | 'strategies'
> & { target?: number };

export function makeReport({ runs, timeline, steps, tokens, rates }: Compared, facts: ReportFacts): Report {
  const target = facts.target ?? defaultTarget(runs);
  const summary = summarize(runs, target);
  return { version: 1, kind: 'compare', ...facts, rates, tokens, steps, target, summary, runs, timeline };
}

const COLUMNS = ['series', 'seed', 'split', 'tokens', 'virtualMs', 'bytesPerPeer', 'valLoss'] as const;

/** One line a point; at the end of a run one more, of the loss over the whole split. */
export function reportCsv({ runs }: Pick<Report, 'runs'>): string {
  const lines = runs.flatMap((run) => {
    const line = (split: string, { tokens, virtualMs, bytes, loss }: RunPoint) =>
      [run.series, run.seed, split, tokens, virtualMs, Math.round(bytes), loss].join(',');
    const points = run.points.map((point) => line('sample', point));
    return run.loss === null ? points : [...points, line('whole', { ...run, loss: run.loss })];
  });
  return `${[COLUMNS.join(','), ...lines].join('\n')}\n`;
}

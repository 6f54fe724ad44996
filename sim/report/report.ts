import { defaultTarget, type RunPoint, type RunRecord, type SummaryRow, summarize } from '../comparison.ts';
import type { Compared, Timeline } from '../comparison-runs.ts';
import type { Strategy } from '../strategy.ts';

/** Everything that the files of a comparison are made from; `results.json` is this. */
export interface Report {
  version: 1;
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
  strategies: { name: string; about: string }[];
  /** whole loss of the centralized baseline with the first seed, by multiple of the inner learning rate */
  rates: { rate: number; loss: number }[];
  /** everything that decided what happened, defaults filled in */
  configuration: Record<string, unknown>;
  summary: SummaryRow[];
  runs: RunRecord[];
  timeline: Timeline | null;
}

type ReportFacts = Pick<
  Report,
  'title' | 'command' | 'commit' | 'complete' | 'wallSeconds' | 'peers' | 'seeds' | 'tokensAsked' | 'configuration'
> & { target?: number; strategies: readonly Strategy[] };

export function makeReport({ runs, timeline, steps, tokens, rates }: Compared, facts: ReportFacts): Report {
  const target = facts.target ?? defaultTarget(runs);
  const strategies = facts.strategies.map(({ name, about }) => ({ name, about }));
  const summary = summarize(runs, target);
  return { version: 1, ...facts, strategies, rates, tokens, steps, target, summary, runs, timeline };
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

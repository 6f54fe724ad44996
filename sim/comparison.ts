import type { ByteKind } from './ledger.ts';
import type { MissedEvent, SimulationResult } from './simulation.ts';

/** Bytes of a ring all-reduce stand beside the protocol's own. */
export type ChargedKind = ByteKind | 'all-reduce';

export const CENTRALIZED = 'centralized';
export const ALONE = 'one-peer';
/** Series that are no strategies. */
export const BASELINES = [CENTRALIZED, ALONE] as const;

/** One place on the curves of a run. */
export interface RunPoint {
  tokens: number;
  virtualMs: number;
  /** sent and received, by the mean peer */
  bytes: number;
  /** nats, over the same sample of the validation split in every run */
  loss: number;
}

/** What one strategy did with one seed. */
export interface RunRecord {
  /** name of the strategy or the baseline */
  series: string;
  seed: number;
  reason: SimulationResult['reason'];
  points: RunPoint[];
  /** nats over the whole validation split, at the end; null where the run did not come to it */
  loss: number | null;
  tokens: number;
  /** none where no rounds are simulated */
  rounds: number;
  virtualMs: number;
  /** sent and received, by the mean peer */
  bytes: number;
  /** sent, by all peers */
  bytesByKind: Partial<Record<ChargedKind, number>>;
  /** share of the time in which a peer was up that it trained */
  computeFraction: number;
  /** null for what is not simulated by the protocol */
  traceHash: string | null;
  warnings: Record<string, number>;
  /** rounds of which two certified roots were seen: a bug in the protocol */
  diverged: number[];
  /** events of the scenario that were to come only after its end; none where nothing is simulated by the protocol */
  missed?: MissedEvent[];
}

export interface Statistic {
  mean: number;
  /** sample standard deviation; null for a single value */
  spread: number | null;
  n: number;
}

/** A strategy over all its seeds. */
export interface SummaryRow {
  series: string;
  loss: Statistic | null;
  /** (loss / centralized loss - 1) in percent, seed by seed */
  gapPercent: Statistic | null;
  tokens: number;
  rounds: number;
  /** sent and received, by the mean peer */
  bytes: number;
  /** sent by all peers, by token trained on; null where no token was */
  bytesAToken: number | null;
  computeFraction: number;
  virtualMs: number;
  /** runs that reached the target, of all; the time is their mean */
  target: { reached: number; of: number; virtualMs: number | null };
}

export function statisticOf(values: readonly number[]): Statistic | null {
  const n = values.length;
  if (n === 0) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, spread: n > 1 ? Math.sqrt(squares / (n - 1)) : null, n };
}

/** Runs of each series, in the order in which they first appear. */
export function bySeries(runs: readonly RunRecord[]): Map<string, RunRecord[]> {
  const groups = new Map<string, RunRecord[]>();
  for (const run of runs) groups.set(run.series, [...(groups.get(run.series) ?? []), run]);
  return groups;
}

/** Where nobody names one: so far above the centralized baseline's last loss. */
const TARGET_MARGIN = 1.05;

/** A loss worth reaching: 5 % above where centralized training ends (by the sample that the curves are of). */
export function defaultTarget(runs: readonly RunRecord[]): number | null {
  const ends = runs.filter(({ series, loss }) => series === CENTRALIZED && loss !== null);
  const statistic = statisticOf(ends.map(({ points }) => points.at(-1)?.loss ?? Number.NaN));
  return statistic && TARGET_MARGIN * statistic.mean;
}

/** When the curve first falls to the target, between two points by a straight line; null when it never does. */
export function timeTo(target: number, points: readonly RunPoint[]): number | null {
  const i = points.findIndex(({ loss }) => loss <= target);
  const after = points[i];
  const before = points[i - 1];
  if (!after) return null;
  if (!before) return after.virtualMs;
  const part = (before.loss - target) / (before.loss - after.loss);
  return before.virtualMs + part * (after.virtualMs - before.virtualMs);
}

export function summarize(runs: readonly RunRecord[], target: number | null): SummaryRow[] {
  const central = new Map<number, number | null>();
  for (const { series, seed, loss } of runs) if (series === CENTRALIZED) central.set(seed, loss);
  return [...bySeries(runs)].map(([series, group]) => {
    const complete = group.filter(({ loss }) => loss !== null);
    const of = completeOrAll(group);
    const mean = (value: (run: RunRecord) => number) => statisticOf(of.map(value))?.mean ?? Number.NaN;
    const gaps = complete.flatMap(({ seed, loss }) => {
      const reference = central.get(seed);
      return reference ? [100 * ((loss ?? Number.NaN) / reference - 1)] : [];
    });
    const times = of.map(({ points }) => (target === null ? null : timeTo(target, points)));
    const reached = times.filter((time) => time !== null);
    const trained = of.filter(({ tokens }) => tokens > 0);
    return {
      series,
      loss: statisticOf(complete.map(({ loss }) => loss ?? Number.NaN)),
      gapPercent: series === CENTRALIZED ? null : statisticOf(gaps),
      tokens: mean(({ tokens }) => tokens),
      rounds: mean(({ rounds }) => rounds),
      bytes: mean(({ bytes }) => bytes),
      bytesAToken: statisticOf(trained.map((run) => sentBy(run) / run.tokens))?.mean ?? null,
      computeFraction: mean(({ computeFraction }) => computeFraction),
      virtualMs: mean(({ virtualMs }) => virtualMs),
      target: { reached: reached.length, of: of.length, virtualMs: statisticOf(reached)?.mean ?? null },
    };
  });
}

/** Runs that came to a loss; where none did, all, as far as they came. */
export function completeOrAll(runs: readonly RunRecord[]): readonly RunRecord[] {
  const complete = runs.filter(({ loss }) => loss !== null);
  return complete.length > 0 ? complete : runs;
}

/** Bytes sent by all peers. */
function sentBy({ bytesByKind }: RunRecord): number {
  return Object.values(bytesByKind).reduce((sum, bytes) => sum + bytes, 0);
}

/** Of several runs of one series: the mean curve, as far as all that came to a loss go, with the spread of the loss. */
export function meanCurve(all: readonly RunRecord[]): (RunPoint & { low: number; high: number })[] {
  const runs = completeOrAll(all);
  const length = Math.min(...runs.map(({ points }) => points.length));
  return Array.from({ length: Number.isFinite(length) ? length : 0 }, (_, i) => {
    const points = runs.map((run) => run.points[i]!);
    const mean = (value: (point: RunPoint) => number) => points.reduce((sum, p) => sum + value(p), 0) / points.length;
    const losses = points.map(({ loss }) => loss);
    return {
      tokens: mean(({ tokens }) => tokens),
      virtualMs: mean(({ virtualMs }) => virtualMs),
      bytes: mean(({ bytes }) => bytes),
      loss: mean(({ loss }) => loss),
      low: Math.min(...losses),
      high: Math.max(...losses),
    };
  });
}

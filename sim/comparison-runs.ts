import type { Genesis } from '../protocol/genesis.ts';
import type { PeerId } from '../protocol/identity.ts';
import { modelLayout } from '../protocol/model.ts';
import { chargeAllReduce } from './all-reduce.ts';
import { beforeAbort } from './before-abort.ts';
import { trainCentralized } from './centralized.ts';
import { ALONE, CENTRALIZED, type RunPoint, type RunRecord } from './comparison.ts';
import { ComputeModel } from './compute.ts';
import { Identities } from './identity.ts';
import type { Activity, Carried } from './ledger.ts';
import type { ReplicaHost } from './replica-host.ts';
import type { Scenario } from './scenario.ts';
import { Simulation, type SimulationResult } from './simulation.ts';
import { atRate, type Strategy, strategyGenesis } from './strategy.ts';

export interface ComparisonInit {
  peers: number;
  /** each begins a model, an order of the data, links and faults of its own */
  seeds: readonly number[];
  /** asked for, of all peers together; see `planSteps` */
  tokens: number;
  strategies: readonly Strategy[];
  scenario: Scenario;
  /** points on a curve, about */
  evaluations: number;
  /** runs under way at once; results do not depend on it */
  workers: number;
  /** strategy whose first run the timeline is of @default the one of `before`, else the first one with rounds */
  timeline?: string;
  /**
   * Multiples of the inner learning rate at which the centralized baseline is trained with the first seed. The one that ends
   * lowest is its rate with all seeds: a batch as large as those of all peers together wants a rate of its own.
   */
  baselineRates: readonly number[];
  /** of the same comparison, stopped before its end: runs that are whole are taken over instead of made again */
  before?: Compared;
  /** what all runs with this seed have in common */
  base(request: BaseRequest): Genesis;
  open(genesis: Genesis, use: HostUse): Promise<ReplicaHost>;
}

export interface BaseRequest {
  seed: number;
  founder: PeerId;
  /** inner steps that the schedule is for */
  steps: number;
  /** the batch is so many times that of one peer */
  batches: number;
}

export interface HostUse {
  replicas: number;
  /** trains on everybody's data, so many batches in a step; null for a peer among others */
  pooled: number | null;
}

export interface ComparisonOptions {
  signal?: AbortSignal;
  /** gives the event loop a turn */
  turn?: () => Promise<void>;
  /** tokens trained on so far, of all runs */
  onProgress?: (done: number, all: number) => void;
  /** with all that there is by then */
  onRun?: (run: RunRecord, soFar: Compared) => void;
}

/** What the peers of one run did when. */
export interface Timeline {
  series: string;
  seed: number;
  peers: number;
  rounds: number;
  virtualMs: number;
  spans: { peer: number; activity: Activity; fromMs: number; toMs: number }[];
  carried: Carried[];
}

export interface Compared {
  runs: RunRecord[];
  timeline: Timeline | null;
  /** inner steps of one peer, and tokens of all peers, in each complete run */
  steps: number;
  tokens: number;
  /** the centralized baseline at each rate that it was tried at, with the first seed; the lowest loss was kept */
  rates: { rate: number; loss: number }[];
}

/** What the runs of one comparison share. */
export interface Work {
  init: ComparisonInit;
  options: ComparisonOptions;
  steps: number;
  /** of all peers, in one step */
  tokensAStep: number;
  /** tells of tokens that were trained on */
  advance: (tokens: number) => void;
  keepTimeline: (timeline: Timeline) => void;
}

/** All peers' batches in one step of one trainer; `ddp` is the same training, charged for its exchanges. */
export async function runCentralized(work: Work, seed: number, rate: number): Promise<RunRecord[]> {
  const { init, steps, tokensAStep } = work;
  const { peers, scenario, strategies } = init;
  const { record, parameters } = await runPooled(work, { seed, series: CENTRALIZED, batches: peers, steps, rate });
  const charged = strategies.filter(({ exchange }) => exchange === 'steps');
  if (charged.length === 0) return [record];
  const charge = chargeAllReduce({ scenario, seed }, { peers, steps, parameters });
  const { bytesAStep, ends, trainingMs } = charge;
  const done = record.tokens / tokensAStep;
  const at = (tokens: number) => {
    const step = tokens / tokensAStep;
    return { virtualMs: ends[step - 1] ?? 0, bytes: 2 * bytesAStep * step };
  };
  const points = record.points.map((point) => ({ ...point, ...at(point.tokens) }));
  const computeFraction = trainingMs / (ends.at(-1) ?? 1);
  const bytesByKind = { 'all-reduce': Math.round(bytesAStep * done * peers) };
  const cost = { ...at(record.tokens), points, computeFraction, bytesByKind };
  return [record, ...charged.map(({ name }) => ({ ...record, ...cost, series: name }))];
}

/** What a peer reaches without the others: its own batch, and their tokens one after the other. */
export async function runAlone(work: Work, seed: number): Promise<RunRecord[]> {
  const steps = work.steps * work.init.peers;
  return [(await runPooled(work, { seed, series: ALONE, batches: 1, steps, rate: 1 })).record];
}

interface Pooled {
  seed: number;
  series: string;
  /** of a peer, in one step */
  batches: number;
  steps: number;
  /** of the inner learning rate */
  rate: number;
}

/** One trainer without links. Its time is that of its steps: in `centralized`, of a machine as fast as all peers. */
async function runPooled(
  work: Work,
  { seed, series, batches, steps, rate }: Pooled,
): Promise<{ record: RunRecord; parameters: number }> {
  const { init, options, advance } = work;
  const { base, open, evaluations, scenario } = init;
  const [first] = new Identities().swarm(seed, 1);
  const plain = base({ seed, founder: first!.self, steps, batches });
  const outer = { name: 'sgd', learningRate: 1, momentum: 0 } as const;
  const evaluateEvery = Math.ceil(steps / evaluations);
  const genesis = {
    ...plain,
    inner: atRate(plain.inner, rate),
    codec: { ...plain.codec, name: 'fp32' as const },
    outer,
    // what is trained between two evaluations is one update: none of it is late work
    innerSteps: evaluateEvery,
  };
  // at the common step: it is none of the peers, some of which may differ
  const compute = { ...scenario.compute, peers: {}, stragglers: null };
  const ends = new ComputeModel(compute, { peers: 1, seed }).stepEnds(0, steps);
  const host = await open(genesis, { replicas: 1, pooled: batches });
  const record: RunRecord = { ...emptyRecord(series, seed), reason: 'stopped', computeFraction: 1 };
  const tokensAStep = genesis.batch * genesis.model.context;
  const curve = trainCentralized(genesis, host, { steps, evaluateEvery });
  try {
    for (;;) {
      const next = await beforeAbort(curve.next(), options.signal);
      if (!next || next.done) break;
      const { step, loss, wholeLoss } = next.value;
      advance(step * tokensAStep - record.tokens);
      record.tokens = step * tokensAStep;
      record.virtualMs = ends[step - 1]!;
      if (Number.isFinite(loss))
        record.points.push({ tokens: record.tokens, virtualMs: record.virtualMs, bytes: 0, loss });
      if (step < steps) continue;
      record.loss = finite(wholeLoss);
      record.reason = 'rounds';
    }
  } finally {
    await host.close();
  }
  return { record, parameters: modelLayout(genesis.model).length };
}

function emptyRecord(series: string, seed: number) {
  const counts = { tokens: 0, rounds: 0, virtualMs: 0, bytes: 0, bytesByKind: {}, warnings: {}, diverged: [] };
  return { series, seed, ...counts, points: [], loss: null, traceHash: null };
}

export async function runStrategy(work: Work, strategy: Strategy, seed: number): Promise<RunRecord> {
  const { init, options, steps, advance } = work;
  const { peers, scenario, base, open, evaluations } = init;
  const signers = new Identities().swarm(seed, peers);
  const genesis = strategyGenesis(base({ seed, founder: signers[0]!.self, steps, batches: 1 }), strategy, steps);
  const evaluateEvery = Math.ceil(genesis.rounds! / evaluations);
  const host = await open(genesis, { replicas: peers, pooled: null });
  try {
    const simulation = new Simulation({ genesis, signers, scenario, seed, host, evaluateEvery });
    const told = new Set<number>();
    const onRound = ({ round, tokens }: { round: number; tokens: number }): void => {
      if (!told.has(round)) advance(tokens);
      told.add(round);
    };
    const { signal, turn } = options;
    const result = await simulation.run({ onRound, ...(signal ? { signal } : {}), ...(turn ? { turn } : {}) });
    if (isTimelineOf(init, { series: strategy.name, seed }))
      work.keepTimeline(timelineOf(result, strategy.name, seed, peers));
    return recordOf(result, { series: strategy.name, seed, peers, rounds: genesis.rounds! });
  } finally {
    await host.close();
  }
}

export function recordOf(
  { reason, rows, ledger, virtualMs, computeFraction, traceHash, warnings, diverged, missed }: SimulationResult,
  run: { series: string; seed: number; peers: number; rounds: number },
): RunRecord {
  const { series, seed, peers, rounds } = run;
  const points: RunPoint[] = [];
  let tokens = 0;
  let loss: number | null = null;
  for (const row of rows) {
    tokens += row.tokens;
    if (row.round === rounds) loss = finite(row.valLoss);
    const { virtualMs } = row;
    const sampleLoss = finite(row.sampleLoss);
    // what one peer sends, another receives
    if (sampleLoss !== null) points.push({ tokens, virtualMs, bytes: (2 * row.bytes) / peers, loss: sampleLoss });
  }
  const bytes = (2 * ledger.bytes()) / peers;
  const bytesByKind = ledger.bytesByKind();
  return {
    series,
    seed,
    reason,
    points,
    loss,
    tokens,
    rounds: rows.length,
    virtualMs,
    bytes,
    bytesByKind,
    computeFraction,
    traceHash,
    warnings,
    diverged,
    missed,
  };
}

/** Of a model that has fallen apart there is no loss: JSON would make null of it, and null is less than any. */
function finite(loss: number | null): number | null {
  return Number.isFinite(loss) ? loss : null;
}

/** Whether the timeline is of this run. */
export function isTimelineOf(init: ComparisonInit, run: Pick<RunRecord, 'series' | 'seed'>): boolean {
  const { timeline, before, strategies, seeds } = init;
  const first = strategies.find(({ exchange }) => exchange !== 'steps');
  return run.series === (timeline ?? before?.timeline?.series ?? first?.name) && run.seed === seeds[0];
}

export function timelineOf(
  { ledger, virtualMs, rows }: SimulationResult,
  series: string,
  seed: number,
  peers: number,
): Timeline {
  const { spans, carried } = ledger;
  return { series, seed, peers, rounds: rows.length, virtualMs, spans, carried };
}

import type { Genesis } from '../protocol/genesis.ts';
import type { PeerId } from '../protocol/identity.ts';
import { type RunPoint, summarize } from './comparison.ts';
import { recordOf, timelineOf } from './comparison-runs.ts';
import type { Activity, ByteKind, PeerBooks } from './ledger.ts';
import { reportTexts } from './report/files.ts';
import type { Report } from './report/report.ts';
import type { RoundRow } from './round-rows.ts';
import type { MissedEvent, SimulationResult } from './simulation.ts';

/** What a run leaves behind, as `results.json` has it: enough to draw a report from and to make the run again. */
export interface Results {
  version: 1;
  kind: 'sim';
  command: string;
  seed: number;
  /** of this program, where it runs from a clone */
  commit: string | null;
  /** genesis and scenario with all defaults filled in */
  configuration: Record<string, unknown>;
  reason: SimulationResult['reason'];
  traceHash: string;
  virtualSeconds: number;
  wallSeconds: number;
  events: number;
  /** sent by all peers */
  bytes: number;
  bytesByKind: Record<ByteKind, number>;
  rounds: RoundRow[];
  /** validation loss over the same sample at each evaluation, the last included, whose row has it over the whole split */
  curve: RunPoint[];
  peers: ({ peer: PeerId } & PeerBooks)[];
  /** what each peer did when: index, activity, from and to in virtual milliseconds */
  timeline: [number, Activity, number, number][];
  /** bulk on its way: sender, receiver, from and to in virtual milliseconds */
  carried: [number, number, number, number][];
  /** how often which was given */
  warnings: Record<string, number>;
  /** rounds with two certified roots: always empty, or the protocol is broken */
  diverged: number[];
  /** events of the scenario that were to come only after its end */
  missed: MissedEvent[];
}

export interface SimulationFacts
  extends Pick<Results, 'command' | 'seed' | 'commit' | 'configuration' | 'wallSeconds'> {
  genesis: Genesis;
  ids: readonly PeerId[];
}

export function resultsOf(result: SimulationResult, facts: SimulationFacts): Results {
  const { reason, traceHash, virtualMs, events, rows, ledger, warnings, diverged, missed } = result;
  const { command, seed, commit, configuration, wallSeconds, ids } = facts;
  return {
    version: 1,
    kind: 'sim',
    ...{ command, seed, commit, configuration, wallSeconds },
    reason,
    traceHash,
    virtualSeconds: virtualMs / 1000,
    events,
    bytes: ledger.bytes(),
    bytesByKind: ledger.bytesByKind(),
    rounds: rows,
    curve: runOf(result, facts).points,
    peers: ids.map((peer, i) => ({ peer, ...ledger.ofPeer(i) })),
    timeline: ledger.spans.map(({ peer, activity, fromMs, toMs }) => [peer, activity, fromMs, toMs]),
    carried: ledger.carried.map(({ from, to, fromMs, toMs }) => [from, to, fromMs, toMs]),
    warnings,
    diverged,
    missed,
  };
}

/** The only run of a simulation, in its table. */
const SERIES = 'swarm';

function runOf(result: SimulationResult, { genesis, seed, ids }: SimulationFacts) {
  const rounds = genesis.rounds ?? result.rows.length;
  return recordOf(result, { series: SERIES, seed, peers: ids.length, rounds });
}

/** The same report as that of a comparison, with a single run in it. */
export function simulationReport(result: SimulationResult, facts: SimulationFacts): Report {
  const { command, seed, commit, configuration, wallSeconds, genesis, ids } = facts;
  const { title, codec, outer, innerSteps, averaging, inner } = genesis;
  const run = runOf(result, facts);
  const about = `${codec.name} updates, ${outerWords(outer)}, rounds of ${innerSteps} steps`;
  return {
    version: 1,
    kind: 'sim',
    ...{ title, command, commit, configuration, wallSeconds },
    complete: result.reason !== 'stopped',
    peers: ids.length,
    seeds: [seed],
    tokens: run.tokens,
    tokensAsked: run.tokens,
    steps: innerSteps * result.rows.length,
    target: null,
    strategies: [{ name: SERIES, about, settings: { exchange: 'rounds', innerSteps, codec, averaging, outer, inner } }],
    rates: [],
    summary: summarize([run], null),
    runs: [run],
    training: trainingCurve(result.rows, ids.length),
    timeline: timelineOf(result, SERIES, seed, ids.length),
  };
}

function outerWords({ name, learningRate, momentum }: Genesis['outer']): string {
  return name === 'sgd' ? `sgd ${learningRate}` : `${name} ${learningRate} / ${momentum}`;
}

function trainingCurve(rows: readonly RoundRow[], peers: number): RunPoint[] {
  let all = 0;
  return rows.flatMap(({ tokens, virtualMs, bytes, trainLoss }) => {
    all += tokens;
    // a round without an update has no loss
    if (!Number.isFinite(trainLoss)) return [];
    return [{ tokens: all, virtualMs, bytes: (2 * bytes) / peers, loss: trainLoss }];
  });
}

const COLUMNS = [
  'round',
  'virtualMs',
  'root',
  'final',
  'contributors',
  'trainLoss',
  'valLoss',
  'tokens',
  'bytes',
] as const satisfies (keyof RoundRow)[];

/** One line a round; an empty field where the loss was not measured. */
function roundsCsv(rows: readonly RoundRow[]): string {
  const lines = rows.map((row) => COLUMNS.map((column) => String(row[column] ?? '')).join(','));
  return `${[COLUMNS.join(','), ...lines].join('\n')}\n`;
}

/** What a simulation leaves behind, by file name: the text of each. */
export function simulationFiles(results: Results, report: Report): Record<string, string> {
  return {
    'results.json': `${JSON.stringify(results)}\n`,
    'results.csv': roundsCsv(results.rounds),
    ...reportTexts(report),
  };
}

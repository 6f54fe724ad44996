import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PeerId } from '../protocol/identity.ts';
import type { Activity, ByteKind, PeerBooks } from './ledger.ts';
import type { RoundRow, SimulationResult } from './simulation.ts';

/** What a run leaves behind, as `results.json` has it: enough to draw a report from and to make the run again. */
export interface Results {
  version: 1;
  command: string;
  seed: number;
  /** of this program, where it runs from a clone */
  commit: string | null;
  /** genesis and scenario with all defaults filled in */
  configuration: unknown;
  reason: SimulationResult['reason'];
  traceHash: string;
  virtualSeconds: number;
  wallSeconds: number;
  events: number;
  /** sent by all peers */
  bytes: number;
  bytesByKind: Record<ByteKind, number>;
  rounds: RoundRow[];
  peers: ({ peer: PeerId } & PeerBooks)[];
  /** what each peer did when: index, activity, from and to in virtual milliseconds */
  timeline: [number, Activity, number, number][];
  /** how often which was given */
  warnings: Record<string, number>;
  /** rounds with two certified roots: always empty, or the protocol is broken */
  diverged: number[];
}

export function resultsOf(
  result: SimulationResult,
  facts: Pick<Results, 'command' | 'seed' | 'commit' | 'configuration' | 'wallSeconds'>,
  ids: readonly PeerId[],
): Results {
  const { reason, traceHash, virtualMs, events, rows, ledger, warnings, diverged } = result;
  return {
    version: 1,
    ...facts,
    reason,
    traceHash,
    virtualSeconds: virtualMs / 1000,
    events,
    bytes: ledger.bytes(),
    bytesByKind: ledger.bytesByKind(),
    rounds: rows,
    peers: ids.map((peer, i) => ({ peer, ...ledger.ofPeer(i) })),
    timeline: ledger.spans.map(({ peer, activity, fromMs, toMs }) => [peer, activity, fromMs, toMs]),
    warnings,
    diverged,
  };
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

/** Writes `results.json` and `results.csv`. */
export function writeResults(folder: string, results: Results): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'results.json'), `${JSON.stringify(results)}\n`);
  writeFileSync(join(folder, 'results.csv'), roundsCsv(results.rounds));
}

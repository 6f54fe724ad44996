import { join } from 'node:path';
import { missedWords } from '../../sim/report/words.ts';
import { worldOf } from '../../sim/report/world.ts';
import type { Results } from '../../sim/results.ts';
import type { RoundRow } from '../../sim/round-rows.ts';
import { formatBar, formatBytes, formatCount, formatDuration, formatLoss } from './format.ts';
import { printJson } from './json-lines.ts';
import type { OpenedSimulation } from './sim-run.ts';
import { leftWords, modelWords, STATUS_INTERVAL_MS } from './sim-words.ts';
import type { Terminal } from './terminal.ts';

export interface SimView {
  begin(opened: OpenedSimulation, commit: string | null): void;
  /** now and then, with the virtual time */
  tick(virtualMs: number): void;
  round(row: RoundRow): void;
  done(results: Results): void;
  /** the results are in the folder */
  wrote(folder: string): void;
  /** Nothing was written: an earlier run of the same simulation had come further. */
  kept(folder: string): void;
  close(): void;
}

export function jsonSimView(): SimView {
  return {
    begin: ({ seed, configuration }, commit) => printJson({ event: 'config', seed, commit, ...configuration }),
    tick: () => undefined,
    round: (row) => printJson({ event: 'round', ...row }),
    done: ({ reason, traceHash, virtualSeconds, wallSeconds, events, bytes, warnings, diverged }) =>
      printJson({ event: 'done', reason, traceHash, virtualSeconds, wallSeconds, events, bytes, warnings, diverged }),
    wrote: () => undefined,
    // `done` is the last event
    kept: (folder) => console.error(keptWords(folder)),
    close: () => undefined,
  };
}

function keptWords(folder: string): string {
  return `${folder} keeps the results that it had, which go further`;
}

export class SimScreen implements SimView {
  readonly #terminal: Terminal;
  readonly #nowMs: () => number;
  readonly #startedMs: number;
  #rounds = 0;
  #round = 0;
  #statusMs = Number.NEGATIVE_INFINITY;

  constructor(terminal: Terminal, nowMs: () => number) {
    this.#terminal = terminal;
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
  }

  begin({ genesis, signers, backend, seed, configuration, isReal }: OpenedSimulation, commit: string | null): void {
    const { innerSteps, codec, outer, title, rounds } = genesis;
    this.#rounds = rounds ?? 0;
    const { evaluateEvery } = configuration;
    const evaluated = evaluateEvery === 0 ? 'never evaluated' : `evaluated every ${evaluateEvery}`;
    const step = `${outer.name} ${outer.learningRate} / ${outer.momentum}`;
    this.#terminal.line(`${this.#terminal.paint('bold', 'outerloop sim')}  ${title}, ${signers.length} peers`);
    this.#terminal.line(`  ${rounds} rounds of ${innerSteps} steps, ${evaluated}; ${codec.name}, ${step}`);
    this.#terminal.line(`  ${isReal ? `${modelWords(genesis)}; ` : ''}${backend}`);
    this.#terminal.line(`  ${worldOf({ configuration }).join(', ')}`);
    this.#terminal.line(`  seed ${seed}, commit ${commit?.slice(0, 12) ?? 'unknown'}`);
    this.#terminal.line();
  }

  tick(virtualMs: number): void {
    if (this.#nowMs() - this.#statusMs >= STATUS_INTERVAL_MS) this.#drawStatus(virtualMs);
  }

  #drawStatus(virtualMs: number): void {
    this.#statusMs = this.#nowMs();
    const [done, all] = [this.#round, this.#rounds];
    const left = leftWords({ done, all }, this.#statusMs - this.#startedMs);
    this.#terminal.status(`${formatBar(done, all)} ${done}/${all} · ${formatDuration(virtualMs)} virtual · ${left}`);
  }

  round({ round, virtualMs, contributors, trainLoss, valLoss, bytes, final }: RoundRow): void {
    this.#round = Math.max(this.#round, round);
    const parts = [
      this.#terminal.paint('bold', `round ${round}/${this.#rounds}`),
      `at ${formatDuration(virtualMs)}`,
      `${contributors} updates`,
      `train ${formatLoss(trainLoss)}`,
      valLoss === null ? undefined : this.#terminal.paint('green', `val ${formatLoss(valLoss)}`),
      `${formatBytes(bytes)} sent`,
      final ? undefined : this.#terminal.paint('yellow', 'unfinal'),
    ];
    this.#terminal.line(parts.filter((part) => part !== undefined).join('  '));
    this.#drawStatus(virtualMs);
  }

  done(results: Results): void {
    const { reason, traceHash, virtualSeconds, wallSeconds, events, bytesByKind, warnings, diverged, missed } = results;
    const kinds = Object.entries(bytesByKind).filter(([, bytes]) => bytes > 0);
    const time = `${formatDuration(1000 * virtualSeconds)} virtual in ${formatDuration(1000 * wallSeconds)}`;
    this.#terminal.line();
    this.#terminal.line(`${ENDINGS[reason]}: ${time}, ${formatCount(events)} events`);
    this.#terminal.line(`  sent: ${kinds.map(([kind, bytes]) => `${kind} ${formatBytes(bytes)}`).join(', ')}`);
    const given = Object.entries(warnings).map(([code, times]) => `${code} x${times}`);
    if (given.length > 0) this.#terminal.line(`  warnings: ${given.join(', ')}`);
    if (missed.length > 0) this.#terminal.line(`  ${missedWords(missed)}`);
    if (diverged.length > 0) {
      const said = `two certified states in round ${diverged.join(', ')}: a bug in the protocol, please tell us`;
      this.#terminal.line(`  ${this.#terminal.paint('red', said)}`);
    }
    this.#terminal.line(`  trace ${traceHash}`);
  }

  kept(folder: string): void {
    this.#terminal.line(`  ${keptWords(folder)}`);
  }

  wrote(folder: string): void {
    this.#terminal.line(`  ${join(folder, 'report.html')}`);
  }

  close(): void {
    this.#terminal.status('');
  }
}

const ENDINGS = {
  rounds: 'done',
  unfinal: 'done, but no quorum has certified the last round: other peers may have another one',
  stopped: 'stopped, with the results so far',
  stuck: 'stuck: nobody is left, or no round came in a long time; look at the scenario',
} as const satisfies Record<Results['reason'], string>;

import { join } from 'node:path';
import type { Genesis } from '../../protocol/genesis.ts';
import type { RunRecord, SummaryRow } from '../../sim/comparison.ts';
import type { Report } from '../../sim/report/report.ts';
import { columnsOf, remarksOf } from '../../sim/report/words.ts';
import { worldOf } from '../../sim/report/world.ts';
import { formatBar, formatBytes, formatCount, formatDuration, formatLoss } from './format.ts';
import { printJson } from './json-lines.ts';
import { leftWords, modelWords, STATUS_INTERVAL_MS } from './sim-words.ts';
import type { Terminal } from './terminal.ts';

/** What is compared, before anything is computed. */
export type Plan = Pick<Report, 'title' | 'peers' | 'seeds' | 'tokens' | 'strategies' | 'configuration' | 'commit'>;

export interface CompareView {
  /** @param inner with the schedule of this plan: the configuration's is of a single step, as it is the same for all plans */
  begin(plan: Plan, inner: Genesis['inner']): void;
  /** some of it is in the folder already */
  goOn(before: Report, folder: string): void;
  /** tokens, of all runs; before `begun` those that were done earlier */
  progress(done: number, all: number): void;
  /** from now on there is something to do */
  begun(): void;
  /** now and then */
  tick(): void;
  run(run: RunRecord): void;
  done(report: Report): void;
  /** the results are in the folder */
  wrote(folder: string): void;
  close(): void;
}

export function jsonCompareView(): CompareView {
  return {
    begin: (plan) => printJson({ event: 'config', ...plan }),
    goOn: ({ runs }) => printJson({ event: 'resumed', runs: runs.length }),
    progress: () => undefined,
    begun: () => undefined,
    tick: () => undefined,
    run: ({ points: _, ...run }) => printJson({ event: 'run', ...run }),
    done: ({ complete, wallSeconds, summary }) => printJson({ event: 'done', complete, wallSeconds, summary }),
    wrote: () => undefined,
    close: () => undefined,
  };
}

export class CompareScreen implements CompareView {
  readonly #terminal: Terminal;
  readonly #nowMs: () => number;
  #startedMs: number;
  #statusMs = Number.NEGATIVE_INFINITY;
  #done = 0;
  #all = 1;
  /** tokens of runs that were made at an earlier start: they say nothing about this one's speed */
  #doneBefore = 0;

  constructor(terminal: Terminal, nowMs: () => number) {
    this.#terminal = terminal;
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
  }

  begin({ title, peers, tokens, seeds, strategies, configuration, commit }: Plan, inner: Genesis['inner']): void {
    const { trainer, genesis, backend } = configuration;
    const what = `${title}, ${peers} peers, ${formatCount(tokens)} tokens a run`;
    this.#terminal.line(`${this.#terminal.paint('bold', 'outerloop compare')}  ${what}`);
    if (trainer === 'real') {
      this.#terminal.line(`  ${modelWords({ ...(genesis as Genesis), inner })}; backend ${backend}`);
    }
    this.#terminal.line(`  ${worldOf({ configuration }).join(', ')}`);
    this.#terminal.line(`  seeds ${seeds.join(', ')}, commit ${commit ?? 'unknown'}`);
    for (const { name, about, settings } of strategies) {
      const rounds = settings.innerSteps === undefined ? '' : `; rounds of ${settings.innerSteps} steps`;
      this.#terminal.line(`  ${name.padEnd(20)} ${about}${rounds}`);
    }
    this.#terminal.line();
  }

  goOn({ runs }: Report, folder: string): void {
    const whole = runs.filter(({ reason }) => reason !== 'stopped').length;
    this.#terminal.line(`going on from ${folder}: ${whole} runs are there already`);
  }

  begun(): void {
    this.#doneBefore = this.#done;
    this.#startedMs = this.#nowMs();
    this.#drawStatus();
  }

  progress(done: number, all: number): void {
    this.#done = done;
    this.#all = all;
    this.tick();
  }

  tick(): void {
    if (this.#nowMs() - this.#statusMs >= STATUS_INTERVAL_MS) this.#drawStatus();
  }

  #drawStatus(): void {
    this.#statusMs = this.#nowMs();
    const [done, all] = [this.#done, this.#all];
    const work = { done: done - this.#doneBefore, all: all - this.#doneBefore };
    const left = leftWords(work, this.#statusMs - this.#startedMs);
    this.#terminal.status(`${formatBar(done, all)} ${formatCount(done)} of ${formatCount(all)} tokens · ${left}`);
  }

  run({ series, seed, loss, virtualMs, bytes, reason }: RunRecord): void {
    const parts = [
      `${this.#terminal.paint('bold', series.padEnd(20))} seed ${seed}`,
      loss === null ? this.#terminal.paint('yellow', reason) : this.#terminal.paint('green', `val ${formatLoss(loss)}`),
      `${formatDuration(virtualMs)} virtual`,
      `${formatBytes(Math.round(bytes))} a peer`,
    ];
    this.#terminal.line(parts.join('  '));
  }

  done(report: Report): void {
    const { complete, wallSeconds } = report;
    this.#terminal.line();
    const [titles, ...rows] = tableLines(report);
    this.#terminal.line(this.#terminal.paint('dim', titles ?? ''));
    for (const row of rows) this.#terminal.line(row);
    for (const { series, says } of remarksOf(report)) {
      this.#terminal.line(this.#terminal.paint('yellow', `${series}: ${says}`));
    }
    const ending = complete ? 'done' : 'stopped, with the results so far,';
    this.#terminal.line(`${ending} in ${formatDuration(1000 * wallSeconds)}`);
  }

  wrote(folder: string): void {
    this.#terminal.line(join(folder, 'report.html'));
  }

  close(): void {
    this.#terminal.status('');
  }
}

/** The table in columns as wide as what is in them, titles first. */
function tableLines(report: Report): string[] {
  const columns = columnsOf(report);
  const cellsOf = (row: SummaryRow) => [row.series, ...columns.map(({ text }) => text(row))];
  const lines = [['', ...columns.map(({ title }) => title)], ...report.summary.map(cellsOf)];
  const widths = columns.map((_, i) => Math.max(...lines.map((cells) => cells[i]?.length ?? 0)));
  return lines.map((cells) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

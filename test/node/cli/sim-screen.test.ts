import { expect, it } from 'vitest';
import { CompareScreen } from '../../../node/cli/compare-screen.ts';
import { SimScreen } from '../../../node/cli/sim-screen.ts';
import { exitCodeOf, leftWords } from '../../../node/cli/sim-words.ts';
import { Terminal } from '../../../node/cli/terminal.ts';
import type { Report } from '../../../sim/report/report.ts';
import type { RoundRow } from '../../../sim/round-rows.ts';

function screenOf<T>(make: (terminal: Terminal, nowMs: () => number) => T) {
  const clock = { nowMs: 0 };
  const written: string[] = [];
  const sink = { isTTY: true, columns: 120, write: (text: string) => written.push(text) };
  const screen = make(new Terminal(sink, { NO_COLOR: '1' }), () => clock.nowMs);
  return { screen, clock, written: () => written.join('') };
}

const ROW = { round: 1, virtualMs: 65_000, contributors: 4, trainLoss: 3, valLoss: null, bytes: 5, final: true };

it('tells how long the rest takes, by what was done since the time began', () => {
  expect(leftWords({ done: 0, all: 10 }, 5000)).toBe('… left');
  expect(leftWords({ done: 1, all: 10 }, 5000)).toBe('45s left');
  expect(leftWords({ done: 12, all: 10 }, 5000)).toBe('0s left');
});

it('shows where a simulation is after every round and whenever it is asked', () => {
  const { screen, clock, written } = screenOf((terminal, nowMs) => new SimScreen(terminal, nowMs));
  clock.nowMs = 10_000;
  screen.tick(30_000);
  expect(written()).toMatch(/0\/0 · 30s virtual · … left$/);
  screen.round(ROW as RoundRow);
  expect(written()).toMatch(/1\/0 · 1m 05s virtual · 0s left$/);
  clock.nowMs = 10_001;
  screen.tick(70_000);
  expect(written()).not.toContain('1m 10s');
  clock.nowMs = 11_000;
  screen.tick(70_000);
  expect(written()).toMatch(/1m 10s virtual · 0s left$/);
});

it('does not take runs of an earlier start for its own speed', () => {
  const { screen, clock, written } = screenOf((terminal, nowMs) => new CompareScreen(terminal, nowMs));
  screen.progress(900, 1000);
  clock.nowMs = 1000;
  screen.begun();
  expect(written()).toMatch(/900 of 1.00k tokens · … left$/);
  clock.nowMs = 61_000;
  screen.progress(950, 1000);
  expect(written()).toMatch(/950 of 1.00k tokens · 1m 00s left$/);
});

it('says below the table why a run has no loss, and fails for it and for one that diverged', () => {
  const { screen, written } = screenOf((terminal, nowMs) => new CompareScreen(terminal, nowMs));
  const run = { series: 'topk', seed: 3, loss: null, warnings: {}, diverged: [] as number[] };
  const stuck = { ...run, reason: 'stuck' as const };
  const report = { kind: 'compare', summary: [], runs: [stuck], complete: true, wallSeconds: 2 };
  screen.done(report as unknown as Report);
  expect(written()).toContain('topk: stuck: nobody was left, or no round came in a long time');
  expect(exitCodeOf([stuck])).toBe(1);
  expect(exitCodeOf([{ reason: 'rounds', diverged: [4] }])).toBe(1);
  expect(
    exitCodeOf([
      { reason: 'rounds', diverged: [] },
      { reason: 'stopped', diverged: [] },
    ]),
  ).toBe(0);
});

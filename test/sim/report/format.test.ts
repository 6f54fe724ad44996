import { expect, it } from 'vitest';
import {
  bytesText,
  countText,
  lossText,
  percentText,
  statisticText,
  timeText,
  timeTickTexts,
} from '../../../sim/report/format.ts';
import { logTicks, logTimeTicks, niceTicks, timeTicks } from '../../../sim/report/ticks.ts';

it('writes numbers as people read them', () => {
  expect([0, 950, 12_345, 1_200_000].map(bytesText)).toEqual(['0 B', '950 B', '12.3 kB', '1.20 MB']);
  expect([5, 20_000, 3_072_000, Number.NaN].map(countText)).toEqual(['5', '20k', '3.07M', '–']);
  expect([0, 340, 1000, 12_500, 90_000, 200_000, 600_000, 7_560_000].map(timeText)).toEqual([
    '0 s',
    '340 ms',
    '1 s',
    '12.5 s',
    '90 s',
    '3.33 min',
    '10 min',
    '2.10 h',
  ]);
  expect([1.23456, null, Number.NaN].map(lossText)).toEqual(['1.235', '–', '–']);
  expect([1.25, -0.5, 0].map(percentText)).toEqual(['+1.3 %', '-0.5 %', '0.0 %']);
  expect(statisticText({ mean: 2, spread: 0.0123, n: 3 }, lossText, 3)).toBe('2.000 ± 0.012');
  expect(statisticText({ mean: 2, spread: null, n: 1 }, lossText, 3)).toBe('2.000');
  expect(percentText(22_011_457)).toBe('+22.0M %');
  expect(statisticText({ mean: 20_000, spread: 3000, n: 3 }, percentText, 1)).toBe('+20k % ± 3k');
  expect(statisticText(null, lossText, 3)).toBe('–');
});

it('marks axes at round numbers', () => {
  expect(niceTicks(0, 10, 5)).toEqual([0, 2, 4, 6, 8, 10]);
  expect(niceTicks(1.93, 2.41, 6)).toEqual([2, 2.1, 2.2, 2.3, 2.4]);
  expect(timeTicks(0, 500_000, 4)).toEqual([0, 300_000]);
  expect(timeTicks(0, 130_000, 5)).toEqual([0, 30_000, 60_000, 90_000, 120_000]);
  expect(timeTicks(0, 36_000_000, 5)).toEqual([0, 2, 4, 6, 8, 10].map((hour) => hour * 3_600_000));
  expect(logTicks(1000, 200_000, 10)).toEqual([1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000]);
  expect(timeTickTexts([0, 30_000, 60_000, 150_000])).toEqual(['0 s', '30 s', '60 s', '150 s']);
  expect(timeTickTexts([300_000, 3_600_000])).toEqual(['5 min', '60 min']);
  expect(timeTickTexts([0, 9_000_000, 18_000_000])).toEqual(['0 min', '150 min', '300 min']);
  expect(timeTickTexts([0, 7_200_000])).toEqual(['0 h', '2 h']);
  expect(timeTickTexts([0, 500, 1000])).toEqual(['0 s', '500 ms', '1 s']);
  const clock = (...bounds: Parameters<typeof logTimeTicks>) => logTimeTicks(...bounds).map(timeText);
  expect(clock(20_000, 1_500_000, 8)).toEqual(['30 s', '1 min', '2 min', '5 min', '10 min']);
  expect(clock(200, 40_000_000, 12)).toEqual([
    '300 ms',
    '1 s',
    '3 s',
    '10 s',
    '30 s',
    '1 min',
    '3 min',
    '10 min',
    '30 min',
    '1 h',
    '3 h',
    '10 h',
  ]);
  expect(clock(2000, 40_000_000, 5)).toEqual(['10 s', '1 min', '10 min', '1 h', '10 h']);
  expect(logTicks(1, 100, 5)).toEqual([1, 3, 10, 30, 100]);
  expect(logTicks(1, 1e6, 5)).toEqual([1, 10, 100, 1000, 10_000, 100_000, 1_000_000]);
});

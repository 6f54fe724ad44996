import type { Statistic } from '../comparison.ts';
import { timeUnitOf } from './ticks.ts';

/** Numbers as people read them; what is not a number is a dash. */

function scaled(value: number, units: readonly string[]): string {
  let [left, unit] = [value, 0];
  // 999.5 would be written as 1000
  while (left >= 999.5 && unit < units.length - 1) {
    left /= 1000;
    unit++;
  }
  const digits = left === 0 || Number.isInteger(left) ? 0 : left < 9.995 ? 2 : left < 99.95 ? 1 : 0;
  return `${left.toFixed(digits)}${units[unit]}`;
}

/** 950 B, 12.3 kB, 1.20 MB: powers of 1000. */
export function bytesText(bytes: number): string {
  return Number.isFinite(bytes) ? scaled(bytes, [' B', ' kB', ' MB', ' GB', ' TB']) : '–';
}

export function countText(count: number): string {
  return Number.isFinite(count) ? scaled(count, ['', 'k', 'M', 'G', 'T']) : '–';
}

/** Three digits: 340 ms, 12.5 s, 3.40 min, 2.10 h. */
export function timeText(ms: number): string {
  if (!Number.isFinite(ms)) return '–';
  if (ms === 0) return '0 s';
  const units = [
    [3_600_000, 'h'],
    [60_000, 'min'],
    [1000, 's'],
    [1, 'ms'],
  ] as const;
  const [size, name] = units.find(([size]) => ms >= 2 * size || ms === size) ?? [1, 'ms'];
  const value = ms / size;
  return `${value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toPrecision(3).replace(/\.0+$/, '')} ${name}`;
}

/** The texts of the ticks of one axis. */
export function timeTickTexts(ticks: readonly number[]): string[] {
  const unit = timeUnitOf(ticks);
  return ticks.map((tick) => (unit ? `${Number((tick / unit.ms).toPrecision(4))} ${unit.name}` : timeText(tick)));
}

export function lossText(loss: number | null | undefined): string {
  return loss === null || loss === undefined || !Number.isFinite(loss) ? '–' : loss.toPrecision(4);
}

export function percentText(percent: number): string {
  return Number.isFinite(percent) ? `${percent > 0 ? '+' : ''}${fixed(percent, 1)} %` : '–';
}

/**
 * `1.723 ± 0.004`; without spread where there is one value alone.
 * @param digits of the spread, after the point
 */
export function statisticText(statistic: Statistic | null, text: (value: number) => string, digits: number): string {
  if (!statistic) return '–';
  const { mean, spread } = statistic;
  return spread === null ? text(mean) : `${text(mean)} ± ${fixed(spread, digits)}`;
}

/** Where a run went astray, digits after the point say nothing. */
function fixed(value: number, digits: number): string {
  return value < 1000 ? value.toFixed(digits) : countText(value);
}

export function escapeHtml(text: string): string {
  const names: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text.replace(/[&<>"']/g, (character) => names[character]!);
}

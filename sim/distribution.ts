import type { RandomStream } from '../protocol/random.ts';
import { scenarioError } from './errors.ts';

/** What a random quantity (a latency, the time of a step) is drawn from. In the unit of the quantity, never negative. */
export type Distribution =
  | { kind: 'constant'; value: number }
  | { kind: 'uniform'; from: number; to: number }
  /** exp of a normal: `median` is e^mu, `sigma` the standard deviation of the logarithm */
  | { kind: 'lognormal'; median: number; sigma: number };

export function constant(value: number): Distribution {
  return { kind: 'constant', value };
}

export function draw(distribution: Distribution, random: RandomStream): number {
  switch (distribution.kind) {
    case 'constant':
      return distribution.value;
    case 'uniform':
      return distribution.from + (distribution.to - distribution.from) * random.unit();
    case 'lognormal':
      return distribution.median * Math.exp(distribution.sigma * normal(random));
    default:
      return distribution satisfies never;
  }
}

/** A value to plan with (a screen's estimate, a retransmission timeout): no draw. */
export function typical(distribution: Distribution): number {
  switch (distribution.kind) {
    case 'constant':
      return distribution.value;
    case 'uniform':
      return (distribution.from + distribution.to) / 2;
    case 'lognormal':
      return distribution.median;
    default:
      return distribution satisfies never;
  }
}

/**
 * Standard normal by Box and Muller (1958). V8 computes log and cos in software (fdlibm), the same on every platform: a real
 * run draws none, but what is simulated must be the same there, too.
 */
export function normal(random: RandomStream): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.unit()));
  return radius * Math.cos(2 * Math.PI * random.unit());
}

const UNITS_MS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000 };
const DURATIONS = 'like 80ms, 30s or 20min';

/**
 * Reads a duration or a distribution of durations: `80ms`, `1.5s`, `uniform(20ms,90ms)`, `lognormal(80ms,0.3)`.
 * @returns in milliseconds
 * @throws CodedError `E_SCENARIO` naming `option`
 */
export function parseDurations(option: string, text: string): Distribution {
  const call = /^(uniform|lognormal)\(([^,()]+),([^,()]+)\)$/.exec(text.replaceAll(' ', ''));
  if (!call) return constant(parseOne(option, text, `${DURATIONS}, uniform(20ms,90ms) or lognormal(80ms,0.3)`));
  const [, kind, first, second] = call as unknown as [string, string, string, string];
  if (kind === 'lognormal') {
    const sigma = /^\d+(\.\d+)?$/.test(second) ? Number(second) : Number.NaN;
    if (!(sigma <= 5)) throw scenarioError(`${option}: the sigma of lognormal(median,sigma) is from 0 to 5: "${text}"`);
    return { kind, median: parseDuration(option, first), sigma };
  }
  const [from, to] = [parseDuration(option, first), parseDuration(option, second)];
  if (from > to) throw scenarioError(`${option}: uniform(from,to) needs from <= to: "${text}"`);
  return { kind: 'uniform', from, to };
}

/**
 * @returns milliseconds
 * @throws CodedError `E_SCENARIO` naming `option`
 */
export function parseDuration(option: string, text: string): number {
  return parseOne(option, text, DURATIONS);
}

function parseOne(option: string, text: string, examples: string): number {
  const value = durationMs(text);
  if (value === undefined) throw scenarioError(`${option} takes a duration ${examples}: "${text}"`);
  if (value < 0) throw scenarioError(`${option}: ${text} is negative: give 0 or more`);
  return value;
}

/** @returns undefined for what is not a number with a unit from us to h */
export function durationMs(text: string): number | undefined {
  const [, digits, unit] = /^(-?\d+(?:\.\d+)?|-?\.\d+)(us|ms|s|m|min|h)$/.exec(text.trim()) ?? [];
  return unit === undefined ? undefined : Number(digits) * UNITS_MS[unit]!;
}

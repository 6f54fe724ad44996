/** Round numbers (1, 2, 2.5 or 5 times a power of ten) within the range, about so many at most. */
export function niceTicks(from: number, to: number, max: number): number[] {
  const rough = (to - from) / Math.max(1, max);
  const power = 10 ** Math.floor(Math.log10(rough));
  return multiples(from, to, power * ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) ?? 10));
}

const CLOCK_STEPS_MS = [1, 2, 5, 10, 15, 20, 30].flatMap((step) => [1000 * step, 60_000 * step]);

/** Milliseconds that are round as seconds, minutes or hours. */
export function timeTicks(from: number, to: number, max: number): number[] {
  const rough = (to - from) / Math.max(1, max);
  if (rough <= 1000) return niceTicks(from, to, max);
  const clock = CLOCK_STEPS_MS.sort((a, b) => a - b).find((step) => step >= rough);
  const hour = 3_600_000;
  return clock ? multiples(from, to, clock) : niceTicks(from / hour, to / hour, max).map((tick) => tick * hour);
}

/** Powers of ten within the range, with 2 and 5, or 3, between them where there is room. */
export function logTicks(from: number, to: number, max: number): number[] {
  const every = (factors: readonly number[]): number[] => {
    const ticks: number[] = [];
    for (let power = Math.floor(Math.log10(from)); power <= Math.log10(to); power++) {
      for (const factor of factors) ticks.push(factor * 10 ** power);
    }
    return ticks.filter((tick) => tick >= from && tick <= to);
  };
  return [every([1, 2, 5]), every([1, 3])].find((ticks) => ticks.length <= max) ?? every([1]);
}

/** Digits after the point that the longest of them needs. */
export function decimalsOf(ticks: readonly number[]): number {
  return Math.max(0, ...ticks.map((tick) => String(tick).split('.')[1]?.length ?? 0));
}

function multiples(from: number, to: number, step: number): number[] {
  const ticks: number[] = [];
  for (let i = Math.ceil(from / step); i * step <= to * (1 + 1e-12); i++)
    ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

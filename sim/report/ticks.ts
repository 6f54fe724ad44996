/** Round numbers (1, 2, 2.5 or 5 times a power of ten) within the range, about so many at most. */
export function niceTicks(from: number, to: number, max: number): number[] {
  const rough = (to - from) / Math.max(1, max);
  const power = 10 ** Math.floor(Math.log10(rough));
  return multiples(from, to, power * ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) ?? 10));
}

const [SECOND, MINUTE, HOUR] = [1000, 60_000, 3_600_000];
const CLOCK_STEPS_MS = [1, 2, 5, 10, 15, 20, 30].flatMap((step) => [SECOND * step, MINUTE * step]);

/** Milliseconds that are round as seconds, minutes or hours. */
export function timeTicks(from: number, to: number, max: number): number[] {
  const rough = (to - from) / Math.max(1, max);
  if (rough <= 1000) return niceTicks(from, to, max);
  const clock = CLOCK_STEPS_MS.sort((a, b) => a - b).find((step) => step >= rough);
  return clock ? multiples(from, to, clock) : niceTicks(from / HOUR, to / HOUR, max).map((tick) => tick * HOUR);
}

/** What such ticks are called, all in one unit: 30 s, 60 s, 90 s. @returns undefined where they are no round times */
export function timeUnitOf(ticks: readonly number[]): { name: string; ms: number } | undefined {
  const units = [
    { name: 'h', ms: HOUR },
    { name: 'min', ms: MINUTE },
    { name: 's', ms: SECOND },
  ];
  return units.find(({ ms }) => ticks.every((tick) => tick % ms === 0) || Math.max(...ticks) >= 1000 * ms);
}

/** Powers of ten within the range, with 2 and 5, or 3, between them where there is room. */
export function logTicks(from: number, to: number, max: number): number[] {
  const every = (factors: readonly number[]) => powers(factors, from, to, 1);
  return [every([1, 2, 5]), every([1, 3])].find((ticks) => ticks.length <= max) ?? every([1]);
}

/** The factors times powers of ten, of a unit, within the range. */
function powers(factors: readonly number[], from: number, to: number, unit: number): number[] {
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(from / unit)); power <= Math.log10(to / unit); power++) {
    for (const factor of factors) ticks.push(factor * 10 ** power * unit);
  }
  return ticks.filter((tick) => tick >= from && tick <= to);
}

/** Milliseconds of a clock's round numbers within the range, as dense as there is room: 10 s, 30 s, 1 min, 3 min, 10 min. */
export function logTimeTicks(from: number, to: number, max: number): number[] {
  const every = (factors: readonly number[]): number[] => {
    // below a second and from an hour on there are powers of ten alone
    const plain = factors.filter((factor) => factor < 10);
    const clock = [SECOND, MINUTE].flatMap((unit) => factors.map((factor) => factor * unit));
    return [
      ...powers(plain, from, Math.min(to, SECOND - 1), 1),
      ...clock.filter((tick) => tick >= from && tick <= to),
      ...powers(plain, Math.max(from, HOUR), to, HOUR),
    ];
  };
  const kinds = [
    [1, 2, 5, 10, 30],
    [1, 3, 10, 30],
    [1, 10],
  ];
  return kinds.map(every).find((ticks) => ticks.length <= max) ?? every([1]);
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

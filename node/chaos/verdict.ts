import type { FaultReport } from './faults.ts';
import type { Divergence, Work } from './observed.ts';

/** A killed peer's update must be in one of so many rounds after it is ready. */
const ROUNDS_MAX = 2;
/** Or be there so soon: rounds of small models may be shorter than it takes to connect and to hear what is new. */
const RECOVERED_MS_MAX = 2000;

/** Tokens trained, of those that there would have been without faults; null where that is not known. */
export function shareOf({
  rate,
  baselineRate,
  machineSpeed,
}: {
  rate: number;
  baselineRate: number | null;
  machineSpeed: number | null;
}): number | null {
  return baselineRate ? rate / (baselineRate * (machineSpeed ?? 1)) : null;
}

/** @param least share that is asked for. @returns why the campaign is not passed, if not enough was trained */
export function tooFew(share: number | null, least: number): string[] {
  if (least === 0 || (share !== null && share >= least)) return [];
  if (share === null)
    return ['nothing to compare with: without faults no round ended in that time, give more --minutes'];
  return [`${percent(share)} of the tokens without faults were trained, ${percent(least)} are asked`];
}

/** 97.7 % of 0.977, as it is read here and on the screen. */
export function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`;
}

/** @returns that work was lost, where some was */
export function lostOf({ lost }: Pick<Work, 'lost'>): string[] {
  return lost === 0 ? [] : [`the work of ${lost} contributions was given up: their peers were away for too long`];
}

/** Why a campaign is not passed, whatever was trained. @param fallen peers that ended by themselves, with their last words */
export function failuresOf(
  faults: readonly FaultReport[],
  diverged: readonly Divergence[],
  fallen: readonly string[],
): string[] {
  const roots = diverged.map(({ round }) => `round ${round} has more than one root`);
  const slow = faults.flatMap(({ kind, peer, rounds, recoveredMs, error }) => {
    if (error !== undefined) return [error];
    if (rounds === null || recoveredMs === null) return [`peer ${peer} did not contribute again after ${kind}`];
    const late = kind === 'kill' && rounds > ROUNDS_MAX && recoveredMs > RECOVERED_MS_MAX;
    return late
      ? [`killed peer ${peer} contributed ${rounds} rounds after it was ready, ${ROUNDS_MAX} are allowed`]
      : [];
  });
  return [...roots, ...fallen, ...slow];
}

import type { Hash } from './hash.ts';
import { LIMITS } from './limits.ts';

/**
 * Which agreed states stay when one more is saved, oldest first: the newest, and those that are named. One that a peer has
 * come to once more takes the place of the one before. The machine offers what its driver has on disk, so both go by this.
 */
export function statesKept<State extends { block: Hash }>(
  before: readonly State[],
  saved: State,
  isNamed: (state: State) => boolean,
): State[] {
  const states = [...before.filter(({ block }) => block !== saved.block), saved];
  return states.filter((state, i) => i >= states.length - LIMITS.snapshotsKept || isNamed(state));
}

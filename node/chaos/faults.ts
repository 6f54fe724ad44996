import type { RandomStream } from '../../protocol/random.ts';

export const FAULTS = ['kill', 'stop', 'restart', 'cut'] as const;
/**
 * `kill`: SIGKILL, and started again. `stop`: SIGSTOP, and SIGCONT. `restart`: SIGINT, so that it leaves in good order,
 * and started again. `cut`: all its connections broken, and none let through.
 */
export type FaultKind = (typeof FAULTS)[number];

export interface Fault {
  kind: FaultKind;
  /** its place among the peers */
  peer: number;
  /** until it is started again, goes on, or is let through */
  forMs: number;
}

/** A fault lasts at most this part of the time between two. */
const LONGEST = 0.5;
const SHORTEST_MS = 500;

/** @param free peers that nothing is being done to; at least one */
export function drawFault(
  random: RandomStream,
  kinds: readonly FaultKind[],
  free: readonly number[],
  everyMs: number,
): Fault {
  const kind = kinds[random.below(kinds.length)] ?? 'kill';
  const peer = free[random.below(free.length)] ?? 0;
  const longestMs = Math.max(SHORTEST_MS, LONGEST * everyMs);
  return { kind, peer, forMs: Math.round(SHORTEST_MS + random.unit() * (longestMs - SHORTEST_MS)) };
}

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

/** A fault and how the peer got over it. Times in milliseconds. */
export interface FaultReport extends Fault {
  id: string;
  /** since the first round */
  atMs: number;
  /** from when its process was started again until it was ready; null where the process was not ended */
  readyMs: number | null;
  /** from when it was ready until a certified round with an update made since the fault was over; null if that was not in time */
  recoveredMs: number | null;
  /** that round, counted from the last one that was over when it was ready */
  rounds: number | null;
  /** the same from the last one that was over when its process was started again, though it takes a while to be ready */
  roundsFromStart: number | null;
  /** what failed, if something did */
  error?: string;
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

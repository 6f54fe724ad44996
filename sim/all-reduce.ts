import { ComputeModel } from './compute.ts';
import { Links } from './links.ts';
import type { Scenario } from './scenario.ts';

/** What data-parallel training pays for its exchange, were nobody ever to fail. */
export interface AllReduceCharge {
  /** sent by each peer in one step, and received by it */
  bytesAStep: number;
  /** virtual milliseconds of one exchange */
  exchangeMs: number;
  /** when each step's exchange is over */
  ends: Float64Array;
  /** of one peer in the mean, virtual milliseconds in all */
  trainingMs: number;
}

/** float32 gradients, as DDP exchanges them by default */
const BYTES_A_PARAMETER = 4;

/**
 * A ring all-reduce (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations"):
 * R peers in a ring pass N bytes on in R parts, 2 (R - 1) times,
 *
 *   bytes sent by each = 2 (R - 1) / R N
 *   time = 2 (R - 1) max_i (l_i + N / (R b_i)),   l_i, b_i latency and rate from peer i to the next
 *
 * in the order of their indices. A step begins when the slowest peer's step before and the exchange are over. Nothing is
 * charged for summing, for stalls of single packets, or for starting up; and no exchange overlaps with computing, which
 * hides at most a step's time of it.
 */
export function chargeAllReduce(
  { scenario, seed }: { scenario: Scenario; seed: number },
  { peers, steps, parameters }: { peers: number; steps: number; parameters: number },
): AllReduceCharge {
  const links = new Links(scenario.links, seed);
  const bytes = BYTES_A_PARAMETER * parameters;
  let passMs = 0;
  for (let from = 0; from < peers && peers > 1; from++) {
    const to = (from + 1) % peers;
    const rate = Math.min(links.uploadRate(from), links.downloadRate(to), links.lossyRate(from, to));
    passMs = Math.max(passMs, links.oneWayMs(from, to) + bytes / peers / rate);
  }
  const passes = 2 * (peers - 1);
  const exchangeMs = passes * passMs;
  const compute = new ComputeModel(scenario.compute, { peers, seed });
  const stepEnds = Array.from({ length: peers }, (_, peer) => compute.stepEnds(peer, steps));
  const ends = new Float64Array(steps);
  let nowMs = 0;
  for (let step = 0; step < steps; step++) {
    let slowestMs = 0;
    for (const own of stepEnds) slowestMs = Math.max(slowestMs, own[step]! - (own[step - 1] ?? 0));
    nowMs += slowestMs + exchangeMs;
    ends[step] = nowMs;
  }
  const trainingMs = stepEnds.reduce((sum, own) => sum + (own.at(-1) ?? 0), 0) / peers;
  return { bytesAStep: (passes / peers) * bytes, exchangeMs, ends, trainingMs };
}

import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isCoded } from '../../protocol/errors.ts';
import { randomStream } from '../../protocol/random.ts';
import { drawFault, type Fault, type FaultKind } from './faults.ts';
import type { Divergence, Observed, Work } from './observed.ts';
import { Swarm, type SwarmInit } from './swarm.ts';

export interface CampaignInit extends SwarmInit {
  seed: number;
  kinds: readonly FaultKind[];
  everyMs: number;
  /** faults are made for so long */
  durationMs: number;
  /** or until there were so many @default without limit */
  faultsMax?: number;
  /** tokens a second without faults: a number known from before, null for not comparing, undefined to measure */
  baselineRate?: number | null;
  /** part of the tokens without faults that must have been trained @default 0 */
  least?: number;
}

/** A fault and how the peer got over it. Times in milliseconds. */
export interface FaultReport extends Fault {
  id: string;
  /** since the first round */
  atMs: number;
  /** from when its process was started again until it was ready; null where the process was not ended */
  readyMs: number | null;
  /** from when it was ready until a round with its update was over; null if that did not happen in time */
  recoveredMs: number | null;
  /** that round, counted from the last one that was over when it was ready */
  rounds: number | null;
  /** the same from the last one that was over when its process was started again, though it takes a while to be ready */
  roundsFromStart: number | null;
  /** what failed, if something did */
  error?: string;
}

export interface CampaignResult {
  peers: number;
  rounds: number;
  /** trained on in whole rounds, and how long these took: from the end of the first to that of the last */
  tokens: number;
  ms: number;
  /** tokens a second, and as many without faults; null where that was not wanted */
  rate: number;
  baselineRate: number | null;
  compared: number;
  diverged: Divergence[];
  faults: FaultReport[];
  work: Work;
  /** why it is not passed; empty if it is */
  failures: string[];
}

export interface CampaignView {
  phase(text: string): void;
  fault(report: FaultReport): void;
}

/** A killed peer's update must be in one of so many rounds after it is ready. */
const ROUNDS_MAX = 2;
/** Or be there so soon: rounds of small models may be shorter than it takes to connect and to hear what is new. */
const RECOVERED_MS_MAX = 2000;
/** How long a peer may take to contribute again. */
const RECOVERY_MS = 120_000;

/**
 * Lets real peers train, and does something to one of them every so often. Faults may overlap, but nothing is done to a
 * peer that has not got over the one before.
 * @throws CodedError of `Swarm.start`; the signal's reason when it is aborted
 */
export async function runCampaign(
  init: CampaignInit,
  view: CampaignView,
  signal: AbortSignal,
): Promise<CampaignResult> {
  const { peers, dir, durationMs, baselineRate } = init;
  // half before and half after: what else the machine has to do changes in the meantime
  const halfMs = baselineRate === undefined && Number.isFinite(durationMs) ? durationMs / 2 : 0;
  const first = halfMs > 0 ? await faultless(init, 'before', halfMs, view, signal) : NOTHING;
  view.phase(`starting ${peers} peers, and then the faults`);
  const chaos = await withSwarm({ ...init, dir: join(dir, 'chaos') }, signal, (swarm) =>
    cause(init, swarm, view, signal),
  );
  if (baselineRate !== undefined) return judged({ peers, baselineRate, ...chaos }, init);
  const restMs = Math.max(halfMs, Math.min(chaos.ms, durationMs) - halfMs);
  const second = await faultless(init, 'after', restMs, view, signal);
  const measuredRate = rateOf(first.tokens + second.tokens, first.ms + second.ms);
  return judged({ peers, baselineRate: measuredRate, ...chaos }, init);
}

/** Whether enough was trained. */
function judged(result: CampaignResult, { least = 0 }: CampaignInit): CampaignResult {
  const { rate, baselineRate, failures } = result;
  if (baselineRate === null || rate >= least * baselineRate) return result;
  const [part, asked] = [rate / baselineRate, least].map((share) => (100 * share).toFixed(1));
  return {
    ...result,
    failures: [...failures, `${part} % of the tokens without faults were trained, ${asked} % are asked`],
  };
}

/** The same peers, to which nothing is done. */
async function faultless(
  init: CampaignInit,
  when: string,
  ms: number,
  view: CampaignView,
  signal: AbortSignal,
): Promise<Trained> {
  view.phase(`${init.peers} peers without faults, for ${Math.round(ms / 1000)} s`);
  return withSwarm({ ...init, dir: join(init.dir, `without-faults-${when}`) }, signal, async ({ observed }) => {
    const before = standingOf(observed);
    await delay(ms, undefined, { signal });
    return since(before, observed);
  });
}

type Trained = Pick<CampaignResult, 'tokens' | 'ms'>;
const NOTHING: Trained = { tokens: 0, ms: 0 };

interface Standing {
  tokens: number;
  atMs: number;
}

function standingOf({ tokens, lastRoundAtMs }: Observed): Standing {
  return { tokens, atMs: lastRoundAtMs };
}

/** From the end of one round to that of another: what is trained in the round under way is not known, and nor is its time counted. */
function since(before: Standing, observed: Observed): Trained {
  const now = standingOf(observed);
  return { tokens: now.tokens - before.tokens, ms: Math.round(now.atMs - before.atMs) };
}

/** A second. */
function rateOf(tokens: number, ms: number): number {
  return ms > 0 ? (1000 * tokens) / ms : 0;
}

async function withSwarm<T>(init: SwarmInit, signal: AbortSignal, use: (swarm: Swarm) => Promise<T>): Promise<T> {
  const swarm = new Swarm(init, signal);
  try {
    await swarm.start();
    return await use(swarm);
  } finally {
    await swarm.stop();
  }
}

async function cause(init: CampaignInit, swarm: Swarm, view: CampaignView, signal: AbortSignal) {
  const { observed } = swarm;
  const startMs = performance.now();
  const before = standingOf(observed);
  const faults = await causeFaults(init, swarm, view, signal, startMs);
  const trained = since(before, observed);
  view.phase('waiting until all peers have got over it');
  const reports = await Promise.all(faults);
  const last = observed.lastRound + 1;
  const together = await swarm.until(() => swarm.reached(last), RECOVERY_MS);
  const { rounds, compared, diverged } = observed.compareRoots();
  const failures = failuresOf(reports, diverged, swarm.fallen);
  if (!together && failures.length === 0) failures.push(`not all peers got to round ${last}`);
  return {
    ...trained,
    rate: rateOf(trained.tokens, trained.ms),
    rounds,
    compared,
    diverged,
    faults: reports,
    work: observed.work(),
    failures,
  };
}

/** @returns reports to come, one for each fault made */
async function causeFaults(
  { seed, kinds, peers, everyMs, durationMs, faultsMax = Number.POSITIVE_INFINITY }: CampaignInit,
  swarm: Swarm,
  view: CampaignView,
  signal: AbortSignal,
  startMs: number,
): Promise<Promise<FaultReport>[]> {
  const random = randomStream(seed, 'chaos');
  const busy = new Set<number>();
  const reports: Promise<FaultReport>[] = [];
  for (let n = 1; n * everyMs <= durationMs && reports.length < faultsMax && swarm.fallen.length === 0; n++) {
    await delay(Math.max(0, startMs + n * everyMs - performance.now()), undefined, { signal });
    const free = Array.from({ length: peers }, (_, peer) => peer).filter((peer) => !busy.has(peer));
    if (free.length === 0) continue;
    const fault = drawFault(random, kinds, free, everyMs);
    busy.add(fault.peer);
    const report = getOver(fault, swarm, signal, startMs).finally(() => busy.delete(fault.peer));
    report.then((done) => view.fault(done)).catch(() => undefined); // awaited by the caller
    reports.push(report);
  }
  if (reports.length >= faultsMax) await Promise.allSettled(reports);
  else await delay(Math.max(0, startMs + durationMs - performance.now()), undefined, { signal });
  return reports;
}

/** Does it, ends it, and waits until the peer contributes again. */
async function getOver(fault: Fault, swarm: Swarm, signal: AbortSignal, startMs: number): Promise<FaultReport> {
  const { peer } = fault;
  const id = swarm.idOf(peer);
  const atMs = Math.round(performance.now() - startMs);
  const { observed } = swarm;
  const report = { ...fault, id, atMs, readyMs: null, recoveredMs: null, rounds: null, roundsFromStart: null };
  try {
    const restart = await inflict(fault, swarm, signal);
    const sinceMs = performance.now();
    const before = observed.lastRound;
    const back = await swarm.until(() => observed.contribution(id, before) !== undefined, RECOVERY_MS);
    const round = observed.contribution(id, before);
    const recoveredMs = back ? Math.round(performance.now() - sinceMs) : null;
    const roundsFrom = (last: number) => (round === undefined ? null : round - last);
    const common = { ...report, recoveredMs, rounds: roundsFrom(before) };
    return restart ? { ...common, readyMs: restart.readyMs, roundsFromStart: roundsFrom(restart.lastRound) } : common;
  } catch (error) {
    if (!isCoded(error)) throw error;
    return { ...report, error: error.message };
  }
}

/** @returns where it had been ended: how long the peer took to be ready again, and the last round when it was started */
async function inflict(
  { kind, peer, forMs }: Fault,
  swarm: Swarm,
  signal: AbortSignal,
): Promise<{ readyMs: number; lastRound: number } | null> {
  const wait = (): Promise<void> => delay(forMs, undefined, { signal });
  switch (kind) {
    case 'kill':
    case 'restart': {
      await (kind === 'kill' ? swarm.kill(peer) : swarm.leave(peer));
      await wait();
      const [startedMs, { lastRound }] = [performance.now(), swarm.observed];
      await swarm.restart(peer);
      return { readyMs: Math.round(performance.now() - startedMs), lastRound };
    }
    case 'stop':
      swarm.signal(peer, 'SIGSTOP');
      await wait();
      swarm.signal(peer, 'SIGCONT');
      return null;
    case 'cut':
      swarm.links?.cut(peer);
      await wait();
      swarm.links?.heal(peer);
      return null;
    default:
      return kind satisfies never;
  }
}

function failuresOf(
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

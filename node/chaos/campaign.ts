import { join } from 'node:path';
import { CodedError, isCoded } from '../../protocol/errors.ts';
import { randomStream } from '../../protocol/random.ts';
import { drawFault, type Fault, type FaultKind, type FaultReport } from './faults.ts';
import { MachineSpeed, type Span } from './machine-speed.ts';
import type { Divergence, Observed, Work } from './observed.ts';
import { Swarm, type SwarmInit } from './swarm.ts';
import { failuresOf, lostOf, shareOf, tooFew } from './verdict.ts';

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
  /** `share` that is asked for @default 0 */
  least?: number;
}

export interface CampaignResult {
  peers: number;
  rounds: number;
  /** trained on in whole rounds, and how long these took: from the end of the first until all peers had got over the faults */
  tokens: number;
  ms: number;
  /** tokens a second, and as many without faults; null where that was not wanted */
  rate: number;
  baselineRate: number | null;
  /** how fast the machine was meanwhile, against what it was without faults; null where that was not measured */
  machineSpeed: number | null;
  /** tokens trained, of those without faults at that speed; null where there is nothing to compare with */
  share: number | null;
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

/** How long a peer may take to contribute again, and in usual rounds of the swarm, whichever is longer. */
const RECOVERY_MS = 120_000;
const RECOVERY_ROUNDS = 4;

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
  const speed = new MachineSpeed();
  try {
    if (init.baselineRate === undefined) speed.start();
    return await compare(init, speed, view, signal);
  } finally {
    speed.stop();
  }
}

async function compare(
  init: CampaignInit,
  speed: MachineSpeed,
  view: CampaignView,
  signal: AbortSignal,
): Promise<CampaignResult> {
  const { peers, dir, durationMs, baselineRate: knownRate, least = 0 } = init;
  const measures = knownRate === undefined;
  const faultFree: Faultless[] = [];
  // half before and half after: what else the machine has to do changes in the meantime
  const halfMs = measures && Number.isFinite(durationMs) ? durationMs / 2 : 0;
  if (halfMs > 0) {
    const half = await faultless(init, 'before', halfMs, view, signal);
    if (half.fallen[0] !== undefined) throw new CodedError('E_PEER_ENDED', `without faults, ${half.fallen[0]}`);
    faultFree.push(half);
  }
  view.phase(`starting ${peers} peers, and then the faults`);
  const { trained, failures, hasFallen, ...outcome } = await withSwarm(
    { ...init, dir: join(dir, 'chaos') },
    signal,
    (swarm) => cause(init, swarm, view),
  );
  const restMs = Math.max(halfMs, Math.min(msOf([trained]), durationMs) - halfMs);
  // it has failed already where a peer fell, and too little was trained to compare
  if (measures && !hasFallen) faultFree.push(await faultless(init, 'after', restMs, view, signal));
  const [rate, baselineRate] = [rateOf([trained]), measures ? rateOf(faultFree) : knownRate];
  const [fast, usual] = [speed.in([trained]), speed.in(faultFree)];
  const machineSpeed = fast === null || usual === null ? null : fast / usual;
  const share = shareOf({ rate, baselineRate, machineSpeed });
  const withoutFaults = faultFree.flatMap((half) => failuresOf([], half.diverged, half.fallen));
  return {
    ...outcome,
    peers,
    tokens: trained.tokens,
    ms: msOf([trained]),
    rate,
    baselineRate,
    machineSpeed,
    share,
    failures: [
      ...failures,
      ...withoutFaults.map((text) => `without faults, ${text}`),
      ...(hasFallen ? [] : tooFew(share, least)),
    ],
  };
}

interface Faultless extends Trained {
  diverged: Divergence[];
  /** peers that ended all the same */
  fallen: readonly string[];
}

/** The same peers, to which nothing is done. */
async function faultless(
  init: CampaignInit,
  when: string,
  ms: number,
  view: CampaignView,
  signal: AbortSignal,
): Promise<Faultless> {
  view.phase(`${init.peers} peers without faults, for ${Math.round(ms / 1000)} s`);
  return withSwarm({ ...init, dir: join(init.dir, `without-faults-${when}`) }, signal, async (swarm) => {
    const { observed, fallen } = swarm;
    const trained = trainingOf(observed);
    await swarm.until(() => false, ms);
    return { ...trained(), diverged: observed.compareRoots().diverged, fallen };
  });
}

/** From the end of one round to that of another: what is trained in the round under way is not known, and nor is its time counted. */
interface Trained extends Span {
  tokens: number;
}

/** @returns what is called later, for what was trained since */
function trainingOf(observed: Observed): () => Trained {
  const [before, fromMs] = [observed.tokens, Math.round(observed.lastRoundAtMs)];
  return () => ({ tokens: observed.tokens - before, fromMs, toMs: Math.round(observed.lastRoundAtMs) });
}

function msOf(spans: readonly Span[]): number {
  return spans.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);
}

/** Tokens a second. */
function rateOf(trained: readonly Trained[]): number {
  const tokens = trained.reduce((sum, each) => sum + each.tokens, 0);
  return tokens > 0 ? (1000 * tokens) / msOf(trained) : 0;
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

async function cause(init: CampaignInit, swarm: Swarm, view: CampaignView) {
  const { observed } = swarm;
  const startMs = performance.now();
  const training = trainingOf(observed);
  const faults = await causeFaults(init, swarm, view, startMs);
  view.phase('waiting until all peers have got over it');
  const reports = await Promise.all(faults);
  // work that was late is in a round only now
  const trained = training();
  const last = observed.lastRound + 1;
  const together = await inTime(swarm, () => swarm.reached(last));
  const { rounds, compared, diverged } = observed.compareRoots();
  const work = observed.work();
  const failures = [...failuresOf(reports, diverged, swarm.fallen), ...lostOf(work)];
  if (!together && failures.length === 0) failures.push(`not all peers got to round ${last}`);
  return {
    trained,
    rounds,
    compared,
    diverged,
    faults: reports,
    work,
    failures,
    hasFallen: swarm.fallen.length > 0,
  };
}

/** Ends early when a peer ends by itself. @returns reports to come, one for each fault made */
async function causeFaults(
  { seed, kinds, peers, everyMs, durationMs, faultsMax = Number.POSITIVE_INFINITY }: CampaignInit,
  swarm: Swarm,
  view: CampaignView,
  startMs: number,
): Promise<Promise<FaultReport>[]> {
  const random = randomStream(seed, 'chaos');
  const busy = new Set<number>();
  const reports: Promise<FaultReport>[] = [];
  const waitUntil = (ms: number) => swarm.until(() => false, Math.max(0, startMs + ms - performance.now()));
  for (let n = 1; n * everyMs <= durationMs && reports.length < faultsMax; n++) {
    await waitUntil(n * everyMs);
    if (swarm.fallen.length > 0) return reports;
    const free = Array.from({ length: peers }, (_, peer) => peer).filter((peer) => !busy.has(peer));
    if (free.length === 0) continue;
    const fault = drawFault(random, kinds, free, everyMs);
    busy.add(fault.peer);
    const report = getOver(fault, swarm, startMs).finally(() => busy.delete(fault.peer));
    report.then((done) => view.fault(done)).catch(() => undefined); // awaited by the caller
    reports.push(report);
  }
  if (reports.length >= faultsMax) await Promise.allSettled(reports);
  else await waitUntil(durationMs);
  return reports;
}

/** @returns whether it came to hold in the time that a peer may take; how long rounds are may show only meanwhile */
async function inTime(swarm: Swarm, condition: () => boolean): Promise<boolean> {
  const sinceMs = performance.now();
  for (;;) {
    const untilMs = sinceMs + Math.max(RECOVERY_MS, RECOVERY_ROUNDS * swarm.observed.usualRoundMs());
    const leftMs = untilMs - performance.now();
    if (leftMs <= 0) return false;
    if (await swarm.until(condition, leftMs)) return true;
    if (swarm.fallen.length > 0) return false;
  }
}

/** Does it, ends it, and waits until the peer contributes again. */
async function getOver(fault: Fault, swarm: Swarm, startMs: number): Promise<FaultReport> {
  const { peer } = fault;
  const id = swarm.idOf(peer);
  const atMs = Math.round(performance.now() - startMs);
  const { observed } = swarm;
  const report = { ...fault, id, atMs, readyMs: null, recoveredMs: null, rounds: null, roundsFromStart: null };
  try {
    const { announced, restart } = await inflict(fault, swarm);
    const sinceMs = performance.now();
    const before = observed.lastRound;
    // an update that was announced before the fault may be in its round without the peer
    const again = () => observed.contribution(id, Math.max(before, announced));
    const back = await inTime(swarm, () => again() !== undefined);
    const round = again();
    const recoveredMs = back ? Math.round(performance.now() - sinceMs) : null;
    const roundsFrom = (last: number) => (round === undefined ? null : round - last);
    const common = { ...report, recoveredMs, rounds: roundsFrom(before) };
    return restart ? { ...common, readyMs: restart.readyMs, roundsFromStart: roundsFrom(restart.lastRound) } : common;
  } catch (error) {
    if (!isCoded(error)) throw error;
    // of a swarm that is being ended nothing is a fault: this throws the reason
    await swarm.until(() => true, 0);
    return { ...report, error: error.message };
  }
}

interface Inflicted {
  /** the last round for which the peer had made its update when the fault took hold */
  announced: number;
  /** where it was ended: how long it took to be ready again, and the last round when it was started */
  restart: { readyMs: number; lastRound: number } | null;
}

async function inflict({ kind, peer, forMs }: Fault, swarm: Swarm): Promise<Inflicted> {
  const announced = (): number => swarm.observed.updateOf(peer);
  // for nothing, where a peer has ended by itself
  const wait = (): Promise<boolean> => swarm.until(() => false, forMs);
  switch (kind) {
    case 'kill':
    case 'restart': {
      await (kind === 'kill' ? swarm.kill(peer) : swarm.leave(peer));
      const before = announced();
      await wait();
      const [startedMs, { lastRound }] = [performance.now(), swarm.observed];
      await swarm.restart(peer);
      return { announced: before, restart: { readyMs: Math.round(performance.now() - startedMs), lastRound } };
    }
    case 'stop': {
      swarm.signal(peer, 'SIGSTOP');
      await wait();
      const before = announced();
      swarm.signal(peer, 'SIGCONT');
      return { announced: before, restart: null };
    }
    case 'cut': {
      swarm.links?.cut(peer);
      const before = announced();
      await wait();
      swarm.links?.heal(peer);
      return { announced: before, restart: null };
    }
    default:
      return kind satisfies never;
  }
}

import type { CodecConfig } from '../../protocol/codecs/codec.ts';
import { COMMITTEE, type Genesis } from '../../protocol/genesis.ts';
import { type RandomStream, randomStream } from '../../protocol/random.ts';
import { faultsTolerated } from '../../protocol/roster.ts';
import type { LastWrite } from '../virtual-peer.ts';
import { HABITS, type Habit } from './lies.ts';

/** One thing that goes wrong. All are drawn before the run, so that a failure can be had again with fewer of them. */
export type Fault = { atMs: number } & (
  | { kind: 'cut'; groups: number[][]; forMs: number; noticedMs: number }
  /** messages of the first reach none of the second, who go on being heard */
  | { kind: 'one-way'; from: number[]; to: number[]; forMs: number }
  /** messages are lost, doubled and held up, by these chances and at most so long */
  | { kind: 'storm'; forMs: number; loss: number; duplicates: number; delayMs: number }
  | { kind: 'pause'; peer: number; forMs: number }
  /**
   * at once, or in the moment in which the peer's next vote has left (what it said must be on its disk by then), or in which it
   * next writes
   */
  | { kind: 'crash'; peer: number; forMs: number; lastWrite: LastWrite; moment?: 'vote' | 'write' }
  /** many crash at once, as where they hang on one line or one cloud, and come back one after the other until so much later */
  | { kind: 'blackout'; peers: number[]; forMs: number; lastWrite: LastWrite }
  /** the peer's user stops it, and starts it again after a while, or never */
  | { kind: 'leave'; peer: number; backAfterMs: number | null }
  /** the peer is not there before */
  | { kind: 'late'; peer: number }
  | { kind: 'skew'; peer: number; rate: number; aheadMs: number }
  | { kind: 'jump'; peer: number; byMs: number }
  | { kind: 'lie'; peer: number; habit: Habit }
);

/** A swarm as its seed draws it. */
export interface Plan {
  seed: number;
  peers: number;
  /** the last ones of `peers`: who of them lies, and how, is among the faults */
  liars: number;
  genesis: Pick<Genesis, 'innerSteps' | 'codec' | 'outer' | 'waitFor' | 'committee' | 'timing' | 'rounds'>;
  /** of one inner step, in milliseconds */
  stepMs: number;
  latencyMs: number;
  encodeMs: number;
  applyMs: number;
  diskMs: number;
  /** from when something has come to a peer until it reads it, with all that has come meanwhile; 0 for each by itself */
  readMs: number;
  /** from when a process can be reached until it listens */
  bootMs: number;
  inlineBytesMax: number;
  /** by peer: for how long it sends the model's parameters, as 32 bits each, with nothing else; null for no time at all */
  sendMs: number[] | null;
  /** pairs that never get a connection, as between two routers: all reach a correct peer that is there in the end */
  apart: [number, number][];
  /** certified blocks in a segment of the history; null for as many as real peers have, which no swarm gets to */
  segmentBlocks: number | null;
  /** peers whose user names a block to trust when it starts them */
  pinned: number[];
  /** faults begin and end before this time; then the swarm is healed */
  safetyMs: number;
  /** correct peers that are down for good from when the rest are healed; with the liars they are as many as may fail */
  leftDown: number[];
  /** once healed, one of the peers leaves and comes back */
  returns: boolean;
  faults: Fault[];
  /** how often a liar speaks without being asked @default 400 */
  babbleMs?: number;
}

export interface PlanLimits {
  /** @default 12 */
  peersMax?: number;
  /** @default 45 000 */
  safetyMsMax?: number;
}

/** Draws a swarm: the same for the same seed and limits. */
export function drawPlan(seed: number, { peersMax = 12, safetyMsMax = 45_000 }: PlanLimits = {}): Plan {
  const random = randomStream(seed, 'plan');
  const peers = 2 + Math.min(random.below(peersMax - 1), random.below(peersMax - 1) + 2 * random.below(2));
  const liars = peers >= 4 && random.unit() < 0.6 ? 1 + random.below(faultsTolerated(peers)) : 0;
  const safetyMs = Math.round(safetyMsMax * (0.4 + 0.6 * random.unit()));
  const honest = peers - liars;
  const latencyMs = pick(random, [2, 20, 60, 150]);
  const [committee, rounds] = [drawCommittee(seed, peers, liars), drawRounds(seed)];
  const genesis = { ...drawGenesis(random, { honest, latencyMs }), committee, rounds };
  const pinned = drawPinned(seed, honest);
  const plan: Plan = {
    seed,
    peers,
    liars,
    genesis,
    // rounds of fewer round trips than it takes to fetch a state leave every joiner behind: a limit that is known
    stepMs: Math.max(30 + random.below(200), Math.ceil((ROUND_LATENCIES_MIN * latencyMs) / genesis.innerSteps)),
    latencyMs,
    encodeMs: 1 + random.below(40),
    applyMs: 1 + random.below(80),
    diskMs: pick(random, [0, 1, 5, 40]),
    readMs: pick(randomStream(seed, 'reading'), [0, 0, 5, 50]),
    bootMs: drawBootMs(seed, pinned.length > 0),
    inlineBytesMax: pick(random, [0, 32 * 1024]),
    sendMs: null,
    apart: [],
    segmentBlocks: pick(randomStream(seed, 'segments'), [null, 2, 3, 5, 8]),
    pinned,
    safetyMs,
    leftDown: drawLeftDown(seed, peers, { liars, waitFor: genesis.waitFor }),
    returns: true,
    faults: [],
  };
  plan.faults = drawFaults(random, plan);
  plan.apart = drawApart(plan);
  if (plan.apart.length > 0) Object.assign(plan, byWayOfAnother(plan));
  plan.sendMs = drawSendMs(plan);
  // what rides in headers does not wait for an uplink here
  if (plan.sendMs) plan.inlineBytesMax = 0;
  return plan;
}

/** Where messages go by way of another they take two latencies. */
function byWayOfAnother({ genesis, latencyMs, stepMs }: Plan): Pick<Plan, 'genesis' | 'stepMs'> {
  const { innerSteps, timing } = genesis;
  const viewMs = Math.max(timing.viewMs, 2 * VIEW_LATENCIES_MIN * latencyMs);
  const quorumWaitMs = timing.quorumWaitMs && Math.max(timing.quorumWaitMs, 2 * viewMs);
  return {
    genesis: { ...genesis, timing: { ...timing, viewMs, quorumWaitMs } },
    stepMs: Math.max(stepMs, Math.ceil((2 * ROUND_LATENCIES_MIN * latencyMs) / innerSteps)),
  };
}

/**
 * In a third of the swarms: up to half of the time that the inner steps take, so that all copies of one take rounds. By way of
 * who reaches everybody goes what all others send: that is drawn to carry it, or nobody could keep up who does not vote yet.
 */
function drawSendMs({ seed, peers, genesis, stepMs, apart }: Plan): number[] | null {
  const random = randomStream(seed, 'uplinks');
  if (random.unit() < 2 / 3) return null;
  const most = genesis.innerSteps * stepMs * pick(random, [0.05, 0.2, 0.5]);
  const routed = new Set(apart.flat());
  return Array.from({ length: peers }, (_, peer) => {
    const sendMs = 1 + random.below(Math.ceil(most));
    return apart.length > 0 && !routed.has(peer) ? 1 : sendMs;
  });
}

/**
 * In a third of the swarms, of those pairs that one peer does without: itself correct, and up once the swarm is healed. Not where
 * the run ends: who has ended says no more that could be handed on, and on unfinal ends of several kinds these could not meet.
 */
function drawApart({ seed, peers, liars, leftDown, faults, genesis }: Plan): [number, number][] {
  const random = randomStream(seed, 'apart');
  if (genesis.rounds !== null || random.unit() < 2 / 3) return [];
  const gone = new Set(leftDown);
  for (const fault of faults) if (fault.kind === 'leave' && fault.backAfterMs === null) gone.add(fault.peer);
  const hubs = Array.from({ length: peers - liars }, (_, peer) => peer).filter((peer) => !gone.has(peer));
  if (hubs.length === 0) return [];
  const hub = pick(random, hubs);
  const share = pick(random, [0.2, 0.6, 1]);
  const pairs: [number, number][] = [];
  for (let a = 0; a < peers; a++) {
    for (let b = a + 1; b < peers; b++) if (a !== hub && b !== hub && random.unit() < share) pairs.push([a, b]);
  }
  return pairs;
}

/** In half of the swarms that are large enough only some vote, never so few that the liars could be too many for them. */
function drawCommittee(seed: number, peers: number, liars: number): Genesis['committee'] {
  const random = randomStream(seed, 'committees');
  const least = Math.max(4, 3 * liars + 1);
  if (peers <= least || random.unit() < 0.5) return COMMITTEE;
  return { size: least + random.below(peers - least), heights: pick(random, [3, 10, 30]) };
}

/** In a fifth of the swarms the run ends, for some before they are healed, for others after. */
function drawRounds(seed: number): number | null {
  const random = randomStream(seed, 'rounds');
  return random.unit() < 0.8 ? null : 2 + random.below(pick(random, [6, 30, 90]));
}

/** A block to trust must not have become older than what others keep, by the time that it can be asked for. */
function drawBootMs(seed: number, isPinned: boolean): number {
  const bootMs = pick(randomStream(seed, 'boot'), [0, 0, 300, 1500, 5000]);
  return isPinned ? Math.min(bootMs, 300) : bootMs;
}

function drawPinned(seed: number, honest: number): number[] {
  const random = randomStream(seed, 'pinned');
  return Array.from({ length: honest }, (_, peer) => peer).filter(() => random.unit() < 0.25);
}

/** In half of the swarms nobody: then each of its peers has to get on again. */
function drawLeftDown(seed: number, peers: number, { liars, waitFor }: { liars: number; waitFor: number }): number[] {
  const random = randomStream(seed, 'core');
  const most = Math.min(faultsTolerated(peers), peers - waitFor) - liars;
  if (most <= 0 || random.unit() < 0.5) return [];
  const count = 1 + random.below(most);
  const correct = Array.from({ length: peers - liars }, (_, peer) => peer);
  return Array.from({ length: count }, () => correct.splice(random.below(correct.length), 1)[0]!);
}

/** The same swarm, whose liars all fuzz, ten times as often as liars speak. */
export function fuzzing(plan: Plan): Plan {
  const honest = plan.peers - plan.liars;
  const liars = Array.from({ length: plan.liars }, (_, i) => honest + i);
  const lies = liars.map((peer): Fault => ({ kind: 'lie', atMs: 0, peer, habit: 'fuzzes' }));
  return { ...plan, faults: [...lies, ...plan.faults], babbleMs: 40 };
}

function drawGenesis(
  random: RandomStream,
  { honest, latencyMs }: { honest: number; latencyMs: number },
): Omit<Plan['genesis'], 'committee' | 'rounds'> {
  const name = pick(random, ['fp32', 'fp32', 'int8', 'int8', 'fp16', 'topk', 'sparseloco'] as const);
  const codec: CodecConfig = { name, chunk: 64, k: 8, bits: 2 };
  const outer = pick(random, [
    { name: 'sgd', learningRate: 1, momentum: 0 },
    { name: 'nesterov', learningRate: 0.7, momentum: 0.9 },
  ] as const);
  // a view is some messages one after the other, each with its latency, jitter and disk: shorter ones never decide
  const viewMs = Math.max(400, VIEW_LATENCIES_MIN * latencyMs) + random.below(1600);
  const timing = {
    graceMs: 200 + random.below(2000),
    viewMs,
    quorumWaitMs: random.unit() < 0.2 ? null : 2 * viewMs + random.below(pick(random, [500, 6000])),
  };
  return { innerSteps: 2 + random.below(6), codec, outer, waitFor: 1 + random.below(honest), timing };
}

function drawFaults(random: RandomStream, plan: Plan): Fault[] {
  const { peers, liars, safetyMs } = plan;
  const faults: Fault[] = [];
  const honest = peers - liars;
  for (let peer = 0; peer < peers; peer++) {
    if (peer > 0 && random.unit() < 0.3) faults.push({ kind: 'late', peer, atMs: random.below(safetyMs / 2) });
    if (random.unit() < 0.3) {
      const rate = 0.9 + 0.2 * random.unit();
      faults.push({ kind: 'skew', peer, atMs: 0, rate, aheadMs: random.below(1e9) });
    }
    if (peer < honest) continue;
    const habits = new Set(Array.from({ length: 1 + random.below(5) }, () => pick(random, HABITS)));
    // many lies in one, each of which can only be told when the liar leads
    if (random.unit() < 0.7) habits.add('looks back');
    // and of those that only who is asked can tell: few are behind so that they have to ask
    if (randomStream(plan.seed, 'falsehoods', peer).unit() < 0.3) habits.add('falsifies');
    for (const habit of habits) faults.push({ kind: 'lie', peer, atMs: 0, habit });
  }
  // who leaves for good must not leave the liars more than a third
  let mayGo = Math.max(0, honest - plan.leftDown.length - Math.max(2 * liars + 1, plan.genesis.waitFor));
  const count = random.below(14);
  for (let i = 0; i < count; i++) {
    const fault = drawFault(random, plan, mayGo > 0);
    if (fault?.kind === 'leave' && fault.backAfterMs === null) mayGo--;
    if (fault) faults.push(fault);
  }
  return faults.sort((a, b) => a.atMs - b.atMs);
}

/** A view takes at least so many one-way latencies. */
const VIEW_LATENCIES_MIN = 6;
/** A round's inner steps take at least so many one-way latencies. */
const ROUND_LATENCIES_MIN = 10;

const LENGTHS_MS = [300, 2000, 6000, 15_000, 25_000];

function drawFault(random: RandomStream, plan: Plan, mayGo: boolean): Fault | undefined {
  const { peers, liars, safetyMs } = plan;
  const atMs = random.below(Math.round(safetyMs * 0.9));
  const forMs = Math.min(1 + random.below(pick(random, LENGTHS_MS)), safetyMs - atMs);
  const peer = random.below(peers);
  const common = { atMs, forMs };
  switch (random.below(12)) {
    case 0:
    case 1: {
      const groups = split(random, peers);
      return groups && { ...common, kind: 'cut', groups, noticedMs: 200 + random.below(8000) };
    }
    case 2: {
      const [from, to] = split(random, peers) ?? [];
      return from && to && { ...common, kind: 'one-way', from, to };
    }
    case 3:
    case 4: {
      const [loss, duplicates] = [0.7 * random.unit(), 0.3 * random.unit()];
      return { ...common, kind: 'storm', loss, duplicates, delayMs: random.below(3000) };
    }
    case 5:
      return { ...common, kind: 'pause', peer };
    case 6:
      return { kind: 'jump', atMs, peer, byMs: 1 + random.below(pick(random, LENGTHS_MS)) };
    case 7:
    case 8: {
      if (peer >= peers - liars) return undefined;
      const forGood = mayGo && random.unit() < 0.5;
      return { kind: 'leave', atMs, peer, backAfterMs: forGood ? null : random.below(8000) };
    }
    case 9: {
      const hit = Array.from({ length: peers }, (_, each) => each).filter(() => random.unit() < 0.7);
      return { ...common, kind: 'blackout', peers: hit, lastWrite: pick(random, ['lost', 'kept']) };
    }
    default: {
      // what a liar says and writes is nobody's concern
      const moments = peer < peers - liars ? (['vote', 'write', undefined] as const) : ([undefined] as const);
      const moment = pick(random, moments);
      return {
        ...common,
        kind: 'crash',
        peer,
        lastWrite: pick(random, ['lost', 'kept']),
        ...(moment ? { moment } : {}),
      };
    }
  }
}

/** Two parts with somebody in each. */
function split(random: RandomStream, peers: number): [number[], number[]] | undefined {
  const sides: [number[], number[]] = [[], []];
  for (let peer = 0; peer < peers; peer++) sides[random.below(2)]!.push(peer);
  return sides[0].length > 0 && sides[1].length > 0 ? sides : undefined;
}

export function pick<T>(random: RandomStream, from: readonly T[]): T {
  return from[random.below(from.length)]!;
}

/** One line for a person. */
export function describeFault({ atMs, kind, ...rest }: Fault): string {
  const fields = Object.entries(rest).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
  return `${String(Math.round(atMs)).padStart(6)} ms  ${kind.padEnd(8)} ${fields.join(', ')}`;
}

/** The habits of each liar, by index. */
export function habitsOf(faults: readonly Fault[]): Map<number, Set<Habit>> {
  const habits = new Map<number, Set<Habit>>();
  for (const fault of faults) {
    if (fault.kind !== 'lie') continue;
    habits.set(fault.peer, (habits.get(fault.peer) ?? new Set()).add(fault.habit));
  }
  return habits;
}

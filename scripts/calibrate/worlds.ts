import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadText } from '../../node/data/sources.ts';
import { buildGenesis, tokenizerFor } from '../../node/defaults.ts';
import { createSeed } from '../../node/store/identity.ts';
import type { CodecName } from '../../protocol/codecs/codec.ts';
import { encodeGenesis, type Genesis } from '../../protocol/genesis.ts';
import type { Signer } from '../../protocol/identity.ts';
import { Identities } from '../../sim/identity.ts';
import { makeScenario } from '../../sim/scenario.ts';
import { Simulation } from '../../sim/simulation.ts';
import type { FromPeer, MachineTimes, PeerInit, ToPeer } from './real-peer.ts';
import { Payloads, TimedHost } from './timed-replicas.ts';

/** A swarm over equal links. */
export interface WorldChoices {
  peers: number;
  codec: CodecName;
  oneWayMs: number;
  /** up and down, each */
  mbit: number;
  rounds: number;
  innerSteps: number;
  stepMs: number;
}

export interface Outcome {
  /** from one round to the next; the first, which has the joining in it, is left out */
  roundsMs: number[];
  /** sent by a peer in a round, on the wire */
  bytesARound: number;
}

/** The simulator is told the times of this machine. */
export interface RealOutcome extends Outcome, MachineTimes {
  /** of one peer in a round */
  cpuMs: number;
}

export interface World {
  choices: WorldChoices;
  genesis: Genesis;
  seeds: Uint8Array[];
}

/** @param seedOf of a peer's identity @default a new one */
export function makeWorld(choices: WorldChoices, seedOf: (peer: number) => Uint8Array = () => createSeed()): World {
  const { peers, codec, rounds, innerSteps } = choices;
  const seeds = Array.from({ length: peers }, (_, peer) => seedOf(peer));
  const source = loadText();
  const run = { model: 'nano', codec, rounds, innerSteps, batch: 1, waitFor: peers } as const;
  const founder = signersOf(seeds)[0]!.self;
  return { choices, seeds, genesis: buildGenesis(run, founder, source, tokenizerFor('char', source.bytes)) };
}

function signersOf(seeds: readonly Uint8Array[]): Signer[] {
  const identities = new Identities();
  return seeds.map((seed) => identities.fromSeed(seed));
}

type Heard<T extends FromPeer['type']> = FromPeer & { type: T };

/** A process with a real peer in it. */
class RealPeer {
  readonly rounds: Heard<'round'>[] = [];
  readonly #child: ChildProcess;
  readonly #waiting = new Map<FromPeer['type'], { resolve: (heard: FromPeer) => void; reject: (e: Error) => void }>();

  /** @param slow see slow-clock.ts */
  constructor(slow: number, epochMs: number) {
    const program = fileURLToPath(new URL('./real-peer.ts', import.meta.url));
    const clock = new URL('./slow-clock.ts', import.meta.url).href;
    const env = { ...process.env, SLOW_CLOCK: String(slow), SLOW_CLOCK_EPOCH: String(epochMs) };
    this.#child = fork(program, { execArgv: ['--import', 'tsx', '--import', clock], env });
    this.#child.on('message', (heard: FromPeer) => {
      if (heard.type === 'round') this.rounds.push(heard);
      this.#waiting.get(heard.type)?.resolve(heard);
    });
    this.#child.on('exit', (code) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`a peer ended with ${code}`));
    });
  }

  tell(order: ToPeer): void {
    this.#child.send(order);
  }

  hear<T extends FromPeer['type']>(type: T): Promise<Heard<T>> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(type, { resolve: (heard) => resolve(heard as Heard<T>), reject });
    });
  }

  end(): void {
    this.#child.removeAllListeners('exit');
    this.#child.kill('SIGKILL');
  }
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

/** Where the peers' folders are: in memory if there is any to write to, so that the network is measured and not the disk. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** Real peers in processes of their own, on loopback behind shaped links; only their training is a timer. */
export async function runReal({ choices, genesis, seeds }: World, slow: number): Promise<RealOutcome> {
  const folder = mkdtempSync(join(MEMORY, 'outerloop-calibrate-'));
  const epochMs = Date.now();
  const peers = seeds.map(() => new RealPeer(slow, epochMs));
  try {
    await Promise.all(peers.map((peer) => peer.hear('up')));
    const { oneWayMs, mbit, stepMs } = choices;
    const common = { genesis: base64(encodeGenesis(genesis)), oneWayMs, mbit, stepMs };
    const listening = peers.map((peer) => peer.hear('listening'));
    for (const [index, peer] of peers.entries()) {
      const init: PeerInit = { ...common, index, identity: base64(seeds[index]!), folder: join(folder, String(index)) };
      peer.tell({ type: 'init', init });
    }
    const [founder] = await Promise.all(listening);
    const dialed = peers.slice(1).map((peer) => peer.hear('dialed'));
    for (const peer of peers.slice(1)) peer.tell({ type: 'dial', address: founder!.address });
    await Promise.all(dialed);
    const done = peers.map((peer) => peer.hear('done'));
    for (const peer of peers) peer.tell({ type: 'start' });
    await Promise.all(done);
    return outcomeOf(peers);
  } finally {
    for (const peer of peers) peer.end();
    rmSync(folder, { recursive: true, force: true });
  }
}

function outcomeOf(peers: readonly RealPeer[]): RealOutcome {
  const last = peers.map(({ rounds }) => rounds.at(-1)!);
  const count = Math.max(...peers.map(({ rounds }) => rounds.length));
  const firstOf = (i: number) => Math.min(...peers.flatMap(({ rounds }) => rounds[i]?.atMs ?? []));
  const perRound = (of: (round: Heard<'round'>) => number) => {
    return mean(peers.map(({ rounds }) => (of(rounds.at(-1)!) - of(rounds[0]!)) / (rounds.length - 1)));
  };
  return {
    roundsMs: differences(Array.from({ length: count }, (_, i) => firstOf(i))),
    bytesARound: perRound(({ bytesSent }) => bytesSent),
    cpuMs: perRound(({ cpuMs }) => cpuMs),
    stepMs: mean(last.map(({ stepMs }) => stepMs)),
    encodeMs: mean(last.map(({ encodeMs }) => encodeMs)),
    diskMs: mean(last.map(({ diskMs }) => diskMs)),
  };
}

/**
 * The same in virtual time.
 * @param machine what computing and the disk take
 */
export async function runSimulated({ choices, genesis, seeds }: World, machine: MachineTimes): Promise<Outcome> {
  const { stepMs, encodeMs, diskMs } = machine;
  const ms = (value: number) => `${value.toFixed(3)}ms`;
  const compute = { step: ms(stepMs), encode: ms(encodeMs), apply: '0ms', disk: ms(diskMs) };
  const text = { latency: ms(choices.oneWayMs), bandwidth: `100gbit/${choices.mbit}mbit`, ...compute };
  const host = new TimedHost(genesis, new Payloads(genesis));
  const scenario = makeScenario(text, choices.peers);
  const signers = signersOf(seeds);
  const simulation = new Simulation({ genesis, signers, scenario, seed: 1, host, evaluateEvery: 0 });
  const { rows } = await simulation.run();
  const [first, last] = [rows[0]!, rows.at(-1)!];
  return {
    roundsMs: differences(rows.map(({ virtualMs }) => virtualMs)),
    bytesARound: (last.bytes - first.bytes) / (rows.length - 1) / choices.peers,
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function differences(values: readonly number[]): number[] {
  return values.slice(1).map((value, i) => value - values[i]!);
}

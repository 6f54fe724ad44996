import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadText } from '../../node/data/sources.ts';
import { buildGenesis, tokenizerFor } from '../../node/defaults.ts';
import { type Identity, identityFromBytes, Network } from '../../node/net/index.ts';
import { ShapedLink } from '../../node/net/shaped-transport.ts';
import { Peer } from '../../node/peer.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { ChainLog } from '../../node/store/chain-log.ts';
import { createSeed } from '../../node/store/identity.ts';
import { RecordFile } from '../../node/store/record.ts';
import type { CodecName } from '../../protocol/codecs/codec.ts';
import { encodeGenesis, type Genesis, runIdOf } from '../../protocol/genesis.ts';
import type { Entry } from '../../protocol/wire.ts';
import { makeScenario } from '../../sim/scenario.ts';
import { Simulation } from '../../sim/simulation.ts';
import { Payloads, TimedHost, TimedWorker, Times } from './timed-replicas.ts';

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
  /** from one round to the next, the first left out: joining is in it */
  roundsMs: number[];
  /** sent by a peer in a round, on the wire */
  bytesARound: number;
}

export interface RealOutcome extends Outcome {
  /** what the simulator is told of this machine */
  stepMs: number;
  encodeMs: number;
  diskMs: number;
  /** of this process, a round: what the measurement itself costs */
  cpuMs: number;
}

export interface World {
  choices: WorldChoices;
  genesis: Genesis;
  identities: Identity[];
  payloads: Payloads;
}

export function makeWorld(choices: WorldChoices): World {
  const { peers, codec, rounds, innerSteps } = choices;
  const identities = Array.from({ length: peers }, () => identityFromBytes(createSeed()));
  const source = loadText();
  const run = { model: 'nano', codec, rounds, innerSteps, batch: 1, waitFor: peers } as const;
  const genesis = buildGenesis(run, identities[0]!.self, source, tokenizerFor('char', source.bytes));
  return { choices, genesis, identities, payloads: new Payloads(genesis, peers) };
}

class TimedRecord extends RecordFile {
  readonly #times: Times;

  constructor(path: string, times: Times) {
    super(path);
    this.#times = times;
  }

  override async save(bytes: Uint8Array): Promise<void> {
    const startedMs = performance.now();
    await super.save(bytes);
    this.#times.add('disk', performance.now() - startedMs);
  }
}

class TimedLog extends ChainLog {
  readonly #times: Times;

  constructor(path: string, times: Times) {
    super(path);
    this.#times = times;
  }

  override append(entry: Entry): void {
    const startedMs = performance.now();
    super.append(entry);
    this.#times.add('disk', performance.now() - startedMs);
  }
}

interface RealPeer {
  peer: Peer;
  network: Network;
  link: ShapedLink;
  log: ChainLog;
}

/** Real peers in this process, on loopback behind shaped links; only their training is a timer. */
export async function runReal(world: World): Promise<RealOutcome> {
  const folder = mkdtempSync(join(tmpdir(), 'outerloop-calibrate-'));
  const times = new Times();
  const peers: RealPeer[] = [];
  const marks: { atMs: number; bytes: number; cpuMs: number }[] = [];
  const onRound = (round: number): void => {
    if (round === marks.length + 1) marks.push(markOf(peers));
  };
  try {
    for (const index of world.identities.keys()) {
      peers.push(await startPeer(world, { folder: join(folder, String(index)), index, times, onRound }));
      if (index > 0) await peers[index]!.network.dial(peers[0]!.network.addresses()[0]!);
    }
    for (const { peer } of peers) peer.start(null);
    await Promise.all(peers.map(({ peer }) => peer.run()));
  } finally {
    for (const { peer } of peers) peer.stop();
    await Promise.all(peers.map(({ network }) => network.stop()));
    for (const { log } of peers) log.close();
    rmSync(folder, { recursive: true, force: true });
  }
  const [first, last] = [marks[0]!, marks.at(-1)!];
  const rounds = marks.length - 1;
  return {
    roundsMs: differences(marks.map(({ atMs }) => atMs)),
    bytesARound: (last.bytes - first.bytes) / rounds / peers.length,
    cpuMs: (last.cpuMs - first.cpuMs) / rounds,
    stepMs: times.mean('step'),
    encodeMs: times.mean('encode'),
    diskMs: times.mean('disk'),
  };
}

function markOf(peers: readonly RealPeer[]): { atMs: number; bytes: number; cpuMs: number } {
  const { user, system } = process.cpuUsage();
  const bytes = peers.reduce((sum, { link }) => sum + link.counters.bytesSent, 0);
  return { atMs: performance.now(), bytes, cpuMs: (user + system) / 1000 };
}

async function startPeer(
  { choices, genesis, identities, payloads }: World,
  init: { folder: string; index: number; times: Times; onRound: (round: number) => void },
): Promise<RealPeer> {
  const { folder, index, times, onRound } = init;
  mkdirSync(folder);
  const bits = 1e6 * choices.mbit;
  const link = new ShapedLink({ oneWayMs: choices.oneWayMs, uploadBits: bits, downloadBits: bits });
  const store = new BlobStore(join(folder, 'blobs'));
  const identity = identities[index]!;
  let peer: Peer | undefined;
  const network = new Network(
    {
      identity,
      blobSource: store,
      validate: (bytes) => peer?.validate(bytes) ?? 'ignore',
      onMessage: (bytes, from) => peer?.onMessage(bytes, from),
      onPeer: (id, change) => peer?.onPeer(id, change === 'up'),
      onRequest: (bytes) => peer!.onRequest(bytes),
    },
    { listen: ['/ip4/127.0.0.1/tcp/0'], transport: link.wrap },
  );
  await network.start({ runId: runIdOf(genesis), genesisBytes: encodeGenesis(genesis) });
  const worker = new TimedWorker(store, { genesis, peer: index, stepMs: choices.stepMs, payloads, times });
  const log = new TimedLog(join(folder, 'chain.log'), times);
  const record = new TimedRecord(join(folder, 'record.bin'), times);
  const onEvent = (event: { event: string; round?: unknown }): void => {
    if (event.event === 'round') onRound(event.round as number);
  };
  peer = new Peer({ signer: identity, network, worker, store, chain: log, record, onEvent }, genesis);
  return { peer, network, link, log };
}

/** The same in virtual time. */
export async function runSimulated(world: World, real: RealOutcome): Promise<Outcome> {
  const { choices, genesis, identities, payloads } = world;
  const { stepMs, encodeMs, diskMs } = real;
  const ms = (value: number) => `${value.toFixed(3)}ms`;
  const compute = { step: ms(stepMs), encode: ms(encodeMs), apply: '0ms', disk: ms(diskMs) };
  const text = { latency: ms(choices.oneWayMs), bandwidth: `${choices.mbit}mbit`, ...compute };
  const host = new TimedHost(genesis, payloads);
  const scenario = makeScenario(text, choices.peers);
  const simulation = new Simulation({ genesis, signers: identities, scenario, seed: 1, host, evaluateEvery: 0 });
  const { rows } = await simulation.run();
  const [first, last] = [rows[0]!, rows.at(-1)!];
  return {
    roundsMs: differences(rows.map(({ virtualMs }) => virtualMs)),
    bytesARound: (last.bytes - first.bytes) / (rows.length - 1) / choices.peers,
  };
}

function differences(values: readonly number[]): number[] {
  return values.slice(1).map((value, i) => value - values[i]!);
}

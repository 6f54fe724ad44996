/**
 * One real peer of a world, in a process of its own: told what to be by its parent, it runs behind a shaped link with a
 * timer for its training, and tells when it has a round behind it. Started by `worlds.ts`.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Inbox } from '../../node/inbox.ts';
import { MessageRates } from '../../node/message-rates.ts';
import { identityFromBytes, Network } from '../../node/net/index.ts';
import { ShapedLink } from '../../node/net/shaped-transport.ts';
import { Peer } from '../../node/peer.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { ChainLog } from '../../node/store/chain-log.ts';
import { ReceiptsFile } from '../../node/store/receipts.ts';
import { RecordFile } from '../../node/store/record.ts';
import { Unfinished } from '../../node/store/unfinished.ts';
import { decodeGenesis, runIdOf } from '../../protocol/genesis.ts';
import type { Append } from '../../protocol/history.ts';
import { Payloads, TimedWorker, Times } from './timed-replicas.ts';

export interface PeerInit {
  /** base64 */
  genesis: string;
  identity: string;
  index: number;
  folder: string;
  oneWayMs: number;
  mbit: number;
  stepMs: number;
}

export type ToPeer = { type: 'init'; init: PeerInit } | { type: 'dial'; address: string } | { type: 'start' };

export type FromPeer =
  | { type: 'up' }
  | { type: 'listening'; address: string }
  | { type: 'dialed' }
  /** `atMs` is of the same clock in all processes */
  | ({ type: 'round'; round: number; atMs: number; bytesSent: number; cpuMs: number } & MachineTimes)
  /** this was the last */
  | { type: 'done' };

/** Means so far, in milliseconds. */
export interface MachineTimes {
  stepMs: number;
  encodeMs: number;
  diskMs: number;
}

const times = new Times();

class TimedRecord extends RecordFile {
  override async save(bytes: Uint8Array): Promise<void> {
    const startedMs = performance.now();
    await super.save(bytes);
    times.add('disk', performance.now() - startedMs);
  }
}

class TimedLog extends ChainLog {
  override append(effect: Append): void {
    const startedMs = performance.now();
    super.append(effect);
    times.add('disk', performance.now() - startedMs);
  }
}

function tell(message: FromPeer): void {
  process.send?.(message);
}

async function makePeer(init: PeerInit): Promise<{ network: Network; peer: Peer }> {
  const { index, folder, oneWayMs, mbit, stepMs } = init;
  mkdirSync(folder);
  const genesisBytes = new Uint8Array(Buffer.from(init.genesis, 'base64'));
  const genesis = decodeGenesis(genesisBytes);
  const bits = 1e6 * mbit;
  const link = new ShapedLink({ oneWayMs, uploadBits: bits });
  const store = new BlobStore(join(folder, 'blobs'));
  const identity = identityFromBytes(Buffer.from(init.identity, 'base64'));
  const runId = runIdOf(genesis);
  const inbox = new Inbox(runId, identity, new MessageRates((id) => peer.machine.isMember(id)));
  const network: Network = new Network(
    {
      identity,
      blobSource: store,
      validate: (bytes, from) => inbox.validate(bytes, from),
      onMessage: (bytes, from) => inbox.onMessage(bytes, from),
      onPeer: (id, change) => peer.onPeer(id, change === 'up'),
      onRequest: (bytes) => peer.onRequest(bytes),
    },
    { listen: ['/ip4/127.0.0.1/tcp/0'], transport: link.wrap },
  );
  const worker = new TimedWorker(store, {
    genesis,
    peer: index,
    stepMs,
    payloads: new Payloads(genesis, index),
    times,
  });
  const chain = new TimedLog(join(folder, 'chain'));
  const record = new TimedRecord(join(folder, 'record.bin'));
  const onEvent = (event: { event: string; round?: unknown }): void => {
    if (event.event !== 'round') return;
    const { user, system } = process.cpuUsage();
    const atMs = Date.now();
    const { bytesSent } = link.counters;
    const round = event.round as number;
    const means = { stepMs: times.mean('step'), encodeMs: times.mean('encode'), diskMs: times.mean('disk') };
    tell({ type: 'round', round, atMs, bytesSent, cpuMs: (user + system) / 1000, ...means });
    if (round === genesis.rounds) tell({ type: 'done' });
  };
  const hints = {
    unfinished: new Unfinished(join(folder, 'unfinished.json')),
    receipts: new ReceiptsFile(join(folder, 'receipts.json')),
  };
  const files = { store, chain, record, ...hints };
  const peer: Peer = new Peer({ signer: identity, network, inbox, worker, ...files, onEvent }, genesis);
  await network.start({ runId, genesisBytes });
  return { network, peer };
}

let made: Awaited<ReturnType<typeof makePeer>> | undefined;

async function obey(order: ToPeer): Promise<void> {
  if (order.type === 'init') {
    made = await makePeer(order.init);
    return tell({ type: 'listening', address: made.network.addresses()[0]! });
  }
  const { network, peer } = made!;
  if (order.type === 'dial') {
    await network.dial(order.address);
    return tell({ type: 'dialed' });
  }
  peer.start(null);
}

process.on('message', (order: ToPeer) => void obey(order));
process.on('disconnect', () => process.exit(0));
tell({ type: 'up' });

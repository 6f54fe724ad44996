import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { CodedError } from '../protocol/errors.ts';
import type { Restart } from '../protocol/events.ts';
import { decodeGenesis, encodeGenesis, type Genesis, runIdOf } from '../protocol/genesis.ts';
import { branchFromLog } from '../protocol/history.ts';
import { DEFAULT_SOURCE, loadText } from './data/sources.ts';
import { byteTokenizer, charTokenizer } from './data/tokenizer.ts';
import { buildGenesis, conflictsWith, type RunChoices } from './defaults.ts';
import { fetchGenesis, type Identity, identityFromBytes, Network } from './net/index.ts';
import { Peer } from './peer.ts';
import type { PeerEvent } from './peer-events.ts';
import { BlobStore } from './store/blob-store.ts';
import { blobParts, hasBlob, writeBlob } from './store/blobs.ts';
import { ChainLog } from './store/chain-log.ts';
import {
  defaultBase,
  openDefaultDirectory,
  openDirectory,
  type RunDirectory,
  readGenesisFile,
  resumableDirectories,
} from './store/directory.ts';
import { createSeed, loadIdentity, saveIdentity } from './store/identity.ts';
import { RecordFile } from './store/record.ts';
import type { BackendName } from './train/backend.ts';
import type { Opened, PeerWorker, StepNotice } from './train/peer-worker.ts';
import { connect, type Remote } from './train/rpc.ts';
import { spawnWorker } from './train/spawn-worker.ts';

export interface StartOptions {
  /** multiaddrs of peers to join by; none begins a run, or goes on with the one in `dir` */
  bootstrap: string[];
  /** what the user asked of the run, only what was said */
  choices: RunChoices;
  /** @default a folder of its own below ~/.outerloop/runs */
  dir?: string;
  listen?: string[];
  backend: BackendName | 'auto';
  deterministic: boolean;
  microBatch?: number;
}

export interface RunningPeer {
  run(): Promise<string>;
  /** leaves the roster, saves and stops, within five seconds */
  leave(): Promise<void>;
  /** closes everything that is open; called by both of the above */
  close(): Promise<void>;
}

/** Begins a run, joins one or goes on with one. @throws CodedError naming the cause and the fix */
export async function openRun(options: StartOptions, onEvent: (event: PeerEvent) => void): Promise<RunningPeer> {
  const opened = await openFolder(options);
  try {
    return await startPeer(options, opened, onEvent);
  } catch (error) {
    opened.directory.release();
    throw error;
  }
}

interface OpenedFolder {
  directory: RunDirectory;
  genesis: Genesis;
  identity: Identity;
  store: BlobStore;
  resumed: boolean;
}

async function openFolder(options: StartOptions): Promise<OpenedFolder> {
  const { bootstrap, choices, dir } = options;
  if (bootstrap.length > 0) return joinRun(bootstrap, dir);
  const stored = dir === undefined ? undefined : readGenesisFile(dir);
  if (dir !== undefined && stored) return resume(dir, decodeGenesis(stored), choices);
  const source = loadText(choices.data ?? DEFAULT_SOURCE);
  const tokenizer = choices.tokenizer === 'byte' ? byteTokenizer() : charTokenizer(source.bytes);
  const build = (seed: Uint8Array) => buildGenesis(choices, identityFromBytes(seed).self, source, tokenizer);
  if (dir === undefined) {
    for (const path of resumableDirectories(defaultBase())) {
      const known = loadIdentity(join(path, 'identity.key'));
      const genesisBytes = readGenesisFile(path);
      if (!known || !genesisBytes || runIdOf(build(known)) !== runIdOf(decodeGenesis(genesisBytes))) continue;
      try {
        return resume(path, decodeGenesis(genesisBytes), choices);
      } catch (error) {
        if ((error as CodedError).code !== 'E_DIR_LOCKED') throw error;
      }
    }
  }
  const seed = createSeed();
  const genesis = build(seed);
  const bytes = encodeGenesis(genesis);
  const directory = dir === undefined ? openDefaultDirectory(genesis.title, bytes) : openDirectory(dir, bytes);
  saveIdentity(directory.paths.identity, seed);
  const store = new BlobStore(directory.paths.blobs);
  await writeBlob(store, source.bytes);
  if (tokenizer.blob) await writeBlob(store, tokenizer.blob);
  return { directory, genesis, identity: identityFromBytes(seed), store, resumed: false };
}

function resume(path: string, genesis: Genesis, choices: RunChoices): OpenedFolder {
  const conflicts = conflictsWith(genesis, choices);
  if (conflicts.length > 0) {
    const asked = conflicts.map(({ option, asked, run }) => `${option} ${asked} (the run has ${run})`).join(', ');
    const ways = 'start without these options to go on with it, give another --dir, or remove the folder';
    throw new CodedError('E_RUN_EXISTS', `${path} holds a run with other settings: ${asked}; ${ways}`);
  }
  return { ...takeFolder(openDirectory(path, encodeGenesis(genesis))), genesis, resumed: true };
}

async function joinRun(bootstrap: string[], dir: string | undefined): Promise<OpenedFolder> {
  const { genesisBytes } = await fetchGenesis(bootstrap);
  const genesis = decodeGenesis(genesisBytes);
  const directory =
    dir === undefined ? openDefaultDirectory(genesis.title, genesisBytes) : openDirectory(dir, genesisBytes);
  const resumed = existsSync(directory.paths.identity);
  return { ...takeFolder(directory), genesis, resumed };
}

function takeFolder(directory: RunDirectory): Pick<OpenedFolder, 'directory' | 'identity' | 'store'> {
  let seed = loadIdentity(directory.paths.identity);
  if (!seed) {
    seed = createSeed();
    saveIdentity(directory.paths.identity, seed);
  }
  return { directory, identity: identityFromBytes(seed), store: new BlobStore(directory.paths.blobs) };
}

async function startPeer(
  options: StartOptions,
  { directory, genesis, identity, store, resumed }: OpenedFolder,
  onEvent: (event: PeerEvent) => void,
): Promise<RunningPeer> {
  const genesisBytes = encodeGenesis(genesis);
  const runId = runIdOf(genesis);
  if (options.bootstrap.length > 0) warnOfConflicts(genesis, options.choices, onEvent);
  let peer: Peer | undefined;
  const network = new Network(
    {
      identity,
      blobSource: store,
      validate: (bytes) => peer?.validate(bytes) ?? 'ignore',
      onMessage: (bytes, from) => peer?.onMessage(bytes, from),
      onPeer: (id, change) => peer?.onPeer(id, change === 'up'),
      onRequest: async (bytes) => {
        if (!peer) throw new CodedError('E_NOT_READY', 'this peer is still starting: ask again');
        return peer.onRequest(bytes);
      },
    },
    options.listen ? { listen: options.listen } : {},
  );
  let thread: Worker | undefined;
  let chain: ChainLog | undefined;
  const close = async (): Promise<void> => {
    peer?.stop();
    await network.stop();
    await thread?.terminate();
    chain?.close();
    directory.release();
  };
  try {
    await network.start({ runId, genesisBytes });
    await dialAll(network, options.bootstrap);
    await fetchData(network, store, genesis, onEvent);
    thread = spawnWorker(new URL('./train/peer-worker.ts', import.meta.url));
    const worker = connect<PeerWorker>(
      thread,
      (notice) => peer?.onStep(notice as StepNotice),
      (error) => peer?.fail(error),
    );
    const { backend, deterministic, microBatch } = options;
    const micro = microBatch === undefined ? {} : { microBatch };
    const opened = await worker.open({ genesisBytes, directory: directory.path, backend, deterministic, ...micro });
    chain = new ChainLog(directory.paths.chain);
    const record = new RecordFile(directory.paths.record);
    peer = new Peer({ signer: identity, network, worker, store, chain, record, onEvent }, genesis);
    tellReady({ onEvent, runId, network, opened, directory, genesis, resumed });
    await begin({ peer, opened, chain, record, store, genesis, identity });
    return running(peer, worker, close);
  } catch (error) {
    await close();
    throw error;
  }
}

function running(peer: Peer, worker: Remote<PeerWorker>, close: () => Promise<void>): RunningPeer {
  let closed: Promise<void> | undefined;
  const closeOnce = (): Promise<void> => {
    closed ??= worker.finish().then(close, close);
    return closed;
  };
  return {
    run: async () => {
      try {
        return await peer.run();
      } finally {
        await closeOnce();
      }
    },
    leave: async () => {
      await peer.leave();
      await closeOnce();
    },
    close: closeOnce,
  };
}

function tellReady(ready: {
  onEvent: (event: PeerEvent) => void;
  runId: string;
  network: Network;
  opened: Opened;
  directory: RunDirectory;
  genesis: Genesis;
  resumed: boolean;
}): void {
  const { onEvent, runId, network, opened, directory, genesis, resumed } = ready;
  onEvent({
    event: 'ready',
    runId,
    peerId: network.self,
    addresses: network.addresses(),
    backend: opened.backend,
    parameters: opened.parameters,
    directory: directory.path,
    title: genesis.title,
    resumed,
  });
  for (const { code, message } of opened.warnings) onEvent({ event: 'warning', code, message });
}

/** Hands the machine what the disk kept, after clearing the disk of what nothing refers to any more. */
async function begin(parts: {
  peer: Peer;
  opened: Opened;
  chain: ChainLog;
  record: RecordFile;
  store: BlobStore;
  genesis: Genesis;
  identity: Identity;
}): Promise<void> {
  const { peer, opened, chain, record, store, genesis, identity } = parts;
  const { snapshot, applied } = opened;
  const { entries } = chain;
  const kept = new Set<string>();
  const keep = async (blob: { id: string; size: number }): Promise<void> => {
    for (const part of (await blobParts(store, blob)) ?? []) kept.add(part);
  };
  await keep(genesis.data.blob);
  if (genesis.tokenizer.kind === 'char') await keep(genesis.tokenizer.blob);
  if (applied) kept.add(applied.state.snapshot);
  const branch = branchFromLog({ genesis, run: runIdOf(genesis), signer: identity }, entries);
  const from = Math.max(0, branch.head.round - 16);
  for (const { block } of branch.entries) {
    if (block.round < from) continue;
    for (const { payload, size } of block.updates) await keep({ id: payload, size });
  }
  const saved = record.load() ?? null;
  if (entries.length === 0 && !saved) store.retain(kept);
  if (snapshot) store.register(snapshot.path, snapshot.ranges);
  const known = applied !== null || entries.length > 0 || saved !== null;
  const restart: Restart | null = known ? { entries, record: saved, applied } : null;
  peer.start(restart);
}

async function dialAll(network: Network, bootstrap: readonly string[]): Promise<void> {
  if (bootstrap.length === 0) return;
  const dialed = await Promise.allSettled(bootstrap.map((address) => network.dial(address)));
  if (dialed.some(({ status }) => status === 'fulfilled')) return;
  throw (dialed[0] as PromiseRejectedResult).reason;
}

/** The text and its tokenizer, from whoever has them, each checked against the hash in genesis. */
async function fetchData(
  network: Network,
  store: BlobStore,
  { data, tokenizer, rounds }: Genesis,
  onEvent: (event: PeerEvent) => void,
): Promise<void> {
  const blobs = tokenizer.kind === 'char' ? [data.blob, tokenizer.blob] : [data.blob];
  for (const blob of blobs) {
    if (await hasBlob(store, blob)) continue;
    const detail = `${data.name}, ${blob.size} bytes`;
    onEvent({ event: 'progress', phase: 'fetching', round: 0, rounds, peers: network.peers().length, detail });
    await network.fetchBlob(blob, store);
  }
}

function warnOfConflicts(genesis: Genesis, choices: RunChoices, onEvent: (event: PeerEvent) => void): void {
  for (const { option, asked, run } of conflictsWith(genesis, choices)) {
    const message = `${option} ${asked} was asked for, but the run has ${run}: a joiner takes the run's settings`;
    onEvent({ event: 'warning', code: 'W_RUN_SETTING', message });
  }
}

import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { isCoded } from '../protocol/errors.ts';
import { encodeGenesis, type Genesis, runIdOf } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId, Signer } from '../protocol/identity.ts';
import { updatesKept } from '../protocol/kept-updates.ts';
import { LIMITS } from '../protocol/limits.ts';
import { decodeRecord } from '../protocol/record.ts';
import { conflictsWith, type RunChoices } from './defaults.ts';
import { fetchData } from './fetch-data.ts';
import { Inbox } from './inbox.ts';
import { Journal } from './journal/journal.ts';
import { untilNobodyFetches } from './lingering.ts';
import { MessageRates } from './message-rates.ts';
import type { Network } from './net/index.ts';
import { Peer } from './peer.ts';
import type { PeerEvent } from './peer-events.ts';
import { type FolderOptions, type OpenedFolder, openFolder } from './run-folder.ts';
import { type NetworkOptions, openNetwork } from './run-network.ts';
import type { BlobStore } from './store/blob-store.ts';
import { hasBlob, namedParts } from './store/blobs.ts';
import { ChainLog } from './store/chain-log.ts';
import type { RunDirectory } from './store/directory.ts';
import { ReceiptsFile } from './store/receipts.ts';
import { RecordFile } from './store/record.ts';
import { Unfinished } from './store/unfinished.ts';
import {
  type BackendName,
  connect,
  type Opened,
  type PeerWorker,
  type Remote,
  spawnWorker,
  type WorkerNotice,
} from './train/index.ts';

/** What `start` was told, see `startOptions`. */
export interface StartOptions extends FolderOptions, NetworkOptions {
  backend: BackendName | 'auto';
  deterministic: boolean;
  microBatch?: number;
  /** known from elsewhere: no history without it is followed */
  trustBlock?: Hash;
  /** write down what the protocol's machine is given, for `outerloop replay` @default true */
  journal?: boolean;
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
  let isDone = false;
  const tell = (event: PeerEvent): void => {
    // the network may have more to say while others are served; an answer is owed all the same
    if (isDone && event.event !== 'receipt') return;
    isDone ||= event.event === 'done';
    onEvent(event);
  };
  const opened = await openFolder(options, tell);
  try {
    return await startPeer(options, opened, tell);
  } catch (error) {
    opened.directory.release();
    throw error;
  }
}

/** The same command with another --listen or --backend is to begin then, not to find a run. */
const OPTIONS_AT_FAULT: ReadonlySet<string> = new Set([
  'E_PORT_TAKEN',
  'E_LISTEN',
  'E_MULTIADDR',
  'E_BACKEND',
  'E_MODEL',
  'E_MEMORY',
]);

async function startPeer(
  options: StartOptions,
  { directory, genesis, identity, store, resumed }: OpenedFolder,
  onEvent: (event: PeerEvent) => void,
): Promise<RunningPeer> {
  const genesisBytes = encodeGenesis(genesis);
  const runId = runIdOf(genesis);
  if (options.bootstrap.length > 0) warnOfConflicts(genesis, options.choices, onEvent);
  let peer: Peer | undefined;
  const inbox = new Inbox(runId, identity, new MessageRates((id) => peer?.machine.isMember(id)));
  const { network, start, nextUp } = await openNetwork({
    options,
    path: directory.paths.whereabouts,
    identity,
    store,
    inbox,
    peer: () => peer,
    onEvent,
  });
  let thread: Worker | undefined;
  let chain: ChainLog | undefined;
  let record: RecordFile | undefined;
  let journal: Journal | undefined;
  const closeAll = async (letGo: () => void): Promise<void> => {
    peer?.stop();
    await network.stop();
    await thread?.terminate();
    await journal?.close();
    chain?.close();
    // who takes the folder next reads what was voted: nothing may be replaced under them
    await record?.settled();
    letGo();
  };
  const close = (): Promise<void> => closeAll(directory.release);
  try {
    // loads its libraries while others are dialed
    thread = spawnWorker(new URL('./train/peer-worker.ts', import.meta.url));
    const worker = connect<PeerWorker>(
      thread,
      (notice) => peer?.onNotice(notice as WorkerNotice),
      (error) => peer?.fail(error),
    );
    await start({ runId, genesisBytes }, resumed);
    await fetchData({ network, store, source: options.choices.data, onEvent, nextUp }, genesis);
    const { backend, deterministic, microBatch } = options;
    const micro = microBatch === undefined ? {} : { microBatch };
    // before the training thread writes another
    const receipts = new ReceiptsFile(directory.paths.receipts);
    if (!existsSync(directory.paths.own)) receipts.remove();
    const opened = await worker.open({ genesisBytes, directory: directory.path, backend, deterministic, ...micro });
    if (!opened.isUnderWay) receipts.dropTraining();
    chain = new ChainLog(directory.paths.chain);
    record = new RecordFile(directory.paths.record);
    if (options.journal !== false) {
      const onWarning = (code: string, message: string) => onEvent({ event: 'warning', code, message });
      journal = new Journal({ folder: directory.paths.journal, genesisBytes, chain, signer: identity, onWarning });
    }
    const unfinished = new Unfinished(directory.paths.unfinished);
    const files = { store, chain, record, unfinished, receipts, journal };
    peer = new Peer({ signer: identity, network, inbox, worker, ...files, onEvent }, genesis);
    tellReady({ onEvent, runId, network, opened, directory, genesis, resumed });
    const isFounder = identity.self === genesis.founder;
    if (!unfinished.blob) warnOfLoss({ directory, opened, chain, isFounder }, onEvent);
    const { trustBlock } = options;
    await begin({ peer, opened, chain, record, store, unfinished, genesis, identity, trustBlock });
    if (resumed) tellMembers(peer, identity.self, onEvent);
    return running({ peer, worker, network }, close);
  } catch (error) {
    const isBegun = !isCoded(error) || !OPTIONS_AT_FAULT.has(error.code);
    // while the folder is still held: afterwards it may be another process's
    await closeAll(isBegun ? directory.release : directory.discard).catch(() => undefined);
    throw error;
  }
}

/** How long closing waits for the inner step under way, and for what was learned to be written. */
const CLOSE_MS = 1200;
/** As much, leaving included: the network takes the rest of the five seconds. */
const LEAVE_MS = 3700;

interface Parts {
  peer: Peer;
  worker: Remote<PeerWorker>;
  network: Network;
}

function running({ peer, worker, network }: Parts, close: () => Promise<void>): RunningPeer {
  let closed: Promise<void> | undefined;
  /** of what was to be written at the end */
  let failure: unknown;
  let hurry = (): void => undefined;
  // a large model may take longer than a person who wants to go: what was last written counts then
  const late = new Promise<void>((resolve) => {
    hurry = () => setTimeout(resolve, LEAVE_MS).unref();
  });
  const soon = (): Promise<void> => delay(CLOSE_MS, undefined, { ref: false });
  const closeOnce = (cut: Promise<void>): Promise<void> => {
    // what is closed must not be given another block
    peer.stop();
    closed ??= Promise.race([worker.close(), cut]).then(close, async (error: unknown) => {
      failure = error;
      await close();
    });
    return closed;
  };
  return {
    run: async () => {
      try {
        const reason = await peer.run();
        // who has lost its connections for a moment may be all that others have to hear the end from
        const isOver = reason === 'rounds' && (network.peers().length > 0 || peer.machine.standing.roster.length > 1);
        const serving = {
          bytesSent: () => network.counters().bytesSent,
          sentBefore: peer.sentBefore,
          isBusy: () => network.isServing || peer.hasNewcomer,
          isClosed: () => closed !== undefined,
        };
        if (isOver) await untilNobodyFetches(serving);
        await closeOnce(late);
        if (failure !== undefined) throw failure;
        return reason;
      } catch (error) {
        // what it ended for is what the user is to hear
        await closeOnce(soon()).catch(() => undefined);
        throw error;
      }
    },
    leave: async () => {
      hurry();
      await peer.leave();
      await closeOnce(late);
    },
    close: () => closeOnce(soon()),
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

/** How many may fail, which else is said with every coming and going. */
function tellMembers({ machine }: Peer, self: PeerId, onEvent: (event: PeerEvent) => void): void {
  const { roster } = machine.standing;
  if (roster.includes(self)) onEvent({ event: 'peer', id: self, change: 'resumed', members: roster.length });
}

/** Hands the machine what the disk kept, after clearing the disk of what nothing refers to any more. */
export async function begin(kept: Kept): Promise<void> {
  const { peer, opened, chain, record, store, unfinished, genesis, identity, trustBlock } = kept;
  const { states } = opened;
  const { segments } = chain;
  const saved = record.load() ?? null;
  const known = saved && decodeRecord(saved, runIdOf(genesis), identity);
  const updates = updatesKept({ segments, states }, known);
  const blobs = [genesis.data.blob, ...opened.open, ...updates.map(({ payload, size }) => ({ id: payload, size }))];
  if (genesis.tokenizer.kind === 'char') blobs.push(genesis.tokenizer.blob);
  const retained = new Set<string>(states.map(({ state }) => state.snapshot));
  if (states.some(({ state }) => state.snapshot === unfinished.blob?.id)) unfinished.end();
  if (unfinished.blob) {
    // what a power cut has spoiled is found, and removed, now and not when all the rest is here
    await hasBlob(store, unfinished.blob);
    blobs.push(unfinished.blob);
  }
  for (const blob of blobs) for (const part of (await namedParts(store, blob)) ?? []) retained.add(part);
  store.retain(retained);
  const rounds = [
    ...states.map(({ state }) => state.round),
    ...segments.map(({ entries }) => entries.at(-1)?.block.round ?? 0),
  ];
  peer.keep(updates, Math.max(0, ...rounds));
  for (const { file } of states) await peer.serve(file);
  const hasEntries = segments.some(({ entries }) => entries.length > 0);
  const hasBegun = states.length > 0 || hasEntries || saved !== null;
  const onDisk = states.map(({ block, state }) => ({ block, state }));
  peer.start(hasBegun ? { segments, record: saved, states: onDisk } : null, trustBlock);
}

interface Kept {
  peer: Peer;
  opened: Pick<Opened, 'states' | 'open'>;
  chain: ChainLog;
  record: RecordFile;
  store: BlobStore;
  unfinished: Unfinished;
  genesis: Genesis;
  identity: Signer;
  trustBlock?: Hash | undefined;
}

interface Found {
  directory: RunDirectory;
  opened: Opened;
  chain: ChainLog;
  isFounder: boolean;
}

/** Without one of the two a peer waits for others who have it, which may be for ever. */
function warnOfLoss({ directory, opened, chain, isFounder }: Found, onEvent: (event: PeerEvent) => void): void {
  const { paths } = directory;
  const { states } = opened;
  const newest = chain.segments.at(-1)?.entries.at(-1)?.block;
  // a block names the round that it follows
  const rounds = newest ? newest.round + Number(newest.kind === 'round') : 0;
  const lost = {
    // a joiner begins with a few rounds from the beginning, the founder with the initial model on its disk
    model: states.length === 0 && rounds > (isFounder ? 0 : LIMITS.payloadRoundsKept),
    history: newest === undefined && states.some(({ state }) => state.round > 0),
  };
  if (!lost.model && !lost.history) return;
  const [folder, what] = lost.model ? [paths.checkpoints, 'model'] : [paths.chain, 'history'];
  const message = `${folder} has no ${what} that can be read: waiting for a peer of the run that has it (--bootstrap); if there is none, begin anew with another --dir`;
  onEvent({ event: 'warning', code: 'W_FOLDER_LOSS', message });
}

function warnOfConflicts(genesis: Genesis, choices: RunChoices, onEvent: (event: PeerEvent) => void): void {
  for (const { option, asked, run } of conflictsWith(genesis, choices)) {
    const message = `${option} ${asked} was asked for, but the run has ${run}: a joiner takes the run's settings`;
    onEvent({ event: 'warning', code: 'W_RUN_SETTING', message });
  }
}

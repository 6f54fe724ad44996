import { existsSync, rmSync } from 'node:fs';
import { CodedError, isCoded } from '../protocol/errors.ts';
import { decodeGenesis, encodeGenesis, type Genesis, runIdOf } from '../protocol/genesis.ts';
import { hashOf } from '../protocol/hash.ts';
import { DEFAULT_SOURCE, loadText } from './data/sources.ts';
import { buildGenesis, conflictsWith, type RunChoices, tokenizerFor } from './defaults.ts';
import { ifReadable, type Neighbour, neighbour } from './neighbour.ts';
import { fetchGenesis, type Identity, identityFromBytes } from './net/index.ts';
import type { PeerEvent } from './peer-events.ts';
import { BlobStore } from './store/blob-store.ts';
import { writeBlob } from './store/blobs.ts';
import {
  defaultBase,
  hasRemains,
  openDefaultDirectory,
  openDirectory,
  type RunDirectory,
  readGenesisFile,
  resumableDirectories,
  runPaths,
} from './store/directory.ts';
import { createSeed, loadIdentity, saveIdentity } from './store/identity.ts';
import { isLocked } from './store/lock.ts';
import { loadWhereabouts } from './store/whereabouts.ts';

/** Which run, and where its folder is. */
export interface FolderOptions {
  /** multiaddrs of peers to join by; none begins a run, or goes on with the one in `dir` */
  bootstrap: string[];
  /** what the user asked of the run, only what was said */
  choices: RunChoices;
  /** @default a folder of its own below ~/.outerloop/runs */
  dir?: string;
  dialFrom?: string | null;
}

/** The folder of a peer, and what is in it from the start. */
export interface OpenedFolder {
  directory: RunDirectory;
  genesis: Genesis;
  identity: Identity;
  store: BlobStore;
  resumed: boolean;
}

/** Finds or makes the folder for what was asked: a new run, one to join or one to go on with. @throws CodedError */
export async function openFolder(options: FolderOptions, onEvent: (event: PeerEvent) => void): Promise<OpenedFolder> {
  const { bootstrap, choices, dir } = options;
  const stored = dir === undefined ? undefined : readGenesisFile(dir);
  if (bootstrap.length > 0) return joinRun(options, stored);
  if (dir !== undefined && stored) return resume(dir, genesisIn(dir, stored), choices);
  if (dir !== undefined && hasRemains(dir)) {
    const ways = 'copy it from the folder of another peer of the run, join with --bootstrap, or give another --dir';
    throw new CodedError('E_DIR_INCOMPLETE', `${dir} has a run's files without its genesis.cbor; ${ways}`);
  }
  const source = loadText(choices.data ?? DEFAULT_SOURCE);
  const tokenizer = tokenizerFor(choices.tokenizer, source.bytes);
  const seed = createSeed();
  const genesis = buildGenesis(choices, identityFromBytes(seed).self, source, tokenizer);
  if (dir === undefined) {
    const other = neighbour();
    const before = resumeAnyLike(genesis, choices, onEvent);
    if (other) warnOfNeighbour(other, before, onEvent);
    else if (!before) warnOfJoined(onEvent);
    if (before) return before;
  }
  const bytes = encodeGenesis(genesis);
  const directory = dir === undefined ? openDefaultDirectory(genesis.title, bytes) : openDirectory(dir, bytes);
  const store = new BlobStore(directory.paths.blobs);
  try {
    // nobody else has them yet
    await writeBlob(store, source.bytes, { durable: true });
    if (tokenizer.blob) await writeBlob(store, tokenizer.blob, { durable: true });
    // last: who is killed before it has begun nothing, and finds that said (`resume`)
    saveIdentity(directory.paths.identity, seed);
  } catch (error) {
    directory.release();
    throw error;
  }
  return { directory, genesis, identity: identityFromBytes(seed), store, resumed: false };
}

/** Goes on with the newest run that a peer of this machine began with these settings and no other process is in. */
function resumeAnyLike(
  like: Genesis,
  choices: RunChoices,
  onEvent: (event: PeerEvent) => void,
): OpenedFolder | undefined {
  for (const path of resumableDirectories(defaultBase())) {
    let seed: Uint8Array | undefined;
    let found: Uint8Array | undefined;
    try {
      [seed, found] = [loadIdentity(runPaths(path).identity), readGenesisFile(path)];
    } catch (error) {
      if (!isCoded(error)) throw error;
      // it may well be another run's
      onEvent({ event: 'warning', code: error.code, message: `${error.message}; ${path} is passed over` });
    }
    const genesis = seed && { ...like, founder: identityFromBytes(seed).self };
    if (!genesis || !found || runIdOf(genesis) !== hashOf(found)) continue;
    try {
      return resume(path, genesis, choices);
    } catch (error) {
      if (!isCoded(error) || error.code !== 'E_DIR_LOCKED') throw error;
    }
  }
  return undefined;
}

/** Who starts a second peer on one machine mostly wants it in the run of the first. */
function warnOfNeighbour(
  { path, address }: Neighbour,
  before: OpenedFolder | undefined,
  onEvent: (event: PeerEvent) => void,
): void {
  if (before && runIn(path) === before.directory.runId) return;
  const way = address ? `start with --bootstrap ${address}` : 'copy the line to join from its screen';
  const what = before ? `goes on with the run in ${before.directory.path}` : 'begins a new run';
  const message = `this ${what}, while another process of this machine is in one (${path}); to join that one, ${way}`;
  onEvent({ event: 'warning', code: 'W_OTHER_RUN_HERE', message });
}

/** Who joined a run and starts again with neither --bootstrap nor --dir mostly wants that one. */
function warnOfJoined(onEvent: (event: PeerEvent) => void): void {
  const [path] = resumableDirectories(defaultBase());
  if (path === undefined || !existsSync(runPaths(path).chain) || isBegunIn(path)) return;
  const message = `this begins a new run; that which this machine joined last goes on with --dir ${path}`;
  onEvent({ event: 'warning', code: 'W_OTHER_RUN_HERE', message });
}

/** The run of a folder, where its genesis can be read. */
function runIn(path: string): string | undefined {
  const bytes = ifReadable(() => readGenesisFile(path));
  return bytes && hashOf(bytes);
}

/** Whether its run was begun by its peer, or nothing can be said of it. */
function isBegunIn(path: string): boolean {
  const seed = ifReadable(() => loadIdentity(runPaths(path).identity));
  const bytes = ifReadable(() => readGenesisFile(path));
  const genesis = bytes && ifReadable(() => decodeGenesis(bytes));
  return !seed || !genesis || genesis.founder === identityFromBytes(seed).self;
}

/** @throws CodedError `E_GENESIS` naming the file */
function genesisIn(path: string, bytes: Uint8Array): Genesis {
  try {
    return decodeGenesis(bytes);
  } catch (cause) {
    if (!(cause instanceof CodedError)) throw cause;
    const fix = 'copy it from the folder of another peer of the run, or give another --dir';
    const message = `${runPaths(path).genesis} is damaged (${cause.message}); ${fix}`;
    throw new CodedError(cause.code, message, { cause });
  }
}

function resume(path: string, genesis: Genesis, choices: RunChoices): OpenedFolder {
  const conflicts = conflictsWith(genesis, choices);
  if (conflicts.length > 0) {
    const asked = conflicts.map(({ option, asked, run }) => `${option} ${asked} (the run has ${run})`).join(', ');
    const ways = 'start without these options to go on with it, give another --dir, or remove the folder';
    throw new CodedError('E_RUN_EXISTS', `${path} holds a run with other settings: ${asked}; ${ways}`);
  }
  const directory = openDirectory(path, encodeGenesis(genesis));
  const { identity, chain, checkpoints } = directory.paths;
  if (existsSync(identity)) return { ...takeFolder(directory), genesis, resumed: true };
  directory.release();
  if (!existsSync(chain) && !existsSync(checkpoints)) {
    throw new CodedError('E_DIR_INCOMPLETE', `the run in ${path} was never begun: remove the folder and start again`);
  }
  const ways = 'put it back from a copy, or join with --bootstrap, which makes this folder that of a new peer';
  throw new CodedError('E_DIR_INCOMPLETE', `${identity} is missing, by which others know this peer; ${ways}`);
}

async function joinRun(options: FolderOptions, stored: Uint8Array | undefined): Promise<OpenedFolder> {
  const { genesisBytes, path = options.dir } = await genesisFrom(options, stored);
  const genesis = decodeGenesis(genesisBytes);
  const directory =
    path === undefined ? openDefaultDirectory(genesis.title, genesisBytes) : openDirectory(path, genesisBytes);
  const resumed = existsSync(directory.paths.chain);
  return { ...takeFolder(directory), genesis, resumed };
}

/** The run behind the addresses; one that this folder is part of already can wait for them to answer. */
async function genesisFrom(
  { bootstrap, dialFrom, dir }: FolderOptions,
  stored: Uint8Array | undefined,
): Promise<{ genesisBytes: Uint8Array; path?: string }> {
  try {
    const before = dir === undefined ? undefined : loadWhereabouts(runPaths(dir).whereabouts).asked?.dialFrom;
    const from = dialFrom === undefined ? before : dialFrom;
    return await fetchGenesis(bootstrap, from ? { dialFrom: from } : {});
  } catch (error) {
    if (!isCoded(error) || error.code !== 'E_BOOTSTRAP') throw error;
    if (stored) return { genesisBytes: stored };
    const path = dir === undefined ? runBehind(bootstrap) : undefined;
    const genesisBytes = path === undefined ? undefined : readGenesisFile(path);
    if (path !== undefined && genesisBytes) return { genesisBytes, path };
    throw error;
  }
}

/** The newest folder of this machine whose peer knows one that is asked for by its id, and that nobody is in. */
function runBehind(bootstrap: readonly string[]): string | undefined {
  // an address alone may be that of another run by now
  const peers = bootstrap.flatMap((address) => /\/p2p\/\w+$/.exec(address)?.[0] ?? []);
  const isIn = (path: string): boolean =>
    loadWhereabouts(runPaths(path).whereabouts).peers.some((known) => peers.some((peer) => known.endsWith(peer)));
  return resumableDirectories(defaultBase()).find((path) => isIn(path) && !isLocked(path));
}

/** Of one whose key is gone: what it had learned, said and was owed is not the next one's, which would give it in once more. */
function forgetPeer({ paths }: RunDirectory): void {
  const its = [paths.own, paths.underWay, paths.receipts, paths.record, paths.journal];
  for (const path of its) rmSync(path, { recursive: true, force: true });
}

function takeFolder(directory: RunDirectory): Pick<OpenedFolder, 'directory' | 'identity' | 'store'> {
  try {
    let seed = loadIdentity(directory.paths.identity);
    if (!seed) {
      seed = createSeed();
      forgetPeer(directory);
      saveIdentity(directory.paths.identity, seed);
    }
    return { directory, identity: identityFromBytes(seed), store: new BlobStore(directory.paths.blobs) };
  } catch (error) {
    directory.release();
    throw error;
  }
}

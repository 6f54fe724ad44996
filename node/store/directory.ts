import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { basename, join } from 'node:path';
import { CodedError } from '../../protocol/errors.ts';
import { type Hash, hashOf } from '../../protocol/hash.ts';
import { type DiskErrorCode, diskError, makeFolder, namesIn, TEMPORARY_ENDING, writeFileAtomicSync } from './atomic.ts';
import { isLock, type Lock, takeLock } from './lock.ts';

export type DirectoryErrorCode =
  | 'E_DIR_OTHER_RUN' // the folder holds another run
  | 'E_DIR_LOCKED' // another process works in it
  | 'E_DIR_NOT_EMPTY' // something else is in it
  | 'E_NO_HOME' // there is no place for it that nobody has to name
  | DiskErrorCode;

/** Where things are in the folder of one peer of one run. */
export interface RunPaths {
  /** the peer's key, see identity.ts */
  identity: string;
  /** canonical genesis bytes; their hash is the run */
  genesis: string;
  /** what the peer must remember before it votes, see record.ts */
  record: string;
  /** folder of the history, see chain-log.ts */
  chain: string;
  /** where this peer listened and others were, see whereabouts.ts */
  whereabouts: string;
  /** own work since the last checkpoint, see train/peer-worker.ts */
  own: string;
  /** a round's training while it is under way, see train/under-way.ts */
  underWay: string;
  /** contributions without an answer, see receipts.ts */
  receipts: string;
  /** the snapshot that is being fetched, see unfinished.ts */
  unfinished: string;
  /** folder of checkpoint.ts */
  checkpoints: string;
  /** folder of blob-store.ts */
  blobs: string;
  /** folder of ../journal/journal.ts */
  journal: string;
}

/** The folder of a peer, held by this process until `release`. */
export interface RunDirectory {
  path: string;
  runId: Hash;
  paths: RunPaths;
  release(): void;
  /** For a run that was not begun after all: takes away what this process made of it but for the lock, and releases. */
  discard(): void;
}

/** Folders of one run on one machine; more than a machine can run peers. */
const SIBLINGS_MAX = 1000;

export function runPaths(path: string): RunPaths {
  return {
    identity: join(path, 'identity.key'),
    genesis: join(path, 'genesis.cbor'),
    record: join(path, 'record.bin'),
    chain: join(path, 'chain'),
    whereabouts: join(path, 'whereabouts.json'),
    own: join(path, 'own.bin'),
    underWay: join(path, 'under-way.bin'),
    receipts: join(path, 'receipts.json'),
    unfinished: join(path, 'unfinished.json'),
    checkpoints: join(path, 'checkpoints'),
    blobs: join(path, 'blobs'),
    journal: join(path, 'journal'),
  };
}

/** `~/.outerloop/runs`, where folders go that no `--dir` names; also where `HOME` is there and empty. @throws `E_NO_HOME` */
export function defaultBase(home: string = homeFolder()): string {
  return join(home, '.outerloop', 'runs');
}

/** @throws CodedError `E_NO_HOME` */
function homeFolder(): string {
  try {
    return homedir() || userInfo().homedir;
  } catch (cause) {
    // a user that the system does not know, as in a container or of a service
    const message = 'this user has no home folder; give --dir, or set HOME';
    throw new CodedError<DirectoryErrorCode>('E_NO_HOME', message, { cause });
  }
}

/**
 * The genesis that a folder holds, `undefined` if it holds no run (or is not there). To look before taking the lock, as a
 * restart with `--dir` does; the bytes are still to be decoded and checked.
 */
export function readGenesisFile(path: string): Uint8Array | undefined {
  try {
    return new Uint8Array(readFileSync(runPaths(path).genesis));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw diskError(cause, path, 'read');
  }
}

/**
 * A run may be in a folder that is not there yet, an empty one, one with a run, and one that a killed process had begun.
 * @throws CodedError `E_DIR_NOT_EMPTY` where only other things are in it
 */
export function checkRunFolder(path: string): void {
  if (readGenesisFile(path) !== undefined) return;
  checkEmpty(path, 'give a new or empty folder, or the one of a run to go on with it', isOfRun);
}

/**
 * @param ways what to do instead
 * @param isOurs names that do not count
 * @throws CodedError `E_DIR_NOT_EMPTY`
 */
export function checkEmpty(path: string, ways: string, isOurs: (name: string) => boolean = () => false): void {
  const foreign = namesIn(path).find((name) => !isOurs(name));
  if (foreign === undefined) return;
  throw new CodedError<DirectoryErrorCode>('E_DIR_NOT_EMPTY', `${path} is not empty: it has ${foreign}; ${ways}`);
}

const RUN_NAMES = new Set(Object.values(runPaths('')).map((path) => basename(path)));

/** What a run's folder has in it, whenever its process was killed. Some systems put `lost+found` into a new disk. */
function isOfRun(name: string): boolean {
  const whole = name.replace(/[.][\d-]+[.]tmp$/, '');
  return RUN_NAMES.has(whole) || isLock(name) || name === 'lost+found';
}

/**
 * Takes a folder for a run: makes it if it is missing, locks it, stores the genesis in a new one, clears away what a
 * killed process had half written. Other files of the folder are written only by who holds it.
 * @param genesis canonical bytes
 * @throws CodedError<DirectoryErrorCode>
 */
export function openDirectory(path: string, genesis: Uint8Array): RunDirectory {
  const runId = hashOf(genesis);
  let lock: Lock | undefined;
  try {
    makeFolder(path);
    checkRun(path, runId);
    lock = takeLock(path);
    // again: another process may have made it its own in between
    checkRun(path, runId);
    const paths = runPaths(path);
    // where only the genesis was lost, what is left is a peer's key, votes and model
    const isNew = !hasRemains(path);
    if (readGenesisFile(path) === undefined) writeFileAtomicSync(paths.genesis, genesis);
    for (const folder of [path, paths.chain, paths.checkpoints]) removeTemporary(folder);
    const { release } = lock;
    const discard = (): void => {
      if (isNew) for (const each of Object.values(paths)) rmSync(each, { recursive: true, force: true });
      release();
    };
    return { path, runId, paths, release, discard };
  } catch (cause) {
    lock?.release();
    throw cause instanceof CodedError ? cause : diskError(cause, path);
  }
}

/** Anything of a run. */
export function hasRemains(path: string): boolean {
  return Object.values(runPaths(path)).some((each) => existsSync(each));
}

/**
 * Takes the first of `<base>/<slug>-<8 digits of the run>-<k>`, k = 1, 2, …, that is free: not there yet, or of this run
 * and used by no process. So a peer that is started again finds its own folder, and a second one on the same machine
 * gets another.
 */
export function openDefaultDirectory(title: string, genesis: Uint8Array, base: string = defaultBase()): RunDirectory {
  const stem = join(base, `${slugOf(title)}-${hashOf(genesis).slice(0, 8)}`);
  for (let k = 1; k <= SIBLINGS_MAX; k++) {
    try {
      return openDirectory(`${stem}-${k}`, genesis);
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (code !== 'E_DIR_LOCKED' && code !== 'E_DIR_OTHER_RUN') throw error;
    }
  }
  throw new CodedError<DirectoryErrorCode>(
    'E_DIR_LOCKED',
    `${SIBLINGS_MAX} folders like ${stem}-1 are in use; give a --dir`,
  );
}

/** Folders of runs that peers of this machine were in, the newest run first. */
export function resumableDirectories(base: string = defaultBase()): string[] {
  const folders = namesIn(base)
    .map((name) => join(base, name))
    .filter((path) => existsSync(runPaths(path).identity));
  const changedMs = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return folders.sort((a, b) => changedMs(b) - changedMs(a));
}

/** A title as part of a file name: lower-case letters and digits, hyphens between. */
export function slugOf(title: string): string {
  const words = title.toLowerCase().match(/[a-z0-9]+/g) ?? [];
  return words.join('-').slice(0, 40).replace(/-$/, '') || 'run';
}

function checkRun(path: string, runId: Hash): void {
  const genesis = readGenesisFile(path);
  if (genesis === undefined) return checkRunFolder(path);
  const other = hashOf(genesis);
  if (other === runId) return;
  const message =
    `${path} holds run ${other.slice(0, 8)}, not ${runId.slice(0, 8)}; ` +
    `give another --dir, go on with that run (start without --bootstrap), or remove the folder`;
  throw new CodedError<DirectoryErrorCode>('E_DIR_OTHER_RUN', message);
}

function removeTemporary(folder: string): void {
  // not the draft of another process's lock, which it is just about to use
  const left = namesIn(folder).filter((name) => name.endsWith(TEMPORARY_ENDING) && !name.startsWith('lock-'));
  for (const name of left) rmSync(join(folder, name), { force: true });
}

import { spawnSync } from 'node:child_process';
import { chmodSync, linkSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { CodedError, isCoded } from '../../protocol/errors.ts';
import { removeQuietly, TEMPORARY_ENDING } from './atomic.ts';

/**
 * One process at a time in a folder, also after `kill -9`, a reboot and the reuse of a process id (but on Windows, where
 * any process of the holder's id is taken for it).
 *
 * The lock is the file `lock.<n>` with the highest n; it names its holder, and an empty one has been released. A process
 * that finds the highest released or its holder dead makes `lock.<n+1>`, which only one can (link, like O_EXCL, fails
 * when the name is there, and the content is there from the start). Whoever makes one then looks whether it is the
 * highest: the highest is never removed, so one who acted on an old listing sees that it lost. Two in different
 * containers that share a folder but not their process ids are not told apart.
 */
export interface Lock {
  release(): void;
}

interface Holder {
  pid: number;
  /** when the process started, in clock ticks since boot (/proc) or as a date (ps); empty where that is not known */
  started: string;
  /** which boot of the machine; empty where that is not known */
  boot: string;
}

/** Attempts lost to others before giving up: each means that another process made progress. */
const ATTEMPTS_MAX = 100;

/** How long ps may take. */
const PS_MS = 5000;

const WAYS = 'stop it, or give this one another --dir (and --bootstrap, to join the same run)';

/**
 * @param folder must exist
 * @param ways what somebody can do who finds it taken
 * @throws CodedError `E_DIR_LOCKED` naming the holder; errors of the file system as they are
 */
export function takeLock(folder: string, ways = WAYS): Lock {
  const self: Holder = { pid: process.pid, started: processStart(process.pid)?.started ?? '', boot: bootId() };
  const draft = join(folder, `lock-${process.pid}-${threadId}${TEMPORARY_ENDING}`);
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const highest = highestLock(folder);
    const holder = readHolder(lockPath(folder, highest));
    if (holder && isAlive(holder)) throw locked(folder, holder, ways);
    if (!makeExclusively(draft, lockPath(folder, highest + 1), JSON.stringify(self))) continue;
    if (highestLock(folder) !== highest + 1) {
      rmSync(lockPath(folder, highest + 1), { force: true });
      continue;
    }
    removeBelow(folder, highest + 1);
    return { release: () => releaseFile(lockPath(folder, highest + 1)) };
  }
  throw new CodedError('E_DIR_LOCKED', `${folder} is wanted by many processes at once; ${ways}`);
}

function lockPath(folder: string, n: number): string {
  return join(folder, `lock.${n}`);
}

/** Whether a process is in a folder; only `takeLock` makes sure that none comes in the next moment. */
export function isLocked(folder: string): boolean {
  try {
    const holder = readHolder(lockPath(folder, highestLock(folder)));
    return holder !== undefined && isAlive(holder);
  } catch (error) {
    if (isCoded(error)) return true;
    throw error;
  }
}

const LOCK_NAME = /^lock[.](\d{1,15})$/;

/** Also of the draft that a killed process left. */
export function isLock(name: string): boolean {
  return LOCK_NAME.test(name) || /^lock-[\d-]+[.]tmp$/.test(name);
}

function lockNumbers(folder: string): number[] {
  return readdirSync(folder).flatMap((name) => {
    const match = LOCK_NAME.exec(name);
    return match ? [Number(match[1])] : [];
  });
}

function highestLock(folder: string): number {
  return Math.max(0, ...lockNumbers(folder));
}

function removeBelow(folder: string, n: number): void {
  for (const other of lockNumbers(folder)) if (other < n) rmSync(lockPath(folder, other), { force: true });
}

/** Makes a file with its content in one step; false when the name is taken. */
function makeExclusively(draft: string, path: string, content: string): boolean {
  writeFileSync(draft, content);
  try {
    // another user's peer must see who holds the folder, whatever this one's umask is
    chmodSync(draft, 0o644);
    linkSync(draft, path);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw cause;
  } finally {
    removeQuietly(draft);
  }
}

/** Emptied, not removed: a number must never be handed out twice. */
function releaseFile(path: string): void {
  try {
    truncateSync(path);
  } catch {
    // the folder is gone, or its disk takes nothing any more: who comes next sees that this process is gone
  }
}

/** @throws CodedError `E_DIR_LOCKED` where it cannot be read: somebody may hold it */
function readHolder(path: string): Holder | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    // removed by its successor
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    const message = `cannot read who holds ${path} (${(cause as Error).message}): stop the peer that is in its folder`;
    throw new CodedError('E_DIR_LOCKED', `${message}, then remove that file`, { cause });
  }
  try {
    const { pid, started, boot } = JSON.parse(text) as Partial<Holder>;
    if (!Number.isSafeInteger(pid) || typeof started !== 'string' || typeof boot !== 'string') return undefined;
    return { pid: pid as number, started, boot };
  } catch {
    // released (empty), or cut short by a power failure: it was whole as long as its holder lived
    return undefined;
  }
}

function isAlive(holder: Holder): boolean {
  if (holder.boot !== bootId()) return false;
  try {
    process.kill(holder.pid, 0);
  } catch (cause) {
    // EPERM: alive, but another user's
    if ((cause as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const now = processStart(holder.pid);
  // where it cannot be told it lives: of two in one folder both would vote
  if (!now) return true;
  return !now.dead && (holder.started === '' || now.started === holder.started);
}

/** Start time and state of a process; undefined where they are not known. */
function processStart(pid: number): { started: string; dead: boolean } | undefined {
  // never one for the other: the two write it differently
  const [state, started] = (bootId() === '' ? fromPs(pid) : inProc(pid)) ?? ['', ''];
  return started === '' ? undefined : { started, dead: /^[ZX]/.test(state) };
}

/** Linux: proc_pid_stat(5), fields 3 and 22. */
function inProc(pid: number): [state: string, started: string] | undefined {
  const text = readLine(`/proc/${pid}/stat`);
  if (text === '') return undefined;
  // the command, field 2, is in parentheses and may itself hold blanks and parentheses
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return [fields[0] ?? '', fields[19] ?? ''];
}

/**
 * macOS and the BSDs: the date that the system noted when the process began, which stays when the clock is set. The
 * machine's boot time does not: by that, setting the clock would make a live holder look dead.
 */
function fromPs(pid: number): [state: string, started: string] | undefined {
  if (process.platform === 'win32') return undefined;
  const env = { ...process.env, LC_ALL: 'C', TZ: 'UTC0' };
  const argv = ['-o', 'stat=', '-o', 'lstart=', '-p', String(pid)];
  const { status, stdout } = spawnSync('ps', argv, { env, encoding: 'utf8', timeout: PS_MS });
  if (status !== 0) return undefined;
  const [state = '', ...date] = stdout.trim().split(/\s+/);
  return [state, date.join(' ')];
}

function bootId(): string {
  return readLine('/proc/sys/kernel/random/boot_id');
}

function readLine(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

function locked(folder: string, holder: Holder, ways: string): CodedError<'E_DIR_LOCKED'> {
  const message = `${folder} is in use by process ${holder.pid}; ${ways}`;
  return new CodedError('E_DIR_LOCKED', message);
}

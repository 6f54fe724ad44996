import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CodedError, isCoded } from '../../protocol/errors.ts';
import type { ResultsErrorCode } from '../../sim/report/read.ts';
import { type DiskErrorCode, diskError, makeFolder, removeQuietly, writeFileAtomicSync } from '../store/atomic.ts';
import { type Lock, takeLock } from '../store/lock.ts';

const OPTION = '--out';
/** Where the lock's files are, so that they do not lie among the results. */
const LOCK_FOLDER = '.lock';
/** Results are there to be shown to others. */
const MODE = 0o644;

/** The folder that a command leaves its results in: one process at a time, whole files only. */
export class ResultsFolder {
  readonly path: string;
  readonly #lock: Lock;

  /**
   * Makes it where it is missing, and finds out whether it can be written to: before hours of work, not after them.
   * @throws CodedError `E_DIR_LOCKED`, `E_DIR_UNWRITABLE`, `E_DISK_FULL`
   */
  constructor(path: string) {
    this.path = path;
    this.#lock = coded(path, () => {
      const inside = join(path, LOCK_FOLDER);
      makeFolder(inside, 0o777);
      const lock = takeLock(inside, `wait for it or stop it, or give another ${OPTION}`);
      const probe = join(path, '.probe');
      writeFileAtomicSync(probe, new Uint8Array(1), { durable: false, option: OPTION });
      removeQuietly(probe);
      return lock;
    });
  }

  /** What `results.json` holds; undefined where there is none. @throws CodedError `E_RESULTS`, `E_DIR_UNWRITABLE` */
  read(): unknown {
    const path = join(this.path, 'results.json');
    const text = coded(path, () => textOf(path), 'read');
    if (text === undefined) return undefined;
    try {
      return JSON.parse(text);
    } catch (cause) {
      const message = `${path} is not JSON; give another ${OPTION}, or remove the file`;
      throw new CodedError<ResultsErrorCode>('E_RESULTS', message, { cause });
    }
  }

  /** @param files texts by name @throws CodedError `E_DIR_UNWRITABLE`, `E_DISK_FULL` */
  write(files: Readonly<Record<string, string>>): void {
    for (const [name, text] of Object.entries(files)) {
      const path = join(this.path, name);
      coded(path, () => writeFileAtomicSync(path, Buffer.from(text), { mode: MODE, option: OPTION }));
    }
  }

  close(): void {
    this.#lock.release();
  }
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}

/** Whatever the disk says, in one line that names the folder. */
function coded<T>(path: string, act: () => T, wanted: 'read' | 'write' = 'write'): T {
  try {
    return act();
  } catch (cause) {
    const error = diskError(cause, path, wanted, OPTION);
    if (isCoded(error)) throw error;
    const message = `cannot use ${path} (${(cause as Error).message}); give another ${OPTION}`;
    throw new CodedError<DiskErrorCode>('E_DIR_UNWRITABLE', message, { cause });
  }
}

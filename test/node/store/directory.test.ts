import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  checkRunFolder,
  defaultBase,
  openDefaultDirectory,
  openDirectory,
  readGenesisFile,
  slugOf,
} from '../../../node/store/directory.ts';
import { isLocked } from '../../../node/store/lock.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const GENESIS = bytes('a genesis');
const OTHER_GENESIS = bytes('another genesis');

/** Another process that tries to take the folder; `answer` is `held` or the code of the refusal. */
async function otherProcess(path: string, ...node: string[]): Promise<{ child: ChildProcess; answer: string }> {
  const argv = [...node, '--import', 'tsx', 'test/helpers/hold-directory.ts', path, 'a genesis'];
  const child = spawn(process.execPath, argv, {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  const [answer] = (await once(createInterface(child.stdout!), 'line')) as [string];
  return { child, answer };
}

/** To be loaded before a program, for which there is no /proc then. */
const NO_PROC = `
  const fs = require('node:fs');
  const read = fs.readFileSync;
  fs.readFileSync = (path, ...options) => {
    if (String(path).startsWith('/proc/')) throw Object.assign(new Error('hidden'), { code: 'ENOENT' });
    return read(path, ...options);
  };
  require('node:module').syncBuiltinESMExports();`;

/** Not that of BusyBox. */
function psTellsDates(): boolean {
  return spawnSync('ps', ['-o', 'lstart=', '-p', String(process.pid)]).status === 0;
}

/** `kill -9`, and wait until the system has collected it. */
async function kill(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

describe('openDirectory', () => {
  it('makes the folder, stores the genesis and gives it back on the next start', () => {
    const path = join(temporaryFolder(), 'new', 'peer');
    expect(readGenesisFile(path)).toBeUndefined();
    const first = openDirectory(path, GENESIS);
    expect(first.runId).toMatch(/^[0-9a-f]{64}$/);
    first.release();
    expect(readGenesisFile(path)).toEqual(GENESIS);
    const second = openDirectory(path, GENESIS);
    expect(second.paths).toEqual(first.paths);
    second.release();
  });

  it('refuses the folder of another run, names both, and leaves it alone', () => {
    const path = temporaryFolder();
    const { runId, release } = openDirectory(path, GENESIS);
    release();
    const names = readdirSync(path);
    const refusal = expect.objectContaining({
      code: 'E_DIR_OTHER_RUN',
      message: expect.stringMatching(new RegExp(`${runId.slice(0, 8)}.*--dir`)),
    });
    expect(() => openDirectory(path, bytes('another'))).toThrow(refusal);
    expect(readdirSync(path)).toEqual(names);
    openDirectory(path, GENESIS).release();
  });

  it('clears away what a killed process had half written', () => {
    const path = temporaryFolder();
    openDirectory(path, GENESIS).release();
    for (const folder of ['checkpoints', 'chain']) mkdirSync(join(path, folder));
    writeFileSync(join(path, 'record.bin.77-0-1.tmp'), 'half');
    writeFileSync(join(path, 'checkpoints', 'checkpoint-3.bin.77-0-2.tmp'), 'half');
    writeFileSync(join(path, 'checkpoints', 'checkpoint-2.bin'), 'whole');
    for (const name of ['000001.log.77-0-1.tmp', '.DS_Store']) writeFileSync(join(path, 'chain', name), 'half');
    openDirectory(path, GENESIS).release();
    expect(readdirSync(path).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    expect(readdirSync(join(path, 'checkpoints'))).toEqual(['checkpoint-2.bin']);
    expect(readdirSync(join(path, 'chain'))).toEqual(['.DS_Store']);
  });

  it.each(['notes.txt', '.git', 'lock.txt', 'draft.tmp'])(
    'refuses a folder with %s and no run, and writes nothing into it',
    (name) => {
      const path = temporaryFolder();
      writeFileSync(join(path, name), '');
      const message = expect.stringMatching(/it has (notes|.git|lock|draft).*give a new or empty folder/);
      const refusal = expect.objectContaining({ code: 'E_DIR_NOT_EMPTY', message });
      expect(() => checkRunFolder(path)).toThrow(refusal);
      expect(() => openDirectory(path, GENESIS)).toThrow(refusal);
      expect(readdirSync(path)).toEqual([name]);
    },
  );

  it('takes a folder that a killed process had begun, and one with a run whatever else is in it', () => {
    const begun = temporaryFolder();
    for (const name of ['lock.1', 'lock-77-0.tmp', 'genesis.cbor.77-0-1.tmp', 'identity.key', 'blobs', 'lost+found']) {
      writeFileSync(join(begun, name), '');
    }
    checkRunFolder(begun);
    openDirectory(begun, GENESIS).release();
    writeFileSync(join(begun, 'notes.txt'), '');
    checkRunFolder(begun);
    openDirectory(begun, GENESIS).release();
  });

  it('says when a folder cannot be made', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'file'), '');
    const refusal = expect.objectContaining({ code: 'E_DIR_UNWRITABLE' });
    expect(() => openDirectory(join(folder, 'file', 'peer'), GENESIS)).toThrow(refusal);
    expect(() => openDirectory(join(folder, 'file'), GENESIS)).toThrow(refusal);
  });
});

it.skipIf(process.platform !== 'linux')('says at once that no folder can be made below /proc', () => {
  for (const path of ['/proc/run', '/proc/self/run/deeper']) {
    expect(() => openDirectory(path, GENESIS)).toThrow(expect.objectContaining({ code: 'E_DIR_UNWRITABLE' }));
  }
});

describe('a run that is not begun after all', () => {
  it('leaves no run, and one that was there before as it was', () => {
    const path = join(temporaryFolder(), 'run');
    openDirectory(path, GENESIS).discard();
    expect(readGenesisFile(path)).toBeUndefined();
    openDirectory(path, OTHER_GENESIS).release();
    openDirectory(path, OTHER_GENESIS).discard();
    expect(readGenesisFile(path)).toEqual(OTHER_GENESIS);
  });
});

describe('lock', () => {
  it('can be read by other users, and one that cannot is held', () => {
    const path = temporaryFolder();
    const umask = process.umask(0o077);
    const { release } = openDirectory(path, GENESIS);
    process.umask(umask);
    expect(statSync(join(path, 'lock.1')).mode & 0o777).toBe(0o644);
    release();
    openDirectory(path, GENESIS).release();
    // a folder cannot be read as a file by anybody, root included
    mkdirSync(join(path, 'lock.9'));
    expect(isLocked(path)).toBe(true);
    const message = expect.stringMatching(/lock\.9.*stop the peer/);
    expect(() => openDirectory(path, GENESIS)).toThrow(expect.objectContaining({ code: 'E_DIR_LOCKED', message }));
  });

  const refusal = expect.objectContaining({
    code: 'E_DIR_LOCKED',
    message: expect.stringMatching(/process \d+.*--dir/),
  });

  it('refuses a second holder, in this process too, until the first lets go', () => {
    const path = temporaryFolder();
    const first = openDirectory(path, GENESIS);
    expect(() => openDirectory(path, GENESIS)).toThrow(refusal);
    first.release();
    openDirectory(path, GENESIS).release();
  });

  it('refuses while another process holds it and takes over after kill -9', async () => {
    const path = temporaryFolder();
    const { child, answer } = await otherProcess(path);
    expect(answer).toBe('held');
    expect(() => openDirectory(path, GENESIS)).toThrow(refusal);
    await kill(child);
    openDirectory(path, GENESIS).release();
  });

  it('goes to exactly one of several that start at once on what a killed process left', async () => {
    const path = temporaryFolder();
    const { child } = await otherProcess(path);
    await kill(child);
    const contenders = await Promise.all([1, 2, 3, 4].map(() => otherProcess(path)));
    const answers = contenders.map(({ answer }) => answer).toSorted();
    expect(answers).toEqual(['E_DIR_LOCKED', 'E_DIR_LOCKED', 'E_DIR_LOCKED', 'held']);
  });

  it.skipIf(!existsSync('/proc/self/stat'))('knows a process id that was reused, and another boot', () => {
    const path = temporaryFolder();
    const rewrite = (change: object) => {
      const { release } = openDirectory(path, GENESIS);
      const lock = join(path, readdirSync(path).find((name) => name.startsWith('lock.'))!);
      const holder = JSON.parse(readFileSync(lock, 'utf8')) as object;
      release();
      // as if a process had died without letting go
      writeFileSync(lock, JSON.stringify({ ...holder, ...change }));
    };
    rewrite({});
    expect(() => openDirectory(path, GENESIS)).toThrow(refusal);
    writeFileSync(join(path, readdirSync(path).find((name) => name.startsWith('lock.'))!), '');
    rewrite({ started: '1' });
    rewrite({ boot: 'an earlier one' });
    rewrite({ pid: 2 ** 30 });
    openDirectory(path, GENESIS).release();
  });

  it.skipIf(!psTellsDates())('knows a process id that was reused where there is no /proc, as on macOS', async () => {
    const preload = join(temporaryFolder(), 'no-proc.cjs');
    writeFileSync(preload, NO_PROC);
    const path = temporaryFolder();
    const other = () => otherProcess(path, '--require', preload);
    const { child, answer } = await other();
    expect(answer).toBe('held');
    const lock = join(path, 'lock.1');
    expect(JSON.parse(readFileSync(lock, 'utf8'))).toMatchObject({ pid: child.pid, boot: '' });
    expect((await other()).answer).toBe('E_DIR_LOCKED');
    await kill(child);
    // the holder's id went to another process, which lives
    const holder = JSON.parse(readFileSync(lock, 'utf8')) as object;
    const write = (change: object) => writeFileSync(lock, JSON.stringify({ ...holder, pid: process.ppid, ...change }));
    // where it was not known when the holder began, nobody can tell
    write({ started: '' });
    expect((await other()).answer).toBe('E_DIR_LOCKED');
    write({});
    expect((await other()).answer).toBe('held');
  });

  it('is free again when a power failure cut it short', () => {
    const path = temporaryFolder();
    openDirectory(path, GENESIS).release();
    for (const rest of ['', '{"pid":', '[]', 'null', '{"pid":"1","started":1}']) {
      const lock = readdirSync(path).find((name) => name.startsWith('lock.'))!;
      writeFileSync(join(path, lock), rest);
      openDirectory(path, GENESIS).release();
    }
  });

  it('does not pile up files', () => {
    const path = temporaryFolder();
    for (let i = 0; i < 20; i++) openDirectory(path, GENESIS).release();
    expect(readdirSync(path).filter((name) => name.startsWith('lock'))).toHaveLength(1);
  });
});

describe('openDefaultDirectory', () => {
  it('takes the first folder that is free, and its own again', () => {
    const base = join(temporaryFolder(), 'runs');
    const first = openDefaultDirectory('Moby-Dick, nano', GENESIS, base);
    const second = openDefaultDirectory('Moby-Dick, nano', GENESIS, base);
    const stem = `moby-dick-nano-${first.runId.slice(0, 8)}`;
    expect(readdirSync(base)).toEqual([`${stem}-1`, `${stem}-2`]);
    first.release();
    const again = openDefaultDirectory('Moby-Dick, nano', GENESIS, base);
    expect(again.path).toBe(first.path);
    for (const directory of [again, second]) directory.release();
  });

  it('passes over the folder of another run', () => {
    const base = temporaryFolder();
    const path = openDefaultDirectory('x', GENESIS, base);
    path.release();
    writeFileSync(path.paths.genesis, 'another');
    const next = openDefaultDirectory('x', GENESIS, base);
    expect(next.path).toBe(path.path.replace(/1$/, '2'));
    next.release();
  });

  it('does not go on looking when the disk refuses', () => {
    const base = join(temporaryFolder(), 'file');
    writeFileSync(base, '');
    expect(() => openDefaultDirectory('x', GENESIS, base)).toThrow(
      expect.objectContaining({ code: 'E_DIR_UNWRITABLE' }),
    );
  });

  it('makes file names of titles', () => {
    expect(slugOf('../../etc/Passwd')).toBe('etc-passwd');
    expect(slugOf('Война и мир')).toBe('run');
    expect(slugOf(`${'x'.repeat(39)} yz`)).toBe('x'.repeat(39));
    expect(defaultBase('/home/a')).toBe('/home/a/.outerloop/runs');
  });

  it('goes where the account has its home when HOME is empty, not into the working folder', () => {
    vi.stubEnv('HOME', '');
    expect(isAbsolute(defaultBase())).toBe(true);
    vi.unstubAllEnvs();
  });
});

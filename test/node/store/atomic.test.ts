import { chmodSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { diskError, writeFileAtomic, writeFileAtomicSync } from '../../../node/store/atomic.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const writers: [string, (...args: Parameters<typeof writeFileAtomic>) => Promise<void>][] = [
  ['writeFileAtomic', writeFileAtomic],
  ['writeFileAtomicSync', async (...args) => writeFileAtomicSync(...args)],
];

describe.each(writers)('%s', (_, write) => {
  it('makes folders, replaces content and leaves nothing else behind', async () => {
    const folder = join(temporaryFolder(), 'a', 'b');
    const path = join(folder, 'file');
    await write(path, Uint8Array.of(1, 2, 3));
    await write(path, [Uint8Array.of(4), new Uint8Array(0), Uint8Array.of(5)], { durable: false });
    expect([...readFileSync(path)]).toEqual([4, 5]);
    expect(readdirSync(folder)).toEqual(['file']);
  });

  it('lets only the owner read it', async () => {
    const path = join(temporaryFolder(), 'deep', 'file');
    await write(path, Uint8Array.of(1));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(path, '..')).mode & 0o777).toBe(0o700);
  });

  it('leaves the old file and no half-written one when it fails', async () => {
    const folder = temporaryFolder();
    // a folder in the way makes the last step, the rename, fail
    mkdirSync(join(folder, 'file', 'below'), { recursive: true });
    await expect(write(join(folder, 'file'), Uint8Array.of(1))).rejects.toBeDefined();
    expect(readdirSync(folder)).toEqual(['file']);
    writeFileSync(join(folder, 'plain'), 'old');
    const code = 'E_DIR_UNWRITABLE';
    await expect(write(join(folder, 'plain', 'file'), Uint8Array.of(1))).rejects.toMatchObject({ code });
    expect(readFileSync(join(folder, 'plain'), 'utf8')).toBe('old');
  });

  it.skipIf(process.getuid?.() === 0)('names a folder that is not ours to write', async () => {
    const folder = temporaryFolder();
    chmodSync(folder, 0o500);
    await expect(write(join(folder, 'file'), Uint8Array.of(1))).rejects.toMatchObject({ code: 'E_DIR_UNWRITABLE' });
  });
});

describe('diskError', () => {
  it.skipIf(process.platform !== 'linux')('names a full disk', () => {
    const full = openSync('/dev/full', 'w');
    let caught: unknown;
    try {
      writeSync(full, 'x');
    } catch (error) {
      caught = error;
    }
    expect(diskError(caught, '/some/file')).toMatchObject({ code: 'E_DISK_FULL' });
  });

  it('names the file of which a failing disk says nothing', () => {
    const error = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
    const message = expect.stringContaining('cannot read /some/file (EIO');
    expect(diskError(error, '/some/file', 'read')).toMatchObject({ code: 'E_DISK_FAULT', message, cause: error });
  });

  it('passes on what it does not know', () => {
    const error = new TypeError('a mistake of ours');
    expect(diskError(error, '/some/file')).toBe(error);
  });
});

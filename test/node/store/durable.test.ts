import type * as Fs from 'node:fs';
import type * as FsPromises from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeEach, expect, test, vi } from 'vitest';
import { writeFileAtomic, writeFileAtomicSync } from '../../../node/store/atomic.ts';
import { ChainLog } from '../../../node/store/chain-log.ts';
import { RecordFile } from '../../../node/store/record.ts';
import { firstHead } from '../../../protocol/chain.ts';
import { runIdOf } from '../../../protocol/genesis.ts';
import { GENESIS } from '../../../protocol/history.ts';
import { testGenesis } from '../../helpers/cluster.ts';
import { signedEntry } from '../../helpers/history.ts';
import { testSigner } from '../../helpers/signers.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** A killed process loses nothing that a system call took; a power cut loses what was not synced, and no test has one. */

const { done } = vi.hoisted(() => ({ done: [] as string[] }));

/** A file by the name that it will have: temporary ones have more behind it. */
const named = (path: unknown): string => basename(String(path)).replace(/[.]\d+-\d+-\d+[.]tmp$/, '');

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof Fs>();
  const open = new Map<number, string>();
  return {
    ...fs,
    openSync(path: string, ...rest: [string, number]) {
      const file = fs.openSync(path, ...rest);
      open.set(file, named(path));
      return file;
    },
    writeSync(file: number, ...rest: [Uint8Array, number, number]) {
      done.push(`write ${open.get(file)}`);
      return fs.writeSync(file, ...rest);
    },
    fsyncSync(file: number) {
      done.push(`sync ${open.get(file)}`);
      fs.fsyncSync(file);
    },
    renameSync(from: string, to: string) {
      done.push(`rename ${named(to)}`);
      fs.renameSync(from, to);
    },
  };
});

vi.mock('node:fs/promises', async (original) => {
  const fs = await original<typeof FsPromises>();
  return {
    ...fs,
    async open(path: string, ...rest: [string, number]) {
      const file = await fs.open(path, ...rest);
      const [write, sync] = [file.write.bind(file), file.sync.bind(file)];
      const noted = (what: string, call: (...args: never[]) => unknown) =>
        Object.assign(file, {
          [what]: (...args: never[]) => {
            done.push(`${what} ${named(path)}`);
            return call(...args);
          },
        });
      noted('write', write as never);
      return noted('sync', sync as never);
    },
    rename(from: string, to: string) {
      done.push(`rename ${named(to)}`);
      return fs.rename(from, to);
    },
  };
});

let folder: string;

beforeEach(() => {
  folder = join(temporaryFolder(), 'here');
  done.length = 0;
});

test.each([
  ['writeFileAtomic', writeFileAtomic],
  ['writeFileAtomicSync', async (...args: Parameters<typeof writeFileAtomic>) => writeFileAtomicSync(...args)],
])('%s syncs content before it renames, and then the folder', async (_, write) => {
  await write(join(folder, 'file'), Uint8Array.of(1));
  expect(done.splice(0)).toEqual(['write file', 'sync file', 'rename file', 'sync here']);
  await write(join(folder, 'file'), Uint8Array.of(2), { durable: false });
  expect(done).toEqual(['write file', 'rename file']);
});

test('a record is on the disk when it is saved', async () => {
  await new RecordFile(join(folder, 'record.bin')).save(Uint8Array.of(1));
  expect(done).toEqual(['write record.bin', 'write record.bin', 'sync record.bin', 'rename record.bin', 'sync here']);
});

test('a block is on the disk when it is appended, in a new file and in one that is there', () => {
  const signer = testSigner('peer');
  const genesis = testGenesis(signer.self);
  const run = runIdOf(genesis);
  const entry = signedEntry(run, firstHead(genesis, run), [signer]);
  const log = new ChainLog(folder);
  log.append({ entry, segment: { ...GENESIS, keep: 1 } });
  const begun = ['write 000001.log', 'write 000001.log', 'sync 000001.log', 'rename 000001.log', 'sync here'];
  expect(done.splice(0)).toEqual(begun);
  log.append({ entry, segment: null });
  expect(done).toEqual(['write 000001.log', 'sync 000001.log']);
  log.close();
});

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { RecordFile } from '../../../node/store/record.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

describe('RecordFile', () => {
  it('gives back what was saved last, to another process too', async () => {
    const path = join(temporaryFolder(), 'record.bin');
    const record = new RecordFile(path);
    expect(record.load()).toBeUndefined();
    await record.save(Uint8Array.of(1));
    expect(record.load()).toEqual(Uint8Array.of(1));
    await record.save(new Uint8Array(0));
    expect(new RecordFile(path).load()).toEqual(new Uint8Array(0));
  });

  it('has on disk what a save promised, or something newer, whenever it resolves', async () => {
    const folder = temporaryFolder();
    const record = new RecordFile(join(folder, 'record.bin'));
    const started: number[] = [];
    const saves = Array.from({ length: 50 }, async (_, i) => {
      // begin some now, some while others are under way
      for (let turn = 0; turn < i % 7; turn++) await new Promise(setImmediate);
      started.push(i);
      const place = started.length;
      await record.save(Uint8Array.of(i));
      const found = started.indexOf(record.load()![0]!) + 1;
      expect(found).toBeGreaterThanOrEqual(place);
    });
    await Promise.all(saves);
    expect(record.load()).toEqual(Uint8Array.of(started.at(-1)!));
    expect(readdirSync(folder)).toEqual(['record.bin']);
  });

  it('is settled when nothing is written any more, though nobody waited for it', async () => {
    const folder = temporaryFolder();
    const record = new RecordFile(join(folder, 'record.bin'));
    await record.settled();
    for (const byte of [1, 2]) {
      void record.save(Uint8Array.of(byte));
      await new Promise(setImmediate);
    }
    await record.settled();
    expect(record.load()).toEqual(Uint8Array.of(2));
    expect(readdirSync(folder)).toEqual(['record.bin']);
    // one that failed too
    rmSync(join(folder, 'record.bin'));
    mkdirSync(join(folder, 'record.bin'));
    const failed = expect(record.save(Uint8Array.of(3))).rejects.toMatchObject({ code: 'E_DIR_UNWRITABLE' });
    await record.settled();
    await failed;
  });

  it('refuses a damaged file instead of forgetting votes', async () => {
    const path = join(temporaryFolder(), 'record.bin');
    const record = new RecordFile(path);
    await record.save(Uint8Array.of(1, 2, 3, 4));
    const whole = readFileSync(path);
    const cut = Array.from(whole, (_, length) => whole.subarray(0, length));
    const changed = Array.from(whole, (byte, i) => whole.map((other, j) => (i === j ? byte ^ 0x80 : other)));
    for (const bytes of [...cut, ...changed]) {
      writeFileSync(path, bytes);
      expect(() => record.load()).toThrow(expect.objectContaining({ code: 'E_RECORD_DAMAGED' }));
    }
  });

  it('does not take one that it may not read for a damaged one', () => {
    const path = join(temporaryFolder(), 'record.bin');
    // a folder cannot be read as a file by anybody, root included
    mkdirSync(path);
    const message = expect.not.stringContaining('remove');
    const refusal = expect.objectContaining({ code: 'E_DIR_UNREADABLE', message });
    expect(() => new RecordFile(path).load()).toThrow(refusal);
  });

  it('says when it could not write, keeps the old one, and tries again', async () => {
    const folder = join(temporaryFolder(), 'peer');
    const record = new RecordFile(join(folder, 'record.bin'));
    writeFileSync(folder, 'a file where the folder should be');
    await expect(record.save(Uint8Array.of(1))).rejects.toMatchObject({ code: 'E_DIR_UNWRITABLE' });
    rmSync(folder);
    mkdirSync(folder);
    await record.save(Uint8Array.of(2));
    expect(record.load()).toEqual(Uint8Array.of(2));
  });
});

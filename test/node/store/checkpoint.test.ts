import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Checkpoint,
  checkpointPath,
  checkpointSerials,
  describeCheckpoints,
  keepCheckpoints,
  loadNewestCheckpoint,
  saveCheckpoint,
} from '../../../node/store/checkpoint.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

function checkpoint(round: number): Checkpoint {
  return {
    round,
    meta: Uint8Array.of(1, 2, round & 0xff),
    vectors: new Map([
      ['parameters', Float32Array.of(round, -0, Number.NaN, 1e-45, Number.NEGATIVE_INFINITY)],
      ['residual', new Float32Array(0)],
      ['outer', Float32Array.of(0.1, 0.2)],
    ]),
  };
}

describe('checkpoint', () => {
  it('gives back the last that was saved, of whatever round, bit for bit', async () => {
    const folder = temporaryFolder();
    for (const round of [9, 10, 10, 2]) await saveCheckpoint(folder, checkpoint(round));
    const { loaded, skipped } = loadNewestCheckpoint(folder);
    expect(skipped).toEqual([]);
    expect(loaded?.checkpoint).toEqual(checkpoint(2));
    expect([...loaded!.checkpoint.vectors.keys()]).toEqual(['parameters', 'residual', 'outer']);
    expect(Object.is(loaded!.checkpoint.vectors.get('parameters')![1], -0)).toBe(true);
  });

  it('has none in a folder that is empty or missing', async () => {
    const folder = temporaryFolder();
    expect(loadNewestCheckpoint(folder)).toEqual({ loaded: undefined, skipped: [] });
    expect(loadNewestCheckpoint(`${folder}/missing`)).toEqual({ loaded: undefined, skipped: [] });
  });

  it('says where its vectors are in the file, in one piece', async () => {
    const folder = temporaryFolder();
    const { path, segments } = await saveCheckpoint(folder, checkpoint(3));
    const { offset, length } = segments.get('parameters')!;
    const bytes = readFileSync(path).subarray(offset, offset + length);
    expect(bytes.equals(new Uint8Array(checkpoint(3).vectors.get('parameters')!.buffer))).toBe(true);
    expect(segments.get('outer')!.offset).toBe(offset + length);
    expect(loadNewestCheckpoint(folder).loaded?.segments).toEqual(segments);
  });

  it('takes and fills vectors that are shared between threads, and parts of larger ones', async () => {
    const folder = temporaryFolder();
    const shared = new Float32Array(new SharedArrayBuffer(40), 8, 4);
    shared.set([1, 2, 3, 4]);
    await saveCheckpoint(folder, { round: 1, meta: new Uint8Array(0), vectors: new Map([['parameters', shared]]) });
    const allocate = (length: number) => new Float32Array(new SharedArrayBuffer(4 * length));
    const values = loadNewestCheckpoint(folder, allocate).loaded!.checkpoint.vectors.get('parameters')!;
    expect(values.buffer).toBeInstanceOf(SharedArrayBuffer);
    expect([...values]).toEqual([1, 2, 3, 4]);
  });

  it('passes over one that is cut short anywhere and uses the one before', async () => {
    const folder = temporaryFolder();
    await saveCheckpoint(folder, checkpoint(1));
    const { path } = await saveCheckpoint(folder, checkpoint(2));
    for (let size = readFileSync(path).length - 1; size >= 0; size--) {
      truncateSync(path, size);
      const { loaded, skipped } = loadNewestCheckpoint(folder);
      expect(loaded?.checkpoint.round).toBe(1);
      expect(skipped).toEqual([{ path, code: 'E_CHECKPOINT_DAMAGED', reason: expect.any(String) }]);
    }
  });

  it('does not pass over one that it may not read', async () => {
    const folder = temporaryFolder();
    await saveCheckpoint(folder, checkpoint(1));
    // a folder cannot be read as a file by anybody, root included
    mkdirSync(checkpointPath(folder, 1));
    const refusal = expect.objectContaining({ code: 'E_DIR_UNREADABLE', message: expect.stringContaining('another') });
    expect(() => loadNewestCheckpoint(folder)).toThrow(refusal);
    expect(() => describeCheckpoints(folder, 2)).toThrow(refusal);
  });

  it('passes over one with any bit changed, or with bytes too many', async () => {
    const folder = temporaryFolder();
    const { path } = await saveCheckpoint(folder, checkpoint(2));
    const whole = readFileSync(path);
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(7), (at, bit) => {
        const changed = Buffer.from(whole);
        changed[at]! ^= 1 << bit;
        writeFileSync(path, changed);
        expect(loadNewestCheckpoint(folder)).toMatchObject({ loaded: undefined, skipped: [{ path }] });
      }),
      { numRuns: 500 },
    );
    writeFileSync(path, Buffer.concat([whole, Buffer.of(0)]));
    expect(loadNewestCheckpoint(folder).loaded).toBeUndefined();
    writeFileSync(path, whole);
    expect(loadNewestCheckpoint(folder).loaded?.checkpoint.round).toBe(2);
  });

  it('asks for no memory that the file does not back', async () => {
    const folder = temporaryFolder();
    const { path } = await saveCheckpoint(folder, checkpoint(2));
    const bytes = readFileSync(path);
    const at = bytes.indexOf('parameters') + 'parameters'.length;
    expect(bytes[at]).toBe(5);
    bytes[at] = 23;
    writeFileSync(path, bytes);
    const allocate = (): Float32Array => {
      throw new Error('allocated');
    };
    expect(loadNewestCheckpoint(folder, allocate).loaded).toBeUndefined();
  });

  it('keeps those that are named, and files that are none', async () => {
    const folder = temporaryFolder();
    const saved: string[] = [];
    for (const round of [7, 8, 9]) saved.push((await saveCheckpoint(folder, checkpoint(round))).path);
    writeFileSync(`${folder}/checkpoint-9.bin.12-0-1.tmp`, 'another kind of file');
    const [first, second, third] = saved;
    expect(keepCheckpoints(folder, [first!, third!])).toEqual([second]);
    expect(checkpointSerials(folder).map((serial) => checkpointPath(folder, serial))).toEqual([third, first]);
    expect(readdirSync(folder)).toContain('checkpoint-9.bin.12-0-1.tmp');
  });
});

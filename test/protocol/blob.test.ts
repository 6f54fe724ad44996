import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  blobIdOf,
  blobManifest,
  chunkCount,
  chunkSize,
  hasManifest,
  manifestSize,
  parseManifest,
} from '../../protocol/blob.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { codeOf } from '../contracts/codec-contract.ts';

const CHUNK = LIMITS.chunkBytes;
const native = (bytes: Uint8Array) => new Uint8Array(createHash('sha256').update(bytes).digest());
const hexOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const filled = (size: number) => new Uint8Array(size).map((_, i) => (i * 31 + (i >>> 8)) & 0xff);

describe('blobs', () => {
  it('names a blob of up to one chunk by its own hash', () => {
    for (const size of [0, 1, CHUNK]) {
      const bytes = filled(size);
      expect(blobManifest(bytes)).toEqual({ id: hexOf(bytes), size, chunks: [hexOf(bytes)] });
    }
  });

  it('names a larger one by its manifest: 8 bytes of size, then the hash of every chunk', () => {
    const size = 2 * CHUNK + 5;
    const bytes = filled(size);
    const parts = [bytes.subarray(0, CHUNK), bytes.subarray(CHUNK, 2 * CHUNK), bytes.subarray(2 * CHUNK)];
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64BE(BigInt(size));
    const manifest = new Uint8Array(Buffer.concat([prefix, ...parts.map(native)]));
    const made = blobManifest(bytes, native);
    expect(made).toEqual({ id: hexOf(manifest), size, manifest, chunks: parts.map(hexOf) });
    expect(blobIdOf(bytes)).toBe(made.id);
    expect(parseManifest(manifest, made.id, size)).toEqual(made.chunks);
  });

  it('chunk sizes add up to the size, and every manifest fits in one chunk', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 40 * CHUNK }), (size) => {
        let sum = 0;
        for (let index = 0; index < chunkCount(size); index++) sum += chunkSize(size, index);
        expect(sum).toBe(size);
        expect(chunkSize(size, chunkCount(size))).toBe(0);
        expect(hasManifest(size)).toBe(chunkCount(size) > 1);
      }),
    );
    expect(manifestSize(LIMITS.blobBytesMax)).toBeLessThanOrEqual(CHUNK);
  });

  it('refuses a manifest of another length, hash or size, and one where there is none', () => {
    const bytes = filled(CHUNK + 1);
    const { id, manifest } = blobManifest(bytes);
    const size = bytes.length;
    expect(codeOf(() => parseManifest(manifest!.subarray(1), id, size))).toBe('E_BLOB_SIZE');
    expect(codeOf(() => parseManifest(manifest!, id, size + CHUNK))).toBe('E_BLOB_SIZE');
    expect(codeOf(() => parseManifest(manifest!, id, size + 1))).toBe('E_BLOB_SIZE');
    expect(codeOf(() => parseManifest(manifest!, id, manifest!.length))).toBe('E_BLOB_SIZE');
    for (const wrong of [-1, 1.5, Number.NaN, LIMITS.blobBytesMax + 1]) {
      expect(codeOf(() => parseManifest(manifest!, id, wrong))).toBe('E_BLOB_SIZE');
    }
    const damaged = manifest!.slice();
    damaged[20]! ^= 1;
    expect(codeOf(() => parseManifest(damaged, id, size))).toBe('E_BLOB_HASH');
    expect(codeOf(() => parseManifest(new Uint8Array(0), id, size))).toBe('E_BLOB_SIZE');
  });
});

import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BlobStore, rangesOf } from '../../../node/store/blob-store.ts';
import { blobManifest } from '../../../protocol/blob.ts';
import { hashOf } from '../../../protocol/hash.ts';
import { LIMITS } from '../../../protocol/limits.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** Where nothing is mapped, Linux answers a read of a process's memory as that of a bad sector. */
const FAULT = '/proc/self/mem';
const HAS_FAULT = process.platform === 'linux';

const chunk = (seed: number, length = 1000) => Uint8Array.from({ length }, (_, i) => (i * seed + (i >> 8)) & 0xff);

async function storeWith(...chunks: Uint8Array[]) {
  const root = join(temporaryFolder(), 'blobs');
  const store = new BlobStore(root);
  for (const bytes of chunks) await store.write(hashOf(bytes), bytes);
  const path = (id: string) => join(root, id.slice(0, 2), id);
  return { store, root, path, ids: chunks.map((bytes) => hashOf(bytes)) };
}

describe('BlobStore', () => {
  it('keeps chunks by hash, over restarts', async () => {
    const chunks = [chunk(3), chunk(5), new Uint8Array(0)];
    const { root, ids } = await storeWith(...chunks);
    const store = new BlobStore(root);
    expect(store.list()).toEqual(ids.toSorted());
    for (const [i, id] of ids.entries()) expect(new Uint8Array((await store.read(id))!)).toEqual(chunks[i]);
    expect(store.has(ids[0]!)).toBe(true);
    store.remove(ids[0]!);
    expect(store.has(ids[0]!)).toBe(false);
    expect(await store.read(ids[0]!)).toBeUndefined();
  });

  it('does not take bytes that have another hash', async () => {
    const { store } = await storeWith();
    const id = hashOf(chunk(3));
    await expect(store.write(id, chunk(4))).rejects.toMatchObject({ code: 'E_BLOB_CORRUPT' });
    expect(store.list()).toEqual([]);
  });

  it.skipIf(!HAS_FAULT)('takes again what the disk cannot read any more', async () => {
    const { store, path, ids } = await storeWith(chunk(3));
    const [id] = ids as [string];
    rmSync(path(id));
    symlinkSync(FAULT, path(id));
    expect(await store.read(id)).toBeUndefined();
    await store.write(id, chunk(3));
    expect(new Uint8Array((await store.read(id))!)).toEqual(chunk(3));
    // inside another file
    const within = chunk(5);
    store.register(FAULT, [{ id: hashOf(within), offset: 0, length: within.length }]);
    expect(await store.read(hashOf(within))).toBeUndefined();
  });

  it('does not give out a torn or changed chunk, and takes it again', async () => {
    const { store, path, ids } = await storeWith(chunk(3));
    const id = ids[0]!;
    const whole = readFileSync(path(id));
    for (const bytes of [whole.subarray(0, 500), Buffer.alloc(1000), new Uint8Array(0)]) {
      writeFileSync(path(id), bytes);
      expect(await store.read(id)).toBeUndefined();
      expect(store.has(id)).toBe(false);
      await store.write(id, whole);
      expect(await store.read(id)).toEqual(whole);
    }
  });

  it('takes nothing but a hash for an id', async () => {
    const { store, root } = await storeWith();
    mkdirSync(root, { recursive: true });
    writeFileSync(join(root, '..', 'secret'), 'x');
    for (const id of ['../secret', '', 'AA'.repeat(32), `${'a'.repeat(63)}/`, `${'a'.repeat(64)}\n`]) {
      expect(await store.read(id)).toBeUndefined();
      expect(store.has(id)).toBe(false);
      store.remove(id);
    }
    expect(readFileSync(join(root, '..', 'secret'), 'utf8')).toBe('x');
  });

  it('keeps what it is told to and removes the rest, half-written files too', async () => {
    const { store, root, ids } = await storeWith(chunk(3), chunk(5), chunk(7));
    const folder = join(root, ids[0]!.slice(0, 2));
    writeFileSync(join(folder, `${ids[0]}.1-0-1.tmp`), 'half');
    expect(store.retain(new Set([ids[1]!]))).toBe(2);
    expect(store.list()).toEqual([ids[1]]);
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('serves a blob out of another file', async () => {
    const { store } = await storeWith();
    const bytes = chunk(11, 2 * LIMITS.chunkBytes + 17);
    const file = join(temporaryFolder(), 'checkpoint');
    writeFileSync(file, Buffer.concat([Buffer.from('header'), bytes, Buffer.from('trailer')]));
    const manifest = blobManifest(bytes);
    store.register(file, rangesOf(manifest, 6));
    const parts = await Promise.all(manifest.chunks.map((id) => store.read(id)));
    expect(Buffer.concat(parts.map((part) => part!)).equals(bytes)).toBe(true);
    expect(manifest.chunks.every((id) => store.has(id))).toBe(true);
    expect(store.list()).toEqual([]);
    store.unregister(file);
    expect(manifest.chunks.some((id) => store.has(id))).toBe(false);
  });

  it('notices when that file was changed, cut short or removed', async () => {
    const { store } = await storeWith();
    const bytes = chunk(11, 5000);
    const manifest = blobManifest(bytes);
    const id = manifest.chunks[0]!;
    const file = join(temporaryFolder(), 'checkpoint');
    const spoil = [() => writeFileSync(file, chunk(13, 5000)), () => writeFileSync(file, 'short'), () => rmSync(file)];
    for (const step of spoil) {
      writeFileSync(file, bytes);
      store.register(file, rangesOf(manifest, 0));
      expect(await store.read(id)).toEqual(bytes);
      step();
      expect(await store.read(id)).toBeUndefined();
      expect(store.has(id)).toBe(false);
    }
  });

  it('keeps what is written beside a registered file that has it, and what that file has when its own is removed', async () => {
    const bytes = chunk(3);
    const { store } = await storeWith();
    const [id] = blobManifest(bytes).chunks;
    const file = join(temporaryFolder(), 'checkpoint');
    writeFileSync(file, bytes);
    store.register(file, rangesOf(blobManifest(bytes), 0));
    expect([store.has(id!), store.hasOwn(id!)]).toEqual([true, false]);
    await store.write(id!, bytes);
    store.unregister(file);
    expect([store.has(id!), store.hasOwn(id!)]).toEqual([true, true]);
    store.register(file, rangesOf(blobManifest(bytes), 0));
    store.remove(id!);
    expect([store.has(id!), store.hasOwn(id!)]).toEqual([true, false]);
    expect(await store.read(id!)).toEqual(bytes);
  });

  it('reads its own copy when the registered one is gone', async () => {
    const bytes = chunk(3);
    const { store } = await storeWith(bytes);
    store.register(join(temporaryFolder(), 'never'), rangesOf(blobManifest(bytes), 0));
    expect(new Uint8Array((await store.read(hashOf(bytes)))!)).toEqual(bytes);
  });
});

import { once } from 'node:events';
import { expect, it } from 'vitest';
import { spawnWorker } from '../../../node/train/spawn-worker.ts';
import { trainAndHash } from './train-and-hash.ts';

it('deterministic training gives the same bits twice, and in a worker thread', async () => {
  const first = await trainAndHash(true);
  expect(await trainAndHash(true)).toBe(first);
  const worker = spawnWorker(new URL('./train-and-hash.ts', import.meta.url), { workerData: { deterministic: true } });
  const [fromWorker] = await once(worker, 'message');
  await worker.terminate();
  expect(fromWorker).toBe(first);
});

it('the hash would show a difference: fused kernels round otherwise', async () => {
  expect(await trainAndHash(false)).not.toBe(await trainAndHash(true));
});

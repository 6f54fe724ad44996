import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import type { PeerEvent } from '../../node/peer-events.ts';
import { openRun, type RunningPeer, type StartOptions } from '../../node/run.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const MACHINE = { backend: 'auto', deterministic: false } as const;

let peers: RunningPeer[] = [];

afterEach(async () => {
  vi.restoreAllMocks();
  for (const peer of peers) await peer.close();
  peers = [];
});

/** A peer on loopback, with what it has told until training began. */
async function started(options: Pick<StartOptions, 'dir'> & Partial<StartOptions>) {
  const events: PeerEvent[] = [];
  const common: StartOptions = { bootstrap: [], choices: { model: 'micro' }, ...MACHINE };
  const peer = await openRun({ ...common, ...options }, (event) => events.push(event));
  peers.push(peer);
  peer.run().catch(() => undefined); // ended by the test
  return { peer, events, ready: events.find((event) => event.event === 'ready') };
}

it('finds a run that was cut off before its text was on disk never begun', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const options: StartOptions = { bootstrap: [], choices: { model: 'micro' }, dir, ...MACHINE };
  vi.spyOn(BlobStore.prototype, 'write').mockRejectedValueOnce(new Error('killed'));
  await expect(openRun(options, () => undefined)).rejects.toThrow('killed');
  vi.restoreAllMocks();
  await expect(openRun(options, () => undefined)).rejects.toMatchObject({
    code: 'E_DIR_INCOMPLETE',
    message: expect.stringContaining('remove the folder and start again'),
  });
});

it('listens and tells where it was told to before, after a restart that says nothing of it', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const announce = ['/dns4/peer.example/tcp/4001'];
  const first = await started({ dir, listen: ['/ip4/127.0.0.1/tcp/0'] });
  expect(first.ready?.addresses).toEqual([expect.stringContaining('/ip4/127.0.0.1/tcp/')]);
  await first.peer.close();
  const again = await started({ dir });
  expect(again.ready?.addresses).toEqual(first.ready?.addresses);
  await again.peer.close();
  const told = await started({ dir, announce });
  await told.peer.close();
  expect((await started({ dir })).ready?.addresses).toEqual([expect.stringContaining(announce[0]!)]);
});

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { buildGenesis, tokenizerFor } from '../../node/defaults.ts';
import { Peer, type PeerComponents } from '../../node/peer.ts';
import type { PeerEvent } from '../../node/peer-events.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { ChainLog } from '../../node/store/chain-log.ts';
import { runPaths } from '../../node/store/directory.ts';
import { RecordFile } from '../../node/store/record.ts';
import { testSigner } from '../helpers/signers.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const TEXT = new TextEncoder().encode('It was the best of times, it was the worst of times. '.repeat(200));

it('names the round that breaks down as the screen and the receipts count it', async () => {
  const folder = join(temporaryFolder(), 'run');
  mkdirSync(folder);
  const paths = runPaths(folder);
  const events: PeerEvent[] = [];
  const signer = testSigner('founder');
  const source = { name: 'text', bytes: TEXT };
  const genesis = buildGenesis({ model: 'micro' }, signer.self, source, tokenizerFor('char', TEXT));
  const initial = { snapshot: 'ab'.repeat(32), snapshotBytes: 1, valLoss: null, open: [] };
  const components = {
    signer,
    network: { peers: () => [], broadcast: async () => 0 },
    worker: { initialize: async () => initial, saved: async () => null, train: async () => 'broken' },
    store: new BlobStore(paths.blobs),
    chain: new ChainLog(paths.chain),
    record: new RecordFile(paths.record),
    onEvent: (event: PeerEvent) => events.push(event),
  };
  const peer = new Peer(components as unknown as PeerComponents, genesis);
  peer.start(null);
  await expect(peer.run()).rejects.toMatchObject({ code: 'E_TRAINING', message: expect.stringContaining('round 1 ') });
  peer.stop();
  components.chain.close();
  const told = events.flatMap((event) => (event.event === 'warning' ? [event.message] : []));
  expect(told).toHaveLength(3);
  for (const message of told) expect(message).toContain('in round 1:');
  expect(events).toContainEqual(expect.objectContaining({ event: 'receipt', round: 1, status: 'refused' }));
});

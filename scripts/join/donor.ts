/**
 * One donor of `bench-join.ts`, in a process of its own: serves the chunks of a file behind a shaped link, truly or not,
 * until it is killed.
 */
import { createIdentity, Network } from '../../node/net/index.ts';
import { ShapedLink } from '../../node/net/shaped-transport.ts';
import { BlobStore, rangesOf } from '../../node/store/blob-store.ts';
import { nativeSha256 } from '../../node/store/blobs.ts';
import { parseManifest } from '../../protocol/blob.ts';
import type { Hash } from '../../protocol/hash.ts';

export interface DonorInit {
  /** holds the manifest */
  store: string;
  /** the blob in one piece */
  file: string;
  blob: { id: Hash; size: number };
  oneWayMs: number;
  mbit: number;
  /** every chunk that it serves has one byte changed */
  lies: boolean;
  run: { runId: string; genesis: string };
}

/** See docs/protocol.md, what agreement costs. */
const VOTE_BYTES = 254;
/** So often the joiner is sent a message as small as a vote, with the time in it. */
const MESSAGE_EVERY_MS = 20;

/** Of a clock that all processes share: milliseconds, padded to the length of a vote. */
function timeNow(): Uint8Array {
  const bytes = Buffer.alloc(VOTE_BYTES);
  bytes.writeDoubleLE(performance.timeOrigin + performance.now());
  return bytes;
}

process.once('message', (init: DonorInit) => void serve(init));

async function serve({ store: folder, file, blob, oneWayMs, mbit, lies, run }: DonorInit): Promise<void> {
  const store = new BlobStore(folder);
  const manifest = await store.read(blob.id);
  if (!manifest) throw new Error('the manifest is in the store');
  store.register(
    file,
    rangesOf({ chunks: parseManifest(manifest, blob.id, blob.size, nativeSha256), size: blob.size }, 0),
  );
  const read = async (id: Hash): Promise<Uint8Array | undefined> => {
    const bytes = await store.read(id);
    if (lies && bytes && id !== blob.id) bytes[0]! ^= 1;
    return bytes;
  };
  const link = new ShapedLink({ oneWayMs, uploadBits: 1e6 * mbit, downloadBits: 1e6 * mbit });
  const network: Network = new Network(
    {
      identity: createIdentity(),
      blobSource: { read },
      validate: () => 'accept',
      onMessage: () => undefined,
      onPeer: (peer, change) => {
        if (change !== 'up') return;
        setInterval(() => network.sendTo(peer, timeNow()).catch(() => undefined), MESSAGE_EVERY_MS);
      },
      onRequest: async (request) => request,
    },
    { listen: ['/ip4/127.0.0.1/tcp/0'], transport: link.wrap },
  );
  await network.start({ runId: run.runId, genesisBytes: Buffer.from(run.genesis, 'base64') });
  process.send!({ address: network.addresses()[0] });
}

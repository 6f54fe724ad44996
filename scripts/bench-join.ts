/**
 * How much of its link a joiner uses while it fetches the agreed state of a model from three donors, of which one may lie
 * and one be killed half way: real processes behind shaped links.
 *
 *   npm run bench:join
 *   npm run bench:join -- --parameters 10000000 --mbit 100 --latency 20
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createIdentity, Network } from '../node/net/index.ts';
import { ShapedLink } from '../node/net/shaped-transport.ts';
import { BlobStore } from '../node/store/blob-store.ts';
import { nativeSha256 } from '../node/store/blobs.ts';
import { blobManifest } from '../protocol/blob.ts';
import { FLOAT_BYTES } from '../protocol/codecs/floats.ts';
import { readArguments } from './arguments.ts';
import type { DonorInit } from './join/donor.ts';

const { values } = readArguments(import.meta.url, {
  options: {
    parameters: { type: 'string', default: '10000000' },
    mbit: { type: 'string', default: '100' },
    latency: { type: 'string', default: '20' },
  },
});
const [parameters, mbit, oneWayMs] = [Number(values.parameters), Number(values.mbit), Number(values.latency)];
const folder = mkdtempSync(join(tmpdir(), 'outerloop-join-'));
const genesis = Buffer.from('the genesis of a benchmark');
const runId = createHash('sha256').update(genesis).digest('hex');
const DONORS = 3;
const IDLE_MS = 2000;

interface Scenario {
  title: string;
  liar: boolean;
  killed: boolean;
}

/** Parameters and Nesterov's velocity, as a state is served: out of a file. */
async function makeState() {
  const bytes = randomBytes(2 * FLOAT_BYTES * parameters);
  const { id, size, manifest } = blobManifest(bytes, nativeSha256);
  const file = join(folder, 'state');
  writeFileSync(file, bytes);
  const store = join(folder, 'manifest');
  if (manifest) await new BlobStore(store).write(id, manifest);
  return { blob: { id, size }, file, store };
}
type State = Awaited<ReturnType<typeof makeState>>;

function startDonor(init: DonorInit): Promise<{ child: ChildProcess; address: string }> {
  const child = fork(fileURLToPath(new URL('./join/donor.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] });
  child.send(init);
  return new Promise((resolve, reject) => {
    child.once('message', ({ address }: { address: string }) => resolve({ child, address }));
    child.once('exit', (code) => reject(new Error(`a donor ended with ${code}`)));
  });
}

async function measure({ title, liar, killed }: Scenario, state: State): Promise<void> {
  const { blob } = state;
  const common = { ...state, oneWayMs, mbit, run: { runId, genesis: genesis.toString('base64') } };
  const starting = Array.from({ length: DONORS }, (_, i) => startDonor({ ...common, lies: liar && i === 0 }));
  const donors = await Promise.all(starting);
  const link = new ShapedLink({ oneWayMs, uploadBits: 1e6 * mbit, downloadBits: 1e6 * mbit });
  const store = new BlobStore(join(folder, title));
  let delaysMs: number[] = [];
  const network = new Network(
    {
      identity: createIdentity(),
      blobSource: store,
      validate: () => 'accept',
      onMessage: (bytes) => {
        const sentMs = Buffer.from(bytes).readDoubleLE();
        delaysMs.push(performance.timeOrigin + performance.now() - sentMs);
      },
      onPeer: () => undefined,
      onRequest: async (request) => request,
    },
    { listen: [], transport: link.wrap },
  );
  try {
    await network.start({ runId, genesisBytes: genesis });
    for (const { address } of donors) await network.dial(address);
    await delay(IDLE_MS);
    const idle = delayText(delaysMs);
    delaysMs = [];
    const before = link.counters.bytesReceived;
    const startedMs = performance.now();
    let chunks = 0;
    const half = blob.size / 2;
    let kept = 0;
    const sink = {
      has: (id: string) => store.has(id),
      read: (id: string) => store.read(id),
      write: async (id: string, bytes: Uint8Array) => {
        await store.write(id, bytes);
        chunks++;
        kept += bytes.length;
        if (killed && kept >= half) donors[1]!.child.kill('SIGKILL');
      },
    };
    await network.fetchBlob(blob, sink, { providers: () => network.peers() });
    const seconds = (performance.now() - startedMs) / 1000;
    const used = (8 * blob.size) / seconds / (1e6 * mbit);
    const wire = link.counters.bytesReceived - before;
    const extra = (100 * (wire - blob.size)) / blob.size;
    const figures = `${seconds.toFixed(2)} s, ${(100 * used).toFixed(1)} % of the link, ${extra.toFixed(1)} % more bytes on it`;
    console.log(`${title}: ${(blob.size / 1e6).toFixed(0)} MB in ${chunks} pieces, ${figures}`);
    console.log(
      `  messages of the donors, the size of a vote, took ${delayText(delaysMs)}; ${idle} with nothing else on the link`,
    );
  } finally {
    await network.stop();
    for (const { child } of donors) {
      child.removeAllListeners('exit');
      child.kill('SIGKILL');
    }
  }
}

function delayText(delaysMs: readonly number[]): string {
  const sorted = [...delaysMs].sort((a, b) => a - b);
  const at = (share: number): string => (sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN).toFixed(0);
  return `${at(0.5)} ms (99 %: ${at(0.99)} ms)`;
}

const scenarios: Scenario[] = [
  { title: 'three honest donors', liar: false, killed: false },
  { title: 'one lies, one is killed half way', liar: true, killed: true },
];
try {
  const state = await makeState();
  const link = `${mbit} Mbit/s, ${oneWayMs} ms one way`;
  console.log(`state of ${parameters} parameters and their momentum; the joiner and each donor have ${link}`);
  for (const scenario of scenarios) await measure(scenario, state);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

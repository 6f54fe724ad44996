import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { PeerProcess } from '../../node/chaos/peer-process.ts';
import type { PeerEvent } from '../../node/peer-events.ts';
import { openRun, type RunningPeer } from '../../node/run.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

/** A joiner among donors that it cannot rely on: real peers, two of them in this process, where they can be made to lie. */

let folder: string;
let processes: PeerProcess[];
let here: RunningPeer[];

beforeEach(() => {
  folder = temporaryFolder();
  [processes, here] = [[], []];
});

afterEach(async () => {
  await Promise.all([...processes.map((peer) => peer.kill('SIGKILL')), ...here.map((peer) => peer.close())]);
  vi.restoreAllMocks();
});

const listen = ['--listen', '/ip4/127.0.0.1/tcp/0'];

function start(name: string, options: string[]): PeerProcess {
  const peer = new PeerProcess(join(folder, name), [...listen, ...options]);
  processes.push(peer);
  return peer;
}

async function startHere(
  name: string,
  bootstrap: string,
  onEvent: (event: PeerEvent) => void = () => {},
): Promise<RunningPeer> {
  const machine = { backend: 'auto', deterministic: false } as const;
  const options = { bootstrap: [bootstrap], choices: {}, dir: join(folder, name), listen: ['/ip4/127.0.0.1/tcp/0'] };
  const peer = await openRun({ ...options, ...machine }, onEvent);
  here.push(peer);
  peer.run().catch(() => undefined); // ended by the test
  return peer;
}

/** What the stores of this process serve of agreed states, and what comes in of them. */
class Donors {
  /** chunks of agreed states that peers of this process have */
  readonly chunks = new Set<string>();
  served = 0;
  fetched = 0;
  onFetched: () => void = () => {};

  constructor(serve: (folder: string, bytes: Uint8Array) => Uint8Array | undefined) {
    const { prototype } = BlobStore;
    const [read, write, register] = [prototype.read, prototype.write, prototype.register];
    const folders = new WeakMap<BlobStore, string>();
    const donors = this;
    vi.spyOn(prototype, 'register').mockImplementation(function (this: BlobStore, file, ranges) {
      folders.set(this, file);
      for (const { id } of ranges) donors.chunks.add(id);
      return register.call(this, file, ranges);
    });
    vi.spyOn(prototype, 'read').mockImplementation(async function (this: BlobStore, id) {
      const [bytes, file] = [await read.call(this, id), folders.get(this)];
      if (!bytes || !file || !donors.chunks.has(id)) return bytes;
      donors.served++;
      return serve(file, bytes);
    });
    vi.spyOn(prototype, 'write').mockImplementation(async function (this: BlobStore, id, bytes) {
      await write.call(this, id, bytes);
      if (!donors.chunks.has(id)) return;
      donors.fetched++;
      donors.onFetched();
    });
  }
}

test(
  'a joiner whose donors lie, have nothing and die in mid-transfer is synced and contributes in its first round',
  async () => {
    const donors = new Donors((file, bytes) => {
      if (file.includes('mute')) return undefined;
      bytes[0]! ^= 1;
      return bytes;
    });
    // three peers of this process take turns: the founder waits for them, however long that is
    const options = ['--model', 'nano', '--batch', '1', '--inner-steps', '4', '--wait-for', '4', '--grace', '10min'];
    const founder = start('founder', options);
    await founder.ready();
    const doomed = start('doomed', ['--bootstrap', founder.address]);
    await startHere('liar', founder.address);
    await startHere('mute', founder.address);
    await founder.reached(2);

    donors.onFetched = () => {
      if (donors.fetched === 3) void doomed.kill('SIGKILL');
    };
    const events: PeerEvent[] = [];
    let onEvent: () => void = () => {};
    await startHere('joiner', founder.address, (event) => {
      events.push(event);
      onEvent();
    });
    const id = events.find((event) => event.event === 'ready')!.peerId;
    const joined = () =>
      founder.lines.findIndex((line) => line.event === 'peer' && line.change === 'joined' && line.id === id);
    await founder.until(
      () => joined() >= 0 && founder.lines.slice(joined()).filter(({ event }) => event === 'round').length >= 2,
    );

    expect(doomed.ended).toBe(true);
    expect(donors.served).toBeGreaterThan(0);
    expect(donors.fetched).toBeGreaterThan(3);
    expect(events.some(({ event }) => event === 'synced')).toBe(true);
    const fetching = events.flatMap((event) =>
      event.event === 'progress' && event.phase === 'fetching' ? [event] : [],
    );
    expect(fetching.at(-1)!.detail).toMatch(/^(\d+) of \1 chunks$/);
    // the first line is of the round that let it in, the second of the first that it is a member in
    const rounds = founder.lines.slice(joined()).filter((line) => line.event === 'round');
    expect(rounds[1]!.contributors).toContain(id);
    // and it has come to the founder's roots
    const last = rounds.at(-1)!;
    await new Promise<void>((resolve) => {
      onEvent = () => {
        if (events.some((event) => event.event === 'round' && event.round >= last.round)) resolve();
      };
      onEvent();
    });
    const roots = new Map(founder.rounds.map(({ round, root }) => [round, root]));
    for (const event of events)
      if (event.event === 'round') expect(event.root).toBe(roots.get(event.round) ?? event.root);
  },
  3 * 60_000,
);

test(
  'a joiner that is ended while it fetches the state, or whose donor is, goes on with the parts that it has',
  async () => {
    // of two voters one is not enough, so that the round stays as it is once the other is gone
    const timing = ['--wait-for', '2', '--quorum-wait', 'never'];
    const founder = start('founder', ['--model', 'nano', '--batch', '1', '--inner-steps', '4', ...timing]);
    await founder.ready();
    const other = start('other', ['--bootstrap', founder.address]);
    await founder.reached(2);
    await other.kill('SIGKILL');

    let [isFetching, life] = [false, 0];
    const written: string[][] = [[], [], []];
    let onWritten: () => void = () => {};
    const { write } = BlobStore.prototype;
    vi.spyOn(BlobStore.prototype, 'write').mockImplementation(async function (this: BlobStore, id, bytes) {
      await write.call(this, id, bytes);
      if (!isFetching) return;
      written[life]!.push(id);
      onWritten();
    });
    const parts = (count: number): Promise<void> =>
      new Promise((resolve) => {
        onWritten = () => written[life]!.length >= count && resolve();
        onWritten();
      });
    let onSynced: () => void = () => {};
    const synced = new Promise<void>((resolve) => {
      onSynced = resolve;
    });
    const onEvent = (event: PeerEvent): void => {
      if (event.event === 'progress' && event.phase === 'fetching') isFetching = true;
      if (event.event === 'synced') onSynced();
    };
    const before = await startHere('joiner', founder.address, onEvent);
    await parts(3);
    await before.close();

    life = 1;
    await startHere('joiner', founder.address, onEvent);
    await parts(3);
    await founder.kill('SIGKILL');

    life = 2;
    await start('founder', []).ready();
    await synced;
    // the manifest and three chunks at least had come before, and nothing comes twice
    const all = written.flat();
    expect(new Set(all).size).toBe(all.length);
    expect(written[2]!.length).toBeGreaterThan(0);
  },
  3 * 60_000,
);

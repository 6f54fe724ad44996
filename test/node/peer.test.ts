import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { buildGenesis, tokenizerFor } from '../../node/defaults.ts';
import { Inbox } from '../../node/inbox.ts';
import { MessageRates } from '../../node/message-rates.ts';
import { Peer, type PeerComponents } from '../../node/peer.ts';
import type { PeerEvent } from '../../node/peer-events.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { ChainLog } from '../../node/store/chain-log.ts';
import { runPaths } from '../../node/store/directory.ts';
import { ReceiptsFile } from '../../node/store/receipts.ts';
import { RecordFile } from '../../node/store/record.ts';
import { Unfinished } from '../../node/store/unfinished.ts';
import type { Event } from '../../protocol/events.ts';
import { type Genesis, runIdOf } from '../../protocol/genesis.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { decodeHistory, encodeHistoryRequest } from '../../protocol/messages.ts';
import { type Receipt, Receipts } from '../../protocol/receipts.ts';
import type { PeerRecord } from '../../protocol/record.ts';
import { idOf, validPayload } from '../contracts/driver-under-test.ts';
import { testSigner } from '../helpers/signers.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const TEXT = new TextEncoder().encode('It was the best of times, it was the worst of times. '.repeat(200));

/** A founder on a real disk, whose training thread and network are given. */
function founder(worker: Record<string, unknown>, network: Record<string, unknown> = {}) {
  const folder = join(temporaryFolder(), 'run');
  mkdirSync(folder);
  const paths = runPaths(folder);
  const events: PeerEvent[] = [];
  const signer = testSigner('founder');
  const source = { name: 'text', bytes: TEXT };
  const genesis = buildGenesis({ model: 'micro' }, signer.self, source, tokenizerFor('char', TEXT));
  const initial = { snapshot: 'ab'.repeat(32), snapshotBytes: 1, valLoss: null, open: [], forgot: false };
  const components = {
    signer,
    inbox: new Inbox(runIdOf(genesis), signer, new MessageRates(() => undefined)),
    network: { peers: () => [], broadcast: async () => 0, ...network },
    worker: { initialize: async () => initial, saved: async () => null, ...worker },
    store: new BlobStore(paths.blobs),
    chain: new ChainLog(paths.chain),
    record: new RecordFile(paths.record),
    unfinished: new Unfinished(paths.unfinished),
    receipts: new ReceiptsFile(paths.receipts),
    onEvent: (event: PeerEvent) => events.push(event),
  };
  const peer = new Peer(components as unknown as PeerComponents, genesis);
  return { peer, paths, events, genesis, components };
}

it('names the round that breaks down as the screen and the receipts count it', async () => {
  const { peer, events, components } = founder({ train: async () => 'broken' });
  peer.start(null);
  await expect(peer.run()).rejects.toMatchObject({ code: 'E_TRAINING', message: expect.stringContaining('round 1 ') });
  peer.stop();
  components.chain.close();
  const told = events.flatMap((event) => (event.event === 'warning' ? [event.message] : []));
  expect(told).toHaveLength(3);
  for (const message of told) expect(message).toContain('in round 1:');
  expect(events).toContainEqual(expect.objectContaining({ event: 'receipt', round: 1, status: 'refused' }));
});

it('tells the machine of a training that gave nothing, where others go on', async () => {
  const { peer, events, components } = founder({ train: async () => 'broken' });
  const { machine } = peer;
  const alone = machine.standing;
  vi.spyOn(machine, 'standing', 'get').mockReturnValue({ ...alone, roster: [...alone.roster, 'another'] });
  let base: string | undefined;
  const told = new Promise<Event & { type: 'broken' }>((resolve) => {
    const step = machine.step.bind(machine);
    vi.spyOn(machine, 'step').mockImplementation((event) => {
      if (event.type === 'broken') resolve(event);
      const effects = step(event);
      for (const effect of effects) if (effect.type === 'train') base = effect.base;
      return effects;
    });
  });
  peer.start(null);
  expect((await told).base).toBe(base);
  peer.stop();
  components.chain.close();
  expect(events).toContainEqual(expect.objectContaining({ event: 'receipt', round: 1, status: 'refused' }));
});

it('does not begin again for others who wait', async () => {
  let attempts = 0;
  const { peer, events, components } = founder({
    train: async () => {
      attempts++;
      return 'broken';
    },
    finish: async () => undefined,
  });
  const { machine } = peer;
  const step = machine.step.bind(machine);
  vi.spyOn(machine, 'step').mockImplementation((event) => {
    const effects = step(event);
    return effects.some(({ type }) => type === 'train') ? [...effects, { type: 'finish' }] : effects;
  });
  peer.start(null);
  await expect(peer.run()).rejects.toMatchObject({ code: 'E_TRAINING' });
  components.chain.close();
  expect(attempts).toBe(1);
  expect(events).toContainEqual(expect.objectContaining({ event: 'receipt', round: 1, status: 'refused' }));
});

it('tells no history that rests on votes which a stop kept from the disk', async () => {
  const { peer, genesis, components } = founder({ train: async () => 'broken' });
  let written = (): void => undefined;
  vi.spyOn(components.record, 'save').mockImplementation(() => new Promise((resolve) => (written = resolve)));
  const { machine } = peer;
  const step = machine.step.bind(machine);
  vi.spyOn(machine, 'step').mockImplementation((event) => {
    const record = { height: 0 } as unknown as PeerRecord;
    return event.type === 'start'
      ? [
          { type: 'persist', record },
          { type: 'persist', record },
        ]
      : step(event);
  });
  vi.spyOn(machine, 'history').mockReturnValue({
    run: runIdOf(genesis),
    anchors: [],
    entries: [],
    more: false,
    states: [],
  });
  peer.start(null);
  const request = encodeHistoryRequest(runIdOf(genesis), { fromHeight: 0, skip: 0, anchors: 0 });
  const answers = [peer.onRequest(request), peer.onRequest(request)];
  const refused = Promise.all(answers.map((answer) => expect(answer).rejects.toMatchObject({ code: 'E_NOT_READY' })));
  peer.stop();
  written();
  await refused;
  await expect(peer.onRequest(request)).rejects.toMatchObject({ code: 'E_NOT_READY' });
  components.chain.close();
});

it('tells its history when it is done, and not when its disk has failed', async () => {
  const request = (genesis: Genesis) => encodeHistoryRequest(runIdOf(genesis), { fromHeight: 0, skip: 0, anchors: 0 });
  const [done, failed] = [founder({ train: async () => 'broken' }), founder({ train: async () => 'broken' })];
  for (const { peer } of [done, failed]) peer.start(null);
  done.peer.stop();
  failed.peer.fail(new Error('no space left'));
  expect(decodeHistory(await done.peer.onRequest(request(done.genesis)), runIdOf(done.genesis)).entries).toEqual([]);
  await expect(failed.peer.onRequest(request(failed.genesis))).rejects.toMatchObject({ code: 'E_NOT_READY' });
  for (const { components } of [done, failed]) components.chain.close();
});

it('says nothing more when what it was to remember did not get to the disk', async () => {
  const left: Uint8Array[] = [];
  const leave = async (bytes: Uint8Array): Promise<number> => left.push(bytes);
  const { peer, paths, genesis, components } = founder(
    {
      train: async () => {
        const bytes = validPayload(genesis);
        const done = { steps: 1, tokens: 8, loss: 1, skipped: 0, trainMs: 1 };
        return { payload: idOf(bytes), size: bytes.length, inline: null, ...done };
      },
    },
    { broadcast: leave, sendTo: async (_: PeerId, bytes: Uint8Array) => leave(bytes) },
  );
  mkdirSync(paths.record); // where a file is to be
  peer.start(null);
  await expect(peer.run()).rejects.toMatchObject({ code: expect.stringMatching(/^E_DI/) });
  rmdirSync(paths.record);
  // it is given more before anybody stops it, and the disk works again
  peer.onPeer(testSigner('neighbour').self, true);
  peer.onPeer(testSigner('another').self, true);
  await setImmediate();
  components.chain.close();
  expect(left).toEqual([]);
});

describe('what this peer is owed an answer for', () => {
  const training = (genesis: Genesis) => {
    const bytes = validPayload(genesis);
    const done = { steps: 1, tokens: 8, loss: 1, skipped: 0, trainMs: 1 };
    return { payload: idOf(bytes), size: bytes.length, inline: null, ...done };
  };
  /** As far as its first update. */
  async function trained(before?: (paths: ReturnType<typeof runPaths>) => void) {
    const made = founder({ train: async () => training(made.genesis), saved: async () => null });
    const { peer, components, paths, events, genesis } = made;
    before?.(paths);
    // its update is announced when the record of it is on the disk: nothing more is asked of this peer
    const announced = new Promise<void>((resolve) => {
      components.network.broadcast = async () => {
        resolve();
        return 0;
      };
    });
    peer.start(null);
    await Promise.race([announced, peer.run()]);
    peer.stop();
    components.chain.close();
    return { paths, events, payload: training(genesis).payload };
  }

  it('is on the disk before others hear of it, and the next process answers it', async () => {
    const { paths, payload } = await trained();
    expect(new ReceiptsFile(paths.receipts).load()?.made).toEqual({ round: 1, payload, carries: [] });
    const told: Receipt[] = [];
    const next = new Receipts((receipt) => told.push(receipt), new ReceiptsFile(paths.receipts).load());
    next.resumed({ included: [{ payload, final: true }], begins: 0 }, 1);
    expect(told).toEqual([{ round: 1, payload, status: 'accepted', acceptedIn: 1 }]);
  });

  it('is a warning and no more where it cannot be written down, once', async () => {
    const { events } = await trained((paths) => mkdirSync(paths.receipts));
    const warnings = events.filter((event) => event.event === 'warning');
    expect(warnings.map(({ code }) => code)).toEqual(['W_RECEIPTS']);
  });

  it.each([
    '',
    'null',
    '{"made":null}',
    '{"made":null,"unfinal":[],"owed":[{"round":-1,"payload":null}],"answered":[]}',
  ])('is forgotten where the file has %j', (content) => {
    const { paths } = founder({});
    writeFileSync(paths.receipts, content);
    expect(new ReceiptsFile(paths.receipts).load()).toBeUndefined();
  });
});

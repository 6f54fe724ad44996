import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { buildGenesis, tokenizerFor } from '../../node/defaults.ts';
import { type FetchDataComponents, fetchData } from '../../node/fetch-data.ts';
import type { PeerEvent } from '../../node/peer-events.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { hasBlob, writeBlob } from '../../node/store/blobs.ts';
import { blobIdOf } from '../../protocol/blob.ts';
import { CodedError } from '../../protocol/errors.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import { testSigner } from '../helpers/signers.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const TEXT = new TextEncoder().encode('It was the best of times, it was the worst of times. '.repeat(200));

let genesis: Genesis;
let blobs: Uint8Array[];
let store: BlobStore;
let root: string;
let events: PeerEvent[];

beforeEach(() => {
  const tokenizer = tokenizerFor('char', TEXT);
  genesis = buildGenesis({ model: 'micro' }, testSigner('founder').self, { name: 'text.txt', bytes: TEXT }, tokenizer);
  blobs = [TEXT, tokenizer.blob ?? TEXT];
  root = join(temporaryFolder(), 'blobs');
  store = new BlobStore(root);
  events = [];
});

/** With peers that come when they are waited for, and have the blobs if told so. */
function components(peers: string[], has: () => boolean, code = 'E_BLOB_UNAVAILABLE'): FetchDataComponents {
  return {
    network: {
      peers: () => peers,
      fetchBlob: async () => {
        if (!has()) throw new CodedError(code, 'nobody has it');
        for (const blob of blobs) await writeBlob(store, blob);
      },
    },
    store,
    source: undefined,
    onEvent: (event) => events.push(event),
    nextUp: async () => {
      peers.push('another');
    },
  };
}

const warnings = () => events.filter((event) => event.event === 'warning');

describe('fetchData', () => {
  it('waits for a peer where there is none, and says so', async () => {
    await fetchData(
      components([], () => true),
      genesis,
    );
    expect(await hasBlob(store, genesis.data.blob)).toBe(true);
    expect(events).toMatchObject([
      { phase: 'waiting', detail: expect.stringContaining('text.txt') },
      { phase: 'fetching' },
    ]);
  });

  it('asks others for a vocabulary that does not come of the text, though the text is here', async () => {
    const path = join(temporaryFolder(), 'text.txt');
    writeFileSync(path, TEXT);
    const other = tokenizerFor('char', new TextEncoder().encode(`${new TextDecoder().decode(TEXT)}ß`)).blob!;
    blobs[1] = other;
    const blob = { id: blobIdOf(other), size: other.length };
    const all = components(['one'], () => true);
    await fetchData({ ...all, source: path }, { ...genesis, tokenizer: { kind: 'char', blob } });
    expect(await hasBlob(store, blob)).toBe(true);
    expect(events.map((event) => event.event === 'progress' && event.phase)).toEqual(['fetching']);
  });

  it.each([
    ['others lack it', 'E_BLOB_UNAVAILABLE'],
    ['all others lie', 'E_BLOB_CORRUPT'],
  ])('asks again once another has come where %s, and names what helps, once', async (_, code) => {
    const peers = ['one'];
    const others = components(peers, () => peers.length > 2, code);
    await fetchData(others, genesis);
    expect(await hasBlob(store, genesis.data.blob)).toBe(true);
    const message = expect.stringMatching(/text[.]txt.*nobody has it.*--bootstrap/);
    expect(warnings()).toEqual([{ event: 'warning', code: 'W_NO_DATA', message }]);
  });

  it('names what helps where nobody comes', async () => {
    const peers: string[] = [];
    const never = new Promise<void>(() => undefined);
    const waiting = fetchData(
      {
        ...components(peers, () => true),
        nextUp: () => never,
        patienceMs: 1,
        onEvent: (event) => {
          events.push(event);
          if (event.event === 'warning') peers.push('late');
        },
      },
      genesis,
    );
    await waiting;
    expect(warnings()).toEqual([expect.objectContaining({ code: 'W_NO_DATA' })]);
  });

  it('makes what was spoiled out of the text it was made of, where that is still the same', async () => {
    for (const blob of blobs) await writeBlob(store, blob);
    const spoil = (): void => {
      for (const folder of readdirSync(root)) {
        for (const name of readdirSync(join(root, folder))) writeFileSync(join(root, folder, name), 'spoiled');
      }
    };
    spoil();
    const source = join(temporaryFolder(), 'text.txt');
    writeFileSync(source, TEXT);
    const nobody = { ...components([], () => false), source };
    await fetchData(nobody, genesis);
    for (const blob of [
      genesis.data.blob,
      genesis.tokenizer.kind === 'char' ? genesis.tokenizer.blob : genesis.data.blob,
    ]) {
      expect(await hasBlob(store, blob)).toBe(true);
    }
    expect(events).toEqual([]);
    spoil();
    writeFileSync(source, 'another text');
    await fetchData({ ...components([], () => true), source }, genesis);
    expect(events.map((event) => event.event === 'progress' && event.phase)).toEqual([
      'waiting',
      'fetching',
      'fetching',
    ]);
  });
});

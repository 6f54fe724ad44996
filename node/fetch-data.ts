import { setTimeout as delay } from 'node:timers/promises';
import { blobIdOf } from '../protocol/blob.ts';
import { isCoded } from '../protocol/errors.ts';
import type { Genesis } from '../protocol/genesis.ts';
import { BUILT_IN_SOURCES, loadText } from './data/sources.ts';
import { charTokenizer } from './data/tokenizer.ts';
import { NET_LIMITS, type Network } from './net/index.ts';
import type { PeerEvent } from './peer-events.ts';
import type { BlobStore } from './store/blob-store.ts';
import { hasBlob, nativeSha256, writeBlob } from './store/blobs.ts';

export interface FetchDataComponents {
  network: Pick<Network, 'peers' | 'fetchBlob'>;
  store: BlobStore;
  /** as the user named it, if at all */
  source: string | undefined;
  onEvent: (event: PeerEvent) => void;
  /** settles when the next peer comes */
  nextUp: () => Promise<void>;
  /** before somebody is asked again, in milliseconds */
  patienceMs?: number;
}

/**
 * Sees to it that the run's text and its tokenizer are whole on this disk: out of the text that they were made of where
 * this machine has it, else from other peers. Waits for one that has them: they may be dialed only now, or be fetching
 * them themselves.
 * @throws CodedError as `Network.fetchBlob`, but for `E_BLOB_UNAVAILABLE`
 */
export async function fetchData(components: FetchDataComponents, genesis: Genesis): Promise<void> {
  const { network, store, onEvent, nextUp, patienceMs = NET_LIMITS.dialMs } = components;
  const { data, tokenizer, rounds } = genesis;
  const what = `${data.name}, ${data.blob.size} bytes`;
  const tell = (phase: 'fetching' | 'waiting', detail: string): void =>
    onEvent({ event: 'progress', phase, round: 0, rounds, peers: network.peers().length, detail });
  let hasWarned = false;
  const pause = async (reason: string): Promise<void> => {
    // with nobody there the one that was dialed just now deserves a moment
    if (network.peers().length > 0) warnOnce(reason);
    const came = nextUp().then(() => true);
    if (!(await Promise.race([came, delay(patienceMs, false, { ref: false })]))) warnOnce(reason);
  };
  const warnOnce = (reason: string): void => {
    const fix = 'if none comes, give --bootstrap <multiaddr> of a peer that has it, or --data with the text itself';
    const message = `${reason}; ${fix}`;
    if (!hasWarned) onEvent({ event: 'warning', code: 'W_NO_DATA', message });
    hasWarned = true;
  };
  for (const blob of tokenizer.kind === 'char' ? [data.blob, tokenizer.blob] : [data.blob]) {
    while (!(await hasBlob(store, blob))) {
      // the text is not all: a run may have a vocabulary that does not come of it
      if ((await madeHere(components, genesis)) && (await hasBlob(store, blob))) continue;
      if (network.peers().length === 0) {
        tell('waiting', `for a peer that has ${what}`);
        await pause(`this peer lacks ${what}, and nobody is here`);
        continue;
      }
      tell('fetching', what);
      try {
        await network.fetchBlob(blob, store);
      } catch (error) {
        if (!isCoded(error) || !UNTIL_ANOTHER.has(error.code)) throw error;
        await pause(`this peer lacks ${what}: ${error.message}`);
      }
    }
  }
}

/** Nobody here has it, or nobody here tells the truth: somebody may come who does. */
const UNTIL_ANOTHER: ReadonlySet<string> = new Set(['E_BLOB_UNAVAILABLE', 'E_BLOB_CORRUPT']);

/** Stores text and tokenizer once more where the text is here and still the same. */
async function madeHere({ source, store }: FetchDataComponents, { data, tokenizer }: Genesis): Promise<boolean> {
  const name = source ?? (BUILT_IN_SOURCES.includes(data.name) ? data.name : undefined);
  if (name === undefined) return false;
  try {
    const { bytes } = loadText(name);
    if (bytes.length !== data.blob.size || blobIdOf(bytes, nativeSha256) !== data.blob.id) return false;
    await writeBlob(store, bytes, { durable: true });
    const vocabulary = tokenizer.kind === 'char' ? charTokenizer(bytes).blob : undefined;
    if (vocabulary) await writeBlob(store, vocabulary, { durable: true });
    return true;
  } catch (error) {
    // others have it, if it is not here any more; a disk that is full is told when theirs is written
    if (isCoded(error)) return false;
    throw error;
  }
}

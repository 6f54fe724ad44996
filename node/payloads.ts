import { blobIdOf, hasManifest } from '../protocol/blob.ts';
import { codecOf } from '../protocol/codecs/index.ts';
import { CodedError, isCoded } from '../protocol/errors.ts';
import type { Keep } from '../protocol/events.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId } from '../protocol/identity.ts';
import { LIMITS } from '../protocol/limits.ts';
import type { MessageOf } from '../protocol/messages.ts';
import { type Layout, modelLayout } from '../protocol/model.ts';
import { Replica } from '../protocol/replica.ts';
import type { Update } from '../protocol/wire.ts';
import { type BlobSink, type FetchBlobComponents, NET_LIMITS, type Network } from './net/index.ts';
import type { BlobStore } from './store/blob-store.ts';
import { type BlobReference, blobParts, namedParts, nativeSha256, readBlob, writeBlob } from './store/blobs.ts';
import type { PeerWorker, Remote, SnapshotFile } from './train/index.ts';

/** A payload up to this size is checked on this thread, in a few milliseconds; a larger one where the training runs. */
const CHECK_HERE_BYTES = 1024 * 1024;

export interface PayloadsComponents {
  network: Pick<Network, 'peers' | 'fetchBlob'>;
  store: BlobStore;
  worker: Pick<Remote<PeerWorker>, 'check'>;
}

interface Known {
  blob: BlobReference;
  /** in which it was needed last */
  round: number;
  /** of what there is on the disk; of one that is on its way, those asked for so far */
  parts: Set<Hash>;
  /** no more parts are to be found */
  isListed: boolean;
  /** ends its fetch: who alone has it may send a few bytes now and then, and no round waits for it */
  over: AbortController;
}

interface SnapshotWatch {
  /** of the roster */
  isMember: (peer: PeerId) => boolean;
  /** hears how many chunks of it are here */
  onChunks: (here: number) => void;
  signal: AbortSignal;
}

/**
 * The payloads on this peer's disk: brought here, checked, and dropped when no round needs them any more.
 *
 * They lie in one store with the run's text and with the states that are served, and a member may name any chunk there is as
 * its payload, under any size. So a part is removed only when nothing else has it.
 */
export class Payloads {
  readonly #c: PayloadsComponents;
  readonly #genesis: Genesis;
  readonly #layout: Layout;
  readonly #bytesMax: number;
  /** by id and size: who says another size speaks of something else */
  readonly #known = new Map<string, Known>();
  /** ids of the states that are served, by the checkpoint that they are in */
  readonly #snapshots = new Map<string, Hash>();
  /** parts of the text and of its vocabulary */
  #data: readonly Hash[] = [];

  constructor(components: PayloadsComponents, genesis: Genesis) {
    this.#c = components;
    this.#genesis = genesis;
    this.#layout = modelLayout(genesis.model);
    this.#bytesMax = codecOf(genesis.codec).bytesMax(this.#layout);
  }

  /** It is needed in this round, and stays as long as the round can be asked for: a later one, if it was needed there. */
  need(payload: Hash, size: number, round: number): void {
    this.#note({ id: payload, size }, round);
  }

  needAll(payloads: Keep['payloads'], round: number): void {
    for (const { payload, size } of payloads) this.need(payload, size, round);
  }

  /** Fetches an update's payload and checks it. @returns the code of what is wrong with it */
  fetch(update: Update, holders: readonly PeerId[], round: number): Promise<string | null> {
    const blob = { id: update.payload, size: update.size };
    return this.#obtain(update, round, () => {
      const { signal } = this.#note(blob, round).over;
      return this.#bring(blob, holders, this.#sinkOf(blob, round), { signal });
    });
  }

  /** Keeps the payloads inside these headers, which are what they are said to be (`isNamed`), and checks them. */
  async take(headers: readonly NamedHeader[], round: number): Promise<Map<Header, string>> {
    const refused = new Map<Header, string>();
    for (const header of headers) {
      const error = await this.#obtain(header.update, round, () => writeBlob(this.#c.store, header.inline));
      if (error) refused.set(header, error);
    }
    return refused;
  }

  /**
   * Fetches an agreed state from those said to have it, else from anybody. Who tells of it may be the only one that still has
   * it, and in no hurry.
   * @throws CodedError `E_SNAPSHOT_SIZE`; as `Network.fetchBlob`
   */
  async fetchSnapshot(
    snapshot: BlobReference,
    holders: readonly PeerId[],
    { isMember, onChunks, signal }: SnapshotWatch,
  ): Promise<void> {
    const { store } = this.#c;
    const most = Replica.snapshotSize(this.#genesis);
    if (snapshot.size > most) {
      throw new CodedError(
        'E_SNAPSHOT_SIZE',
        `a state of ${snapshot.size} bytes, of this run's model there are ${most}`,
      );
    }
    const here = new Set<Hash>();
    const note = (part: Hash): void => {
      // one without a manifest comes as a whole
      if (part !== snapshot.id || !hasManifest(snapshot.size)) here.add(part);
      onChunks(here.size);
    };
    const sink: BlobSink = {
      has: (part) => {
        const has = store.has(part);
        if (has) note(part);
        return has;
      },
      write: async (part, bytes) => {
        await store.write(part, bytes);
        note(part);
      },
      read: (part) => store.read(part),
    };
    const rare = { afterMs: NET_LIMITS.snapshotRareMs, isCounted: isMember };
    return this.#bring(snapshot, holders, sink, { rare, signal });
  }

  #bring(
    blob: BlobReference,
    holders: readonly PeerId[],
    sink: BlobSink,
    options: Pick<FetchBlobComponents, 'rare'> & { signal?: AbortSignal } = {},
  ): Promise<void> {
    const { network } = this.#c;
    const providers = () => {
      const members = network.peers();
      return [...new Set([...holders.filter((peer) => members.includes(peer)), ...members])];
    };
    return network.fetchBlob(blob, sink, { providers, ...options });
  }

  /**
   * Lets others fetch an agreed state out of its checkpoint, and forgets those whose checkpoints are gone.
   * @returns these, for `removeSnapshots`
   */
  register({ path, snapshot, ranges, removed }: SnapshotFile): Hash[] {
    const { store } = this.#c;
    store.register(path, ranges);
    this.#snapshots.set(path, snapshot);
    const gone = removed.flatMap((file) => this.#snapshots.get(file) ?? []);
    for (const file of removed) {
      store.unregister(file);
      this.#snapshots.delete(file);
    }
    return gone;
  }

  async removeSnapshots(gone: readonly Hash[]): Promise<void> {
    await this.#list();
    this.#remove(gone);
  }

  /** Removes the chunks of a snapshot that was fetched: they are in the checkpoint now. */
  async dropChunks(snapshot: BlobReference): Promise<void> {
    const [, ...chunks] = await this.#partsOf(snapshot);
    this.#remove(chunks);
  }

  /** Removes what came of a snapshot that nobody has any more. */
  async dropUnfinished(snapshot: BlobReference): Promise<void> {
    // one without a manifest comes as a whole
    if (hasManifest(snapshot.size)) this.#remove(await this.#partsOf(snapshot));
  }

  /** For `#remove`. */
  async #partsOf(snapshot: BlobReference): Promise<Hash[]> {
    const parts = (await blobParts(this.#c.store, snapshot)) ?? [];
    await this.#list();
    return parts;
  }

  /** Forgets those of rounds long before this one, and those that are still on their way. */
  async dropOld(round: number): Promise<void> {
    await this.#list();
    const old = [...this.#known].filter(([, known]) => known.round + LIMITS.payloadRoundsKept < round);
    for (const [name, { over }] of old) {
      this.#known.delete(name);
      over.abort();
    }
    this.#remove(old.flatMap(([, { parts }]) => [...parts]));
  }

  /** Looks up what parts there are, so that `#remove` can do without waiting: what it spares may change meanwhile. */
  async #list(): Promise<void> {
    const { store } = this.#c;
    if (this.#data.length === 0) {
      const { data, tokenizer } = this.#genesis;
      const blobs = tokenizer.kind === 'char' ? [data.blob, tokenizer.blob] : [data.blob];
      const parts = blobs.map(async (blob) => (await namedParts(store, blob)) ?? [blob.id]);
      this.#data = (await Promise.all(parts)).flat();
    }
    for (const known of this.#known.values()) {
      if (known.isListed) continue;
      const parts = await namedParts(store, known.blob);
      for (const part of parts ?? []) known.parts.add(part);
      known.isListed = parts !== undefined;
    }
  }

  /** Those of these parts that nothing else has. `#list` comes first. */
  #remove(parts: readonly Hash[]): void {
    if (parts.length === 0) return;
    const others = [...this.#known.values()].flatMap((known) => [...known.parts]);
    const needed = new Set([...this.#data, ...this.#snapshots.values(), ...others]);
    for (const part of parts) if (!needed.has(part)) this.#c.store.remove(part);
  }

  #note(blob: BlobReference, round: number): Known {
    const name = `${blob.id}/${blob.size}`;
    const before = this.#known.get(name);
    const known = before ?? { blob, round, parts: new Set([blob.id]), isListed: false, over: new AbortController() };
    known.round = Math.max(known.round, round);
    this.#known.set(name, known);
    return known;
  }

  /** What is asked for is noted first: it may be here as a part of another payload, which is dropped meanwhile. */
  #sinkOf(blob: BlobReference, round: number): BlobSink {
    const { store } = this.#c;
    const note = (part: Hash) => this.#note(blob, round).parts.add(part);
    return {
      has: (part) => {
        note(part);
        // what only a checkpoint has goes with the checkpoint
        return store.hasOwn(part);
      },
      write: (part, bytes) => {
        note(part);
        return store.write(part, bytes);
      },
      read: (part) => store.read(part),
    };
  }

  async #obtain({ payload, size }: Update, round: number, bring: () => Promise<unknown>): Promise<string | null> {
    if (size > this.#bytesMax) return 'E_PAYLOAD_SIZE'; // its codec makes none so large: not worth fetching
    this.need(payload, size, round);
    try {
      await bring();
      await this.#check({ id: payload, size });
      return null;
    } catch (cause) {
      if (!isCoded(cause) || FATAL.has(cause.code)) throw cause;
      return REFUSALS.test(cause.code) ? cause.code : 'E_BLOB_UNAVAILABLE';
    }
  }

  async #check(payload: BlobReference): Promise<void> {
    if (payload.size > CHECK_HERE_BYTES) return this.#c.worker.check(payload);
    codecOf(this.#genesis.codec).check(await readBlob(this.#c.store, payload), this.#layout);
  }
}

type Header = MessageOf<'header'>;
/** Has inside what it names. */
export type NamedHeader = Header & { inline: Uint8Array };

/** What rides in a header is not signed: whoever handed it on may have put something else there. */
export function isNamed(header: Header): header is NamedHeader {
  const { update, inline } = header;
  return inline?.length === update.size && blobIdOf(inline, nativeSha256) === update.payload;
}

/** A payload that earns one of these will never be right. */
const REFUSALS = /^E_PAYLOAD_|^E_BLOB_SIZE$|^E_TOO_LARGE$/;
/** This peer cannot go on: nothing it promises would be kept. */
export const FATAL: ReadonlySet<string> = new Set([
  'E_DISK_FULL',
  'E_DISK_FAULT',
  'E_DIR_UNWRITABLE',
  'E_WORKER',
  'E_TRAINING',
]);

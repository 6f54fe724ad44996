import { blobIdOf } from '../protocol/blob.ts';
import { codecOf } from '../protocol/codecs/index.ts';
import { CodedError, isCoded } from '../protocol/errors.ts';
import type { Keep } from '../protocol/events.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId } from '../protocol/identity.ts';
import { LIMITS } from '../protocol/limits.ts';
import type { MessageOf } from '../protocol/messages.ts';
import { type Layout, modelLayout } from '../protocol/model.ts';
import type { Update } from '../protocol/wire.ts';
import type { Network } from './net/index.ts';
import type { BlobStore } from './store/blob-store.ts';
import { type BlobReference, blobParts, nativeSha256, readBlob, writeBlob } from './store/blobs.ts';
import type { PeerWorker, Remote } from './train/index.ts';

/** A payload up to this size is checked on this thread, in a few milliseconds; a larger one where the training runs. */
const CHECK_HERE_BYTES = 1024 * 1024;

export interface PayloadsComponents {
  network: Pick<Network, 'peers' | 'fetchBlob'>;
  store: BlobStore;
  worker: Pick<Remote<PeerWorker>, 'check'>;
}

/** The payloads on this peer's disk: brought here, checked, and dropped when no round needs them any more. */
export class Payloads {
  readonly #c: PayloadsComponents;
  readonly #genesis: Genesis;
  readonly #layout: Layout;
  /** by the round in which they were last needed */
  readonly #known = new Map<Hash, { size: number; round: number }>();

  constructor(components: PayloadsComponents, genesis: Genesis) {
    this.#c = components;
    this.#genesis = genesis;
    this.#layout = modelLayout(genesis.model);
  }

  /** It is needed in this round, and stays as long as the round can be asked for: a later one, if it was needed there. */
  need(payload: Hash, size: number, round: number): void {
    this.#known.set(payload, { size, round: Math.max(round, this.#known.get(payload)?.round ?? 0) });
  }

  needAll(payloads: Keep['payloads'], round: number): void {
    for (const { payload, size } of payloads) this.need(payload, size, round);
  }

  /** Fetches an update's payload and checks it. @returns the code of what is wrong with it */
  fetch(update: Update, holders: readonly PeerId[], round: number): Promise<string | null> {
    return this.#obtain(update, round, () => this.fetchBlob({ id: update.payload, size: update.size }, holders));
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

  /** Fetches a blob from those said to have it, else from anybody. @throws CodedError as `Network.fetchBlob` */
  fetchBlob(blob: BlobReference, holders: readonly PeerId[]): Promise<void> {
    const { network, store } = this.#c;
    const providers = () => {
      const members = network.peers();
      return [...new Set([...holders.filter((peer) => members.includes(peer)), ...members])];
    };
    return network.fetchBlob(blob, store, { providers });
  }

  /** Forgets those of rounds long before this one. */
  async dropOld(round: number): Promise<void> {
    for (const [id, payload] of this.#known) {
      if (payload.round + LIMITS.payloadRoundsKept >= round) continue;
      this.#known.delete(id);
      const parts = await blobParts(this.#c.store, { id, size: payload.size });
      for (const part of parts ?? []) this.#c.store.remove(part);
    }
  }

  async #obtain({ payload, size }: Update, round: number, bring: () => Promise<unknown>): Promise<string | null> {
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
    if (payload.size > codecOf(this.#genesis.codec).bytesMax(this.#layout)) {
      throw new CodedError('E_PAYLOAD_SIZE', 'the payload is larger than its codec makes any');
    }
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
export const FATAL: ReadonlySet<string> = new Set(['E_DISK_FULL', 'E_DIR_UNWRITABLE', 'E_WORKER', 'E_TRAINING']);

import { chunkCount, chunkSize, hasManifest, manifestSize } from '../protocol/blob.ts';
import type { Hash } from '../protocol/hash.ts';
import { NETWORK_PARAMETERS } from './gossip-parameters.ts';
import type { Kernel } from './kernel.ts';
import type { ByteKind, Ledger } from './ledger.ts';
import type { Links } from './links.ts';
import type { Transfer, Transfers } from './transfers.ts';

export const MANIFEST_PART = -1;

export interface FetchRequest {
  peer: number;
  blob: Hash;
  /** bytes */
  size: number;
  /** who is said to have it, best first; all other neighbours are asked after them */
  holders: readonly number[];
  kind: ByteKind;
  /** a part is here */
  onPart(part: number): void;
  /** all parts are here, or nobody is left who has the rest */
  onDone(complete: boolean): void;
}

export interface BlobComponents {
  kernel: Kernel;
  links: Links;
  ledger: Ledger;
  transfers: Transfers;
  neighbours: (peer: number) => ReadonlySet<number>;
  hasPart: (peer: number, blob: Hash, part: number) => boolean;
  /** how long a provider lets an asker wait before it answers at all @default 0 */
  dawdleMs?: (provider: number) => number;
}

interface Provider {
  peer: number;
  asked: Set<number>;
  missing: Set<number>;
}

interface Fetch {
  request: FetchRequest;
  /** parts to come that nobody is asked for */
  wanted: number[];
  underWay: number;
  providers: Map<number, Provider>;
  over: boolean;
}

/** The stream of one asker to one provider: answers come in the order of the questions, one at a time. */
interface Channel {
  fetches: Set<Fetch>;
  queue: (() => void)[];
  busy: Transfer | undefined;
}

/**
 * Blobs pulled chunk by chunk as `node/net/fetch-blob.ts` does it: up to eight providers at once, four chunks asked of
 * each, a manifest first where there is more than one chunk; who does not have a chunk says so and others are asked. (The
 * real one also asks a second provider when the first has been silent for long; here only a lost connection frees it.)
 */
export class BlobFetches {
  readonly #c: BlobComponents;
  readonly #channels = new Map<string, Channel>();

  constructor(components: BlobComponents) {
    this.#c = components;
  }

  /** @returns what ends it, unless it is complete */
  fetch(request: FetchRequest): () => void {
    const { size, blob, peer } = request;
    const have = (part: number) => this.#c.hasPart(peer, blob, part);
    const chunks = Array.from({ length: chunkCount(size) }, (_, i) => i).filter((part) => !have(part));
    let isGivenUp = false;
    const onDone = (complete: boolean): void => {
      if (complete && !isGivenUp) underWay = this.#begin(request, chunks);
      else request.onDone(false);
    };
    const isOne = !hasManifest(size) || have(MANIFEST_PART);
    let underWay = isOne ? this.#begin(request, chunks) : this.#begin({ ...request, onDone }, [MANIFEST_PART]);
    return () => {
      isGivenUp = true;
      if (!underWay.over) this.#end(underWay, false);
    };
  }

  onDisconnect(a: number, b: number): void {
    for (const [asker, provider] of [[a, b] as const, [b, a] as const]) {
      const name = `${asker}/${provider}`;
      const channel = this.#channels.get(name);
      if (!channel) continue;
      this.#channels.delete(name);
      if (channel.busy) this.#c.transfers.cancel(channel.busy);
      for (const fetch of channel.fetches) this.#drop(fetch, provider);
    }
  }

  #begin(request: FetchRequest, wanted: number[]): Fetch {
    const fetch = { request, wanted, underWay: 0, providers: new Map(), over: false };
    this.#next(fetch);
    return fetch;
  }

  /** Asks for as much as may be asked for; called at the start and after everything that happens. */
  #next(fetch: Fetch): void {
    const { request, wanted, providers } = fetch;
    if (fetch.over) return;
    if (wanted.length === 0 && fetch.underWay === 0) return this.#end(fetch, true);
    const { providersAtOnceMax, chunksAskedPerProvider } = NETWORK_PARAMETERS;
    for (const peer of this.#candidates(request)) {
      if (wanted.length === 0) break;
      const live = [...providers.values()].filter(({ asked }) => asked.size > 0).length;
      let provider = providers.get(peer);
      if (!provider && live >= providersAtOnceMax) continue;
      provider ??= { peer, asked: new Set(), missing: new Set() };
      providers.set(peer, provider);
      while (provider.asked.size < chunksAskedPerProvider) {
        const at = wanted.findIndex((part) => !provider.missing.has(part));
        if (at < 0) break;
        const [part] = wanted.splice(at, 1);
        this.#ask(fetch, provider, part!);
      }
    }
    if (fetch.underWay === 0) this.#end(fetch, false);
  }

  #end(fetch: Fetch, complete: boolean): void {
    fetch.over = true;
    for (const provider of fetch.providers.keys()) {
      this.#channels.get(`${fetch.request.peer}/${provider}`)?.fetches.delete(fetch);
    }
    this.#c.kernel.after(0, () => fetch.request.onDone(complete));
  }

  #candidates({ peer, holders }: FetchRequest): number[] {
    const neighbours = this.#c.neighbours(peer);
    return [...new Set([...holders.filter((holder) => neighbours.has(holder)), ...neighbours])];
  }

  #ask(fetch: Fetch, provider: Provider, part: number): void {
    const { kernel, links, ledger } = this.#c;
    const { peer } = fetch.request;
    const name = `${peer}/${provider.peer}`;
    let channel = this.#channels.get(name);
    const openMs = channel ? 0 : NETWORK_PARAMETERS.streamOpenRoundTrips * links.roundTripMs(peer, provider.peer);
    if (!channel) {
      channel = { fetches: new Set(), queue: [], busy: undefined };
      this.#channels.set(name, channel);
    }
    channel.fetches.add(fetch);
    provider.asked.add(part);
    fetch.underWay++;
    ledger.move(fetch.request.kind, peer, provider.peer, NETWORK_PARAMETERS.chunkRequestBytes);
    const stream = channel;
    const dawdleMs = this.#c.dawdleMs?.(provider.peer) ?? 0;
    kernel.after(openMs + links.oneWayMs(peer, provider.peer) + dawdleMs, () => {
      if (this.#channels.get(name) === stream && provider.asked.has(part)) this.#answer(stream, fetch, provider, part);
    });
  }

  #answer(channel: Channel, fetch: Fetch, provider: Provider, part: number): void {
    const { blob, size, peer, kind } = fetch.request;
    const { chunkAnswerBytes } = NETWORK_PARAMETERS;
    const has = this.#c.hasPart(provider.peer, blob, part);
    const body = part === MANIFEST_PART ? manifestSize(size) : chunkSize(size, part);
    const bytes = chunkAnswerBytes + (has ? body : 0);
    const start = (): void => {
      this.#c.ledger.move(kind, provider.peer, peer, bytes);
      const transfer = this.#c.transfers.start(provider.peer, peer, bytes, () => {
        if (fetch.over || !provider.asked.delete(part)) return;
        fetch.underWay--;
        if (has) fetch.request.onPart(part);
        else {
          provider.missing.add(part);
          fetch.wanted.unshift(part);
        }
        this.#next(fetch);
      });
      channel.busy = transfer;
    };
    channel.queue.push(start);
    if (channel.queue.length === 1) this.#serve(channel);
  }

  /** One answer after the other: the next begins when the last byte of this one has left. */
  #serve(channel: Channel): void {
    const start = channel.queue[0];
    if (!start) return;
    start();
    const transfer = channel.busy!;
    transfer.onSent = () => {
      channel.busy = undefined;
      channel.queue.shift();
      this.#serve(channel);
    };
  }

  /** The connection is gone: what was asked of this provider is asked of others. */
  #drop(fetch: Fetch, peer: number): void {
    const provider = fetch.providers.get(peer);
    if (!provider || fetch.over) return;
    fetch.providers.delete(peer);
    fetch.underWay -= provider.asked.size;
    fetch.wanted.push(...provider.asked);
    provider.asked.clear();
    this.#next(fetch);
  }
}

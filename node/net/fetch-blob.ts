import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { chunkSize, hasManifest, manifestSize, parseManifest } from '../../protocol/blob.ts';
import { CodedError } from '../../protocol/errors.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { ChunkReference } from './blob-client.ts';
import { abortedBy } from './deadline.ts';
import { networkError } from './errors.ts';
import { NET_LIMITS } from './limits.ts';

export interface BlobReference {
  id: Hash;
  /** bytes */
  size: number;
}

/**
 * When a fetch ends because hardly anybody has the rest, who may be in no hurry: there may be another blob that does as well.
 */
export interface Rare {
  afterMs: number;
  /** whose having or lacking it counts: names cost nothing */
  isCounted: (peer: PeerId) => boolean;
}

/** Where chunks go, and the manifest, each under its own hash. What it has is not fetched again. */
export interface BlobSink {
  has(id: Hash): boolean | Promise<boolean>;
  write(id: Hash, bytes: Uint8Array): void | Promise<void>;
  /** spares fetching a manifest that is there already */
  read?(id: Hash): Promise<Uint8Array | undefined>;
}

export interface FetchBlobComponents {
  /** One chunk, already checked against its hash; throws as `BlobClient.fetchChunk`. */
  fetchChunk: (peer: PeerId, chunk: ChunkReference, signal?: AbortSignal) => Promise<Uint8Array>;
  /** Chunks to ask that peer for at a time. @default NET_LIMITS.chunksAskedPerProvider */
  chunksAtOnce?: (peer: PeerId) => number;
  /** When a chunk of whatever blob came from that peer last, by `performance.now()`: it gives one after the other. */
  heardMs?: (peer: PeerId) => number;
  /** who may have it, best first; read again whenever a chunk has come or failed */
  providers: () => readonly PeerId[];
  sink: BlobSink;
  /** of silence, after which another provider is asked for the same chunk too @default NET_LIMITS.blobPatienceMs */
  patienceMs?: number;
  /** @default it is fetched from whoever has it, for as long as that takes */
  rare?: Rare;
}

/**
 * Fetches a blob into a sink, chunk by chunk, from several providers at once. A provider that lies, stalls or leaves is
 * dropped and its chunks are asked of others; what a slow one still owes when nothing else is left is asked twice, and
 * after long silence again of those who lacked it.
 * After an error the sink keeps what came, so that the next call goes on from there.
 *
 * @throws CodedError `E_BLOB_UNAVAILABLE` when no provider is left that has the rest, or too few (`rare`);
 *   `E_BLOB_CORRUPT` when all there were lied, or the manifest contradicts its chunks; `E_BLOB_SIZE`; `E_ABORTED`; whatever
 *   the sink throws
 */
export async function fetchBlob(
  components: FetchBlobComponents,
  blob: BlobReference,
  signal?: AbortSignal,
): Promise<void> {
  if (!Number.isSafeInteger(blob.size) || blob.size < 0 || blob.size > LIMITS.blobBytesMax) {
    throw networkError('E_TOO_LARGE', `blob of ${blob.size} bytes, at most ${LIMITS.blobBytesMax} are allowed`);
  }
  const untilMs = performance.now() + (components.rare?.afterMs ?? Number.POSITIVE_INFINITY);
  const chunks = hasManifest(blob.size) ? await chunksOf(components, blob, untilMs, signal) : [blob.id];
  const wanted = new Map<Hash, number>();
  for (const [index, id] of chunks.entries()) {
    const bytes = chunkSize(blob.size, index);
    if ((wanted.get(id) ?? bytes) !== bytes) throw contradiction(blob.id);
    wanted.set(id, bytes);
  }
  for (const id of [...wanted.keys()]) if (await components.sink.has(id)) wanted.delete(id);
  await new Fetch(components, { blob: blob.id, wanted, untilMs, signal }).run();
}

async function chunksOf(
  components: FetchBlobComponents,
  blob: BlobReference,
  untilMs: number,
  signal?: AbortSignal,
): Promise<Hash[]> {
  const { sink } = components;
  let manifest = (await sink.has(blob.id)) ? await sink.read?.(blob.id) : undefined;
  if (!manifest) {
    const keep: BlobSink = {
      has: () => false,
      write: (id, bytes) => {
        manifest = bytes;
        return sink.write(id, bytes);
      },
    };
    const wanted = new Map([[blob.id, manifestSize(blob.size)]]);
    await new Fetch({ ...components, sink: keep }, { blob: blob.id, wanted, untilMs, signal }).run();
  }
  return parseManifest(manifest as Uint8Array, blob.id, blob.size, nativeSha256);
}

function nativeSha256(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

function contradiction(id: Hash): CodedError {
  return networkError('E_BLOB_CORRUPT', `the manifest of ${id} contradicts its chunks: whoever made it is at fault`);
}

interface Provider {
  peer: PeerId;
  /** when it was last heard of here: its last chunk came, or its first was asked for */
  heardMs: number;
  /** chunks that it was asked for so far */
  turns: number;
  /** chunks that came from it */
  given: number;
  /** chunks that it is asked for now */
  asked: Set<Hash>;
  /** chunks that it has said it does not have */
  missing: Set<Hash>;
  /** it said so last, and has given none since */
  lacks: boolean;
  dropped?: Error;
}

interface Task {
  blob: Hash;
  /** chunks that are still to come, each with its size */
  wanted: Map<Hash, number>;
  /** from when on it may be ended as rare, by `performance.now()` */
  untilMs: number;
  signal: AbortSignal | undefined;
}

class Fetch {
  readonly #components: FetchBlobComponents;
  readonly #blob: Hash;
  readonly #wanted: Task['wanted'];
  readonly #startMs = performance.now();
  readonly #untilMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #providers = new Map<PeerId, Provider>();
  /** providers that a chunk may be asked of at the same time, where it is more than one */
  readonly #askersMax = new Map<Hash, number>();
  /** stops what is under way when the fetch is over */
  readonly #over = new AbortController();
  #writing = 0;
  #resolve: () => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(components: FetchBlobComponents, { blob, wanted, untilMs, signal }: Task) {
    this.#components = components;
    this.#blob = blob;
    this.#wanted = wanted;
    this.#untilMs = untilMs;
    this.#signal = signal;
    // one for each chunk under way, and those are bounded
    setMaxListeners(0, this.#over.signal);
  }

  async run(): Promise<void> {
    const onAbort = (): void => this.#reject(abortedBy(this.#signal));
    try {
      await new Promise<void>((resolve, reject) => {
        this.#resolve = resolve;
        this.#reject = reject;
        this.#signal?.addEventListener('abort', onAbort, { once: true });
        if (this.#signal?.aborted) onAbort();
        else this.#next();
      });
    } finally {
      this.#signal?.removeEventListener('abort', onAbort);
      this.#over.abort(networkError('E_ABORTED', 'the fetch is over'));
    }
  }

  /** Asks for as much as may be asked for; called at the start and after everything that happens. */
  #next(): void {
    if (this.#over.signal.aborted) return;
    if (this.#wanted.size === 0) {
      if (this.#writing === 0) this.#resolve();
      return;
    }
    const of = (peer: PeerId) => this.#providers.get(peer);
    const lacking = (peer: PeerId): number => of(peer)?.missing.size ?? 0;
    const turns = (peer: PeerId): number => of(peer)?.turns ?? 0;
    // one each, then a second, whoever was asked least before: everybody who has the blob gives its share
    const providers = [...this.#components.providers()];
    providers.sort((a, b) => lacking(a) - lacking(b) || turns(a) - turns(b));
    for (let most = 1; most <= NET_LIMITS.chunksAskedPerProvider; most++) {
      for (const peer of providers) this.#askFor(peer, most);
    }
    const isAskingAny = [...this.#providers.values()].some(({ asked }) => asked.size > 0);
    if (!isAskingAny || this.#isRare(providers)) this.#reject(this.#failure());
  }

  /** It has taken long, it will take long, and more of those who are there lack what is left than give it. */
  #isRare(there: readonly PeerId[]): boolean {
    const { rare } = this.#components;
    if (!rare || performance.now() < this.#untilMs) return false;
    const given = [...this.#providers.values()].reduce((sum, each) => sum + each.given, 0);
    const tookMs = performance.now() - this.#startMs;
    const leftMs = (this.#wanted.size * tookMs) / Math.max(1, given);
    // who gave much at first may be in no hurry with the rest
    if (Math.max(leftMs, tookMs) < NET_LIMITS.snapshotLongMs) return false;
    const counted = there.flatMap((peer) => (rare.isCounted(peer) ? (this.#providers.get(peer) ?? []) : []));
    const lacking = counted.filter(({ lacks }) => lacks).length;
    const giving = counted.filter(({ lacks, dropped, turns }) => !lacks && !dropped && turns > 0).length;
    return lacking > giving;
  }

  /** @param most chunks that it is asked for at a time */
  #askFor(peer: PeerId, most: number): void {
    const provider = this.#providers.get(peer) ?? {
      peer,
      heardMs: 0,
      turns: 0,
      given: 0,
      asked: new Set(),
      missing: new Set(),
      lacks: false,
    };
    if (!this.#providers.has(peer) && this.#live() >= NET_LIMITS.providersAtOnceMax) return;
    this.#providers.set(peer, provider);
    const room = Math.min(most, this.#components.chunksAtOnce?.(peer) ?? most);
    if (provider.dropped || provider.asked.size >= room || this.#isSilent(provider)) return;
    // who lacked one and gave none most likely has nothing of it: asked for more only if nobody else is left to wait for
    if (provider.missing.size > 0 && provider.given === 0 && this.#live() > 0) return;
    const chunk = this.#pick(provider);
    if (chunk) void this.#ask(provider, chunk);
  }

  /** It owes something, and nothing has come from it for long. */
  #isSilent(provider: Provider): boolean {
    return provider.asked.size > 0 && this.#patienceLeftMs(provider) <= 0;
  }

  #patienceLeftMs({ peer, heardMs }: Provider): number {
    const elsewhereMs = this.#components.heardMs?.(peer) ?? 0;
    return Math.max(heardMs, elsewhereMs) + this.#patienceMs - performance.now();
  }

  get #patienceMs(): number {
    return this.#components.patienceMs ?? NET_LIMITS.blobPatienceMs;
  }

  #live(): number {
    return [...this.#providers.values()].filter(({ dropped, asked }) => !dropped && asked.size > 0).length;
  }

  /** A chunk that nobody is asked for; if all are, one that others have owed us for long. */
  #pick({ asked, missing }: Provider): ChunkReference | undefined {
    let overdue: ChunkReference | undefined;
    for (const [id, size] of this.#wanted) {
      if (missing.has(id) || asked.has(id)) continue;
      const askers = this.#askers(id);
      if (askers === 0) return { id, size };
      if (askers < (this.#askersMax.get(id) ?? 1)) overdue ??= { id, size };
    }
    return overdue;
  }

  #askers(id: Hash): number {
    let askers = 0;
    for (const { asked } of this.#providers.values()) if (asked.has(id)) askers++;
    return askers;
  }

  async #ask(provider: Provider, chunk: ChunkReference): Promise<void> {
    const { id } = chunk;
    const askedMs = performance.now();
    if (provider.asked.size === 0) provider.heardMs = askedMs;
    provider.asked.add(id);
    provider.turns++;
    // a provider gives its chunks one after the other: as long as they come, the later ones are only waiting their turn
    let impatient: NodeJS.Timeout;
    const look = (): void => {
      const leftMs = this.#patienceLeftMs(provider);
      if (leftMs > 0) {
        impatient = setTimeout(look, Math.ceil(leftMs));
        return;
      }
      this.#askersMax.set(id, this.#askers(id) + 1);
      // who did not have it then may have it now: it may have been handed round since, to all but us
      const isLong = this.#patienceMs - leftMs >= NET_LIMITS.blobAgainMs;
      if (isLong) for (const each of this.#providers.values()) each.missing.clear();
      this.#next();
      impatient = setTimeout(look, NET_LIMITS.blobAgainMs);
    };
    impatient = setTimeout(look, this.#patienceMs);
    try {
      const bytes = await this.#components.fetchChunk(provider.peer, chunk, this.#over.signal);
      provider.heardMs = performance.now();
      provider.given++;
      provider.lacks = false;
      await this.#take(id, bytes);
    } catch (error) {
      if (error instanceof CodedError && error.code === 'E_BLOB_UNAVAILABLE') {
        provider.missing.add(id);
        provider.lacks = true;
      } else provider.dropped = error as Error;
    } finally {
      clearTimeout(impatient);
      provider.asked.delete(id);
    }
    this.#next();
  }

  /** A fault of the sink, or of the blob itself, is nobody's whom we could drop: it ends the fetch. */
  async #take(id: Hash, bytes: Uint8Array): Promise<void> {
    if (!this.#wanted.has(id) || this.#over.signal.aborted) return;
    const size = this.#wanted.get(id);
    this.#wanted.delete(id);
    if (size !== bytes.length) {
      this.#reject(contradiction(this.#blob));
      this.#over.abort();
      return;
    }
    this.#writing++;
    try {
      await this.#components.sink.write(id, bytes);
    } catch (error) {
      this.#reject(error as Error);
      this.#over.abort();
    } finally {
      this.#writing--;
    }
  }

  #failure(): Error {
    const dropped = [...this.#providers.values()].flatMap((provider) => provider.dropped ?? []);
    const corrupt = dropped.length > 0 && dropped.every((e) => e instanceof CodedError && e.code === 'E_BLOB_CORRUPT');
    const liars = corrupt && dropped.length === this.#providers.size;
    const reasons = dropped.map((error) => error.message).join('; ') || 'none of them has the rest';
    return networkError(
      liars ? 'E_BLOB_CORRUPT' : 'E_BLOB_UNAVAILABLE',
      `blob ${this.#blob} lacks ${this.#wanted.size} chunks, ${this.#providers.size} providers asked: ${reasons}`,
    );
  }
}

import { createHash } from 'node:crypto';
import type { BlobStore } from '../../node/store/blob-store.ts';
import { nativeSha256, writeBlob } from '../../node/store/blobs.ts';
import type {
  AppliedState,
  Contribution,
  Opened,
  PeerWorker,
  Remote,
  RestoredState,
  TrainedOn,
} from '../../node/train/index.ts';
import { blobIdOf } from '../../protocol/blob.ts';
import { codecOf } from '../../protocol/codecs/index.ts';
import { type Genesis, runIdOf } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { modelLayout } from '../../protocol/model.ts';
import { randomStream } from '../../protocol/random.ts';
import type { ReplicaHost, Settled, Contribution as Simulated } from '../../sim/replica-host.ts';

/**
 * Replicas that compute nothing and take a known time for it, one kind for a real peer and one for the simulator, with
 * the same payloads: what is left of a round is the protocol, the disk and the network.
 */

/** Payloads that the codec takes and of the size that it gives them, another for every peer and round. */
export class Payloads {
  readonly #genesis: Genesis;
  readonly #made = new Map<string, Uint8Array>();

  /** @param peer whose payloads are made now, before anything is measured */
  constructor(genesis: Genesis, peer?: number) {
    this.#genesis = genesis;
    for (let round = 0; peer !== undefined && round < genesis.rounds!; round++) this.of(peer, round);
  }

  of(peer: number, round: number): Uint8Array {
    const name = `${peer}/${round}`;
    let payload = this.#made.get(name);
    if (!payload) {
      const { codec, model, seed } = this.#genesis;
      const layout = modelLayout(model);
      const random = randomStream(seed, 'payload', peer, round);
      const update = Float32Array.from({ length: layout.length }, () => random.unit() - 0.5);
      payload = codecOf(codec).encode(update, layout);
      this.#made.set(name, payload);
    }
    return payload;
  }
}

const nameAfter = (block: Hash): Hash => createHash('sha256').update(`the state after ${block}`).digest('hex');

/** Means of what took time, in milliseconds. */
export class Times {
  readonly #sums = new Map<string, { ms: number; count: number }>();

  add(what: string, ms: number): void {
    const sum = this.#sums.get(what) ?? { ms: 0, count: 0 };
    this.#sums.set(what, { ms: sum.ms + ms, count: sum.count + 1 });
  }

  mean(what: string): number {
    const sum = this.#sums.get(what);
    return sum ? sum.ms / sum.count : 0;
  }
}

/** The training thread of a real peer, without the training. */
export class TimedWorker implements Remote<PeerWorker> {
  readonly #init: { genesis: Genesis; peer: number; stepMs: number; payloads: Payloads; times: Times };
  readonly #store: BlobStore;
  #training: { overtaken: boolean; finish: boolean; wake: () => void } | undefined;

  constructor(
    store: BlobStore,
    init: { genesis: Genesis; peer: number; stepMs: number; payloads: Payloads; times: Times },
  ) {
    this.#store = store;
    this.#init = init;
  }

  async open(): Promise<Opened> {
    return { backend: 'none', parameters: 0, states: [], warnings: [], open: [], isUnderWay: false };
  }

  async initialize(): Promise<RestoredState> {
    return { ...(await this.#settle(runIdOf(this.#init.genesis))), forgot: false };
  }

  async restore(_: unknown, block: Hash): Promise<RestoredState> {
    return { ...(await this.#settle(block)), forgot: false };
  }

  async check(): Promise<void> {}

  async trainOn(): Promise<TrainedOn> {
    return { outcome: 'full', isKept: false, skipped: 0, trainMs: 0 };
  }

  /** One timer for all steps: what `finish` and `apply` cut short ends at once. */
  async train(
    _: Hash,
    { steps, firstStep }: { steps: number; firstStep: number },
  ): Promise<Contribution | 'overtaken'> {
    const { genesis, peer, stepMs, payloads, times } = this.#init;
    const startedMs = performance.now();
    const training = { overtaken: false, finish: false, wake: (): void => undefined };
    this.#training = training;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, steps * stepMs);
      training.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    if (training.overtaken) return 'overtaken';
    const trainMs = performance.now() - startedMs;
    const done = training.finish ? Math.max(1, Math.floor(trainMs / stepMs)) : steps;
    if (!training.finish) times.add('step', trainMs / steps);
    const payload = payloads.of(peer, firstStep / genesis.innerSteps);
    const { id, size } = await writeBlob(this.#store, payload);
    times.add('encode', performance.now() - startedMs - trainMs);
    const inline = size <= LIMITS.inlinePayloadBytesMax ? payload : null;
    const tokens = done * genesis.batch * genesis.model.context;
    return { payload: id, size, tokens, steps: done, loss: 1, inline, skipped: 0, trainMs };
  }

  async finish(): Promise<void> {
    if (!this.#training) return;
    this.#training.finish = true;
    this.#training.wake();
  }

  async apply({ block }: { block: Hash }): Promise<AppliedState> {
    if (this.#training) this.#training.overtaken = true;
    this.#training?.wake();
    return this.#settle(block);
  }

  /** Nothing is: nobody restores in what is measured. */
  async saved(): Promise<null> {
    return null;
  }

  async evaluateAll(): Promise<number> {
    return 1;
  }

  async close(): Promise<void> {}

  async usage(): Promise<{ tensors: number; heapBytes: number }> {
    return { tensors: 0, heapBytes: 0 };
  }

  async #settle(block: Hash): Promise<AppliedState> {
    return { snapshot: nameAfter(block), snapshotBytes: 1, valLoss: null, open: [] };
  }
}

/** The same for virtual peers; the simulator's compute model says how long it takes. */
export class TimedHost implements ReplicaHost {
  readonly parameters = 0;
  readonly #genesis: Genesis;
  readonly #payloads: Payloads;
  readonly #plans = new Map<number, { firstStep: number }>();

  constructor(genesis: Genesis, payloads: Payloads) {
    this.#genesis = genesis;
    this.#payloads = payloads;
  }

  initialize(): Promise<Settled> {
    return this.#settle(runIdOf(this.#genesis));
  }

  async restore(_: number, { id, bytes }: { id: Hash; bytes: Uint8Array }): Promise<Settled> {
    return { snapshot: id, bytes, version: 1, open: [] };
  }

  train(peer: number, plan: { firstStep: number }): void {
    this.#plans.set(peer, plan);
  }

  async contribute(peer: number, steps: number): Promise<Simulated> {
    const { innerSteps, batch, model } = this.#genesis;
    const bytes = this.#payloads.of(peer, this.#plans.get(peer)!.firstStep / innerSteps);
    return {
      payload: blobIdOf(bytes, nativeSha256),
      bytes,
      tokens: steps * batch * model.context,
      steps,
      loss: 1,
      version: 1,
      open: [],
    };
  }

  async keep(): Promise<null> {
    return null;
  }

  async abandon(): Promise<void> {}

  apply(_: number, { block }: { block: Hash }): Promise<Settled> {
    return this.#settle(block);
  }

  restart(): void {}

  async evaluate(): Promise<null> {
    return null;
  }

  async close(): Promise<void> {}

  async #settle(block: Hash): Promise<Settled> {
    return { snapshot: nameAfter(block), bytes: new Uint8Array(1), version: 1, open: [] };
  }
}

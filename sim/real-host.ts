import type { Worker } from 'node:worker_threads';
import { connect, type Remote } from '../node/train/rpc.ts';
import { spawnWorker } from '../node/train/spawn-worker.ts';
import { assert } from '../protocol/errors.ts';
import { decodeGenesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import { modelLayout } from '../protocol/model.ts';
import type { OwnHistory } from '../protocol/own-updates.ts';
import type { ApplyRequest, Contribution, Kept, ReplicaHost, Settled, Training } from './replica-host.ts';
import type { ReplicaWorker, ReplicaWorkerInit } from './replica-worker.ts';

interface Thread {
  worker: Worker;
  remote: Remote<ReplicaWorker>;
}

/**
 * Replicas that really train, spread over worker threads. A peer stays with its thread, and threads share nothing but
 * finished bytes, so that their number changes speed alone.
 */
export class RealHost implements ReplicaHost {
  readonly parameters: number;
  /** name, and kernels or device, as the engine has it */
  readonly backend: string;
  readonly #threads: Thread[];

  private constructor(threads: Thread[], parameters: number, backend: string) {
    this.#threads = threads;
    this.parameters = parameters;
    this.backend = backend;
  }

  /** @throws CodedError of `createEngine`, `E_WORKER` */
  static async open(init: ReplicaWorkerInit, workers: number): Promise<RealHost> {
    assert(workers >= 1, 'there is a thread to train in');
    const threads = Array.from({ length: workers }, (): Thread => {
      const worker = spawnWorker(new URL('./replica-worker.ts', import.meta.url));
      const quiet = (): void => undefined; // calls under way fail with E_WORKER, and the kernel waits for those
      return { worker, remote: connect<ReplicaWorker>(worker, quiet, quiet) };
    });
    try {
      const backends = await Promise.all(threads.map(({ remote }) => remote.open(init)));
      const { length } = modelLayout(decodeGenesis(init.genesisBytes).model);
      return new RealHost(threads, length, backends[0]!);
    } catch (error) {
      await Promise.all(threads.map(({ worker }) => worker.terminate()));
      throw error;
    }
  }

  initialize(peer: number): Promise<Settled> {
    return this.#of(peer).initialize(peer);
  }

  restore(peer: number, snapshot: { id: Hash; bytes: Uint8Array }, own: OwnHistory): Promise<Settled> {
    return this.#of(peer).restore(peer, snapshot, own);
  }

  train(peer: number, training: Training): void {
    ignore(this.#of(peer).train(peer, training));
  }

  contribute(peer: number, steps: number): Promise<Contribution | null> {
    return this.#of(peer).contribute(peer, steps);
  }

  keep(peer: number, steps: number): Promise<Kept | null> {
    return this.#of(peer).keep(peer, steps);
  }

  abandon(peer: number, steps: number): Promise<void> {
    return this.#of(peer).abandon(peer, steps);
  }

  apply(peer: number, request: ApplyRequest): Promise<Settled> {
    return this.#of(peer).apply(peer, request);
  }

  restart(peer: number, version: number): void {
    ignore(this.#of(peer).restart(peer, version));
  }

  evaluate(peer: number, all: boolean): Promise<number | null> {
    return this.#of(peer).evaluate(peer, all);
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #of(peer: number): Remote<ReplicaWorker> {
    return this.#threads[peer % this.#threads.length]!.remote;
  }
}

/** What fails here fails again, and is heard, in the operation that needs it. */
function ignore(asked: Promise<unknown>): void {
  asked.catch(() => undefined);
}

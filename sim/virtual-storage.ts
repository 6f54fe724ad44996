import type { Effect } from '../protocol/events.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId } from '../protocol/identity.ts';
import { LIMITS } from '../protocol/limits.ts';
import type { AgreedState, Block } from '../protocol/wire.ts';
import type { Process } from './process.ts';
import type { ApplyRequest, Settled } from './replica-host.ts';
import type { VirtualTraining } from './virtual-training.ts';

/** The block that a state follows, the state but for its snapshot, and what the machine waits to hear. */
interface Target {
  block: Hash;
  state: Omit<AgreedState, 'snapshot' | 'snapshotBytes'>;
  answer: 'applied' | 'restored';
}

/** Payloads and agreed states of one process: fetched, checked, applied, kept on its disk. */
export class VirtualStorage {
  readonly #process: Process;
  readonly #training: VirtualTraining;

  constructor(process: Process, training: VirtualTraining) {
    this.#process = process;
    this.#training = training;
  }

  fetch({ update, holders }: Effect & { type: 'fetch' }): void {
    const { library } = this.#process.world;
    this.#pull({ id: update.payload, size: update.size }, holders, 'payload', (complete) => {
      const error = complete ? library.verdict(update.payload) : 'E_BLOB_UNAVAILABLE';
      this.#process.give({ type: 'payload', update, error });
    });
  }

  take({ headers }: Effect & { type: 'take' }): void {
    const { world, index } = this.#process;
    const refused = world.library.take(index, headers);
    this.#process.give({ type: 'taken', headers, refused });
  }

  apply({ entry, block, final, state }: Effect & { type: 'apply' }): void {
    const { world, index } = this.#process;
    const { host, compute, ledger, kernel } = world;
    this.#training.stop();
    ledger.turn(index, 'applying', kernel.nowMs);
    const updates = this.#updatesOf(entry.block);
    this.#training.compute(compute.applyMs, host.apply(index, { block, updates, final }), (settled) => {
      this.settle(settled, { block, state, answer: 'applied' });
    });
  }

  restore({ state, block, holders, included }: Effect & { type: 'restore' }): void {
    const { world, index } = this.#process;
    const { library, host, compute, ledger, kernel } = world;
    const snapshot = { id: state.snapshot, size: state.snapshotBytes };
    ledger.turn(index, 'fetching', kernel.nowMs);
    this.#pull(snapshot, holders, 'snapshot', (complete) => {
      const bytes = complete ? library.bytes(snapshot.id) : undefined;
      if (!bytes) {
        const { id, size } = snapshot;
        const error = 'E_BLOB_UNAVAILABLE';
        return this.#process.give({ type: 'restored', snapshot: id, snapshotBytes: size, served: false, error });
      }
      this.#training.stop();
      const restored = host.restore(index, { id: snapshot.id, bytes }, included);
      this.#training.compute(compute.applyMs, restored, (settled) => {
        this.settle(settled, { block, state, answer: 'restored' });
      });
    });
  }

  /** A new agreed state is durable. */
  settle(settled: Settled, { block, state, answer }: Target): void {
    const { world, index, disk } = this.#process;
    const { library, ledger, kernel } = world;
    const { snapshot, snapshotBytes, bytes, version } = settled;
    if (bytes) library.put(index, snapshot, bytes);
    else library.hold(index, snapshot);
    disk.version = version;
    disk.snapshots = [...disk.snapshots.filter((other) => other !== snapshot), snapshot];
    while (disk.snapshots.length > LIMITS.snapshotsKept) library.drop(index, disk.snapshots.shift()!);
    disk.applied = { block, state: { ...state, snapshot, snapshotBytes } };
    ledger.turn(index, 'waiting', kernel.nowMs);
    if (answer === 'applied') this.#process.give({ type: 'applied', block, snapshot, snapshotBytes, served: true });
    else this.#process.give({ type: 'restored', snapshot, snapshotBytes, served: true, error: null });
    library.dropPayloads(index, state.round - LIMITS.payloadRoundsKept);
  }

  /** The same list for all peers that apply a block. */
  #updatesOf(block: Block): ApplyRequest['updates'] {
    const { library, payloads } = this.#process.world;
    let updates = payloads.get(block);
    if (!updates) {
      updates = block.updates.map(({ payload, tokens }) => ({ payload, tokens, bytes: library.bytes(payload)! }));
      payloads.set(block, updates);
    }
    return updates;
  }

  #pull(
    { id, size }: { id: Hash; size: number },
    holders: readonly PeerId[],
    kind: 'payload' | 'snapshot',
    done: (complete: boolean) => void,
  ): void {
    const { world, index, isAlive } = this.#process;
    const { library, network, indexOf } = world;
    network.fetch({
      peer: index,
      blob: id,
      size,
      kind,
      holders: holders.flatMap((holder) => indexOf.get(holder) ?? []),
      onPart: (part) => {
        if (isAlive()) library.takePart(index, id, part);
      },
      onDone: (complete) => {
        if (isAlive()) done(complete && library.has(index, id));
      },
    });
  }
}

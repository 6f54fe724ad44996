import { assert, isCoded } from '../protocol/errors.ts';

import type { Effect, Keep } from '../protocol/events.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId } from '../protocol/identity.ts';
import { statesKept } from '../protocol/kept-states.ts';
import { LIMITS } from '../protocol/limits.ts';
import type { AgreedState, Block, Update } from '../protocol/wire.ts';
import type { Process } from './process.ts';
import type { ApplyRequest, Settled } from './replica-host.ts';
import type { VirtualTraining } from './virtual-training.ts';

/** The block that a state follows, the state but for its snapshot, and what the machine waits to hear. */
interface Target {
  block: Hash;
  state: Omit<AgreedState, 'snapshot' | 'snapshotBytes'>;
  answer: 'applied' | 'restored';
  keep: Keep;
}

/** Payloads and agreed states of one process: fetched, checked, applied, kept on its disk. */
export class VirtualStorage {
  readonly #process: Process;
  readonly #training: VirtualTraining;
  /** ends the fetching of a snapshot, while it is under way */
  #endFetch: (() => void) | undefined;

  constructor(process: Process, training: VirtualTraining) {
    this.#process = process;
    this.#training = training;
  }

  fetch({ update, holders }: Effect & { type: 'fetch' }): void {
    this.#fetch(update, holders);
  }

  take(effect: Effect & { type: 'take' }): void {
    const { world, isAlive } = this.#process;
    const { kernel, takeMs = 0 } = world;
    if (takeMs === 0) return this.#take(effect);
    kernel.after(takeMs, () => {
      if (isAlive()) this.#take(effect);
    });
  }

  #take({ headers }: Effect & { type: 'take' }): void {
    const { world, index } = this.#process;
    const { taken, refused, misnamed } = world.library.take(index, headers);
    // what rides in a header is not signed: whoever handed it on may have put something else there
    for (const { update } of misnamed) this.#fetch(update, [update.author]);
    if (taken.length > 0) this.#process.give({ type: 'taken', headers: taken, refused });
  }

  apply({ entry, block, final, state, keep }: Effect & { type: 'apply' }): void {
    const { world, index, id } = this.#process;
    const { host, ledger, kernel } = world;
    this.#training.stop();
    ledger.turn(index, 'applying', kernel.nowMs);
    const updates = this.#updatesOf(entry.block);
    const place = entry.block.updates.findIndex(({ author }) => author === id);
    const own = place < 0 ? undefined : place;
    this.settle(host.apply(index, { block, round: entry.block.round, updates, own, final }), {
      block,
      state,
      answer: 'applied',
      keep,
    });
  }

  restore({ state, block, holders, own, keep }: Effect & { type: 'restore' }): void {
    const { world, index, disk } = this.#process;
    const { library, host, ledger, kernel } = world;
    const snapshot = { id: state.snapshot, size: state.snapshotBytes };
    ledger.turn(index, 'fetching', kernel.nowMs);
    disk.unfinished = snapshot.id;
    this.#endFetch = this.#pull(snapshot, holders, 'snapshot', (complete) => {
      this.#endFetch = undefined;
      const bytes = complete ? library.bytes(snapshot.id) : undefined;
      const { id, size } = snapshot;
      const failed = (error: string) =>
        this.#process.give({ type: 'restored', snapshot: id, snapshotBytes: size, error });
      if (!bytes) return failed('E_BLOB_UNAVAILABLE');
      this.#training.stop();
      const restored = host.restore(index, { id, bytes }, own).catch(refusalOf);
      this.settle(restored, { block, state, answer: 'restored', keep }, failed);
    });
  }

  abandon(): void {
    this.#endFetch?.();
  }

  /**
   * The training thread comes to a new agreed state, and it goes to the disk.
   * @param failed told instead of the state why a snapshot is of no use
   */
  settle(settled: Promise<Settled | string>, target: Target, failed: (error: string) => void = assertNever): void {
    this.#training.compute(
      this.#process.world.compute.applyMs,
      settled,
      (outcome) => typeof outcome === 'string' || this.#keep(outcome, target),
      (outcome) => (typeof outcome === 'string' ? failed(outcome) : this.#tell(outcome, target)),
    );
  }

  #keep({ snapshot, bytes, version, open }: Settled, { block, state, answer, keep }: Target): void {
    const { world, index, disk } = this.#process;
    const { library } = world;
    library.put(index, snapshot, bytes);
    disk.version = version;
    disk.open = open;
    if (answer === 'restored') disk.unfinished = undefined;
    const before = disk.states;
    const saved = { block, state: { ...state, snapshot, snapshotBytes: bytes.length } };
    disk.states = statesKept(before, saved, (each) => keep.snapshots.includes(each.state.snapshot));
    const kept = new Set(disk.states.map((each) => each.state.snapshot));
    for (const each of before) if (!kept.has(each.state.snapshot)) library.drop(index, each.state.snapshot);
  }

  #tell({ snapshot, bytes, open }: Settled, { block, state, answer, keep }: Target): void {
    const { world, index } = this.#process;
    const snapshotBytes = bytes.length;
    world.ledger.turn(index, 'waiting', world.kernel.nowMs);
    if (answer === 'restored') this.#process.give({ type: 'restored', snapshot, snapshotBytes, error: null });
    else {
      this.#process.give({ type: 'applied', block, snapshot, snapshotBytes });
      this.#process.give({ type: 'saved', block });
    }
    // those that may still count move on to the newest round, which is dropped last
    const needed = [...open, ...keep.payloads.map(({ payload }) => payload)];
    for (const payload of needed) world.library.refile(index, payload, state.round);
    // who goes back from a state that it took from others needs what it had
    if (answer === 'applied') world.library.dropPayloads(index, state.round - LIMITS.payloadRoundsKept);
  }

  #fetch(update: Update, holders: readonly PeerId[]): void {
    const { library } = this.#process.world;
    const { payload, size } = update;
    this.#pull({ id: payload, size }, holders, 'payload', (complete) => {
      const isThere = complete && library.bytes(payload)?.length === size;
      this.#process.give({ type: 'payload', update, error: isThere ? library.verdict(payload) : 'E_BLOB_UNAVAILABLE' });
    });
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
  ): () => void {
    const { world, index, isAlive } = this.#process;
    const { library, network, indexOf } = world;
    return network.fetch({
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

/** Why a snapshot is of no use; a worker that died is no fault of the snapshot's. @throws what is no refusal */
function refusalOf(cause: unknown): string {
  if (isCoded(cause) && cause.code !== 'E_WORKER') return cause.code;
  throw cause;
}

function assertNever(error: string): void {
  assert(false, `only a snapshot can be refused: ${error}`);
}

import { createHash } from 'node:crypto';
import { firstHead, stateAt } from '../protocol/chain.ts';
import { codecOf } from '../protocol/codecs/index.ts';
import { isCoded } from '../protocol/errors.ts';
import type { Effect, Event, Report, Restart } from '../protocol/events.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId, Signer } from '../protocol/identity.ts';
import { LIMITS } from '../protocol/limits.ts';
import { Machine } from '../protocol/machine.ts';
import { decodeHistory, encodeHistory, type Message } from '../protocol/messages.ts';
import type { Layout } from '../protocol/model.ts';
import type { AgreedState, Entry } from '../protocol/wire.ts';
import type { BlobLibrary } from './blob-library.ts';
import type { ComputeModel } from './compute.ts';
import type { Kernel, Planned } from './kernel.ts';
import type { Ledger } from './ledger.ts';
import type { Endpoint, SimulatedNetwork } from './network.ts';
import type { Contribution, ReplicaHost, Settled } from './replica-host.ts';
import type { Trace } from './trace.ts';

/** What all virtual peers share. */
export interface World {
  kernel: Kernel;
  network: SimulatedNetwork;
  library: BlobLibrary;
  host: ReplicaHost;
  compute: ComputeModel;
  ledger: Ledger;
  trace: Trace;
  genesis: Genesis;
  layout: Layout;
  indexOf: ReadonlyMap<PeerId, number>;
  peers: readonly VirtualPeer[];
  onReport: (peer: VirtualPeer, report: Report) => void;
}

/** What is left of a peer when its process is gone. */
interface Disk {
  entries: Entry[];
  record: Uint8Array | null;
  applied: { block: Hash; state: AgreedState } | null;
  /** snapshots kept for others, oldest first */
  snapshots: Hash[];
  /** of the replica's seat */
  version: number;
}

interface Training {
  base: Hash;
  round: number;
  /** when each step ends, from `startMs` on */
  ends: Float64Array;
  startMs: number;
  end: Planned;
  /** no more steps than this will be taken */
  steps: number;
}

/** The block that a state follows, the state but for its snapshot, and what the machine waits to hear. */
interface Target {
  block: Hash;
  state: Omit<AgreedState, 'snapshot' | 'snapshotBytes'>;
  answer: 'applied' | 'restored';
}

type WithoutClock<T> = T extends unknown ? Omit<T, 'nowMs'> : never;

/**
 * Drives the protocol's machine in virtual time as `node/peer.ts` does in real time; the duties are numbered at the head
 * of `protocol/machine.ts`. What takes time takes virtual time: disk, network and computing, each by its model.
 */
export class VirtualPeer implements Endpoint {
  readonly index: number;
  machine: Machine | undefined;
  /** it will not come back: the run is over for it, or it left */
  finished = false;
  readonly #world: World;
  readonly #signer: Signer;
  readonly #disk: Disk = { entries: [], record: null, applied: null, snapshots: [], version: 0 };
  /** counts processes, so that what an earlier one began does not reach a later one */
  #life = 0;
  #queue: Effect[] = [];
  #draining = false;
  #pausedUntilMs = 0;
  #wake: { timer: Planned; atMs: number } | undefined;
  #training: Training | undefined;
  /** when what the training thread does now, outside of training, is done */
  #busyUntilMs = 0;
  /** payloads older than this round are off the disk */
  #droppedBefore = 0;

  constructor(world: World, index: number, signer: Signer) {
    this.#world = world;
    this.index = index;
    this.#signer = signer;
  }

  get id(): PeerId {
    return this.#signer.self;
  }

  get isUp(): boolean {
    return this.machine !== undefined;
  }

  /** A new process, with what the disk has. */
  start(): void {
    const { genesis, host, ledger, kernel, network, trace } = this.#world;
    const { entries, record, applied, version } = this.#disk;
    if (this.machine || this.finished) return;
    if (this.#life++ > 0) host.restart(this.index, version);
    this.#busyUntilMs = kernel.nowMs;
    this.machine = new Machine({ signer: this.#signer }, { genesis });
    const known = applied !== null || entries.length > 0 || record !== null;
    const restart: Restart | null = known ? { entries: [...entries], record, applied } : null;
    trace.add(kernel.nowMs, this.index, 'start', this.#life);
    ledger.turn(this.index, 'waiting', kernel.nowMs);
    this.#give({ type: 'start', restart });
    network.attach(this.index, this);
  }

  /** The process is gone without a word; what was not durable is lost. */
  crash(): void {
    const { kernel, ledger, network, trace } = this.#world;
    if (!this.machine) return;
    trace.add(kernel.nowMs, this.index, 'stop', this.#life);
    this.#life++;
    this.machine = undefined;
    this.#queue = [];
    this.#draining = false;
    kernel.cancel(this.#wake?.timer);
    this.#wake = undefined;
    kernel.cancel(this.#training?.end);
    this.#training = undefined;
    ledger.turn(this.index, 'down', kernel.nowMs);
    network.detach(this.index);
  }

  /** The user wants to go: the peer leaves the roster, then stops. */
  leave(): void {
    this.#give({ type: 'leave' });
  }

  /** The process stands still: what happens meanwhile is seen afterwards, and training goes on where it was. */
  pause(forMs: number): void {
    const { kernel } = this.#world;
    if (!this.machine) return;
    const fromMs = Math.max(kernel.nowMs, this.#pausedUntilMs);
    const lengthMs = kernel.nowMs + forMs - fromMs;
    if (lengthMs <= 0) return;
    this.#pausedUntilMs = fromMs + lengthMs;
    const training = this.#training;
    if (!training) return;
    training.startMs += lengthMs;
    this.#planEnd(training);
  }

  onMessage(from: number, message: Message, number: number): void {
    const { peers, trace, kernel } = this.#world;
    trace.add(kernel.nowMs, this.index, message.type, number);
    this.#give({ type: 'message', from: peers[from]!.id, message });
  }

  onConnection(peer: number, up: boolean): void {
    const { peers, trace, kernel } = this.#world;
    trace.add(kernel.nowMs, this.index, up ? 'up' : 'down', peer);
    this.#give({ type: 'peer', peer: peers[peer]!.id, up });
  }

  hasPart(blob: Hash, part: number): boolean {
    return this.#world.library.hasPart(this.index, blob, part);
  }

  // --- events in, effects out -----------------------------------------------------------------------------------------

  #give(event: WithoutClock<Event>): void {
    const { nowMs } = this.#world.kernel;
    if (!this.machine) return;
    if (nowMs < this.#pausedUntilMs) return this.#later(this.#pausedUntilMs - nowMs, () => this.#give(event));
    const stamped = event as Event;
    stamped.nowMs = nowMs;
    const effects = this.machine.step(stamped);
    for (const effect of effects) this.#queue.push(effect);
    if (!this.#draining) this.#drain();
  }

  /** Effects go out one after the other; those that must be durable first are waited for. */
  #drain(): void {
    const { diskMs } = this.#world.compute;
    const life = this.#life;
    this.#draining = true;
    for (let next = 0; next < this.#queue.length; next++) {
      const effect = this.#queue[next]!;
      if (effect.type === 'persist' || effect.type === 'append') {
        if (diskMs > 0) {
          this.#queue = this.#queue.slice(next + 1);
          return this.#later(diskMs, () => {
            this.#keep(effect);
            this.#drain();
          });
        }
        this.#keep(effect);
      } else this.#carryOut(effect);
      if (this.#life !== life) return;
    }
    this.#queue = [];
    this.#draining = false;
  }

  #keep(effect: Effect & { type: 'persist' | 'append' }): void {
    if (effect.type === 'persist') this.#disk.record = effect.record;
    else this.#disk.entries.push(effect.entry);
  }

  #carryOut(effect: Exclude<Effect, { type: 'persist' | 'append' }>): void {
    const { network, host, indexOf } = this.#world;
    switch (effect.type) {
      case 'broadcast':
        return network.broadcast(this.index, effect.message);
      case 'send': {
        const to = indexOf.get(effect.peer);
        return to === undefined ? undefined : network.send(this.index, to, effect.message);
      }
      case 'initialize':
        return this.#compute(this.#world.compute.applyMs, host.initialize(this.index), (settled) => {
          const block = this.machine!.run;
          const state = stateAt(firstHead(this.#world.genesis, block), { id: '', bytes: 0 });
          this.#settled(settled, { block, state, answer: 'restored' });
        });
      case 'restore':
        return this.#restore(effect);
      case 'train':
        return this.#train(effect);
      case 'finish':
        return this.#finish();
      case 'fetch':
        return this.#fetch(effect);
      case 'apply':
        return this.#apply(effect);
      case 'request-history':
        return this.#ask(effect);
      case 'wake':
        return this.#wakeAt(effect.atMs);
      case 'report':
        return this.#report(effect.report);
      default:
        return effect satisfies never;
    }
  }

  /** Something of this process, unless it has ended by then. */
  #later(delayMs: number, run: () => void): void {
    const life = this.#life;
    this.#world.kernel.after(delayMs, () => {
      if (this.#life === life) run();
    });
  }

  /** Work of the training thread, after what it does already; the answer comes in at the virtual time of its end. */
  #compute<T>(durationMs: number, value: Promise<T>, run: (value: T) => void): void {
    const { kernel } = this.#world;
    const life = this.#life;
    this.#busyUntilMs = Math.max(kernel.nowMs, this.#busyUntilMs) + durationMs;
    kernel.whenReady(this.#busyUntilMs, value, (result) => {
      if (this.#life === life) run(result);
    });
  }

  /** One timer at most: a later wish moves it when it fires, an earlier one now. */
  #wakeAt(atMs: number): void {
    const { kernel } = this.#world;
    if (this.#wake?.timer.run && this.#wake.timer.atMs <= atMs) {
      this.#wake.atMs = atMs;
      return;
    }
    kernel.cancel(this.#wake?.timer);
    const onTime = (): void => {
      const wanted = this.#wake!.atMs;
      if (kernel.nowMs < wanted) {
        this.#wake = { timer: kernel.at(wanted, onTime), atMs: wanted };
        return;
      }
      this.#wake = undefined;
      this.#give({ type: 'wake' });
    };
    this.#wake = { timer: kernel.at(atMs, onTime), atMs };
  }

  #report(report: Report): void {
    const { trace, kernel, onReport } = this.#world;
    if (report.kind === 'round') trace.add(kernel.nowMs, this.index, 'round', `${report.round} ${report.root}`);
    onReport(this, report);
    if (report.kind !== 'done') return;
    this.finished = true;
    this.crash();
  }

  // --- training -------------------------------------------------------------------------------------------------------

  #train({ base, round, steps, firstStep, firstPosition }: Effect & { type: 'train' }): void {
    const { kernel, compute, host, ledger, trace } = this.#world;
    this.#stopTraining();
    const startMs = Math.max(kernel.nowMs, this.#busyUntilMs);
    host.train(this.index, { steps, firstStep, firstPosition });
    trace.add(kernel.nowMs, this.index, 'train', round);
    ledger.turn(this.index, 'training', startMs);
    const ends = compute.stepEnds(this.index, steps);
    const training = { base, round, ends, startMs, steps } as Training;
    this.#planEnd(training);
    this.#training = training;
  }

  #planEnd(training: Training): void {
    const { kernel } = this.#world;
    kernel.cancel(training.end);
    const life = this.#life;
    training.end = kernel.at(training.startMs + training.ends[training.steps - 1]!, () => {
      if (this.#life === life) this.#contribute(training);
    });
  }

  /** Others wait: the step under way is the last. */
  #finish(): void {
    const training = this.#training;
    if (!training) return;
    training.steps = this.#stepsBy(training);
    this.#planEnd(training);
  }

  /** Steps that are done when the one under way is. */
  #stepsBy({ ends, startMs, steps }: Training): number {
    const spentMs = this.#world.kernel.nowMs - startMs;
    let done = 1;
    while (done < steps && ends[done - 1]! <= spentMs) done++;
    return done;
  }

  #contribute({ base, round, steps }: Training): void {
    const { compute, host, ledger, kernel } = this.#world;
    this.#training = undefined;
    ledger.turn(this.index, 'waiting', kernel.nowMs);
    this.#compute(compute.encodeMs, host.contribute(this.index, steps), (contribution) => {
      if (contribution) this.#trained(base, round, contribution);
    });
  }

  #trained(base: Hash, round: number, { payload, bytes, tokens, steps, loss, version }: Contribution): void {
    const { library, trace, kernel } = this.#world;
    this.#disk.version = version;
    library.put(this.index, payload, bytes);
    library.file(payload, round);
    trace.add(kernel.nowMs, this.index, 'trained', payload);
    const inline = bytes.length <= LIMITS.inlinePayloadBytesMax ? bytes : null;
    this.#give({ type: 'trained', base, update: { payload, size: bytes.length, tokens, steps, loss }, inline });
  }

  /** Overtaken: the step under way is finished, and what was learned kept. */
  #stopTraining(): void {
    const { kernel, host } = this.#world;
    const training = this.#training;
    if (!training) return;
    const steps = this.#stepsBy(training);
    kernel.cancel(training.end);
    this.#training = undefined;
    this.#busyUntilMs = Math.max(this.#busyUntilMs, training.startMs + training.ends[steps - 1]!);
    // nobody waits for it alone: whatever is asked of the seat next does
    host.abandon(this.index, steps).catch(() => undefined);
  }

  // --- payloads and states --------------------------------------------------------------------------------------------

  #fetch({ payload, size, holders, inline }: Effect & { type: 'fetch' }): void {
    const { library } = this.#world;
    if (inline) {
      const error = inlineFault(inline, payload, size);
      if (error) return this.#give({ type: 'payload', payload, error });
      library.put(this.index, payload, inline);
      return this.#checked(payload);
    }
    this.#pull({ id: payload, size }, holders, 'payload', (complete) => {
      if (complete) this.#checked(payload);
      else this.#give({ type: 'payload', payload, error: 'E_BLOB_UNAVAILABLE' });
    });
  }

  #checked(payload: Hash): void {
    const { library, genesis, layout } = this.#world;
    const error = library.verdict(payload, (bytes) => {
      try {
        codecOf(genesis.codec).check(bytes, layout);
        return null;
      } catch (cause) {
        if (!isCoded(cause)) throw cause;
        return cause.code;
      }
    });
    this.#give({ type: 'payload', payload, error });
  }

  #pull(
    { id, size }: { id: Hash; size: number },
    holders: readonly PeerId[],
    kind: 'payload' | 'snapshot',
    done: (complete: boolean) => void,
  ): void {
    const { library, network, indexOf } = this.#world;
    const life = this.#life;
    network.fetch({
      peer: this.index,
      blob: id,
      size,
      kind,
      holders: holders.flatMap((holder) => indexOf.get(holder) ?? []),
      onPart: (part) => {
        if (this.#life === life) library.takePart(this.index, id, part);
      },
      onDone: (complete) => {
        if (this.#life === life) done(complete && library.has(this.index, id));
      },
    });
  }

  #apply({ entry, block, final, state }: Effect & { type: 'apply' }): void {
    const { library, host, compute, ledger, kernel } = this.#world;
    this.#stopTraining();
    ledger.turn(this.index, 'applying', kernel.nowMs);
    const updates = entry.block.updates.map(({ payload, tokens }) => {
      return { payload, tokens, bytes: library.bytes(payload)! };
    });
    this.#compute(compute.applyMs, host.apply(this.index, { block, updates, final }), (settled) => {
      this.#settled(settled, { block, state, answer: 'applied' });
    });
  }

  #restore({ state, block, holders, included }: Effect & { type: 'restore' }): void {
    const { library, host, compute, ledger, kernel } = this.#world;
    const snapshot = { id: state.snapshot, size: state.snapshotBytes };
    ledger.turn(this.index, 'fetching', kernel.nowMs);
    this.#pull(snapshot, holders, 'snapshot', (complete) => {
      const bytes = complete ? library.bytes(snapshot.id) : undefined;
      const failed = (error: string): void => {
        const { id, size } = snapshot;
        this.#give({ type: 'restored', snapshot: id, snapshotBytes: size, served: false, error });
      };
      if (!bytes) return failed('E_BLOB_UNAVAILABLE');
      this.#stopTraining();
      const restored = host.restore(this.index, { id: snapshot.id, bytes }, included).catch(refusalOf);
      this.#compute(compute.applyMs, restored, (settled) => {
        if (typeof settled === 'string') failed(settled);
        else this.#settled(settled, { block, state, answer: 'restored' });
      });
    });
  }

  /** A new agreed state is durable. */
  #settled(settled: Settled, { block, state, answer }: Target): void {
    const { library, ledger, kernel } = this.#world;
    const { snapshot, snapshotBytes, bytes, version } = settled;
    const disk = this.#disk;
    if (bytes) library.put(this.index, snapshot, bytes);
    else library.hold(this.index, snapshot);
    disk.version = version;
    disk.snapshots = [...disk.snapshots.filter((other) => other !== snapshot), snapshot];
    while (disk.snapshots.length > LIMITS.snapshotsKept) library.drop(this.index, disk.snapshots.shift()!);
    disk.applied = { block, state: { ...state, snapshot, snapshotBytes } };
    ledger.turn(this.index, 'waiting', kernel.nowMs);
    if (answer === 'applied') this.#give({ type: 'applied', block, snapshot, snapshotBytes, served: true });
    else this.#give({ type: 'restored', snapshot, snapshotBytes, served: true, error: null });
    this.#dropOldPayloads(state.round);
  }

  #dropOldPayloads(round: number): void {
    while (this.#droppedBefore + LIMITS.payloadRoundsKept < round) {
      this.#world.library.dropRound(this.index, this.#droppedBefore++);
    }
  }

  #ask({ peer, fromHeight, skip }: Effect & { type: 'request-history' }): void {
    const { network, indexOf, peers } = this.#world;
    const to = indexOf.get(peer);
    if (to === undefined) return this.#later(0, () => this.#give({ type: 'history', peer, history: null }));
    const life = this.#life;
    const answer = (): Uint8Array | undefined => {
      const machine = peers[to]!.machine;
      return machine && encodeHistory(machine.history(fromHeight, skip));
    };
    network.request(this.index, to, answer, (bytes) => {
      if (this.#life !== life || !this.machine) return;
      const history = bytes ? decodeHistory(bytes, this.machine.run) : null;
      this.#give({ type: 'history', peer, history });
    });
  }
}

/** An inline payload must be the one that its header names. Asked once for all who receive the message. */
function inlineFault(inline: Uint8Array, payload: Hash, size: number): string | null {
  if (inline.length !== size) return 'E_PAYLOAD_SIZE';
  let name = namesOfInlines.get(inline);
  if (name === undefined) {
    name = createHash('sha256').update(inline).digest('hex');
    namesOfInlines.set(inline, name);
  }
  return name === payload ? null : 'E_PAYLOAD_FORMAT';
}

const namesOfInlines = new WeakMap<Uint8Array, Hash>();

/** Why a snapshot is of no use; a worker that died is no fault of the snapshot's. @throws what is no refusal */
function refusalOf(cause: unknown): string {
  if (isCoded(cause) && cause.code !== 'E_WORKER' && cause.code !== 'E_INTERNAL') return cause.code;
  throw cause;
}

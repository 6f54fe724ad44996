import { firstHead, stateAt } from '../protocol/chain.ts';
import { codecOf } from '../protocol/codecs/index.ts';
import { assert, isCoded } from '../protocol/errors.ts';
import type { Effect, Event, Report, Restart } from '../protocol/events.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId, Signer } from '../protocol/identity.ts';
import { LIMITS } from '../protocol/limits.ts';
import { Machine } from '../protocol/machine.ts';
import { decodeHistory, encodeHistory, type History, type Message } from '../protocol/messages.ts';
import type { Layout } from '../protocol/model.ts';
import type { AgreedState, Entry } from '../protocol/wire.ts';
import type { BlobLibrary } from './blob-library.ts';
import type { Clock } from './clock.ts';
import type { ComputeModel } from './compute.ts';
import type { Kernel, Planned } from './kernel.ts';
import type { Ledger } from './ledger.ts';
import type { Endpoint, PeerNetwork } from './network.ts';
import type { Contribution, ReplicaHost, Settled } from './replica-host.ts';
import type { Trace } from './trace.ts';

/** What all virtual peers share. */
export interface World {
  kernel: Kernel;
  network: PeerNetwork;
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
  /** by index: clocks that run in their own way @default the kernel's for all */
  clocks?: readonly Clock[];
  /** payloads up to this size ride in their headers @default the protocol's limit */
  inlineBytesMax?: number;
  /** hears every step of every machine, before its effects are carried out: for checkers */
  onStep?: (peer: VirtualPeer, event: Event, effects: readonly Effect[]) => void;
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
  /** snapshots that must stay, beside the newest */
  keep: readonly Hash[];
}

/** What a crash does to the write that is under way: it may have got through before anybody was told. */
export type LastWrite = 'lost' | 'kept';

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
  /** writes under way, oldest first: what makes them durable */
  readonly #writing = new Set<() => void>();

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

  /** Effects that wait for the disk. */
  get queuedEffects(): number {
    return this.#queue.length;
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

  /** The process is gone without a word; what was not durable is lost, but perhaps for the write under way. */
  crash(lastWrite: LastWrite = 'lost'): void {
    const { kernel, ledger, network, trace } = this.#world;
    if (!this.machine) return;
    const [oldest] = this.#writing;
    if (lastWrite === 'kept') oldest?.();
    this.#writing.clear();
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
    stamped.nowMs = this.#world.clocks?.[this.index]?.localMs(nowMs) ?? nowMs;
    const effects = this.machine.step(stamped);
    this.#world.onStep?.(this, stamped, effects);
    for (const effect of effects) this.#queue.push(effect);
    if (!this.#draining) this.#drain();
  }

  /** Effects go out one after the other; those that must be durable first are waited for. */
  #drain(): void {
    const { diskMs } = this.#world.compute;
    this.#draining = true;
    for (let next = 0; next < this.#queue.length; next++) {
      const effect = this.#queue[next]!;
      if (effect.type === 'persist' || effect.type === 'append') {
        if (diskMs > 0) {
          this.#queue = this.#queue.slice(next + 1);
          const write = () => this.#keep(effect);
          this.#writing.add(write);
          return this.#later(diskMs, () => {
            this.#writing.delete(write);
            write();
            this.#drain();
          });
        }
        this.#keep(effect);
      } else this.#carryOut(effect);
      if (!this.machine) return;
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
        return this.#settle(host.initialize(this.index), this.#initialTarget());
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
        return this.#wakeAt(this.#world.clocks?.[this.index]?.kernelMs(effect.atMs) ?? effect.atMs);
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

  /**
   * Work of the training thread, after what it does already; the answer comes in at the virtual time of its end.
   * @param keep makes the outcome durable
   * @param tell gives the machine its answer
   */
  #compute<T>(durationMs: number, content: Promise<T>, keep: (value: T) => void, tell: (value: T) => void): void {
    const { kernel } = this.#world;
    const life = this.#life;
    const write = () => void kernel.whenReady(kernel.nowMs, content, keep);
    this.#writing.add(write);
    this.#busyUntilMs = Math.max(kernel.nowMs, this.#busyUntilMs) + durationMs;
    kernel.whenReady(this.#busyUntilMs, content, (result) => {
      if (this.#life !== life) return;
      this.#writing.delete(write);
      keep(result);
      tell(result);
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
    host.train(this.index, { round, steps, firstStep, firstPosition });
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
    this.#compute(
      compute.encodeMs,
      host.contribute(this.index, steps),
      (contribution) => contribution && this.#keepContribution(round, contribution),
      (contribution) => contribution && this.#trained(base, contribution),
    );
  }

  #keepContribution(round: number, { payload, bytes, version }: Contribution): void {
    const { library } = this.#world;
    this.#disk.version = version;
    library.put(this.index, payload, bytes);
    library.file(payload, round);
  }

  #trained(base: Hash, { payload, bytes, tokens, steps, loss }: Contribution): void {
    const { trace, kernel } = this.#world;
    trace.add(kernel.nowMs, this.index, 'trained', payload);
    const { inlineBytesMax = LIMITS.inlinePayloadBytesMax } = this.#world;
    const inline = bytes.length <= inlineBytesMax ? bytes : null;
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
    if (inline && library.take(this.index, payload, { bytes: inline, size })) return this.#checked(payload);
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

  #apply({ entry, block, final, state, keep }: Effect & { type: 'apply' }): void {
    const { library, host, ledger, kernel } = this.#world;
    this.#stopTraining();
    ledger.turn(this.index, 'applying', kernel.nowMs);
    const updates = entry.block.updates.map(({ author, payload, tokens }) => {
      assert(library.has(this.index, payload), `peer ${this.index} applies a payload that it has`);
      return { payload, tokens, bytes: library.bytes(payload)!, own: author === this.id };
    });
    this.#settle(host.apply(this.index, { block, round: entry.block.round, updates, final }), {
      block,
      state,
      answer: 'applied',
      keep,
    });
  }

  #restore({ state, block, holders, included, keep }: Effect & { type: 'restore' }): void {
    const { library, host, ledger, kernel } = this.#world;
    const snapshot = { id: state.snapshot, size: state.snapshotBytes };
    ledger.turn(this.index, 'fetching', kernel.nowMs);
    this.#pull(snapshot, holders, 'snapshot', (complete) => {
      const bytes = complete ? library.bytes(snapshot.id) : undefined;
      if (!bytes) {
        const error = 'E_BLOB_UNAVAILABLE';
        return this.#give({
          type: 'restored',
          snapshot: snapshot.id,
          snapshotBytes: snapshot.size,
          served: false,
          error,
        });
      }
      this.#stopTraining();
      const settled = host.restore(this.index, { id: snapshot.id, bytes }, included);
      this.#settle(settled, { block, state, answer: 'restored', keep });
    });
  }

  #initialTarget(): Target {
    const block = this.machine!.run;
    const state = stateAt(firstHead(this.#world.genesis, block), { id: '', bytes: 0 });
    return { block, state, answer: 'restored', keep: [] };
  }

  #settle(settled: Promise<Settled>, target: Target): void {
    this.#compute(
      this.#world.compute.applyMs,
      settled,
      (outcome) => this.#keepState(outcome, target),
      (outcome) => this.#settled(outcome, target),
    );
  }

  #keepState({ snapshot, snapshotBytes, bytes, version }: Settled, { block, state, keep }: Target): void {
    const { library } = this.#world;
    const disk = this.#disk;
    if (bytes) library.put(this.index, snapshot, bytes);
    else library.hold(this.index, snapshot);
    disk.version = version;
    disk.snapshots = [...disk.snapshots.filter((other) => other !== snapshot), snapshot];
    const newest = disk.snapshots.slice(-LIMITS.snapshotsKept);
    const kept = disk.snapshots.filter((each) => keep.includes(each) || newest.includes(each));
    for (const each of disk.snapshots) if (!kept.includes(each)) library.drop(this.index, each);
    disk.snapshots = kept;
    disk.applied = { block, state: { ...state, snapshot, snapshotBytes } };
  }

  /** A new agreed state is durable. */
  #settled({ snapshot, snapshotBytes, open }: Settled, { block, state, answer }: Target): void {
    const { ledger, kernel } = this.#world;
    ledger.turn(this.index, 'waiting', kernel.nowMs);
    // where states are computed once for all, the bytes may be gone with the last peer that had them
    const served = this.#world.library.has(this.index, snapshot);
    if (answer === 'applied') this.#give({ type: 'applied', block, snapshot, snapshotBytes, served });
    else this.#give({ type: 'restored', snapshot, snapshotBytes, served, error: null });
    this.#dropOldPayloads(state.round, open);
  }

  #dropOldPayloads(round: number, open: readonly Hash[]): void {
    const { library } = this.#world;
    const needed = new Set(open);
    while (this.#droppedBefore + LIMITS.payloadRoundsKept < round) {
      library.dropRound(this.index, this.#droppedBefore++, needed);
    }
    for (const payload of open) library.file(payload, round);
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
      this.#give({ type: 'history', peer, history: bytes ? this.#readHistory(bytes) : null });
    });
  }

  /** Null for nonsense: others are asked. */
  #readHistory(bytes: Uint8Array): History | null {
    try {
      return decodeHistory(bytes, this.machine!.run);
    } catch (cause) {
      if (!isCoded(cause)) throw cause;
      return null;
    }
  }
}

import { factsAt, firstHead } from '../protocol/chain.ts';
import { isCoded } from '../protocol/errors.ts';
import type { Effect, Event, Report, Restart } from '../protocol/events.ts';
import type { Hash } from '../protocol/hash.ts';
import { afterAppend } from '../protocol/history.ts';
import type { PeerId, Signer } from '../protocol/identity.ts';
import { updatesKept } from '../protocol/kept-updates.ts';
import { Machine } from '../protocol/machine.ts';
import { decodeHistory, encodeHistory, type History, type PageRequest } from '../protocol/messages.ts';
import { encodeRecord } from '../protocol/record.ts';
import type { Clock } from './clock.ts';
import type { Batch } from './inbox.ts';
import type { Planned } from './kernel.ts';
import type { Endpoint, Reply } from './network.ts';
import type { Disk, Process, Surroundings, Untimed } from './process.ts';
import { VirtualStorage } from './virtual-storage.ts';
import { VirtualTraining } from './virtual-training.ts';

/** What all virtual peers share. */
export interface World extends Surroundings {
  peers: readonly VirtualPeer[];
  onReport: (peer: VirtualPeer, report: Report) => void;
  /** by index: clocks that run in their own way @default the kernel's for all */
  clocks?: readonly Clock[];
  /** who has gone may come back, to a disk as it was left @default false, and the payloads on it are dropped */
  leaversReturn?: boolean;
  /** a block that a peer's user knows when it starts it */
  trustBlock?: (peer: number) => Hash | undefined;
  /** who has been through all rounds goes on serving what it has, for who is not there yet @default false */
  servesWhenDone?: boolean;
  /** from when a process can be reached until its machine runs: what it is told meanwhile is lost @default 0 */
  bootMs?: number;
  /** hears every step of every machine, before its effects are carried out: for checkers */
  onStep?: (peer: VirtualPeer, event: Event, effects: readonly Effect[]) => void;
}

/** What a crash does to the write that is under way: it may have got through before anybody was told. */
export type LastWrite = 'lost' | 'kept';

/** What there is only as long as the process runs. */
interface Running {
  machine: Machine;
  training: VirtualTraining;
  storage: VirtualStorage;
}

/**
 * Drives the protocol's machine in virtual time as `node/peer.ts` does in real time; the duties are numbered at the head
 * of `protocol/machine.ts`. What takes time takes virtual time: disk, network and computing, each by its model.
 */
export class VirtualPeer implements Endpoint {
  readonly index: number;
  /** it will not come back: the run is over for it, or it left */
  finished = false;
  readonly #world: World;
  readonly #signer: Signer;
  readonly #disk: Disk = { segments: [], record: null, states: [], version: 0, open: [] };
  /** counts processes, so that what an earlier one began does not reach a later one */
  #life = 0;
  #running: Running | undefined;
  /** of a process whose machine does not run yet: who is connected */
  #booting: Set<number> | undefined;
  /** what is to be carried out, and who waits for all that was there before */
  #queue: (Effect | (() => void))[] = [];
  #draining = false;
  #pausedUntilMs = 0;
  /** what waits for the end of a pause, in order */
  #heldUp: (() => void)[] = [];
  #wake: { timer: Planned; atMs: number } | undefined;
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

  get machine(): Machine | undefined {
    return this.#booting ? undefined : this.#running?.machine;
  }

  get isUp(): boolean {
    return this.#running !== undefined;
  }

  get isPaused(): boolean {
    return this.pauseLeftMs > 0;
  }

  get pauseLeftMs(): number {
    return Math.max(0, this.#pausedUntilMs - this.#world.kernel.nowMs);
  }

  /** Of own updates that its books need, as its disk has them. */
  get openPayloads(): readonly Hash[] {
    return this.#disk.open;
  }

  /** Effects that wait for the disk. */
  get queuedEffects(): number {
    return this.#queue.length;
  }

  /** A new process, with what the disk has. */
  start(): void {
    const { host, ledger, kernel, network, trace, bootMs = 0 } = this.#world;
    const { segments, record, states, version, unfinished } = this.#disk;
    if (this.#running || this.finished) return;
    if (this.#life++ > 0) {
      this.#clearDisk();
      host.restart(this.index, version);
    }
    this.#running = this.#newProcess();
    const known = states.length > 0 || segments.length > 0 || record !== null;
    const saved = record && encodeRecord(record);
    const restart: Restart | null = known ? { segments, record: saved, states } : null;
    trace.add(kernel.nowMs, this.index, 'start', this.#life);
    ledger.turn(this.index, 'waiting', kernel.nowMs);
    const connected = new Set<number>();
    this.#booting = connected;
    network.attach(this.index, this);
    const begin = (): void => {
      this.#booting = undefined;
      this.#give({ type: 'start', restart, trustBlock: this.#world.trustBlock?.(this.index), unfinished });
      for (const peer of connected) this.#give({ type: 'peer', peer: this.#world.peers[peer]!.id, up: true });
    };
    if (bootMs === 0) begin();
    else this.#later(bootMs, begin);
  }

  /** Of what nothing refers to any more, as `node/run.ts` does. */
  #clearDisk(): void {
    const { library } = this.#world;
    const { segments, record, states, unfinished, open } = this.#disk;
    const named = updatesKept({ segments, states }, record).map(({ payload }) => payload);
    const snapshots = [...states.map(({ state }) => state.snapshot), ...(unfinished ? [unfinished] : [])];
    library.retain(this.index, new Set([...named, ...snapshots, ...open]));
  }

  /** The process is gone without a word; what was not durable is lost, but perhaps for the write under way. */
  crash(lastWrite: LastWrite = 'lost'): void {
    const { kernel, ledger, network, trace } = this.#world;
    if (!this.#running) return;
    const [oldest] = this.#writing;
    if (lastWrite === 'kept') oldest?.();
    this.#writing.clear();
    trace.add(kernel.nowMs, this.index, 'stop', this.#life);
    this.#life++;
    this.#running.training.end();
    this.#running = undefined;
    this.#booting = undefined;
    const queue = this.#queue.splice(0);
    this.#draining = false;
    this.#heldUp = [];
    kernel.cancel(this.#wake?.timer);
    this.#wake = undefined;
    this.#pausedUntilMs = 0;
    ledger.turn(this.index, 'down', kernel.nowMs);
    network.detach(this.index);
    for (const each of queue) if (typeof each === 'function') each();
  }

  /** The user wants to go: the peer leaves the roster, then stops. */
  leave(): void {
    this.#give({ type: 'leave' });
  }

  /** The process stands still: what happens meanwhile is seen afterwards, and training goes on where it was. */
  pause(forMs: number): void {
    const { kernel, ledger } = this.#world;
    if (!this.#running) return;
    const fromMs = Math.max(kernel.nowMs, this.#pausedUntilMs);
    const untilMs = kernel.nowMs + forMs;
    if (untilMs <= fromMs) return;
    this.#pausedUntilMs = untilMs;
    this.#running.training.delay(untilMs - fromMs);
    ledger.pause(this.index, kernel.nowMs);
    this.#later(forMs, () => {
      if (!this.isPaused) ledger.resume(this.index, kernel.nowMs);
    });
  }

  onMessages({ messages, from, numbers }: Batch): void {
    const { ids, trace, kernel } = this.#world;
    trace.addRead(kernel.nowMs, this.index, numbers);
    const { isPaused } = this;
    const by: PeerId[] = [];
    for (const peer of from) by.push(ids[peer]!);
    this.#give({ type: 'messages', messages: isPaused ? [...messages] : messages, from: by });
  }

  onConnection(peer: number, up: boolean): void {
    const { peers, trace, kernel } = this.#world;
    trace.add(kernel.nowMs, this.index, up ? 'up' : 'down', peer);
    if (up) this.#booting?.add(peer);
    else this.#booting?.delete(peer);
    this.#give({ type: 'peer', peer: peers[peer]!.id, up });
  }

  /** What another peer asked for: as with a message, what it rests on is on the disk when it leaves. */
  answer(request: PageRequest, reply: Reply): void {
    const { machine } = this;
    if (this.isPaused) return reply(undefined);
    if (!machine) return reply('not ready');
    const history = machine.history(request);
    if (!this.#draining) return reply(encodeHistory(history));
    const life = this.#life;
    this.#queue.push(() => reply(this.#life === life ? encodeHistory(machine.historyNow(history)) : undefined));
  }

  hasPart(blob: Hash, part: number): boolean {
    return !this.isPaused && this.#world.library.hasPart(this.index, blob, part);
  }

  // --- events in, effects out -----------------------------------------------------------------------------------------

  #newProcess(): Running {
    const life = this.#life;
    const process: Process = {
      world: this.#world,
      index: this.index,
      disk: this.#disk,
      id: this.id,
      writing: this.#writing,
      give: (event) => this.#give(event),
      warn: (code, message) => this.#report({ kind: 'warning', code, message }),
      isAlive: () => this.#life === life,
    };
    const { genesis, segmentSize } = this.#world;
    const machine = new Machine({ signer: this.#signer }, { genesis, segmentSize });
    const training = new VirtualTraining(process);
    return { machine, training, storage: new VirtualStorage(process, training) };
  }

  #give(event: Untimed): void {
    if (!this.#running || this.#booting) return;
    if (this.finished && event.type === 'peer' && event.up) this.#tellEnd(event.peer);
    // who is through is asked by others for where that is
    if (this.finished && event.type !== 'saved') return;
    if (this.#standsStill) return this.#whenItGoesOn(() => this.#give(event));
    const { nowMs } = this.#world.kernel;
    const stamped = event as Event;
    stamped.nowMs = this.#world.clocks?.[this.index]?.localMs(nowMs) ?? nowMs;
    const effects = this.#running.machine.step(stamped);
    this.#world.onStep?.(this, stamped, effects);
    for (const effect of effects) this.#queue.push(effect);
    if (!this.#draining) this.#drain();
  }

  /** As `Peer` does. */
  #tellEnd(peer: PeerId): void {
    this.#carryOut({ type: 'send', peer, message: this.#running!.machine.status });
  }

  /** Effects go out one after the other; those that must be durable first are waited for. */
  #drain(): void {
    const { diskMs } = this.#world.compute;
    const life = this.#life;
    this.#draining = true;
    for (let next = 0; next < this.#queue.length; next++) {
      const effect = this.#queue[next]!;
      if (typeof effect === 'function') effect();
      else if (effect.type === 'persist' || effect.type === 'append') {
        if (diskMs > 0) {
          this.#queue = this.#queue.slice(next + 1);
          const write = () => this.#keep(effect);
          this.#writing.add(write);
          return this.#later(diskMs, () => {
            this.#writing.delete(write);
            write();
            this.#whenItGoesOn(() => this.#drain());
          });
        }
        this.#keep(effect);
      } else this.#carryOut(effect);
      if (this.#life !== life) return;
    }
    this.#queue.length = 0;
    this.#draining = false;
  }

  #keep(effect: Effect & { type: 'persist' | 'append' }): void {
    if (effect.type === 'persist') this.#disk.record = effect.record;
    else this.#disk.segments = afterAppend(this.#disk.segments, effect);
  }

  #carryOut(effect: Exclude<Effect, { type: 'persist' | 'append' }>): void {
    const { network, indexOf } = this.#world;
    const { storage, training } = this.#running!;
    switch (effect.type) {
      case 'broadcast':
        return network.broadcast(this.index, effect.message);
      case 'send': {
        const to = indexOf.get(effect.peer);
        return to === undefined ? undefined : network.send(this.index, to, effect.message);
      }
      case 'initialize':
        return this.#initialize(effect);
      case 'restore':
        return storage.restore(effect);
      case 'abandon':
        return storage.abandon();
      case 'train':
      case 'train-on':
        return training.train(effect);
      case 'finish':
        return training.finish();
      case 'fetch':
        return storage.fetch(effect);
      case 'take':
        return storage.take(effect);
      case 'apply':
        return storage.apply(effect);
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

  /** Also in the moment in which a pause ends, until what it held up has been done. */
  get #standsStill(): boolean {
    return this.isPaused || this.#heldUp.length > 0;
  }

  /** At once, but for a process that stands still: then in the order in which it came, however often that is paused. */
  #whenItGoesOn(run: () => void): void {
    if (!this.#standsStill) return run();
    this.#heldUp.push(run);
    if (this.#heldUp.length === 1) this.#goOnLater();
  }

  #goOnLater(): void {
    this.#later(this.#pausedUntilMs - this.#world.kernel.nowMs, () => {
      if (this.isPaused) return this.#goOnLater();
      const heldUp = this.#heldUp;
      this.#heldUp = [];
      const life = this.#life;
      for (const run of heldUp) if (this.#life === life) run();
    });
  }

  #initialize({ keep }: Effect & { type: 'initialize' }): void {
    const { genesis, host } = this.#world;
    const { storage, machine, training } = this.#running!;
    // there is some where a peer comes back to the beginning
    training.stop();
    const state = factsAt(firstHead(genesis, machine.run));
    storage.settle(host.initialize(this.index), {
      block: machine.run,
      state,
      answer: 'restored',
      keep,
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
    if (this.#world.servesWhenDone && report.reason === 'rounds') return this.#running!.training.end();
    if (!this.#world.leaversReturn) this.#world.library.dropPayloads(this.index, Number.POSITIVE_INFINITY);
    this.crash();
  }

  #ask({ peer, request }: Effect & { type: 'request-history' }): void {
    const { network, indexOf, peers } = this.#world;
    const to = indexOf.get(peer);
    if (to === undefined) return this.#later(0, () => this.#give({ type: 'history', peer, history: null }));
    const life = this.#life;
    const answer = (reply: Reply): void => peers[to]!.answer(request, reply);
    network.request(this.index, to, answer, (bytes) => {
      if (this.#life !== life || !this.#running) return;
      this.#give({ type: 'history', peer, history: bytes ? this.#readHistory(bytes) : null });
    });
  }

  /** Null for nonsense: others are asked. */
  #readHistory(bytes: Uint8Array): History | null {
    try {
      return decodeHistory(bytes, this.#running!.machine.run);
    } catch (cause) {
      if (!isCoded(cause)) throw cause;
      return null;
    }
  }
}

import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { chunkCount } from '../protocol/blob.ts';
import { CodedError, isCoded } from '../protocol/errors.ts';
import type { Effect, Event, Keep, Report, Restart } from '../protocol/events.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId, Signer } from '../protocol/identity.ts';
import { Machine } from '../protocol/machine.ts';
import {
  decodeHistory,
  decodeHistoryRequest,
  encodeHistory,
  encodeHistoryRequest,
  encodeMessage,
  type MessageOf,
} from '../protocol/messages.ts';
import { NO_HISTORY } from '../protocol/own-updates.ts';
import { Receipts } from '../protocol/receipts.ts';
import { encodeRecord } from '../protocol/record.ts';
import { LOSS_MAX } from '../protocol/wire.ts';
import type { Inbox } from './inbox.ts';
import type { Journal } from './journal/journal.ts';
import type { Network } from './net/index.ts';
import { FATAL, isNamed, type NamedHeader, Payloads } from './payloads.ts';
import type { PeerEvent } from './peer-events.ts';
import type { BlobStore } from './store/blob-store.ts';
import { hasBlob } from './store/blobs.ts';
import type { ChainLog } from './store/chain-log.ts';
import type { ReceiptsFile } from './store/receipts.ts';
import type { RecordFile } from './store/record.ts';
import type { Unfinished } from './store/unfinished.ts';
import { Telling } from './telling.ts';
import type { AppliedState, Contribution, PeerWorker, Remote, SnapshotFile, WorkerNotice } from './train/index.ts';
import { TRAINING_ATTEMPTS } from './train/worker-calls.ts';

/** How long a peer that wants to go waits for the certificate that lets it go. */
const LEAVE_MS = 2500;

/** How long a member that has come back is stayed for at the end, for its data and its engine to load. */
const NEWCOMER_MS = 30_000;

/** Entries of the history that are written in one turn: a few milliseconds. */
const APPENDS_MAX = 512;

/** What a peer needs of its network: a test may put its own in. */
export type PeerNetwork = Pick<Network, 'peers' | 'broadcast' | 'sendTo' | 'request' | 'fetchBlob' | 'counters'>;

export interface PeerComponents {
  signer: Signer;
  network: PeerNetwork;
  inbox: Inbox;
  worker: Remote<PeerWorker>;
  store: BlobStore;
  chain: ChainLog;
  record: RecordFile;
  unfinished: Unfinished;
  receipts: ReceiptsFile;
  /** writes down what the machine is given, where that is wanted */
  journal?: Journal | undefined;
  onEvent: (event: PeerEvent) => void;
}

type WithoutClock<T> = T extends unknown ? Omit<T, 'nowMs'> : never;

/**
 * A real peer: drives the protocol's machine with sockets, disk and the training thread. The machine decides, this
 * carries out; the duties are numbered at the head of `protocol/machine.ts`.
 */
export class Peer {
  readonly machine: Machine;
  readonly #c: PeerComponents;
  readonly #genesis: Genesis;
  readonly #done: Promise<string>;
  #settle!: { resolve: (reason: string) => void; reject: (error: unknown) => void };
  /** what is to be carried out, and who waits for all that was there before */
  #queue: (Effect | (() => void))[] = [];
  #draining = false;
  #started = false;
  #stopped = false;
  /** for good: the machine has said so */
  #isThrough = false;
  /** what it would tell may rest on what did not get to the disk */
  #failed = false;
  #wake: NodeJS.Timeout | undefined;
  readonly #payloads: Payloads;
  readonly #telling: Telling;
  readonly #receipts: Receipts;
  #training: { round: number; steps: number } | undefined;
  /** from then on who comes has been away */
  #hasMadeRound = false;
  #newcomerUntilMs = 0;
  /** the others wait for what this peer has: there is no time to begin again */
  #isLate = false;
  /** ends the fetching of a snapshot */
  #fetching: AbortController | undefined;

  constructor(components: PeerComponents, genesis: Genesis) {
    this.#c = components;
    this.#genesis = genesis;
    this.#payloads = new Payloads(components, genesis);
    this.machine = new Machine({ signer: components.journal?.signer ?? components.signer }, { genesis });
    this.#telling = new Telling(components, genesis);
    const { onEvent, receipts } = components;
    this.#receipts = new Receipts((receipt) => onEvent({ event: 'receipt', ...receipt }), receipts.load());
    this.#done = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#done.catch(() => undefined); // `run` may be awaited later than it fails
  }

  /** Begins where the disk left off. */
  start(restart: Restart | null, trustBlock?: Hash): void {
    this.#started = true;
    // where the run is over `done` comes of it, and what the process before owes is answered before
    this.#draining = true;
    this.#give({ type: 'start', restart, trustBlock, unfinished: this.#c.unfinished.blob?.id });
    const { ownHistory, standing } = this.machine;
    if (ownHistory && !this.#stopped) this.#answer((receipts) => receipts.resumed(ownHistory, standing.round));
    this.#draining = false;
    void this.#drain();
    for (const peer of this.#c.network.peers()) this.#give({ type: 'peer', peer, up: true });
    this.#c.inbox.open(({ messages, from, bytes }) => this.#give({ type: 'messages', messages, from }, bytes));
  }

  /** Resolves with the reason when the peer is done. @throws CodedError when it cannot go on (a full disk, say) */
  run(): Promise<string> {
    return this.#done;
  }

  /** Leaves the roster and stops, within five seconds. */
  async leave(): Promise<void> {
    this.#give({ type: 'leave' });
    const gone = this.#done.then(Boolean, Boolean);
    if (!(await Promise.race([gone, delay(LEAVE_MS, false, { ref: false })]))) {
      this.#warn('W_STILL_MEMBER', 'no quorum let this peer go in time: the others count on it until it comes back');
      this.#c.onEvent({ event: 'done', reason: 'stopped' });
    }
    this.#settle.resolve('left');
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#wake);
  }

  onNotice(notice: WorkerNotice): void {
    if ('code' in notice) {
      this.#warn(notice.code, notice.message);
      if (notice.gaveUp) this.#answer((receipts) => receipts.gaveUp());
      return;
    }
    if (this.#stopped) return;
    this.#telling.step(notice, this.#training, this.machine.standing.round);
  }

  /** Nothing leaves from here on: it may rest on what did not get to the disk. */
  fail(error: unknown): void {
    this.#failed = true;
    if (this.#stopped) return;
    this.stop();
    this.#settle.reject(error);
  }

  onPeer(peer: PeerId, up: boolean): void {
    if (up && this.#hasMadeRound && this.machine.isMember(peer))
      this.#newcomerUntilMs = performance.now() + NEWCOMER_MS;
    if (this.#isThrough && up && !this.#failed) this.#tellEnd(peer);
    if (this.#stopped) return;
    this.#c.onEvent({ event: 'peer', id: peer, change: up ? 'connected' : 'disconnected' });
    this.#give({ type: 'peer', peer, up });
  }

  /** A member has come not long ago: while it starts it asks for nothing, and it may lack the end. */
  get hasNewcomer(): boolean {
    return performance.now() < this.#newcomerUntilMs;
  }

  /** Bytes that were sent up to when the last round began. */
  get sentBefore(): number {
    return this.#telling.sentBefore;
  }

  /** Who comes when the run is over here has nobody else to hear it from, and asks for the rest. */
  #tellEnd(peer: PeerId): void {
    const { network } = this.#c;
    ignoreFailure(network.sendTo(peer, encodeMessage(this.machine.status)));
  }

  async onRequest(bytes: Uint8Array): Promise<Uint8Array> {
    if (!this.#started) throw new CodedError('E_NOT_READY', 'this peer is still starting: ask again');
    const history = this.machine.history(decodeHistoryRequest(bytes, this.machine.run));
    // as with a message: a certificate in it may have a vote of this peer's that is not on the disk yet
    if (this.#draining) await new Promise<void>((resolve) => this.#queue.push(resolve));
    if (this.#failed) throw new CodedError('E_NOT_READY', 'this peer is ending: ask another');
    return encodeHistory(this.machine.historyNow(history));
  }

  /** @param bytes of the messages, as they came */
  #give(withoutClock: WithoutClock<Event>, bytes?: readonly Uint8Array[]): void {
    // the network may speak before the disk has: whoever is there then is told of at the start
    if (!this.#started) return;
    // who is through is asked by others for where that is
    if (this.#stopped && !(this.#isThrough && withoutClock.type === 'saved')) return;
    const event = { ...withoutClock, nowMs: performance.now() } as Event;
    try {
      const effects = this.machine.step(event);
      this.#c.journal?.step(event, effects, bytes);
      // one by one: there may be more than a call takes arguments
      for (const effect of effects) this.#queue.push(effect);
    } catch (error) {
      this.#c.journal?.step(event, error as Error, bytes);
      return this.fail(error);
    }
    void this.#drain();
    if (event.type === 'start' || event.type === 'restored' || event.type === 'applied') this.#tellAwaits();
  }

  /** Where nothing is trained from a state that has come, nothing else would be heard of this peer until the next. */
  #tellAwaits(): void {
    const { awaits, standing } = this.machine;
    const { round, places } = standing;
    if (this.#stopped || awaits === undefined) return;
    if (awaits === 'place') return this.#telling.phase('waiting', round, 'to be let in');
    this.#telling.arrived(round, this.#c.signer.self, round);
    this.#telling.gathering(round, places);
  }

  /** Effects go out one after the other; those that must be durable first are waited for. */
  async #drain(): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    try {
      for (let effect = this.#next(); effect; effect = this.#next()) {
        if (typeof effect === 'function') effect();
        else if (effect.type === 'persist') await this.#c.record.save(encodeRecord(effect.record));
        else if (effect.type === 'append') await this.#append(effect);
        else this.#carryOut(effect);
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.#draining = false;
      if (this.#stopped) this.#abandonQueue();
    }
  }

  /** Who takes up a long history has thousands in a row: to wait for the disk for each would hold up all else for minutes. */
  async #append(first: Effect & { type: 'append' }): Promise<void> {
    const isAppend = (each: Effect | (() => void) | undefined) => typeof each === 'object' && each.type === 'append';
    const end = this.#queue.findIndex((each) => !isAppend(each));
    const more = this.#queue.splice(0, Math.min(end < 0 ? this.#queue.length : end, APPENDS_MAX)) as (typeof first)[];
    this.#c.chain.append(first, ...more);
    if (isAppend(this.#queue[0])) await nextTurn();
  }

  #next(): Effect | (() => void) | undefined {
    return this.#stopped ? undefined : this.#queue.shift();
  }

  /** Nothing more is carried out: what is not on the disk now will not be, and who waits for it is to know. */
  #abandonQueue(): void {
    const left = this.#queue.splice(0);
    this.#failed ||= left.some((each) => typeof each !== 'function' && each.type === 'persist');
    for (const each of left) if (typeof each === 'function') each();
  }

  #carryOut(effect: Exclude<Effect, { type: 'persist' | 'append' }>): void {
    const { network, worker } = this.#c;
    switch (effect.type) {
      case 'broadcast':
        return ignoreFailure(network.broadcast(encodeMessage(effect.message)));
      case 'send':
        return ignoreFailure(network.sendTo(effect.peer, encodeMessage(effect.message)));
      case 'initialize':
        return this.#watch(this.#initialize(effect));
      case 'restore':
        return this.#watch(this.#restore(effect));
      case 'abandon':
        return this.#fetching?.abort();
      case 'train':
        return this.#watch(this.#train(effect));
      case 'train-on':
        return this.#watch(this.#trainOn(effect));
      case 'finish':
        this.#isLate = true;
        return this.#watch(worker.finish());
      case 'fetch':
        return this.#watch(this.#fetch(effect));
      case 'take':
        return this.#watch(this.#take(effect.headers));
      case 'apply':
        return this.#watch(this.#apply(effect));
      case 'request-history':
        return this.#watch(this.#ask(effect));
      case 'wake':
        return this.#wakeAt(effect.atMs);
      case 'report':
        return this.#report(effect.report);
      default:
        return effect satisfies never;
    }
  }

  #watch(work: Promise<unknown>): void {
    work.catch((error) => this.fail(error));
  }

  #wakeAt(atMs: number): void {
    clearTimeout(this.#wake);
    const onTime = (): void => {
      // timers know whole milliseconds, and count from the beginning of the loop's turn: they may be early
      if (performance.now() < atMs) this.#wakeAt(atMs);
      else this.#give({ type: 'wake' });
    };
    this.#wake = setTimeout(onTime, Math.max(1, Math.ceil(atMs - performance.now())));
  }

  async #train(effect: Effect & { type: 'train' }): Promise<void> {
    const { base, round, steps, firstStep, firstPosition } = effect;
    this.#training = { round, steps };
    this.#isLate = false;
    this.#answer((receipts) => receipts.begun(round + 1));
    this.#watch(this.#dropUnfinished());
    for (let attempt = 1; attempt <= TRAINING_ATTEMPTS; attempt++) {
      const contribution = await this.#c.worker.train(base, { steps, firstStep, firstPosition });
      if (contribution === 'overtaken' || this.#stopped) return;
      if (contribution !== 'broken') return this.#trained(base, round, contribution);
      this.#warn(
        'W_DIVERGED_HERE',
        `training broke down in round ${round + 1}: again from the agreed model, fresh moments`,
      );
      if (this.#isLate) break;
    }
    this.#answer((receipts) => receipts.refused(round + 1, 'W_DIVERGED_HERE'));
    // the others go on, and wait no longer; alone, nothing ever would
    if (this.machine.standing.roster.length > 1) return this.#give({ type: 'broken', base });
    const advice = 'begin another run with a larger --batch, fewer --inner-steps or other --data';
    throw new CodedError('E_TRAINING', `the model does not train: round ${round + 1} broke down every time; ${advice}`);
  }

  async #trainOn({ base, round, steps, firstStep, firstPosition }: Effect & { type: 'train-on' }): Promise<void> {
    this.#training = { round, steps };
    const plan = { steps, firstStep, firstPosition };
    const { outcome, isKept, skipped, trainMs } = await this.#c.worker.trainOn(base, plan);
    if (isKept) this.#answer((receipts) => receipts.trainedOn(round + 1));
    this.#telling.trained(trainMs);
    if (outcome === 'overtaken' || this.#stopped) return;
    this.#warnOfSkipped(skipped, steps);
    if (outcome === 'broken') this.#warn('W_DIVERGED_HERE', `training on in round ${round + 1} broke down: waiting`);
    this.#telling.gathering(round, this.machine.standing.places);
    this.#give({ type: outcome === 'done' ? 'trained-on' : 'broken', base });
  }

  #trained(base: Hash, round: number, contribution: Contribution): void {
    const { payload, size, tokens, steps, loss, inline, skipped, trainMs } = contribution;
    this.#telling.trained(trainMs);
    this.#answer((receipts) => receipts.made(round + 1, payload));
    this.#payloads.need(payload, size, round);
    this.#warnOfSkipped(skipped, steps);
    this.#telling.arrived(round, this.#c.signer.self, round);
    this.#telling.gathering(round, this.machine.standing.places);
    this.#give({
      type: 'trained',
      base,
      update: { payload, size, tokens, steps, loss: Math.min(loss, LOSS_MAX) },
      inline,
    });
  }

  async #fetch({ update, round, holders }: Omit<Effect & { type: 'fetch' }, 'type'>): Promise<void> {
    const error = await this.#payloads.fetch(update, holders, round);
    if (error === null) this.#telling.arrived(round, update.author, this.machine.standing.round);
    this.#give({ type: 'payload', update, error });
  }

  /** Other bytes than a header names say nothing of its update: its author has the right ones. */
  async #take(headers: readonly MessageOf<'header'>[]): Promise<void> {
    const named: NamedHeader[] = [];
    for (const header of headers) {
      if (isNamed(header)) named.push(header);
      else this.#watch(this.#fetch({ ...header, holders: [header.update.author] }));
    }
    if (named.length === 0) return;
    const refused = await this.#payloads.take(named, this.machine.standing.round);
    const at = this.machine.standing.round;
    for (const header of named) if (!refused.has(header)) this.#telling.arrived(header.round, header.update.author, at);
    this.#give({ type: 'taken', headers: named, refused });
  }

  async #apply(effect: Effect & { type: 'apply' }): Promise<void> {
    const { entry, block, final, state, keep } = effect;
    const updates = entry.block.updates.map(({ payload, size, tokens }) => ({ payload, size, tokens }));
    const place = entry.block.updates.findIndex(({ author }) => author === this.#c.signer.self);
    this.#payloads.needAll([...updates, ...keep.payloads], state.round);
    this.#telling.phase('applying', state.round);
    const { rounds } = this.#genesis;
    const evaluateAll = rounds !== null && state.round >= rounds;
    const own = place < 0 ? undefined : place;
    const { base } = entry.block;
    const { snapshots: kept } = keep;
    const applied = await this.#c.worker.apply({ base, block, updates, own, final, keep: kept, state, evaluateAll });
    this.#telling.applied(applied.valLoss);
    const { snapshot, snapshotBytes, open } = applied;
    this.#give({ type: 'applied', block, snapshot, snapshotBytes });
    this.#watch(this.#saved(block));
    for (const { id, size } of open) this.#payloads.need(id, size, state.round);
    await this.#payloads.dropOld(state.round);
  }

  async #initialize({ keep }: Effect & { type: 'initialize' }): Promise<void> {
    this.#payloads.needAll(keep.payloads, 0);
    await this.#dropUnfinished();
    const applied = await this.#c.worker.initialize(keep.snapshots);
    this.#answer((receipts) => receipts.restored(NO_HISTORY, applied.forgot));
    await this.#restored(applied);
  }

  async #restore({ state, block, holders, own, keep }: Effect & { type: 'restore' }): Promise<void> {
    const startedMs = performance.now();
    const fetching = new AbortController();
    this.#fetching = fetching;
    const snapshot = { id: state.snapshot, size: state.snapshotBytes };
    this.#payloads.needAll(keep.payloads, state.round);
    this.#telling.phase('fetching', state.round);
    const { unfinished } = this.#c;
    const before = unfinished.blob;
    try {
      if (before && before.id !== snapshot.id) await this.#payloads.dropUnfinished(before);
      await unfinished.begin(snapshot);
      const chunks = chunkCount(snapshot.size);
      await this.#payloads.fetchSnapshot(snapshot, holders, {
        isMember: (peer) => this.machine.isMember(peer),
        onChunks: (here) => this.#telling.phase('fetching', state.round, `${here} of ${chunks} chunks`),
        signal: fetching.signal,
      });
      const applied = await this.#c.worker.restore(state, block, { own, keep: keep.snapshots });
      // at once: the disk has the state, and whoever is started next must know what was given up for it
      this.#answer((receipts) => receipts.restored(own, applied.forgot));
      await this.#payloads.dropChunks(snapshot);
      this.#telling.restored(snapshot.size, performance.now() - startedMs);
      await this.#restored(applied);
    } catch (cause) {
      if (!isCoded(cause) || FATAL.has(cause.code)) throw cause;
      // what was believed to be here is not: looked through now, it is fetched the next time
      if (cause.code === 'E_BLOB_MISSING') await hasBlob(this.#c.store, snapshot);
      const { id, size } = snapshot;
      this.#give({ type: 'restored', snapshot: id, snapshotBytes: size, error: cause.code });
    }
  }

  /** It has come as far as the others without that state. */
  async #dropUnfinished(): Promise<void> {
    const { blob } = this.#c.unfinished;
    if (!blob) return;
    this.#c.unfinished.end();
    await this.#payloads.dropUnfinished(blob);
  }

  async #restored({ snapshot, snapshotBytes }: AppliedState): Promise<void> {
    await this.serve(await this.#c.worker.saved());
    this.#c.unfinished.end();
    this.#give({ type: 'restored', snapshot, snapshotBytes, error: null });
  }

  /** The next round is under way already when the disk has the state that it builds on. */
  async #saved(block: Hash): Promise<void> {
    const file = await this.#c.worker.saved();
    if (!file) return;
    const gone = this.#payloads.register(file);
    // before anything is waited for: the next state may be applied meanwhile
    this.#give({ type: 'saved', block });
    await this.#payloads.removeSnapshots(gone);
  }

  /** Payloads that an earlier process has left, which are kept for as long as those of the newest round. */
  keep(payloads: Keep['payloads'], round: number): void {
    this.#payloads.needAll(payloads, round);
  }

  /** Lets others fetch the snapshot out of the checkpoint file. */
  async serve(file: SnapshotFile | null): Promise<void> {
    if (file) await this.#payloads.removeSnapshots(this.#payloads.register(file));
  }

  async #ask({ peer, request }: Effect & { type: 'request-history' }): Promise<void> {
    const { network } = this.#c;
    try {
      const answer = await network.request(peer, encodeHistoryRequest(this.machine.run, request));
      this.#give({ type: 'history', peer, history: decodeHistory(answer, this.machine.run) });
    } catch {
      this.#give({ type: 'history', peer, history: null }); // gone, silent or talking nonsense: others are asked
    }
  }

  #report(report: Report): void {
    if (report.kind === 'round') {
      this.#hasMadeRound = true;
      this.#answer((receipts) => receipts.ended(report));
    }
    this.#telling.report(report);
    if (report.kind === 'warning' && report.code === 'W_UNFINAL_WAIT') {
      this.#telling.phase('waiting', this.machine.standing.round, 'for others to decide on the last round');
    }
    if (report.kind === 'peer' || report.kind === 'synced') this.#tellWaiting();
    if (report.kind !== 'done') return;
    this.stop(); // `done` is the last that is heard of this peer
    this.#isThrough = true;
    this.#settle.resolve(report.reason);
  }

  /** Something has happened to this peer's contributions. */
  #answer(tell: (receipts: Receipts) => void): void {
    tell(this.#receipts);
    const problem = this.#c.receipts.save(this.#receipts.saved);
    if (problem) this.#warn('W_RECEIPTS', `receipts will be forgotten if this peer is killed: ${problem.message}`);
  }

  /** Before the first round: for how many more peers. */
  #tellWaiting(): void {
    const { places, roster, round } = this.machine.standing;
    if (places.length > 0) return;
    const missing = this.#genesis.waitFor - roster.length;
    this.#telling.phase('waiting', round, missing > 0 ? `for ${missing} more` : undefined);
  }

  #warnOfSkipped(skipped: number, steps: number): void {
    if (skipped > 0) this.#warn('W_STEPS_SKIPPED', `${skipped} of ${steps} steps skipped (loss or gradient not sane)`);
  }

  #warn(code: string, message: string): void {
    this.#c.onEvent({ event: 'warning', code, message });
  }
}

/** Messages are said again as long as they matter, so one that did not get out is no failure. */
function ignoreFailure(sent: Promise<unknown>): void {
  sent.catch(() => undefined);
}

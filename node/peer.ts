import { setTimeout as delay } from 'node:timers/promises';
import { blobIdOf } from '../protocol/blob.ts';
import { codecOf } from '../protocol/codecs/index.ts';
import { CodedError, isCoded } from '../protocol/errors.ts';
import type { Effect, Event, Report, Restart } from '../protocol/events.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId, Signer } from '../protocol/identity.ts';
import { LIMITS } from '../protocol/limits.ts';
import { Machine } from '../protocol/machine.ts';
import {
  decodeHistory,
  decodeHistoryRequest,
  decodeMessage,
  encodeHistory,
  encodeHistoryRequest,
  encodeMessage,
  type Message,
} from '../protocol/messages.ts';
import { type Layout, modelLayout } from '../protocol/model.ts';
import type { Network, Verdict } from './net/index.ts';
import type { PeerEvent } from './peer-events.ts';
import type { BlobStore } from './store/blob-store.ts';
import { type BlobReference, blobParts, nativeSha256, readBlob, writeBlob } from './store/blobs.ts';
import type { ChainLog } from './store/chain-log.ts';
import type { RecordFile } from './store/record.ts';
import { Telling } from './telling.ts';
import type { AppliedState, Contribution, PeerWorker, Remote, SnapshotFile, StepNotice } from './train/index.ts';

/** How long a peer that wants to go waits for the certificate that lets it go. */
const LEAVE_MS = 2500;
/** A payload up to this size is checked on this thread, in a few milliseconds; a larger one where the training runs. */
const CHECK_HERE_BYTES = 1024 * 1024;

export interface PeerComponents {
  signer: Signer;
  network: Network;
  worker: Remote<PeerWorker>;
  store: BlobStore;
  chain: ChainLog;
  record: RecordFile;
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
  readonly #layout: Layout;
  readonly #done: Promise<string>;
  #settle!: { resolve: (reason: string) => void; reject: (error: unknown) => void };
  #queue: Effect[] = [];
  #draining = false;
  #started = false;
  #stopped = false;
  #wake: NodeJS.Timeout | undefined;
  /** what was validated just now, so that it is not decoded and verified twice */
  readonly #decoded = new WeakMap<Uint8Array, Message>();
  /** payloads on disk, by the round in which they were last needed */
  readonly #payloads = new Map<Hash, { size: number; round: number }>();
  readonly #telling: Telling;
  #training: { round: number; steps: number } | undefined;

  constructor(components: PeerComponents, genesis: Genesis) {
    this.#c = components;
    this.#genesis = genesis;
    this.#layout = modelLayout(genesis.model);
    this.machine = new Machine({ signer: components.signer }, { genesis });
    this.#telling = new Telling(components, genesis);
    this.#done = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#done.catch(() => undefined); // `run` may be awaited later than it fails
  }

  /** Begins where the disk left off. */
  start(restart: Restart | null): void {
    this.#started = true;
    this.#give({ type: 'start', restart });
    for (const peer of this.#c.network.peers()) this.#give({ type: 'peer', peer, up: true });
  }

  /** Resolves with the reason when the peer is done. @throws CodedError when it cannot go on (a full disk, say) */
  run(): Promise<string> {
    return this.#done;
  }

  /** Leaves the roster and stops, within five seconds. */
  async leave(): Promise<void> {
    this.#give({ type: 'leave' });
    await Promise.race([this.#done.catch(() => undefined), delay(LEAVE_MS, undefined, { ref: false })]);
    this.#settle.resolve('left');
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#wake);
  }

  onStep(notice: StepNotice): void {
    this.#telling.step(notice, this.#training, this.machine.standing.round);
  }

  fail(error: unknown): void {
    if (!this.#stopped) this.#settle.reject(error);
  }

  validate(bytes: Uint8Array): Verdict {
    try {
      this.#decoded.set(bytes, decodeMessage(bytes, this.machine.run, this.#c.signer));
      return 'accept';
    } catch (error) {
      if (isCoded(error)) return 'reject';
      throw error;
    }
  }

  onMessage(bytes: Uint8Array, from: PeerId): void {
    const message = this.#decoded.get(bytes) ?? decodeMessage(bytes, this.machine.run, this.#c.signer);
    this.#give({ type: 'message', from, message });
  }

  onPeer(peer: PeerId, up: boolean): void {
    if (this.#stopped) return;
    this.#c.onEvent({ event: 'peer', id: peer, change: up ? 'connected' : 'disconnected' });
    this.#give({ type: 'peer', peer, up });
  }

  async onRequest(bytes: Uint8Array): Promise<Uint8Array> {
    if (!this.#started) throw new CodedError('E_NOT_READY', 'this peer is still starting: ask again');
    const { fromHeight, skip } = decodeHistoryRequest(bytes, this.machine.run);
    return encodeHistory(this.machine.history(fromHeight, skip));
  }

  #give(event: WithoutClock<Event>): void {
    // the network may speak before the disk has: whoever is there then is told of at the start, the rest is said again
    if (this.#stopped || !this.#started) return;
    try {
      this.#queue.push(...this.machine.step({ ...event, nowMs: performance.now() } as Event));
    } catch (error) {
      return this.fail(error);
    }
    void this.#drain();
  }

  /** Effects go out one after the other; those that must be durable first are waited for. */
  async #drain(): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    try {
      for (let effect = this.#queue.shift(); effect && !this.#stopped; effect = this.#queue.shift()) {
        if (effect.type === 'persist') await this.#c.record.save(effect.record);
        else this.#carryOut(effect);
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.#draining = false;
    }
  }

  #carryOut(effect: Exclude<Effect, { type: 'persist' }>): void {
    const { network, worker, chain } = this.#c;
    switch (effect.type) {
      case 'append':
        return chain.append(effect.entry);
      case 'broadcast':
        return ignoreFailure(network.broadcast(encodeMessage(effect.message)));
      case 'send':
        return ignoreFailure(network.sendTo(effect.peer, encodeMessage(effect.message)));
      case 'initialize':
        return this.#watch(worker.initialize().then((applied) => this.#restored(applied)));
      case 'restore':
        return this.#watch(this.#restore(effect));
      case 'train':
        return this.#watch(this.#train(effect));
      case 'finish':
        return this.#watch(worker.finish());
      case 'fetch':
        return this.#watch(this.#fetch(effect));
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
    this.#wake = setTimeout(() => this.#give({ type: 'wake' }), Math.max(1, atMs - performance.now()));
  }

  async #train(effect: Effect & { type: 'train' }): Promise<void> {
    const { base, round, steps, firstStep, firstPosition } = effect;
    this.#training = { round, steps };
    for (let attempt = 1; attempt <= TRAINING_ATTEMPTS; attempt++) {
      const contribution = await this.#c.worker.train(base, { steps, firstStep, firstPosition });
      if (contribution === 'overtaken' || this.#stopped) return;
      if (contribution !== 'broken') return this.#trained(base, round, contribution);
      this.#warn(
        'W_DIVERGED_HERE',
        `training broke down in round ${round}: again from the agreed model, fresh moments`,
      );
    }
    // the others go on; alone, nothing ever would
    if (this.machine.standing.roster.length > 1) return;
    const advice = 'begin again with a smaller learning rate or other data';
    throw new CodedError('E_TRAINING', `the model does not train: round ${round} broke down every time; ${advice}`);
  }

  #trained(base: Hash, round: number, contribution: Contribution): void {
    const { payload, size, tokens, steps, loss, inline, skipped, trainMs } = contribution;
    this.#telling.trained(trainMs);
    this.#payloads.set(payload, { size, round });
    if (skipped > 0) this.#warn('W_STEPS_SKIPPED', `${skipped} of ${steps} steps skipped (loss or gradient not sane)`);
    this.#give({ type: 'trained', base, update: { payload, size, tokens, steps, loss }, inline });
    this.#telling.phase('gathering', round);
  }

  async #fetch(effect: Effect & { type: 'fetch' }): Promise<void> {
    const { payload, size, holders, inline } = effect;
    this.#payloads.set(payload, { size, round: this.machine.standing.round });
    let error: string | null = null;
    try {
      const here = inline !== null && (await this.#takeInline({ id: payload, size }, inline));
      if (!here) await this.#fetchBlob({ id: payload, size }, holders);
      await this.#check({ id: payload, size });
    } catch (cause) {
      if (!isCoded(cause) || FATAL.has(cause.code)) throw cause;
      error = REFUSALS.test(cause.code) ? cause.code : 'E_BLOB_UNAVAILABLE';
    }
    this.#give({ type: 'payload', payload, error });
  }

  /** What rides in a header is not signed: whoever handed it on may have put something else there. */
  async #takeInline(payload: BlobReference, inline: Uint8Array): Promise<boolean> {
    if (inline.length !== payload.size || blobIdOf(inline, nativeSha256) !== payload.id) return false;
    await writeBlob(this.#c.store, inline);
    return true;
  }

  #fetchBlob(blob: BlobReference, holders: readonly PeerId[]): Promise<void> {
    const { network, store } = this.#c;
    const providers = () => {
      const members = network.peers();
      return [...new Set([...holders.filter((peer) => members.includes(peer)), ...members])];
    };
    return network.fetchBlob(blob, store, { providers });
  }

  async #check(payload: BlobReference): Promise<void> {
    if (payload.size > codecOf(this.#genesis.codec).bytesMax(this.#layout)) {
      throw new CodedError('E_PAYLOAD_SIZE', 'the payload is larger than its codec makes any');
    }
    if (payload.size > CHECK_HERE_BYTES) return this.#c.worker.check(payload);
    codecOf(this.#genesis.codec).check(await readBlob(this.#c.store, payload), this.#layout);
  }

  async #apply(effect: Effect & { type: 'apply' }): Promise<void> {
    const { entry, block, final, state, keep } = effect;
    const { self } = this.#c.signer;
    const updates = entry.block.updates.map(({ author, payload, size, tokens }) => {
      return { payload, size, tokens, own: author === self };
    });
    for (const { payload, size } of updates) this.#payloads.set(payload, { size, round: state.round });
    this.#telling.phase('applying', state.round);
    const { rounds } = this.#genesis;
    const evaluateAll = rounds !== null && state.round >= rounds;
    const { base } = entry.block;
    const applied = await this.#c.worker.apply({ base, block, updates, final, keep, state, evaluateAll });
    this.#serve(applied.file);
    this.#telling.applied(applied.valLoss);
    const { snapshot, snapshotBytes, file, open } = applied;
    this.#give({ type: 'applied', block, snapshot, snapshotBytes, served: file !== null });
    for (const { id, size } of open) this.#payloads.set(id, { size, round: state.round });
    await this.#dropOldPayloads(state.round);
  }

  async #restore({ state, block, holders, included, keep }: Effect & { type: 'restore' }): Promise<void> {
    const startedMs = performance.now();
    const snapshot = { id: state.snapshot, size: state.snapshotBytes };
    this.#telling.phase('fetching', state.round);
    try {
      await this.#fetchBlob(snapshot, holders);
      const applied = await this.#c.worker.restore(state, block, { included, keep });
      // its chunks are in the checkpoint now
      for (const part of ((await blobParts(this.#c.store, snapshot)) ?? []).slice(1)) this.#c.store.remove(part);
      this.#telling.restored(snapshot.size, performance.now() - startedMs);
      this.#restored(applied);
    } catch (cause) {
      if (!isCoded(cause) || FATAL.has(cause.code)) throw cause;
      const { id, size } = snapshot;
      this.#give({ type: 'restored', snapshot: id, snapshotBytes: size, served: false, error: cause.code });
    }
  }

  #restored(applied: AppliedState): void {
    this.#serve(applied.file);
    const { snapshot, snapshotBytes, file } = applied;
    this.#give({ type: 'restored', snapshot, snapshotBytes, served: file !== null, error: null });
  }

  /** Lets others fetch the snapshot out of the checkpoint file. */
  #serve(file: SnapshotFile | null): void {
    if (!file) return;
    for (const path of file.removed) this.#c.store.unregister(path);
    this.#c.store.register(file.path, file.ranges);
  }

  async #ask({ peer, fromHeight, skip }: Effect & { type: 'request-history' }): Promise<void> {
    const { network } = this.#c;
    try {
      const answer = await network.request(peer, encodeHistoryRequest(this.machine.run, fromHeight, skip));
      this.#give({ type: 'history', peer, history: decodeHistory(answer, this.machine.run) });
    } catch {
      this.#give({ type: 'history', peer, history: null }); // gone, silent or talking nonsense: others are asked
    }
  }

  async #dropOldPayloads(round: number): Promise<void> {
    for (const [id, payload] of this.#payloads) {
      if (payload.round + LIMITS.payloadRoundsKept >= round) continue;
      this.#payloads.delete(id);
      const parts = await blobParts(this.#c.store, { id, size: payload.size });
      for (const part of parts ?? []) this.#c.store.remove(part);
    }
  }

  #report(report: Report): void {
    this.#telling.report(report);
    if (report.kind === 'peer' || report.kind === 'synced') this.#tellWaiting();
    if (report.kind !== 'done') return;
    this.stop(); // `done` is the last that is heard of this peer
    this.#settle.resolve(report.reason);
  }

  /** Before the first round: for how many more peers. */
  #tellWaiting(): void {
    const { places, roster, round } = this.machine.standing;
    if (places.length > 0) return;
    const missing = this.#genesis.waitFor - roster.length;
    this.#telling.phase('waiting', round, missing > 0 ? `for ${missing} more` : undefined);
  }

  #warn(code: string, message: string): void {
    this.#c.onEvent({ event: 'warning', code, message });
  }
}

/** How often a round is trained again when what comes out is not finite. */
const TRAINING_ATTEMPTS = 3;
/** A payload that earns one of these will never be right. */
const REFUSALS = /^E_PAYLOAD_|^E_BLOB_SIZE$|^E_TOO_LARGE$/;
/** This peer cannot go on: nothing it promises would be kept. */
const FATAL = new Set(['E_DISK_FULL', 'E_DIR_UNWRITABLE', 'E_WORKER', 'E_INTERNAL', 'E_TRAINING']);

/** Messages are said again as long as they matter, so one that did not get out is no failure. */
function ignoreFailure(sent: Promise<unknown>): void {
  sent.catch(() => undefined);
}

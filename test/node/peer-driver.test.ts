import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Inbox } from '../../node/inbox.ts';
import { MessageRates } from '../../node/message-rates.ts';
import type { Network } from '../../node/net/index.ts';
import { Peer, type PeerNetwork } from '../../node/peer.ts';
import { begin } from '../../node/run.ts';
import { TEMPORARY_ENDING } from '../../node/store/atomic.ts';
import { BlobStore, rangesOf } from '../../node/store/blob-store.ts';
import { type BlobReference, readBlob, writeBlob } from '../../node/store/blobs.ts';
import { ChainLog } from '../../node/store/chain-log.ts';
import { type RunPaths, runPaths } from '../../node/store/directory.ts';
import { ReceiptsFile } from '../../node/store/receipts.ts';
import { RecordFile } from '../../node/store/record.ts';
import { Unfinished } from '../../node/store/unfinished.ts';
import type {
  AppliedState,
  Contribution,
  Opened,
  PeerWorker,
  Remote,
  RestoredState,
  SnapshotFile,
  TrainedOn,
} from '../../node/train/index.ts';
import { firstHead, stateAt } from '../../protocol/chain.ts';
import { codecOf } from '../../protocol/codecs/index.ts';
import { CodedError } from '../../protocol/errors.ts';
import type { StateOnDisk } from '../../protocol/events.ts';
import { type Genesis, runIdOf } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { Machine } from '../../protocol/machine.ts';
import type { History, Message } from '../../protocol/messages.ts';
import {
  decodeHistory,
  decodeMessage,
  encodeHistory,
  encodeHistoryRequest,
  encodeMessage,
} from '../../protocol/messages.ts';
import { modelLayout } from '../../protocol/model.ts';
import type { AgreedState } from '../../protocol/wire.ts';
import { describeDriver } from '../contracts/driver-contract.ts';
import {
  type DriverInit,
  type DriverUnderTest,
  idOf,
  isLoadable,
  snapshotAfter,
  validPayload,
} from '../contracts/driver-under-test.ts';
import { WHOLE } from '../helpers/history.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { eventually } from './net/swarm.ts';

/** One neighbour, who has the blobs it is given and answers every question for its history. */
class NeighbourNetwork implements PeerNetwork {
  readonly blobs = new Map<Hash, Uint8Array>();
  readonly withheld = new Set<Hash>();
  readonly #init: DriverInit;
  readonly #neighbour: PeerId;

  constructor(init: DriverInit) {
    this.#init = init;
    this.#neighbour = init.signers[1].self;
  }

  peers(): PeerId[] {
    return [this.#neighbour];
  }

  async broadcast(bytes: Uint8Array): Promise<number> {
    this.#init.onAsked('broadcast');
    this.#leave(bytes);
    return 1;
  }

  async sendTo(_: PeerId, bytes: Uint8Array): Promise<void> {
    this.#init.onAsked('send');
    this.#leave(bytes);
  }

  async request(peer: PeerId): Promise<Uint8Array> {
    this.#init.onAsked('request-history');
    if (peer !== this.#neighbour) throw new CodedError('E_NOT_CONNECTED', `not connected to ${peer}`);
    const machine = new Machine({ signer: this.#init.signers[1] }, { genesis: this.#init.genesis });
    return encodeHistory(machine.history(WHOLE));
  }

  async fetchBlob(
    blob: BlobReference,
    sink: BlobStore,
    { providers, signal }: Parameters<Network['fetchBlob']>[2] = {},
  ) {
    if (this.withheld.has(blob.id)) {
      const given = new Promise<never>((_, reject) => {
        const giveUp = () => reject(new CodedError('E_ABORTED', 'given up'));
        if (signal?.aborted) giveUp();
        signal?.addEventListener('abort', giveUp);
      });
      await given;
    }
    const bytes = providers?.().includes(this.#neighbour) ? this.blobs.get(blob.id) : undefined;
    if (!bytes) throw new CodedError('E_BLOB_UNAVAILABLE', `nobody has ${blob.id}`);
    await writeBlob(sink, bytes);
  }

  counters(): ReturnType<Network['counters']> {
    const counted = { sent: 0, unheard: 0, received: 0, duplicates: 0, ignored: 0, rejected: 0 };
    return { bytesSent: 0, bytesReceived: 0, mesh: 0, gossip: { ...counted, bytesSent: 0, bytesReceived: 0 } };
  }

  #leave(bytes: Uint8Array): void {
    const { genesis, signers, onLeave } = this.#init;
    onLeave(decodeMessage(bytes, runIdOf(genesis), signers[0]));
  }
}

/** A training thread that computes nothing: a state is named by the block that led to it, and kept in the folder. */
class NamedWorker implements Remote<PeerWorker> {
  readonly #init: DriverInit;
  readonly #store: BlobStore;
  readonly #folder: string;
  #training: { steps: number; overtaken: boolean } | undefined;
  #saved: Promise<SnapshotFile | null> = Promise.resolve(null);

  constructor(init: DriverInit, store: BlobStore, folder: string) {
    this.#init = init;
    this.#store = store;
    this.#folder = folder;
  }

  async open(): Promise<Opened> {
    const states = this.#onDisk().map((each) => ({ ...each, file: this.#fileOf(each.state) }));
    return { backend: 'none', parameters: 1, states, warnings: [], open: [], isUnderWay: false };
  }

  async initialize(): Promise<RestoredState> {
    const { genesis } = this.#init;
    const run = runIdOf(genesis);
    const settled = this.#settle(snapshotAfter(run), run, stateAt(firstHead(genesis, run), { id: '', bytes: 0 }));
    await this.#saved;
    return { ...settled, forgot: false };
  }

  async restore(state: AgreedState, block: Hash): Promise<RestoredState> {
    const bytes = await readBlob(this.#store, { id: state.snapshot, size: state.snapshotBytes });
    if (!isLoadable(bytes)) throw new CodedError('E_SNAPSHOT_SIZE', 'the snapshot is not as long as the model says');
    const settled = this.#settle(bytes, block, state);
    await this.#saved;
    return { ...settled, forgot: false };
  }

  async check(payload: BlobReference): Promise<void> {
    const { codec, model } = this.#init.genesis;
    codecOf(codec).check(await readBlob(this.#store, payload), modelLayout(model));
  }

  async train(_: Hash, { steps }: { steps: number }): Promise<Contribution | 'overtaken'> {
    this.#init.onAsked('train');
    const training = { steps, overtaken: false };
    this.#training = training;
    await setImmediate(); // a step is never so short that nothing can come meanwhile
    if (training.overtaken) return 'overtaken';
    const inline = validPayload(this.#init.genesis, training.steps);
    const { id, size } = await writeBlob(this.#store, inline);
    const done = { steps: training.steps, tokens: 8 * training.steps, loss: 1, skipped: 0, trainMs: 1 };
    return { payload: id, size, inline, ...done };
  }

  async trainOn(): Promise<TrainedOn> {
    const training = { steps: 0, overtaken: false };
    this.#training = training;
    await setImmediate();
    return { outcome: training.overtaken ? 'overtaken' : 'done', isKept: true, skipped: 0, trainMs: 1 };
  }

  async finish(): Promise<void> {
    if (this.#training) this.#training.steps = 1;
  }

  async apply({ block, state }: Parameters<PeerWorker['apply']>[0]): Promise<AppliedState> {
    if (this.#training) this.#training.overtaken = true;
    return this.#settle(snapshotAfter(block), block, { ...state, snapshot: '', snapshotBytes: 0 });
  }

  async evaluateAll(): Promise<number> {
    return 1;
  }

  async close(): Promise<void> {}

  async usage(): Promise<{ tensors: number; heapBytes: number }> {
    return { tensors: 0, heapBytes: 0 };
  }

  saved(): Promise<SnapshotFile | null> {
    return this.#saved;
  }

  /** The state is there at once, on disk a while later. */
  #settle(bytes: Uint8Array, block: Hash, target: AgreedState): AppliedState {
    const [snapshot, snapshotBytes] = [idOf(bytes), bytes.length];
    this.#saved = this.#save(bytes, { block, state: { ...target, snapshot, snapshotBytes } });
    return { snapshot, snapshotBytes, valLoss: null, open: [] };
  }

  async #save(bytes: Uint8Array, saved: StateOnDisk): Promise<SnapshotFile> {
    const file = this.#fileOf(saved.state);
    await setImmediate();
    writeFileSync(file.path, bytes);
    writeFileSync(join(this.#folder, 'states.json'), JSON.stringify([...this.#onDisk(), saved]));
    return file;
  }

  #onDisk(): StateOnDisk[] {
    const path = join(this.#folder, 'states.json');
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as StateOnDisk[]) : [];
  }

  #fileOf({ snapshot, snapshotBytes }: AgreedState): SnapshotFile {
    const path = join(this.#folder, `${snapshot}.snapshot`);
    return { path, snapshot, ranges: rangesOf({ chunks: [snapshot], size: snapshotBytes }, 0), removed: [] };
  }
}

/** The real driver on a real disk. A kill takes a copy of the folder at that moment, which the next life begins with. */
class RealDriver implements DriverUnderTest {
  readonly keepsEarly = true;
  readonly #init: DriverInit;
  readonly #base = temporaryFolder();
  readonly #network: NeighbourNetwork;
  readonly #logs: ChainLog[] = [];
  readonly #genesis: Genesis;
  #lives = 0;
  #paths: RunPaths;
  #store!: BlobStore;
  #inbox!: Inbox;
  #peer!: Peer;

  constructor(init: DriverInit) {
    this.#init = init;
    this.#genesis = init.genesis;
    this.#network = new NeighbourNetwork(init);
    mkdirSync(this.#folder);
    this.#paths = runPaths(this.#folder);
    this.#create();
  }

  get machine(): Machine {
    return this.#peer?.machine;
  }

  async start(): Promise<void> {
    const { signers } = this.#init;
    const chain = this.#logs.at(-1)!;
    const opened = await new NamedWorker(this.#init, this.#store, this.#folder).open();
    const [peer, store, record] = [this.#peer, this.#store, new RecordFile(this.#paths.record)];
    const unfinished = new Unfinished(this.#paths.unfinished);
    await begin({ peer, store, chain, record, unfinished, opened, genesis: this.#genesis, identity: signers[0] });
  }

  kill(): void {
    this.#peer.stop();
    const before = this.#folder;
    this.#lives++;
    cpSync(before, this.#folder, { recursive: true, filter: (path) => !path.endsWith(TEMPORARY_ENDING) });
    this.#paths = runPaths(this.#folder);
    this.#create();
  }

  connect(up: boolean): void {
    this.#peer.onPeer(this.#init.signers[1].self, up);
  }

  async hear(message: Message): Promise<void> {
    const bytes = encodeMessage(message).slice(); // every time other bytes, as from a socket
    if (this.#inbox.validate(bytes, this.#init.signers[1].self) === 'accept')
      this.#inbox.onMessage(bytes, this.#init.signers[1].self);
    await setImmediate();
  }

  async provide(bytes: Uint8Array): Promise<void> {
    this.#network.blobs.set(idOf(bytes), bytes);
  }

  withhold(bytes: Uint8Array): void {
    this.#network.withheld.add(idOf(bytes));
  }

  async askHistory(fromHeight: number, skip: number): Promise<History> {
    const run = runIdOf(this.#genesis);
    return decodeHistory(await this.#peer.onRequest(encodeHistoryRequest(run, { fromHeight, skip, anchors: 0 })), run);
  }

  async serves(blob: Hash): Promise<boolean> {
    return (await this.#store.read(blob)) !== undefined;
  }

  until(condition: () => boolean, what: string): Promise<void> {
    return eventually(condition, what);
  }

  async close(): Promise<void> {
    this.#peer.stop();
    for (const log of this.#logs) log.close();
  }

  get #folder(): string {
    return join(this.#base, `life-${this.#lives}`);
  }

  /** The process up to where its disk has been read. */
  #create(): void {
    this.#store = new BlobStore(this.#paths.blobs);
    this.#logs.push(new ChainLog(this.#paths.chain));
    this.#inbox = new Inbox(runIdOf(this.#genesis), this.#init.signers[0], new MessageRates(() => undefined));
    const components = {
      signer: this.#init.signers[0],
      network: this.#network,
      inbox: this.#inbox,
      worker: new NamedWorker(this.#init, this.#store, this.#folder),
      store: this.#store,
      chain: this.#logs.at(-1)!,
      record: new RecordFile(this.#paths.record),
      unfinished: new Unfinished(this.#paths.unfinished),
      receipts: new ReceiptsFile(this.#paths.receipts),
      onEvent: () => undefined,
    };
    this.#peer = new Peer(components, this.#genesis);
  }
}

describeDriver('the real peer', (init) => new RealDriver(init));

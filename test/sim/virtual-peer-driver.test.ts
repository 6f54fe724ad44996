import { CodedError } from '../../protocol/errors.ts';
import type { Effect, Event } from '../../protocol/events.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { PeerId } from '../../protocol/identity.ts';
import type { Machine } from '../../protocol/machine.ts';
import type { History, Message } from '../../protocol/messages.ts';
import { BlobLibrary, payloadCheck } from '../../sim/blob-library.ts';
import { ComputeModel } from '../../sim/compute.ts';
import { constant } from '../../sim/distribution.ts';
import { Kernel } from '../../sim/kernel.ts';
import { Ledger } from '../../sim/ledger.ts';
import { Links } from '../../sim/links.ts';
import { SimulatedNetwork } from '../../sim/network.ts';
import type { Contribution, Kept, ReplicaHost, Settled } from '../../sim/replica-host.ts';
import { Trace } from '../../sim/trace.ts';
import { VirtualPeer, type World } from '../../sim/virtual-peer.ts';
import { describeDriver } from '../contracts/driver-contract.ts';
import {
  type DriverInit,
  type DriverUnderTest,
  idOf,
  isLoadable,
  snapshotAfter,
  validPayload,
} from '../contracts/driver-under-test.ts';

/** Replicas that compute nothing: a state is named by the block that led to it. */
class NamedHost implements ReplicaHost {
  readonly parameters = 1;
  readonly #init: DriverInit;
  #version = 0;

  constructor(init: DriverInit) {
    this.#init = init;
  }

  async #settle(bytes: Uint8Array): Promise<Settled> {
    return { snapshot: idOf(bytes), bytes, version: ++this.#version, open: [] };
  }

  initialize(): Promise<Settled> {
    return this.#settle(snapshotAfter(runIdOf(this.#init.genesis)));
  }

  async restore(_: number, { bytes }: { id: Hash; bytes: Uint8Array }): Promise<Settled> {
    if (isLoadable(bytes)) return this.#settle(bytes);
    throw new CodedError('E_SNAPSHOT_SIZE', 'the snapshot is not as long as the model says');
  }

  train(): void {
    this.#init.onAsked('train');
  }

  async contribute(_: number, steps: number): Promise<Contribution> {
    const bytes = validPayload(this.#init.genesis, steps);
    return { payload: idOf(bytes), bytes, tokens: 8 * steps, steps, loss: 1, version: ++this.#version, open: [] };
  }

  async keep(): Promise<Kept> {
    return { version: ++this.#version };
  }

  async abandon(): Promise<void> {}

  apply(_: number, { block }: { block: Hash }): Promise<Settled> {
    return this.#settle(snapshotAfter(block));
  }

  restart(): void {}

  async evaluate(): Promise<null> {
    return null;
  }

  async close(): Promise<void> {}
}

/** The simulated network, watched where peer 0 speaks. */
class WatchedNetwork extends SimulatedNetwork {
  readonly withheld = new Set<Hash>();
  #init: DriverInit | undefined;

  watch(init: DriverInit): void {
    this.#init = init;
  }

  override broadcast(from: number, message: Message): void {
    if (from === 0) this.#init?.onAsked('broadcast');
    if (from === 0) this.#init?.onLeave(message);
    super.broadcast(from, message);
  }

  override send(from: number, to: number, message: Message): void {
    if (from === 0) this.#init?.onAsked('send');
    if (from === 0) this.#init?.onLeave(message);
    super.send(from, to, message);
  }

  override fetch(request: Parameters<SimulatedNetwork['fetch']>[0]): () => void {
    return this.withheld.has(request.blob) ? () => request.onDone(false) : super.fetch(request);
  }

  override request(...asked: Parameters<SimulatedNetwork['request']>): void {
    if (asked[0] === 0) this.#init?.onAsked('request-history');
    super.request(...asked);
  }
}

/** Two peers in virtual time: the one under test, and its neighbour. */
class VirtualDriver implements DriverUnderTest {
  readonly keepsEarly = false;
  readonly #world: World;
  readonly #network: WatchedNetwork;
  readonly #peers: VirtualPeer[] = [];
  readonly #self: PeerId;
  readonly #toAsk: Effect[] = [];
  #heard = 0;
  #told: History | null | undefined;

  constructor(init: DriverInit) {
    const { genesis, signers } = init;
    this.#self = signers[0].self;
    const [kernel, ledger] = [new Kernel(), new Ledger(2)];
    const library = new BlobLibrary(2, payloadCheck(genesis));
    const links = new Links({ latency: constant(10), asymmetric: false, loss: 0, regions: [], peers: {} }, 1);
    const onNew = (message: Message) => library.inspect(message);
    const components = { kernel, links, ledger, signer: signers[0], onNew };
    const run = runIdOf(genesis);
    const network = new WatchedNetwork(components, { peers: 2, seed: 1, run, readMs: 0 });
    network.watch(init);
    this.#network = network;
    const times = { step: constant(10), peers: {}, stragglers: null, encodeMs: 1, applyMs: 1, diskMs: 1 };
    this.#world = {
      kernel,
      ledger,
      genesis,
      network,
      host: new NamedHost(init),
      library,
      compute: new ComputeModel(times, { peers: 2, seed: 1 }),
      trace: new Trace(),
      indexOf: new Map(signers.map(({ self }, i) => [self, i])),
      payloads: new WeakMap(),
      ids: signers.map(({ self }) => self),
      peers: this.#peers,
      onReport: () => undefined,
      servesWhenDone: true,
    };
    for (const [i, signer] of signers.entries()) this.#peers.push(new VirtualPeer(this.#world, i, signer));
  }

  get #driver(): VirtualPeer {
    return this.#peers[0]!;
  }

  get machine(): Machine | undefined {
    return this.#driver.machine;
  }

  async start(): Promise<void> {
    this.#peers[1]!.start(); // which does nothing when it is up
    this.#driver.start();
    await this.until(() => this.#network.neighbours(0).has(1), 'the connection');
  }

  kill(): void {
    this.#driver.crash();
  }

  connect(up: boolean): void {
    this.#driver.onConnection(1, up);
  }

  async hear(message: Message): Promise<void> {
    this.#world.library.inspect(message);
    this.#driver.onMessages({ messages: [message], from: [1], numbers: [this.#heard++] });
  }

  async provide(bytes: Uint8Array): Promise<void> {
    this.#world.library.put(1, idOf(bytes), bytes);
  }

  withhold(bytes: Uint8Array): void {
    this.#network.withheld.add(idOf(bytes));
  }

  async askHistory(fromHeight: number, skip: number): Promise<History> {
    this.#toAsk.push({ type: 'request-history', peer: this.#self, request: { fromHeight, skip, anchors: 0 } });
    this.#peers[1]!.onConnection(0, true);
    await this.until(() => this.#told !== undefined, 'the answer');
    return this.#told!;
  }

  neighbourStep(event: Event): Effect[] {
    if (event.type === 'history') this.#told = event.history;
    return this.#toAsk.splice(0);
  }

  async serves(blob: Hash): Promise<boolean> {
    return this.#driver.hasPart(blob, 0);
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    if (!(await this.#world.kernel.run({ until: condition }))) throw new Error(`never came to pass: ${what}`);
  }

  async close(): Promise<void> {}
}

describeDriver('the virtual peer', (init) => new VirtualDriver(init));

import type { Effect, Event, Report, Restart } from '../../protocol/events.ts';
import { checkGenesis, type Genesis } from '../../protocol/genesis.ts';
import { type Hash, hashOf } from '../../protocol/hash.ts';
import { afterAppend, type Segment, type SegmentSize } from '../../protocol/history.ts';
import type { PeerId, Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { Machine } from '../../protocol/machine.ts';
import { decodeMessage, encodeMessage, type Message } from '../../protocol/messages.ts';
import { type RandomStream, randomStream } from '../../protocol/random.ts';
import { encodeRecord } from '../../protocol/record.ts';
import type { AgreedState, Update } from '../../protocol/wire.ts';
import { testSigner } from './signers.ts';

/**
 * Several machines in virtual time, with a disk each and a network that delays, loses and cuts. The replica is a hash
 * chain (a state is the hash of the one before and of the payloads), so a wrong or missing payload shows as another root.
 */
export class Cluster {
  readonly genesis: Genesis;
  readonly peers: TestPeer[] = [];
  /** of every payload that was made */
  readonly sizes = new Map<Hash, number>();
  nowMs = 0;
  lossRate = 0;
  trainMs = 1000;
  segmentSize: SegmentSize | undefined;
  /** payloads ride in their headers */
  inline = false;
  readonly random: RandomStream;
  /** groups of peers by name; peers of different groups do not reach each other */
  #groups: Set<number>[] | undefined;
  readonly #queue: { atMs: number; order: number; run: () => void }[] = [];
  #order = 0;

  constructor(seed: number, count: number, options: Partial<Genesis> = {}) {
    this.random = randomStream(seed, 'cluster');
    const signers = Array.from({ length: count }, (_, i) => testSigner(`peer ${i}`));
    this.genesis = testGenesis(signers[0]!.self, { seed, ...options });
    for (const [i, signer] of signers.entries()) this.peers.push(new TestPeer(this, i, signer));
  }

  at(atMs: number, run: () => void): void {
    this.#queue.push({ atMs, order: this.#order++, run });
  }

  delayMs(): number {
    return 5 + this.random.below(60);
  }

  connected(a: number, b: number): boolean {
    if (!this.peers[a]!.machine || !this.peers[b]!.machine) return false;
    return this.#groups === undefined || this.#groups.some((group) => group.has(a) && group.has(b));
  }

  partition(groups: number[][] | undefined): void {
    const before = this.peers.map((_, a) => this.peers.map((_, b) => this.connected(a, b)));
    this.#groups = groups?.map((group) => new Set(group));
    for (const [a, row] of before.entries()) {
      for (const [b, was] of row.entries()) {
        if (a !== b && was !== this.connected(a, b)) this.peers[a]!.onLink(b, !was);
      }
    }
  }

  /** Runs until the condition holds; false when it does not within so much virtual time. */
  runUntil(condition: () => boolean, limitMs: number): boolean {
    const endMs = this.nowMs + limitMs;
    while (!condition()) {
      let next = -1;
      for (let i = 0; i < this.#queue.length; i++) {
        const [a, b] = [this.#queue[i]!, this.#queue[next]];
        if (!b || a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)) next = i;
      }
      const item = this.#queue[next];
      if (!item || item.atMs > endMs) return false;
      this.#queue.splice(next, 1);
      this.nowMs = Math.max(this.nowMs, item.atMs);
      item.run();
    }
    return true;
  }

  /** Every root that any peer ever reported final, by round: two of one round would be a divergence. */
  finalRoots(): Map<number, Set<Hash>> {
    const roots = new Map<number, Set<Hash>>();
    for (const peer of this.peers) {
      for (const report of peer.reports) {
        if (report.kind !== 'round' || !report.final) continue;
        roots.set(report.round, (roots.get(report.round) ?? new Set()).add(report.root));
      }
    }
    return roots;
  }
}

/** Looks over a peer's shoulder, as a driver's journal does. */
export interface Watcher {
  /** the peer's, for the machine */
  signer: Signer;
  /** before the effects are carried out */
  step(event: Event, effects: readonly Effect[]): void;
}

export class TestPeer {
  watcher: Watcher | undefined;
  /** of this peer alone, instead of the cluster's */
  trainMs: number | undefined;
  machine: Machine | undefined;
  readonly reports: Report[] = [];
  /** what was asked for beyond an update */
  readonly trainedOn: (Effect & { type: 'train-on' })[] = [];
  readonly signer: Signer;
  readonly #cluster: Cluster;
  readonly #index: number;
  #life = 0;
  #training = 0;
  #wake = 0;
  // the disk
  readonly payloads = new Set<Hash>();
  segments: readonly Segment[] = [];
  #record: Uint8Array | null = null;
  readonly #snapshots = new Map<Hash, { block: Hash; state: AgreedState }>();
  #applied: { block: Hash; state: AgreedState } | null = null;

  constructor(cluster: Cluster, index: number, signer: Signer) {
    this.#cluster = cluster;
    this.#index = index;
    this.signer = signer;
  }

  get id(): PeerId {
    return this.signer.self;
  }

  get rounds(): (Report & { kind: 'round' })[] {
    return this.reports.filter((report) => report.kind === 'round');
  }

  get lastRound(): number {
    return this.rounds.at(-1)?.round ?? 0;
  }

  start(trustBlock?: Hash): void {
    this.#life++;
    const { genesis, segmentSize } = this.#cluster;
    this.machine = new Machine({ signer: this.watcher?.signer ?? this.signer }, { genesis, segmentSize });
    const restart: Restart | null =
      this.#applied || this.segments.length > 0
        ? { segments: this.segments, record: this.#record, states: this.#applied ? [this.#applied] : [] }
        : null;
    this.give({ nowMs: this.#cluster.nowMs, type: 'start', restart, trustBlock });
    for (const [other, peer] of this.#cluster.peers.entries()) {
      if (other === this.#index || !this.#cluster.connected(this.#index, other)) continue;
      this.onLink(other, true);
      peer.onLink(this.#index, true);
    }
  }

  kill(): void {
    const linked = this.#cluster.peers.filter((_, other) => this.#cluster.connected(this.#index, other));
    this.machine = undefined;
    this.#life++;
    for (const peer of linked) if (peer !== this) peer.onLink(this.#index, false);
  }

  onLink(other: number, up: boolean): void {
    this.#later(this.#cluster.delayMs(), { type: 'peer', peer: this.#cluster.peers[other]!.id, up });
  }

  leave(): void {
    this.give({ nowMs: this.#cluster.nowMs, type: 'leave' });
  }

  give(event: Event): void {
    if (!this.machine) return;
    const effects = this.machine.step(event);
    this.watcher?.step(event, effects);
    for (const effect of effects) this.#carryOut(effect);
  }

  #later(delayMs: number, event: DistributiveOmit<Event, 'nowMs'>, still: () => boolean = () => true): void {
    const life = this.#life;
    this.#cluster.at(this.#cluster.nowMs + delayMs, () => {
      if (life === this.#life && still()) this.give({ ...event, nowMs: this.#cluster.nowMs } as Event);
    });
  }

  #deliver(to: number, message: Message): void {
    if (this.#cluster.random.unit() < this.#cluster.lossRate) return;
    const bytes = encodeMessage(message);
    const target = this.#cluster.peers[to]!;
    this.#cluster.at(this.#cluster.nowMs + this.#cluster.delayMs(), () => {
      if (!this.#cluster.connected(this.#index, to) || !target.machine) return;
      const received = decodeMessage(bytes, target.machine.run, target.signer);
      target.give({ nowMs: this.#cluster.nowMs, type: 'messages', from: [this.id], messages: [received] });
    });
  }

  #carryOut(effect: Effect): void {
    const { peers } = this.#cluster;
    switch (effect.type) {
      case 'persist':
        this.#record = encodeRecord(effect.record);
        return;
      case 'append':
        this.segments = afterAppend(this.segments, effect);
        return;
      case 'broadcast':
        for (const to of peers.keys()) if (to !== this.#index) this.#deliver(to, effect.message);
        return;
      case 'send':
        return this.#deliver(
          peers.findIndex((peer) => peer.id === effect.peer),
          effect.message,
        );
      case 'initialize':
        this.#applied = null;
        return this.#later(50, { type: 'restored', snapshot: INITIAL, snapshotBytes: 1, error: null });
      case 'restore':
        return this.#restore(effect.state, effect.block, effect.holders);
      case 'train':
        return this.#train(effect.base, effect.round, this.trainMs ?? this.#cluster.trainMs);
      case 'train-on':
        this.trainedOn.push(effect);
        return this.#later(this.trainMs ?? this.#cluster.trainMs, { type: 'trained-on', base: effect.base });
      case 'finish':
      case 'abandon': // here nothing takes long to fetch
        return;
      case 'fetch':
        return this.#fetch(effect.update);
      case 'take':
        for (const { inline } of effect.headers) this.payloads.add(hashOf(inline!));
        return this.#later(1, { type: 'taken', headers: effect.headers, refused: new Map() });
      case 'apply':
        return this.#apply(effect);
      case 'request-history':
        return this.#ask(effect);
      case 'wake': {
        const wake = ++this.#wake;
        return this.#later(Math.max(1, effect.atMs - this.#cluster.nowMs), { type: 'wake' }, () => wake === this.#wake);
      }
      case 'report':
        this.reports.push(effect.report);
        return;
      default:
        return effect satisfies never;
    }
  }

  #train(base: Hash, round: number, trainMs: number): void {
    const training = ++this.#training;
    const bytes = new TextEncoder().encode(`${this.id}/${base}`);
    const payload = hashOf(bytes);
    const update = {
      payload,
      size: bytes.length,
      tokens: 80 - this.#index,
      steps: 10,
      loss: 4 - round * 0.01,
    };
    const life = this.#life;
    this.#cluster.at(this.#cluster.nowMs + trainMs + this.#cluster.random.below(200), () => {
      if (life !== this.#life || training !== this.#training) return;
      this.payloads.add(payload);
      this.#cluster.sizes.set(payload, bytes.length);
      const inline = this.#cluster.inline ? bytes : null;
      this.give({ nowMs: this.#cluster.nowMs, type: 'trained', base, update, inline });
    });
  }

  #fetch(update: Update): void {
    const { payload, size } = update;
    const has = this.#cluster.peers.some(
      (peer, i) => peer.payloads.has(payload) && (i === this.#index || this.#cluster.connected(this.#index, i)),
    );
    if (has) this.payloads.add(payload);
    const isRight = this.#cluster.sizes.get(payload) === size;
    const error = !has ? 'E_BLOB_UNAVAILABLE' : isRight ? null : 'E_BLOB_SIZE';
    this.#later(2 * this.#cluster.delayMs(), { type: 'payload', update, error });
  }

  #apply(effect: Effect & { type: 'apply' }): void {
    this.#training++;
    const before = this.#applied?.state.snapshot ?? INITIAL;
    const payloads = effect.entry.block.updates.map((update) => update.payload);
    for (const payload of payloads) if (!this.payloads.has(payload)) throw new Error('applied without payload');
    const snapshot = hashOf(new TextEncoder().encode([before, ...payloads].join('/')));
    this.#keep(effect.block, { ...effect.state, snapshot, snapshotBytes: 1 });
    this.#later(20, { type: 'applied', block: effect.block, snapshot, snapshotBytes: 1 });
    this.#later(20, { type: 'saved', block: effect.block });
  }

  #keep(block: Hash, state: AgreedState): void {
    this.#applied = { block, state };
    this.#snapshots.set(state.snapshot, this.#applied);
    for (const name of this.#snapshots.keys()) {
      if (this.#snapshots.size <= LIMITS.snapshotsKept) break;
      this.#snapshots.delete(name);
    }
  }

  #restore(state: AgreedState, block: Hash, holders: PeerId[]): void {
    this.#training++;
    const has = this.#cluster.peers.some(
      (peer, i) =>
        peer.#snapshots.has(state.snapshot) &&
        (i === this.#index || (holders.includes(peer.id) && this.#cluster.connected(this.#index, i))),
    );
    const { snapshot, snapshotBytes } = state;
    if (has) this.#keep(block, state);
    const error = has ? null : 'E_BLOB_UNAVAILABLE';
    this.#later(200, { type: 'restored', snapshot, snapshotBytes, error });
  }

  #ask(effect: Effect & { type: 'request-history' }): void {
    const other = this.#cluster.peers.findIndex((peer) => peer.id === effect.peer);
    const history = this.#cluster.connected(this.#index, other)
      ? this.#cluster.peers[other]!.machine!.history(effect.request)
      : null;
    this.#later(2 * this.#cluster.delayMs(), { type: 'history', peer: effect.peer, history });
  }
}

type DistributiveOmit<T, K extends keyof T> = T extends unknown ? Omit<T, K> : never;

const INITIAL = hashOf(new TextEncoder().encode('initial parameters'));

export function testGenesis(founder: PeerId, options: Partial<Genesis> = {}): Genesis {
  return checkGenesis({
    version: 1,
    founder,
    title: 'test',
    seed: 1,
    model: { layers: 1, heads: 1, width: 4, context: 4, vocabulary: 4 },
    tokenizer: { kind: 'byte' },
    data: { name: 'test', blob: { id: '0'.repeat(64), size: 1 }, validationFraction: 0.1 },
    inner: {
      learningRate: 1e-3,
      learningRateMin: 1e-4,
      warmupSteps: 10,
      decaySteps: 100,
      beta1: 0.9,
      beta2: 0.99,
      epsilon: 1e-8,
      weightDecay: 0.1,
      clipNorm: 1,
    },
    innerSteps: 10,
    batch: 2,
    codec: { name: 'fp32', chunk: 4096, k: 64, bits: 2 },
    averaging: { name: 'all' },
    outer: { name: 'sgd', learningRate: 1, momentum: 0 },
    rounds: null,
    waitFor: 1,
    committee: { size: 200, heights: 4096 },
    timing: { graceMs: 2000, viewMs: 2000, quorumWaitMs: 10_000 },
    ...options,
  });
}

import { isCoded } from '../protocol/errors.ts';
import type { Report } from '../protocol/events.ts';
import { type Genesis, runIdOf } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId, Signer } from '../protocol/identity.ts';
import { beforeAbort } from './before-abort.ts';
import { BlobLibrary, payloadCheck } from './blob-library.ts';
import { ComputeModel } from './compute.ts';
import { typical } from './distribution.ts';
import { Faults } from './faults.ts';
import { Kernel } from './kernel.ts';
import { Ledger } from './ledger.ts';
import { Links } from './links.ts';
import { SimulatedNetwork } from './network.ts';
import type { ReplicaHost } from './replica-host.ts';
import { type RoundRow, RoundRows, type RowNews } from './round-rows.ts';
import type { FaultEvent, Scenario } from './scenario.ts';
import { Trace } from './trace.ts';
import { VirtualPeer, type World } from './virtual-peer.ts';

export interface SimulationInit {
  genesis: Genesis;
  /** one a peer; the first is the founder's */
  signers: readonly Signer[];
  scenario: Scenario;
  /** of links, compute times and faults; the run's own is in genesis */
  seed: number;
  host: ReplicaHost;
  /** rounds between two evaluations of the agreed model; the last round always has one. 0 for none */
  evaluateEvery: number;
  /** hears every step of every machine, for measurements */
  onStep?: World['onStep'];
}

export interface SimulationOptions {
  /** stops the run with the results so far */
  signal?: AbortSignal;
  /** gives the event loop a turn */
  turn?: () => Promise<void>;
  onRound?: (row: RoundRow) => void;
}

export interface SimulationResult {
  /**
   * `rounds`: to the end; `unfinal`: likewise, but no quorum has certified the last round; `stopped` by the caller;
   * `stuck`: before it there was no round in a long time, or nobody left
   */
  reason: 'rounds' | 'unfinal' | 'stopped' | 'stuck';
  traceHash: string;
  /** when the last round was over */
  virtualMs: number;
  events: number;
  /** messages that peers have read */
  deliveries: number;
  rows: RoundRow[];
  ledger: Ledger;
  /** share of the time in which a peer was up that it trained, until the last round was over */
  computeFraction: number;
  /** rounds of which two certified roots were seen: a bug in the protocol */
  diverged: number[];
  warnings: Record<string, number>;
  /** of the scenario, which were to come only after the last round */
  missed: MissedEvent[];
}

export interface MissedEvent {
  do: FaultEvent['do'];
  atMs: number;
}

/** Without a new round for so long, and for so many round lengths, a run is stuck, if nothing is planned any more. */
const STUCK_MS = 600_000;
const STUCK_ROUNDS = 20;

/** The others stay for two seconds after the last round: a peer that is not done so long after it was left behind. */
const LEFT_BEHIND_MS = 10_000;

/** A swarm in virtual time: the peers of one run, their links, their disks and what befalls them. */
export class Simulation {
  readonly kernel = new Kernel();
  readonly ledger: Ledger;
  readonly peers: VirtualPeer[] = [];
  readonly #init: SimulationInit;
  readonly #network: SimulatedNetwork;
  readonly #trace = new Trace();
  readonly #faults: Faults;
  readonly #rows = new RoundRows();
  readonly #finalRoots = new Map<number, Hash>();
  readonly #diverged = new Set<number>();
  readonly #warnings: Record<string, number> = {};
  readonly #evaluations: Promise<void>[] = [];
  /** when a round was last over, or certified, or replaced by a certified one */
  #newestMs = 0;
  #computeFraction = 0;
  #onRound: (row: RoundRow) => void = () => undefined;

  constructor(init: SimulationInit) {
    const { genesis, signers, scenario, seed, host, onStep } = init;
    const count = signers.length;
    const run = runIdOf(genesis);
    this.#init = init;
    this.ledger = new Ledger(count);
    const { kernel, ledger } = this;
    const links = new Links(scenario.links, seed);
    const compute = new ComputeModel(scenario.compute, { peers: count, seed });
    const library = new BlobLibrary(count, payloadCheck(genesis));
    this.#network = new SimulatedNetwork(
      { kernel, links, ledger, signer: signers[0]!, onNew: (message) => library.inspect(message) },
      { peers: count, seed, run, readMs: scenario.readMs },
    );
    const world: World = {
      kernel,
      ledger,
      genesis,
      host,
      network: this.#network,
      library,
      compute,
      trace: this.#trace,
      payloads: new WeakMap(),
      ids: signers.map(({ self }) => self),
      indexOf: new Map<PeerId, number>(signers.map(({ self }, i) => [self, i])),
      peers: this.peers,
      onReport: (peer, report) => this.#onReport(peer, report),
      leaversReturn: scenario.joins > 0,
      ...(onStep ? { onStep } : {}),
    };
    for (const [i, signer] of signers.entries()) this.peers.push(new VirtualPeer(world, i, signer));
    const { peers } = this;
    this.#faults = new Faults({ kernel, peers, network: this.#network }, { scenario, seed });
  }

  /** @throws CodedError of the replica host, when a worker dies */
  async run({ signal, turn, onRound }: SimulationOptions = {}): Promise<SimulationResult> {
    if (onRound) this.#onRound = onRound;
    const { genesis, scenario } = this.#init;
    const { step, peers, stragglers } = scenario.compute;
    const slowestMs = Math.max(...[step, ...Object.values(peers)].map(typical));
    const roundMs = genesis.innerSteps * slowestMs * (stragglers?.factor ?? 1);
    const stuckMs = STUCK_MS + STUCK_ROUNDS * roundMs + genesis.timing.graceMs;
    const over = (): SimulationResult['reason'] | undefined => {
      if (signal?.aborted) return 'stopped';
      const last = genesis.rounds === null ? undefined : this.#rows.get(genesis.rounds);
      const silentMs = this.kernel.nowMs - this.#newestMs;
      // those who came to it without a quorum do not end the run of the others
      if (last?.final && silentMs > LEFT_BEHIND_MS) return 'rounds';
      if (this.kernel.nowMs - Math.max(this.#newestMs, this.#faults.lastMs) > stuckMs) {
        return last ? 'unfinal' : 'stuck';
      }
      if (this.#faults.toCome > 0 || this.peers.some(({ isUp }) => isUp)) return undefined;
      if (genesis.rounds !== null && !last) return 'stuck';
      return last && !last.final ? 'unfinal' : 'rounds';
    };
    await this.kernel.run({ until: () => over() !== undefined, signal, ...(turn ? { turn } : {}) });
    const reason = over() ?? 'stuck';
    this.ledger.close(this.kernel.nowMs);
    const evaluated = await beforeAbort(Promise.all(this.#evaluations), signal);
    this.#onRound = () => undefined; // an evaluation that comes, or fails, later finds nobody listening
    const rows = this.#rows.leadingToTheLast();
    const virtualMs = rows.at(-1)?.virtualMs ?? 0;
    const events = reason === 'stopped' ? [] : scenario.events;
    const missed = events.filter(({ atMs }) => Number.isFinite(atMs) && atMs > virtualMs);
    return {
      reason: evaluated ? reason : 'stopped',
      traceHash: this.#trace.digest(),
      virtualMs,
      events: this.kernel.events,
      deliveries: this.#network.deliveries,
      rows,
      ledger: this.ledger,
      computeFraction: this.#computeFraction,
      diverged: [...this.#diverged],
      warnings: this.#warnings,
      missed: missed.map((event) => ({ do: event.do, atMs: event.atMs })),
    };
  }

  #onReport(peer: VirtualPeer, report: Report): void {
    if (report.kind === 'warning') this.#warnings[report.code] = (this.#warnings[report.code] ?? 0) + 1;
    if (report.kind === 'synced') this.#rows.synced(peer.index, report.root);
    if (report.kind !== 'round') return;
    const { round, root, final } = report;
    if (final) {
      const known = this.#finalRoots.get(round);
      if (known === undefined) this.#finalRoots.set(round, root);
      else if (known !== root) this.#diverged.add(round);
    }
    const added = this.#rows.add(peer.index, report, () => this.#rowOf(report));
    if (added) this.#onRow(peer, added.row, added.news);
  }

  #rowOf({ round, root, final, contributors, trainLoss, tokens }: Report & { kind: 'round' }): RoundRow {
    const losses = { trainLoss, valLoss: null, sampleLoss: null };
    const [virtualMs, bytes] = [this.kernel.nowMs, this.ledger.bytes()];
    return { round, virtualMs, root, final, contributors: contributors.length, ...losses, tokens, bytes };
  }

  #onRow(peer: VirtualPeer, row: RoundRow, news: RowNews): void {
    const { round } = row;
    const { nowMs } = this.kernel;
    const { evaluateEvery, genesis, host } = this.#init;
    if (news === 'first') this.#faults.onRound(nowMs - this.#newestMs, peer.machine?.standing.roster ?? []);
    if (news !== 'other') this.#newestMs = nowMs;
    // of the last round alone in the end: what peers do after it is no part of the run
    if (!this.#rows.get(round + 1)) this.#computeFraction = this.ledger.trainedShare(nowMs);
    const last = round === genesis.rounds;
    const due = evaluateEvery > 0 && (last || round % evaluateEvery === 0);
    if (!due) return this.#tellRow(row);
    // asked for in one go, so that both are of the same model
    const sample = host.evaluate(peer.index, false);
    const whole = last ? host.evaluate(peer.index, true) : sample;
    this.#evaluations.push(this.#evaluate([sample, whole], row));
  }

  /** Real time passes, virtual time does not: looking at a model costs the swarm nothing. */
  async #evaluate(losses: [sample: Promise<number | null>, all: Promise<number | null>], row: RoundRow): Promise<void> {
    try {
      [row.sampleLoss, row.valLoss] = await Promise.all(losses);
    } catch (error) {
      // the worker is gone, and the run with it: said where its work is waited for
      if (!isCoded(error)) throw error;
    }
    this.#tellRow(row);
  }

  /** Of one history alone: which one is left shows in the end. */
  #tellRow(row: RoundRow): void {
    const shown = this.#rows.get(row.round);
    if (shown === row || shown?.final) this.#onRound(row);
  }
}

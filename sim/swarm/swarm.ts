import { createHash } from 'node:crypto';
import type { Head } from '../../protocol/chain.ts';
import { codecOf } from '../../protocol/codecs/index.ts';
import { isCoded } from '../../protocol/errors.ts';
import type { Effect, Event, Report, Restart } from '../../protocol/events.ts';
import { type Genesis, runIdOf } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { PeerId, Signer } from '../../protocol/identity.ts';
import { decodeHistory, type Message } from '../../protocol/messages.ts';
import { modelLayout } from '../../protocol/model.ts';
import { randomStream } from '../../protocol/random.ts';
import { blockHash } from '../../protocol/signing.ts';
import { BlobLibrary, payloadCheck } from '../blob-library.ts';
import { AgreementChecker } from '../checkers/agreement.ts';
import { type Checker, Violation } from '../checkers/checker.ts';
import { Chronicle } from '../checkers/chronicle.ts';
import { MemoryChecker } from '../checkers/memory.ts';
import { ProgressChecker } from '../checkers/progress.ts';
import { ReceiptsChecker } from '../checkers/receipts.ts';
import { SnapshotsChecker } from '../checkers/snapshots.ts';
import { ValidityChecker } from '../checkers/validity.ts';
import { VotesChecker } from '../checkers/votes.ts';
import { WorkChecker } from '../checkers/work.ts';
import { SkewedClock } from '../clock.ts';
import { ComputeModel } from '../compute.ts';
import { Identities } from '../identity.ts';
import { Kernel } from '../kernel.ts';
import { Ledger } from '../ledger.ts';
import { type LinkConfig, Links } from '../links.ts';
import { SyntheticHost, syntheticGenesis } from '../synthetic.ts';
import { Trace } from '../trace.ts';
import { VirtualPeer, type World } from '../virtual-peer.ts';
import { Diary } from './diary.ts';
import { Liar } from './liar.ts';
import { Mischief } from './mischief.ts';
import { HostileNetwork } from './network.ts';
import { Pins } from './pins.ts';
import { describeFault, type Fault, habitsOf, type Plan } from './plan.ts';
import { seeOneReturn } from './return.ts';

export interface Outcome {
  seed: number;
  /** undefined when all invariants held */
  failure: { checker: string; message: string } | undefined;
  /** the last things that happened, oldest first */
  diary: string[];
  virtualMs: number;
  events: number;
  traceHash: string;
  seen: Seen;
}

/** What the swarm went through: a swarm that goes through nothing finds nothing. */
export interface Seen {
  finalRounds: number;
  unfinalRounds: number;
  membershipBlocks: number;
  /** members put out for contradicting themselves */
  evictions: number;
  /** after which not all members vote */
  drawn: number;
  /** certified after the first view */
  laterViews: number;
  restored: number;
  /** histories that were let begin later, each counted by everybody who did; and peers that took up one that began later */
  segments: number;
  leaps: number;
  crashes: number;
  /** many at once */
  blackouts: number;
  /** messages that were read together, as one event each */
  batches: number;
  lies: number;
  /** messages of liars that fuzz, as they came to a decoder, and histories; among the lies */
  fuzzed: number;
  refusedMessages: number;
  warnings: Record<string, number>;
  /** the liars came to be more than the protocol tolerates, so that only what concerns one peer was checked from there */
  overrun: boolean;
  /** after healing no quorum of the committee was left, so that nobody promises progress */
  noQuorum: boolean;
  /** the run had an end, and was started again, since not all had come to it */
  endedAgain: boolean;
}

/** How often a liar speaks without being asked, where the plan does not say. */
const BABBLE_MS = 400;
/** After healing: time for sync to give up on who does not answer, for long views to end, and for the rounds themselves. */
const PATIENCE_MS = 180_000;

/** One swarm as it was drawn: runs it under its faults, heals it, and lets the checkers look at everything. */
export class Swarm {
  readonly #plan: Plan;
  readonly #genesis: Genesis;
  readonly #kernel = new Kernel();
  readonly #diary = new Diary();
  readonly #trace = new Trace();
  readonly #network: HostileNetwork;
  readonly #peers: VirtualPeer[] = [];
  readonly #clocks: SkewedClock[];
  readonly #liars = new Map<number, Liar>();
  readonly #checkers: Checker[];
  readonly #progress: ProgressChecker;
  readonly #chronicle: Chronicle;
  readonly #signers: Signer[];
  readonly #mischief: Mischief;
  readonly #seen: Seen = {
    finalRounds: 0,
    unfinalRounds: 0,
    membershipBlocks: 0,
    evictions: 0,
    drawn: 0,
    laterViews: 0,
    restored: 0,
    segments: 0,
    leaps: 0,
    crashes: 0,
    blackouts: 0,
    batches: 0,
    lies: 0,
    fuzzed: 0,
    refusedMessages: 0,
    warnings: {},
    overrun: false,
    noQuorum: false,
    endedAgain: false,
  };
  /** by index: where the longest certified history stands that a correct peer had */
  readonly #newest = new Map<number, Head>();
  /** and that which a peer has now: what a crash kept from its disk it does not know any more */
  readonly #known = new Map<number, Head>();
  /** blocks that are in the counts of what was seen */
  readonly #counted = new Set<Hash>();
  readonly #pins: Pins;
  /** who has been told a history that it does not trust, and has not gone on since */
  readonly #distrustful = new Set<VirtualPeer>();
  #liarsWait = true;
  #healing = false;

  constructor(plan: Plan) {
    this.#plan = plan;
    const { peers, seed, latencyMs } = plan;
    const identities = new Identities();
    this.#signers = identities.swarm(seed, peers);
    const founder = this.#signers[0]!.self;
    this.#genesis = syntheticGenesis({ founder, seed, ...plan.genesis });
    this.#progress = new ProgressChecker({ rounds: this.#genesis.rounds, liars: plan.liars });
    const run = runIdOf(this.#genesis);
    const ledger = new Ledger(peers);
    const library = new BlobLibrary(peers, payloadCheck(this.#genesis));
    const latency = { kind: 'lognormal', median: latencyMs, sigma: 0.4 } as const;
    const links = new Links({ latency, asymmetric: true, loss: 0, regions: [], peers: this.#uplinks() }, seed);
    const habits = habitsOf(plan.faults);
    this.#chronicle = new Chronicle(this.#genesis, run);
    this.#pins = new Pins({ chronicle: this.#chronicle, newest: this.#newest }, plan);
    const correct = (peer: number) => !habits.has(peer);
    const ids = new Set<PeerId>(this.#signers.filter((_, i) => correct(i)).map(({ self }) => self));
    const signer = this.#signers[0]!;
    const layout = modelLayout(this.#genesis.model);
    const exact = codecOf(this.#genesis.codec).residualDecay === 1;
    const chronicle = this.#chronicle;
    const receipts = new ReceiptsChecker(chronicle);
    const onForgotten = (peer: number, forgot: boolean) => receipts.onForgotten(peer, forgot);
    const work = new WorkChecker(
      { chronicle, library, correct, onForgotten },
      { peers, parameters: layout.length, exact },
    );
    this.#checkers = [
      new ValidityChecker({ chronicle, signer, correct: ids, library }),
      new AgreementChecker(),
      new VotesChecker(),
      new SnapshotsChecker({ library, run }),
      work,
      receipts,
      new MemoryChecker(peers),
    ];
    this.#clocks = Array.from({ length: peers }, (_, i) => {
      const skew = plan.faults.find((fault) => fault.kind === 'skew' && fault.peer === i);
      return new SkewedClock(skew?.kind === 'skew' ? skew : { rate: 1, aheadMs: 0 });
    });
    this.#network = new HostileNetwork(
      {
        kernel: this.#kernel,
        links,
        ledger,
        signer,
        liars: this.#liars,
        onSent: (peer, message) => this.#onSent(peer, message),
        onAnswer: (peer, answer) => this.#onAnswer(peer, answer),
        onNew: (message) => library.inspect(message),
      },
      { peers, seed, run, readMs: plan.readMs },
    );
    for (const [a, b] of plan.apart) {
      this.#network.block(a, b);
      this.#network.block(b, a);
    }
    this.#mischief = new Mischief({
      kernel: this.#kernel,
      network: this.#network,
      peers: this.#peers,
      clocks: this.#clocks,
      isHeldBack: (index) => this.#isHeldBack(index),
      onCrash: () => this.#seen.crashes++,
    });
    const world = this.#world({ ledger, library, work });
    for (const [i, each] of this.#signers.entries()) this.#peers.push(new VirtualPeer(world, i, each));
    for (const [index, own] of habits) {
      const components = {
        signer: this.#signers[index]!,
        library,
        random: randomStream(seed, 'lies', index),
        mint: (label: string) => identities.fromSeed(createHash('sha256').update(`${seed} ${label}`).digest()),
        machine: () => this.#peers[index]!.machine,
        say: (to: number, bytes: Uint8Array, onHeard?: () => void) => this.#network.whisper(index, to, bytes, onHeard),
      };
      this.#liars.set(index, new Liar(components, { index, peers, run, genesis: this.#genesis, habits: own }));
    }
  }

  /** @throws what the program itself does wrong outside of the swarm */
  async run(): Promise<Outcome> {
    let failure: Outcome['failure'];
    try {
      await this.#play();
    } catch (error) {
      if (error instanceof Violation) failure = { checker: error.checker, message: error.message };
      else failure = { checker: 'crash', message: String((error as Error).stack ?? error) };
    }
    const { events, nowMs } = this.#kernel;
    this.#seen.refusedMessages = this.#network.refused;
    for (const { told } of this.#liars.values()) {
      for (const [habit, count] of Object.entries(told)) if (habit !== 'withholds') this.#seen.lies += count;
      this.#seen.fuzzed += told.fuzzes ?? 0;
    }
    const common = { virtualMs: nowMs, events, traceHash: this.#trace.digest(), seen: this.#seen };
    return { seed: this.#plan.seed, failure, diary: this.#diary.lines(), ...common };
  }

  async #play(): Promise<void> {
    const { safetyMs, faults } = this.#plan;
    const late = new Set(faults.flatMap((fault) => (fault.kind === 'late' ? [fault.peer] : [])));
    for (const { index } of this.#peers) if (!late.has(index) && !this.#isHeldBack(index)) this.#mischief.wantUp(index);
    for (const fault of faults) this.#kernel.at(fault.atMs, () => this.#begin(fault));
    for (const [index, liar] of this.#liars) this.#kernel.at(index, () => this.#babble(liar));
    await this.#kernel.runFor(safetyMs);
    this.#heal();
    const hadQuorum = this.#quorumIsUp(); // else it is for the liars to say when there is one
    const mayGoOn = this.#plan.liars === 0 && this.#genesis.timing.quorumWaitMs !== null;
    const goesOnWithout = !hadQuorum && mayGoOn && this.#newestIsKnown();
    let untilLook = 0;
    const there = (): boolean => {
      if (untilLook-- > 0) return false;
      untilLook = 64;
      const peers = this.#judged();
      return goesOnWithout ? this.#progress.apart(peers) === undefined : this.#progress.behind(peers).length === 0;
    };
    await this.#kernel.runFor(PATIENCE_MS * this.#progress.stretches, there);
    await this.#endAgain(there);
    this.#seen.noQuorum = !hadQuorum || !this.#quorumIsUp();
    const apart = goesOnWithout && this.#progress.apart(this.#judged());
    if (apart) throw new Violation('progress', apart);
    if (this.#seen.overrun || this.#seen.noQuorum) return;
    this.#progress.check(this.#judged());
    await this.#seeOneReturn();
  }

  /** Who is through waits for nobody: where somebody is not, or at another state, users see that, and start all again. */
  async #endAgain(there: () => boolean): Promise<void> {
    if (this.#genesis.rounds === null) return;
    const peers = this.#judged();
    if (this.#progress.behind(peers).length === 0 && !this.#progress.endsApart(peers)) return;
    this.#seen.endedAgain = true;
    for (const { index } of peers) this.#mischief.wantUp(index);
    await this.#kernel.runFor(PATIENCE_MS, there);
  }

  /** One that the others can do without: those who lie stay within what is tolerated. */
  async #seeOneReturn(): Promise<void> {
    const { seed, liars, returns } = this.#plan;
    const [kernel, mischief, progress] = [this.#kernel, this.#mischief, this.#progress];
    const peers = this.#judged();
    if (!returns || this.#genesis.rounds !== null || peers.length < 2 * liars + 2) return;
    const common = { seed, liars, patienceMs: PATIENCE_MS };
    const failure = await seeOneReturn({ kernel, mischief, progress }, peers, common);
    if (failure && !this.#seen.overrun && this.#quorumIsUp()) throw new Violation('progress', failure);
  }

  /** Correct peers that are to be members of the healed run. */
  #judged(): VirtualPeer[] {
    return this.#peers.filter(({ index }) => this.#mischief.wanted.has(index) && !this.#liars.has(index));
  }

  /**
   * Of the committee that decides next there are enough correct peers; who left without its certificate is not. A block that
   * is gone with the last peer that knew it decided is not, for those who are left.
   */
  #quorumIsUp(): boolean {
    const voters = this.#newestUp()?.committee ?? [this.#genesis.founder];
    const up = new Set(this.#judged().map(({ id }) => id));
    const enough = voters.filter((peer) => up.has(peer)).length >= voters.length - Math.floor((voters.length - 1) / 3);
    return enough && this.#newestIsKnown();
  }

  /** Somebody is there who voted for the newest block: what it names may be with nobody else, where few did, or one alone. */
  #newestIsKnown(): boolean {
    const newest = this.#newestUp();
    const last = newest && this.#chronicle.get(newest.tip);
    const up = new Set(this.#judged().map(({ id }) => id));
    return !last || last.entry.certificate.signatures.some(([place]) => up.has(last.before.committee[place]!));
  }

  #newestUp(): Head | undefined {
    const heads = this.#judged().flatMap(({ index }) => this.#known.get(index) ?? []);
    return heads.sort((a, b) => b.height - a.height)[0];
  }

  // --- faults ---------------------------------------------------------------------------------------------------------

  #begin(fault: Fault): void {
    if (this.#healing) return;
    this.#diary.note(this.#kernel.nowMs, -1, `fault: ${describeFault(fault)}`);
    if (fault.kind === 'blackout') this.#seen.blackouts++;
    this.#mischief.begin(fault);
  }

  /** No more faults, and every correct peer is up, or a core of them. Liars go on lying. */
  #heal(): void {
    this.#healing = true;
    const { leftDown } = this.#plan;
    this.#diary.note(
      this.#kernel.nowMs,
      -1,
      leftDown.length === 0 ? 'healed' : `healed, but for ${leftDown.join(', ')}`,
    );
    for (const index of leftDown) this.#mischief.giveUp(index);
    this.#mischief.end();
    this.#renewPins();
    this.#progress.healed(this.#judged());
  }

  /** Where nobody has the block any more that is to be trusted, the user does as the warning says, and names a newer one. */
  #renewPins(): void {
    for (const peer of this.#distrustful) {
      const others = this.#judged().filter(({ index }) => index !== peer.index);
      if (!this.#healing || !this.#pins.renew(peer, others)) continue;
      this.#diary.note(this.#kernel.nowMs, peer.index, 'told a newer block to trust');
      this.#distrustful.delete(peer);
      this.#kernel.after(0, () => {
        peer.crash();
        this.#mischief.wantUp(peer.index);
      });
    }
  }

  /** Liars come in once the correct ones are so many that the liars among them are tolerated. */
  #isHeldBack(index: number): boolean {
    return this.#liars.has(index) && this.#liarsWait;
  }

  #letLiarsIn(roster: readonly PeerId[]): void {
    if (!this.#liarsWait) return;
    const correct = roster.filter((peer) => this.#isCorrect(peer)).length;
    if (correct < 2 * this.#plan.liars + 1) return;
    this.#liarsWait = false;
    for (const index of this.#liars.keys()) this.#kernel.after(0, () => this.#mischief.wantUp(index));
  }

  #isCorrect(peer: PeerId): boolean {
    return !this.#liars.has(this.#signers.findIndex(({ self }) => self === peer));
  }

  #babble(liar: Liar): void {
    liar.babble();
    this.#kernel.after(this.#plan.babbleMs ?? BABBLE_MS, () => this.#babble(liar));
  }

  #uplinks(): LinkConfig['peers'] {
    const bits = modelLayout(this.#genesis.model).length * 32;
    const each = (this.#plan.sendMs ?? []).map((sendMs, peer) => [peer, { uploadBits: (bits * 1000) / sendMs }]);
    return Object.fromEntries(each);
  }

  // --- what the checkers see ------------------------------------------------------------------------------------------

  #world({ ledger, library, work }: { ledger: Ledger; library: BlobLibrary; work: WorkChecker }): World {
    const { peers, seed, stepMs, encodeMs, applyMs, diskMs, bootMs, inlineBytesMax, segmentBlocks } = this.#plan;
    const step = { kind: 'lognormal', median: stepMs, sigma: 0.3 } as const;
    const compute = { step, peers: {}, stragglers: null, encodeMs, applyMs, diskMs };
    return {
      kernel: this.#kernel,
      network: this.#network,
      library,
      ledger,
      host: new SyntheticHost(this.#genesis, peers, undefined, work),
      compute: new ComputeModel(compute, { peers, seed }),
      trace: this.#trace,
      genesis: this.#genesis,
      indexOf: new Map(this.#signers.map(({ self }, i) => [self, i])),
      ids: this.#signers.map(({ self }) => self),
      peers: this.#peers,
      payloads: new WeakMap(),
      onReport: (peer, report) => this.#onReport(peer, report),
      clocks: this.#clocks,
      leaversReturn: true,
      servesWhenDone: true,
      trustBlock: (peer) => this.#pins.at(peer),
      inlineBytesMax,
      takeMs: diskMs,
      bootMs,
      segmentSize:
        segmentBlocks === null ? undefined : { blocksMin: segmentBlocks, blocksMax: segmentBlocks, bytesMax: 0 },
      onStep: (peer, event, effects) => this.#onStep(peer, event, effects),
    };
  }

  #onStep(peer: VirtualPeer, event: Event, effects: readonly Effect[]): void {
    this.#diary.onStep(this.#kernel.nowMs, peer.index, event, effects);
    if (event.type === 'messages' && event.messages.length > 1) this.#seen.batches++;
    if (this.#liars.has(peer.index)) return;
    if (event.type === 'start') this.#onStart(peer.index, event.restart);
    // planned for after this event: by then the first write is under way
    const writes = effects.some(({ type }) => type === 'append' || type === 'persist');
    if (writes) this.#mischief.onMoment(peer.index, 'write');
    for (const checker of this.#looking()) checker.onStep?.(peer, event, effects);
    for (const effect of effects) if (effect.type === 'append') this.#onAppend(peer.index, effect);
  }

  #onStart(peer: number, restart: Restart | null): void {
    const entries = (restart?.segments ?? []).flatMap((segment) => segment.entries);
    const last = entries.findLast(({ block }) => block.members === null);
    const head = last && this.#chronicle.get(blockHash(last.block))?.after;
    if (head) this.#known.set(peer, head);
    else this.#known.delete(peer);
  }

  #onAppend(peer: number, { entry, segment }: Effect & { type: 'append' }): void {
    const { block, certificate } = entry;
    const hash = blockHash(block);
    const after = this.#chronicle.get(hash)?.after;
    if (segment) this.#seen[segment.keep > 1 ? 'segments' : 'leaps']++;
    const isNew = !this.#counted.has(hash);
    this.#counted.add(hash);
    if (isNew && block.kind === 'membership') this.#seen.membershipBlocks++;
    if (isNew) this.#seen.evictions += block.evictions.length;
    if (isNew && certificate.view > 0) this.#seen.laterViews++;
    if (isNew && after && after.committee.length < after.roster.length) this.#seen.drawn++;
    for (const heads of [this.#newest, this.#known]) {
      if (after && after.height > (heads.get(peer)?.height ?? 0)) heads.set(peer, after);
    }
    const voters = after?.committee ?? [];
    const lying = voters.filter((peer) => !this.#isCorrect(peer)).length;
    if (lying > 0 && voters.length < 3 * lying + 1) this.#seen.overrun = true;
  }

  /** Where more lie than are tolerated nobody promises anything of what peers have in common. */
  #looking(): readonly Checker[] {
    return this.#seen.overrun ? this.#checkers.filter(({ isOfOnePeer }) => isOfOnePeer) : this.#checkers;
  }

  #onSent(index: number, message: Message): void {
    if (message.type === 'vote') this.#mischief.onMoment(index, 'vote');
    for (const checker of this.#looking()) checker.onSent?.(this.#peers[index]!, message);
  }

  #onAnswer(index: number, answer: Uint8Array): void {
    try {
      const history = decodeHistory(answer, runIdOf(this.#genesis));
      for (const checker of this.#looking()) checker.onAnswer?.(this.#peers[index]!, history);
    } catch (error) {
      if (!isCoded(error)) throw error;
      throw new Violation('crash', `peer ${index} gives an answer that nobody can read: ${error.message}`);
    }
  }

  #onReport(peer: VirtualPeer, report: Report): void {
    this.#diary.onReport(this.#kernel.nowMs, peer.index, report);
    if (this.#liars.has(peer.index)) return;
    const { warnings } = this.#seen;
    if (report.kind === 'warning') warnings[report.code] = (warnings[report.code] ?? 0) + 1;
    if (report.kind === 'warning' && report.code === 'W_UNTRUSTED') this.#distrustful.add(peer);
    if (report.kind === 'synced' || report.kind === 'round') this.#distrustful.delete(peer);
    this.#renewPins();
    if (report.kind === 'synced') this.#seen.restored++;
    if (report.kind !== 'round') return;
    this.#progress.onRound(peer, report.round, report.root);
    this.#letLiarsIn(peer.machine?.standing.roster ?? []);
    if (!report.final) this.#seen.unfinalRounds++;
    else {
      this.#seen.finalRounds++;
      this.#progress.onFinalRound(peer, report.round);
    }
  }
}

/** A peer that wants to go stays so long for its certificate, as the real one does. */

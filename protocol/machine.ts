import { Agreement, type AgreementRecord } from './agreement.ts';
import { checkBlock, stateAt } from './chain.ts';
import { Core } from './core.ts';
import { encodeCanonical, decodeCanonical } from './encoding.ts';
import { assert, isCoded } from './errors.ts';
import type { Effect, Event, Restart } from './events.ts';
import { type Genesis, runIdOf } from './genesis.ts';
import type { Hash } from './hash.ts';
import { branchFromLog } from './history.ts';
import type { PeerId, Signer } from './identity.ts';
import { LIMITS } from './limits.ts';
import { Membership } from './membership.ts';
import { decodeMessage, encodeMessage, type History, type Message, type MessageOf } from './messages.ts';
import { peersOf, quorumOf } from './roster.ts';
import { Payloads, Round } from './round.ts';
import { blockHash } from './signing.ts';
import { Sync } from './sync.ts';
import { Unfinal } from './unfinal.ts';
import type { Block, Entry } from './wire.ts';

/**
 * A peer as a state machine: events in, effects out. It never waits, never looks at a clock and holds no parameters:
 * vectors are the replica's, named here by hash. Equal events give equal effects.
 *
 * The driver's duties:
 * 1. Give one event at a time, `start` first, each with a clock in milliseconds that never runs backwards.
 * 2. Carry out the effects of a step in order. What `persist` and `append` say is durable before a later effect of the
 *    same step leaves the machine room: a vote that a crash makes us forget could be cast twice.
 * 3. Pass only messages that `decodeMessage` accepted, with the peer that handed them over.
 * 4. Answer every `fetch`, `apply`, `initialize`, `restore`, `train` and `request-history` with its event, errors
 *    included; `train` only if the training is not overtaken by `apply` or `restore`.
 * 5. `trained` comes when update and residual are durable, `applied` and `restored` when the agreed state is.
 * 6. Send `wake` at the time last asked for, or a little later.
 * 7. Answer other peers' history requests with `history()`, and serve the states, payloads and blobs it names.
 * 8. Give `restart` back all that was persisted and appended, and the newest agreed state that is whole.
 *
 * A round: train, announce a header, fetch and check the others' payloads, agree on a block (`Agreement`), apply it.
 */
export class Machine {
  readonly run: Hash;
  readonly #core: Core;
  readonly #membership: Membership;
  readonly #payloads: Payloads;
  readonly #sync: Sync;
  readonly #unfinal: Unfinal;
  #agreement: Agreement;
  #round: Round | undefined;
  #applying: Hash | undefined;
  /** messages for rounds and heights that this peer has not reached */
  #future: { from: PeerId; message: Message }[] = [];
  #viewSinceMs = 0;
  #viewSeen = '';
  #readySinceMs: number | undefined;
  #repeatedMs = 0;
  #unfinalSaid = false;
  #ending: { sinceMs: number; reason: 'rounds' | 'left' } | undefined;
  #done = false;

  constructor(components: { signer: Signer }, init: { genesis: Genesis }) {
    this.run = runIdOf(init.genesis);
    this.#core = new Core({ genesis: init.genesis, run: this.run, signer: components.signer });
    this.#membership = new Membership(this.#core);
    this.#payloads = new Payloads(this.#core);
    this.#sync = new Sync(this.#core);
    this.#unfinal = new Unfinal(this.#core, this.#membership, this.#payloads);
    this.#agreement = this.#newAgreement();
  }

  step(event: Event): Effect[] {
    this.#core.nowMs = event.nowMs;
    this.#handle(event);
    if (!this.#done) this.#progress();
    return this.#core.takeEffects();
  }

  /** What a peer that asks is told of this one's history. */
  history(fromHeight: number, skip: number): History {
    const page = this.#core.branch.page(fromHeight, skip);
    return { run: this.run, ...page, states: [...this.#core.states.values()] };
  }

  /** For a screen: where this peer is. */
  get standing(): { round: number; roster: PeerId[]; root: Hash | undefined; places: readonly PeerId[] } {
    const head = this.#core.applied?.head ?? this.#core.branch.head;
    return { round: head.round, roster: peersOf(head.roster), root: this.#core.applied?.root, places: head.places };
  }

  /** Payloads that blocks of the last rounds name: to be kept for peers that were away. */
  recentPayloads(): Set<Hash> {
    const { entries, head } = this.#core.branch;
    const kept = new Set<Hash>();
    for (let i = entries.length - 1; i >= 0; i--) {
      const { block } = entries[i]!;
      if (block.round + LIMITS.payloadRoundsKept < head.round) break;
      for (const update of block.updates) kept.add(update.payload);
    }
    return kept;
  }

  #handle(event: Event): void {
    switch (event.type) {
      case 'start':
        return this.#onStart(event.restart);
      case 'message':
        return this.#onMessage(event.from, event.message);
      case 'peer':
        return this.#onPeer(event.peer, event.up);
      case 'trained':
        return this.#onTrained(event);
      case 'payload':
        return this.#payloads.onPayload(event.payload, event.error);
      case 'applied':
        return this.#onApplied(event);
      case 'restored':
        return this.#onRestored(event);
      case 'history':
        return this.#onHistory(event.peer, event.history);
      case 'leave':
        return this.#onLeave();
      case 'wake':
        return;
      default:
        return event satisfies never;
    }
  }

  #onStart(restart: Restart | null): void {
    const { context, self } = this.#core;
    if (restart) {
      this.#core.branch = branchFromLog(context, restart.entries);
      const position = restart.applied ? this.#core.branch.find(restart.applied.block) : -1;
      if (restart.applied && position >= 0) this.#core.setApplied(position, restart.applied.state);
      this.#agreement = this.#newAgreement();
      if (restart.record) this.#restoreRecord(restart.record);
    }
    if (!this.#core.applied && context.genesis.founder === self && this.#core.branch.entries.length === 0) {
      this.#initialize();
    }
    if (self === context.genesis.founder) this.#sync.caughtUp = true;
  }

  #onMessage(from: PeerId, message: Message): void {
    switch (message.type) {
      case 'header':
        this.#membership.heard(message.update.author);
        return this.#onHeader(from, message);
      case 'join':
        return this.#membership.onJoin(message.join);
      case 'leave':
        return this.#membership.onLeave(message.leave);
      case 'proposal':
        this.#membership.heard(message.author);
        if (message.block.members) return this.#unfinal.onProposal(message);
        return this.#atHeight(from, message, message.height, () => this.#agreement.onProposal(message));
      case 'vote':
        this.#membership.heard(message.author);
        if (message.kind === 'endorse') return this.#unfinal.onVote(message);
        return this.#atHeight(from, message, message.height, () => this.#agreement.onVote(message));
      case 'certificate':
        return this.#onCertificate(from, message);
      case 'status':
        this.#membership.heard(message.author);
        this.#sync.onStatus(message.author === from ? from : message.author, message);
        return;
      default:
        return message satisfies never;
    }
  }

  #onHeader(from: PeerId, message: MessageOf<'header'>): void {
    if (message.base === this.#round?.base) this.#round.onHeader(message.update, message.inline, from);
    else if (message.round >= (this.#core.applied?.state.round ?? 0)) this.#keepForLater(from, message);
  }

  #onCertificate(from: PeerId, message: MessageOf<'certificate'>): void {
    const { certificate, block } = message;
    if (certificate.kind === 'endorse') {
      const entry = this.#unfinal.onCertificate(certificate, block);
      if (entry) this.#append(entry);
      return;
    }
    this.#atHeight(from, message, certificate.height, () => this.#agreement.onCertificate(certificate, block));
  }

  /** Takes a message of the current height now, of a later one later; someone two heights on is asked how. */
  #atHeight(from: PeerId, message: Message, height: number, take: () => void): void {
    if (height === this.#agreement.height) return take();
    if (height < this.#agreement.height) return;
    this.#keepForLater(from, message);
    if (height > this.#agreement.height + 1) this.#sync.ask(from, false);
  }

  #keepForLater(from: PeerId, message: Message): void {
    if (this.#future.length >= LIMITS.futureMessagesMax) this.#future.shift();
    this.#future.push({ from, message });
  }

  #replayFuture(): void {
    const kept = this.#future;
    this.#future = [];
    for (const { from, message } of kept) this.#onMessage(from, message);
  }

  #onPeer(peer: PeerId, up: boolean): void {
    this.#membership.onPeer(peer, up);
    if (!up) return;
    this.#core.emit({ type: 'send', peer, message: this.#core.status() });
    if (!this.#core.applied) this.#sync.ask(peer, false);
    // the gossip mesh may not have formed yet, and what was said before would be lost on the newcomer
    for (const message of this.#standingMessages()) this.#core.emit({ type: 'send', peer, message });
  }

  #onTrained(event: Event & { type: 'trained' }): void {
    if (this.#round?.base !== event.base || this.#round.own) return;
    const header = this.#round.announce(event.update, event.inline);
    this.#persist();
    this.#core.emit({ type: 'broadcast', message: header });
  }

  #onLeave(): void {
    this.#membership.leaving = true;
    const { applied, self, branch } = this.#core;
    const roster = peersOf(branch.head.roster);
    if (!applied || !roster.includes(self) || roster.length === 1) return this.#finish('left');
    const message = this.#membership.leaveMessage();
    this.#membership.onLeave(message.leave);
    this.#core.emit({ type: 'broadcast', message });
  }

  #finish(reason: 'rounds' | 'left'): void {
    if (this.#done) return;
    this.#done = true;
    this.#core.emit({ type: 'report', report: { kind: 'done', reason } });
  }

  // --- agreed state -------------------------------------------------------------------------------------------------

  #initialize(): void {
    this.#sync.restoring = 'initialize';
    this.#core.emit({ type: 'initialize' });
  }

  #onRestored(event: Event & { type: 'restored' }): void {
    const target = this.#sync.restoring;
    this.#sync.restoring = undefined;
    if (!target) return;
    if (event.error) {
      this.#core.warn(event.error, 'the snapshot could not be had; asking again');
      return;
    }
    const { branch } = this.#core;
    const position = target === 'initialize' ? 0 : branch.find(target.block);
    if (position < 0) return; // the branch was left meanwhile
    const snapshot = { id: event.snapshot, bytes: event.snapshotBytes };
    const state = target === 'initialize' ? stateAt(branch.heads[0]!, snapshot) : target.state;
    const { root } = this.#core.setApplied(position, state);
    this.#round = undefined;
    this.#core.emit({ type: 'report', report: { kind: 'synced', round: state.round, root } });
  }

  #onHistory(peer: PeerId, history: History | null): void {
    const followed = this.#sync.onHistory(peer, history);
    if (!followed || this.#applying || this.#sync.restoring) return;
    const { fork, states, restore } = followed;
    const start = this.#sync.startingPoint(fork, states, restore);
    if (start.position === undefined) {
      return this.#core.warn('W_NO_STATE', `peer ${peer} serves no state that its history certifies; asking others`);
    }
    const { branch } = this.#core;
    const common = commonLength(branch.entries, fork.entries);
    for (const entry of fork.entries.slice(common)) this.#core.emit({ type: 'append', entry });
    this.#core.branch = fork;
    if (start.initialize || start.state) this.#core.applied = undefined;
    this.#changedHeight();
    if (start.initialize) return this.#initialize();
    if (!start.state) return;
    const block = fork.heads[start.position]!.tip;
    this.#sync.restoring = { block, state: start.state };
    this.#core.emit({ type: 'restore', state: start.state, block, holders: [peer, ...this.#membership.reachable()] });
  }

  #append(entry: Entry): void {
    const { branch } = this.#core;
    const position = branch.find(entry.block.previous);
    if (position < 0) return;
    this.#core.emit({ type: 'append', entry });
    branch.truncate(position);
    branch.append(entry);
    this.#changedHeight();
  }

  #changedHeight(): void {
    const { applied, branch } = this.#core;
    // a certified block that overrules unfinal ones which are in our state: back to the state it builds on
    if (applied && branch.heads[applied.position]?.tip !== applied.head.tip) this.#goBack();
    if (this.#agreement.height === branch.head.height + 1) return;
    this.#agreement = this.#newAgreement();
    this.#replayFuture();
  }

  #goBack(): void {
    const { branch, states } = this.#core;
    this.#core.applied = undefined;
    this.#round = undefined;
    for (let position = branch.heads.length - 1; position >= 0; position--) {
      const block = branch.heads[position]!.tip;
      const state = states.get(block);
      if (!state) continue;
      this.#sync.restoring = { block, state };
      return this.#core.emit({ type: 'restore', state, block, holders: this.#membership.reachable() });
    }
  }

  #onApplied(event: Event & { type: 'applied' }): void {
    if (this.#applying !== event.block) return;
    this.#applying = undefined;
    const { applied, branch } = this.#core;
    assert(applied, 'a block is applied to a state');
    const position = applied.position + 1;
    const { block } = branch.entries[position - 1]!;
    const snapshot = { id: event.snapshot, bytes: event.snapshotBytes };
    const { root, head } = this.#core.setApplied(position, stateAt(branch.heads[position]!, snapshot));
    this.#membership.onBlock(applied.head, head);
    this.#reportRound(block, root);
    this.#startRound();
  }

  #reportRound(block: Block, root: Hash): void {
    const tokens = block.updates.reduce((sum, update) => sum + update.tokens, 0);
    const trainLoss = block.updates.reduce((sum, update) => sum + update.loss * update.tokens, 0) / tokens;
    const contributors = block.updates.map((update) => update.author);
    const { self } = this.#core;
    const own = contributors.includes(self) ? 'included' : this.#round?.places.includes(self) ? 'late' : 'none';
    const final = block.members === null;
    if (final && this.#unfinalSaid) {
      this.#unfinalSaid = false;
      this.#core.warn('W_FINAL_AGAIN', 'a quorum is back: this round and the unfinal ones before it are final');
    }
    const round = block.round + 1;
    const report = { kind: 'round', round, root, final, contributors, trainLoss, tokens, own } as const;
    this.#core.emit({ type: 'report', report });
  }

  // --- progress -----------------------------------------------------------------------------------------------------

  /** Everything that can be done now is done, in an order that depends on nothing but the state. */
  #progress(): void {
    do {
      // votes go out before a decision replaces the agreement that holds them
      this.#flushVotes();
      this.#commit();
      this.#applyNext();
      if (this.#core.atTip && !this.#applying && !this.#sync.restoring) this.#advanceRound();
    } while (this.#agreement.hasOutbox && !this.#done);
    this.#repeatWhenStuck();
    if (this.#ending) this.#endWhenHeard(this.#ending);
  }

  /** A decided block becomes part of the branch, even over unfinal ones that we went on with. */
  #commit(): void {
    while (this.#agreement.decision && !this.#applying && !this.#sync.restoring) {
      const { decision } = this.#agreement;
      if (this.#core.branch.find(decision.block.previous) < 0) {
        return this.#sync.askInTurn(this.#membership.reachable(), false);
      }
      this.#append(decision);
    }
    const { decidedHash, decision } = this.#agreement;
    if (decidedHash && !decision) this.#sync.askInTurn(this.#membership.reachable(), false);
  }

  #applyNext(): void {
    const { applied, branch } = this.#core;
    while (applied && !this.#applying && !this.#sync.restoring && !this.#core.atTip) {
      const { position } = this.#core.applied!;
      const entry = branch.entries[position]!;
      if (entry.block.kind === 'round') return this.#applyRound(entry);
      const before = this.#core.applied!.head;
      const head = branch.heads[position + 1]!;
      this.#core.applied = { ...this.#core.applied!, position: position + 1, head };
      this.#membership.onBlock(before, head);
    }
    if (this.#core.atTip && !this.#sync.restoring && this.#round?.base !== this.#core.applied?.root) this.#startRound();
  }

  #applyRound(entry: Entry): void {
    const applied = this.#core.applied!;
    const { block } = entry;
    const holders = this.#membership.reachable();
    if (block.base !== applied.root) {
      this.#core.warn('W_DIVERGED', `round ${block.round} builds on another root than ours: fetching the agreed state`);
      return this.#sync.askInTurn(holders, true);
    }
    const state = this.#payloads.require(block, holders);
    if (state === 'unavailable' || state === 'refused') {
      this.#payloads.retry(block, holders);
      return this.#sync.askInTurn(holders, true);
    }
    if (state !== 'held') return;
    this.#applying = blockHash(block);
    const next = stateAt(this.#core.branch.heads[applied.position + 1]!, { id: '', bytes: 0 });
    const { round, roster, cursor, tokens } = next;
    const final = block.members === null;
    const target = { round, roster, cursor, tokens };
    this.#core.emit({ type: 'apply', entry, block: this.#applying, final, state: target });
  }

  #startRound(): void {
    const { applied, context, self } = this.#core;
    if (!applied || !this.#core.atTip || applied.head.places.length === 0) return;
    const { genesis } = context;
    const round = applied.state.round;
    if (genesis.rounds !== null && round >= genesis.rounds) {
      if (this.#ending) return;
      this.#ending = { sinceMs: this.#core.nowMs, reason: 'rounds' };
      return this.#sayWhereWeEnd();
    }
    const announced = this.#round?.own ?? this.#announcedBefore;
    this.#round = new Round(this.#core, this.#payloads, applied);
    this.#payloads.keep(this.recentPayloads());
    this.#readySinceMs = undefined;
    const place = applied.head.places.indexOf(self);
    if (announced?.base === applied.root) this.#round.adoptOwn(announced);
    else if (place >= 0 && !this.#membership.leaving) {
      const { innerSteps, batch } = genesis;
      const firstPosition = applied.state.cursor + place * innerSteps * batch;
      const [base, steps, firstStep] = [applied.root, innerSteps, round * innerSteps];
      this.#core.emit({ type: 'train', round, base, firstPosition, steps, firstStep });
    }
    this.#replayFuture();
  }

  #advanceRound(): void {
    const { applied, nowMs, self } = this.#core;
    if (!applied || this.#ending) return;
    this.#noteView();
    if (this.#membership.leaving && !peersOf(applied.head.roster).includes(self)) return this.#finish('left');
    this.#round?.askToFinish();
    this.#notarizeIfSound();
    const fresh = this.#freshBlock();
    const locked = this.#agreement.lockedBlock();
    if (!fresh && !locked && !this.#agreement.proposal) {
      this.#readySinceMs = undefined;
      return;
    }
    this.#readySinceMs ??= nowMs;
    // a block notarized in an earlier view is most likely being finalized: repeating it at once would be noise
    const proposeAtMs = locked ? this.#viewSinceMs + this.#viewMs() / 2 : this.#readySinceMs;
    if (nowMs >= proposeAtMs) this.#agreement.propose(fresh);
    else this.#core.wakeAt(proposeAtMs);
    this.#notarizeIfSound();
    const deadlineMs = Math.max(this.#readySinceMs, this.#viewSinceMs) + this.#viewMs();
    if (nowMs >= deadlineMs) this.#agreement.nullify();
    else this.#core.wakeAt(deadlineMs);
    if (fresh?.kind === 'round') this.#goOnWithoutQuorum();
  }

  /** How long this view may take: doubles with every view, so that slow links get a block through in the end. */
  #viewMs(): number {
    const { viewMs, quorumWaitMs } = this.#core.context.genesis.timing;
    return Math.min(viewMs * 2 ** Math.min(this.#agreement.view, 5), Math.max(viewMs, (quorumWaitMs ?? 1e9) / 2));
  }

  #noteView(): void {
    const seen = `${this.#agreement.height}/${this.#agreement.view}`;
    if (seen === this.#viewSeen) return;
    this.#viewSeen = seen;
    this.#viewSinceMs = this.#core.nowMs;
    this.#repeatedMs = this.#core.nowMs;
  }

  #freshBlock(): Block | undefined {
    const applied = this.#core.applied!;
    const { head, root } = applied;
    const common = { height: head.height + 1, previous: head.tip, round: head.round, base: root, members: null };
    const requests = this.#membership.requests(head);
    const started = head.places.length > 0;
    if (started && this.#round?.isComplete((peer) => this.#membership.isLive(peer) && isIn(head.roster, peer))) {
      return { ...common, kind: 'round', updates: this.#round.held(), ...requests };
    }
    const due = started ? requests.leaves.length > 0 : requests.leaves.length + requests.joins.length > 0;
    if (!due) return undefined;
    return { ...common, kind: 'membership', updates: [], ...requests, joins: started ? [] : requests.joins };
  }

  #notarizeIfSound(): void {
    const { proposal } = this.#agreement;
    if (!proposal || !this.#agreement.isVoter || this.#agreement.hasVoted('notarize')) return;
    if (this.#agreement.proposalIsLocked()) return this.#agreement.notarize();
    const { branch, context, applied } = this.#core;
    try {
      checkBlock(context, branch.head, proposal.block, applied!.root);
    } catch (error) {
      if (!isCoded(error)) throw error;
      return; // not ours to judge if we are behind, and the view's time runs out if it is plain wrong
    }
    const state = this.#payloads.require(proposal.block, [proposal.author]);
    if (state === 'held') this.#agreement.notarize();
    else if (state === 'unavailable') this.#payloads.retry(proposal.block, [proposal.author]);
  }

  /** No quorum for the stated time, or none since the last unfinal round: the rest go on. */
  #goOnWithoutQuorum(): void {
    const { applied, context, nowMs, self } = this.#core;
    const { quorumWaitMs } = context.genesis.timing;
    const { committee, roster } = applied!.head;
    if (quorumWaitMs === null || !isIn(roster, self)) return;
    const live = () => committee.filter((peer) => this.#membership.isLive(peer)).length;
    const waitedSinceMs = Math.max(this.#readySinceMs!, this.#viewSinceMs);
    const waited = nowMs >= waitedSinceMs + quorumWaitMs;
    const alreadyUnfinal = applied!.head.unfinalTokens > 0;
    if (!waited && !(alreadyUnfinal && live() < quorumOf(committee.length))) {
      return this.#core.wakeAt(waitedSinceMs + quorumWaitMs);
    }
    if (waited && live() >= quorumOf(committee.length)) {
      const heard = this.#agreement.votersHeard();
      for (const peer of committee) if (peer !== self && !heard.has(peer)) this.#membership.absent.add(peer);
      if (live() >= quorumOf(committee.length)) return;
    }
    this.#sayUnfinal(live(), committee.length);
    const entry = this.#unfinal.progress(this.#round!, context.genesis.timing.viewMs);
    if (!entry) return;
    this.#append(entry);
    this.#applyNext();
  }

  #sayUnfinal(live: number, voters: number): void {
    if (this.#unfinalSaid) return;
    this.#unfinalSaid = true;
    const text = `${live} of ${voters} voters can be reached, ${quorumOf(voters)} are needed: going on in unfinal rounds`;
    this.#core.warn('W_UNFINAL', text);
  }

  // --- votes, repetition, the end -------------------------------------------------------------------------------------

  #newAgreement(): Agreement {
    const { context, branch } = this.#core;
    const { height, committee } = branch.head;
    const { run, signer, genesis } = context;
    return new Agreement({ run, seed: genesis.seed, height: height + 1, committee, signer });
  }

  #flushVotes(): void {
    const messages = this.#agreement.takeOutbox();
    for (const [earlier] of this.#agreement.evidence.splice(0)) {
      this.#core.warn('W_EQUIVOCATION', `peer ${earlier.author} voted for two blocks at height ${earlier.height}`);
    }
    if (messages.length === 0) return;
    this.#persist();
    for (const message of messages) this.#core.emit({ type: 'broadcast', message });
  }

  #persist(): void {
    this.#core.emit({ type: 'persist', record: encodeRecord(this.#agreement.record(), this.#round?.own) });
  }

  #announcedBefore: MessageOf<'header'> | undefined;

  #restoreRecord(bytes: Uint8Array): void {
    const { record, header } = decodeRecord(bytes, this.run, this.#core.context.signer);
    this.#announcedBefore = header;
    if (record.height === this.#agreement.height) this.#agreement.restore(record);
  }

  /** What a peer that just came, or has not heard, should know of us. */
  #standingMessages(): Message[] {
    const messages = this.#agreement.repeat();
    if (this.#round?.own) messages.push(this.#round.own);
    return messages;
  }

  /** Gossip loses messages: as long as nothing moves, everything is said again. */
  #repeatWhenStuck(): void {
    const { applied, nowMs, self } = this.#core;
    if (this.#done) return;
    const outside = applied && this.#sync.caughtUp && !isIn(applied.head.roster, self) && !this.#membership.leaving;
    const waiting = this.#readySinceMs !== undefined || this.#round?.own !== undefined || this.#ending !== undefined;
    if (applied && !outside && !waiting && this.#core.atTip && !this.#membership.leaving) return;
    const atMs = this.#repeatedMs + REPEAT_MS;
    if (nowMs < atMs) return this.#core.wakeAt(atMs);
    this.#repeatedMs = nowMs;
    this.#core.wakeAt(nowMs + REPEAT_MS);
    const messages = [this.#core.status(), ...this.#standingMessages()];
    if (outside) messages.push(this.#membership.joinMessage(applied.state.round));
    if (this.#membership.leaving) messages.push(this.#membership.leaveMessage());
    for (const message of messages) this.#core.emit({ type: 'broadcast', message });
    if (!applied || !this.#core.atTip) this.#sync.askInTurn(this.#membership.reachable(), false);
  }

  #sayWhereWeEnd(): void {
    const last = this.#core.branch.entries.at(-1);
    this.#core.emit({ type: 'broadcast', message: this.#core.status() });
    if (!last) return;
    const { certificate, block } = last;
    this.#core.emit({ type: 'broadcast', message: { type: 'certificate', run: this.run, certificate, block } });
  }

  /** The last round is reached: stay a moment, so that nobody is left without its certificate and payloads. */
  #endWhenHeard(ending: { sinceMs: number; reason: 'rounds' | 'left' }): void {
    const atMs = ending.sinceMs + LINGER_MS;
    const alone = !this.#membership.reachable().some((peer) => isIn(this.#core.branch.head.roster, peer));
    if (alone || this.#core.nowMs >= atMs) this.#finish(ending.reason);
    else this.#core.wakeAt(atMs);
  }
}

/** How often a peer that waits says again what it said: more often than a view takes, rarely enough to be no load. */
const REPEAT_MS = 1000;
/** How long a peer that is done stays, for others to fetch what they lack. */
const LINGER_MS = 2000;

function isIn(roster: readonly { peer: PeerId }[], peer: PeerId): boolean {
  return roster.some((member) => member.peer === peer);
}

function commonLength(a: readonly Entry[], b: readonly Entry[]): number {
  let i = 0;
  while (i < a.length && i < b.length && blockHash(a[i]!.block) === blockHash(b[i]!.block)) i++;
  return i;
}

function encodeRecord(record: AgreementRecord, header: MessageOf<'header'> | undefined): Uint8Array {
  const { height, votes, certificates, proposal } = record;
  const messages: Message[] = [...votes, ...certificates];
  if (proposal) messages.push(proposal);
  if (header) messages.push(header);
  return encodeCanonical({ height, messages: messages.map(encodeMessage) });
}

function decodeRecord(bytes: Uint8Array, run: Hash, signer: Signer) {
  const { height, messages } = decodeCanonical(bytes, RECORD_BYTES_MAX) as { height: number; messages: Uint8Array[] };
  const record: AgreementRecord = { height, votes: [], certificates: [], proposal: null };
  let header: MessageOf<'header'> | undefined;
  for (const each of messages) {
    const message = decodeMessage(each, run, signer);
    if (message.type === 'vote') record.votes.push(message);
    else if (message.type === 'certificate') record.certificates.push(message);
    else if (message.type === 'proposal') record.proposal = message;
    else if (message.type === 'header') header = message;
  }
  return { record, header };
}

/** Votes and certificates of one height, each with its block: far more than ever occurs. */
const RECORD_BYTES_MAX = 64 * LIMITS.gossipBytesMax;


import { Agreement } from './agreement.ts';
import { isCredible, rootOf, stateAt } from './chain.ts';
import { Chatter } from './chatter.ts';
import { Closing } from './closing.ts';
import { Core } from './core.ts';
import { assert } from './errors.ts';
import type { Effect, Event, Restart } from './events.ts';
import { type Genesis, runIdOf } from './genesis.ts';
import type { Hash } from './hash.ts';
import { branchFromLog } from './history.ts';
import type { PeerId, Signer } from './identity.ts';
import { LIMITS } from './limits.ts';
import { isMember, Membership } from './membership.ts';
import type { History, Message, MessageOf } from './messages.ts';
import { decodeRecord, encodeRecord } from './record.ts';
import { peersOf } from './roster.ts';
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
 * 5. `trained` comes when update and residual are durable, `applied` and `restored` when the agreed state is, or when it
 *    can be had again from an older one on disk and the payloads of the rounds since, which are kept.
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
  readonly #closing: Closing;
  readonly #chatter: Chatter;
  #agreement: Agreement;
  #round: Round | undefined;
  #applying: Hash | undefined;
  /** messages for rounds and heights that this peer has not reached */
  #future: { from: PeerId; message: Message }[] = [];
  /** headers announced, by the root they build on: each stands if its round is still open, or opens again */
  readonly #announced = new Map<Hash, MessageOf<'header'>>();
  /** since when the last round is reached */
  #endingSinceMs: number | undefined;
  #started = false;
  #done = false;

  constructor(components: { signer: Signer }, init: { genesis: Genesis }) {
    this.run = runIdOf(init.genesis);
    this.#core = new Core({ genesis: init.genesis, run: this.run, signer: components.signer });
    this.#membership = new Membership(this.#core);
    this.#payloads = new Payloads(this.#core);
    this.#sync = new Sync(this.#core, this.#membership);
    this.#unfinal = new Unfinal(this.#core, this.#membership, this.#payloads);
    this.#chatter = new Chatter(this.#core, this.#membership, this.#sync);
    this.#closing = new Closing(this.#core, this.#membership, this.#payloads, this.#unfinal);
    this.#agreement = this.#newAgreement();
    this.#core.candidates = () => this.#agreement.candidates();
  }

  step(event: Event): Effect[] {
    assert(this.#started !== (event.type === 'start'), 'start comes first, and once');
    this.#started = true;
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

  /** Entries in every queue and map that others' messages fill, for a watcher; each is bounded by `LIMITS`. */
  get load() {
    const [futureMessages, payloads] = [this.#future.length, this.#payloads.load];
    return { futureMessages, payloads, ...this.#membership.load, ...this.#agreement.load, ...this.#unfinal.load };
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
      if (restart.applied && position >= 0) this.#core.setApplied(position, restart.applied.state, true);
      this.#agreement = this.#newAgreement();
      if (restart.record) this.#restoreRecord(restart.record);
    }
    if (!this.#core.applied && context.genesis.founder === self && this.#core.branch.entries.length === 0) {
      this.#sync.initialize();
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
        this.#sync.onStatus(message);
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
    for (const message of this.#chatter.standing(this.#agreement, this.#round)) {
      this.#core.emit({ type: 'send', peer, message });
    }
  }

  #onTrained(event: Event & { type: 'trained' }): void {
    if (this.#round?.base !== event.base || this.#round.own) return;
    const header = this.#round.announce(event.update, event.inline);
    this.#noteAnnounced(header);
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

  #onRestored(event: Event & { type: 'restored' }): void {
    if (!this.#sync.restored(event)) return;
    this.#round = undefined;
    this.#chatter.hurry(); // a joiner asks to be let in at once
  }

  #onHistory(peer: PeerId, history: History | null): void {
    const busy = this.#applying !== undefined;
    if (this.#sync.follow(peer, history, busy)) this.#changedHeight();
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
    if (applied && branch.heads[applied.position]?.tip !== applied.head.tip) {
      this.#round = undefined;
      this.#sync.goBack();
    }
    if (this.#agreement.height === branch.head.height + 1) return;
    this.#agreement = this.#newAgreement();
    this.#replayFuture();
  }

  #onApplied(event: Event & { type: 'applied' }): void {
    if (this.#applying !== event.block) return;
    this.#applying = undefined;
    const { applied, branch } = this.#core;
    assert(applied, 'a block is applied to a state');
    const position = applied.position + 1;
    const { block } = branch.entries[position - 1]!;
    const snapshot = { id: event.snapshot, bytes: event.snapshotBytes };
    const { root, head } = this.#core.setApplied(position, stateAt(branch.heads[position]!, snapshot), event.served);
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
    if (final) this.#closing.onFinalRound();
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
      this.#retreat();
      this.#applyNext();
      if (this.#core.atTip && !this.#applying && !this.#sync.restoring) this.#advanceRound();
    } while (this.#agreement.hasOutbox && !this.#done);
    this.#repeatWhenStuck();
    if (this.#endingSinceMs !== undefined) this.#endWhenHeard(this.#endingSinceMs);
  }

  /** A decided block becomes part of the branch, even over unfinal ones that we went on with. */
  #commit(): void {
    while (this.#agreement.decision && !this.#applying && !this.#sync.restoring) {
      const { decision } = this.#agreement;
      if (this.#core.branch.find(decision.block.previous) < 0) {
        return this.#sync.askInTurn(false);
      }
      this.#append(decision);
    }
    const { decidedHash, decision } = this.#agreement;
    if (decidedHash && !decision) this.#sync.askInTurn(false);
  }

  /**
   * A part of the swarm that went on with too few voters for others to follow (`isCredible`) comes back, once a quorum is
   * in sight, to what they can believe; else each would wait for the others on a branch of its own.
   */
  #retreat(): void {
    const { branch } = this.#core;
    const { entries, heads } = branch;
    if (this.#applying || this.#sync.restoring || !entries.at(-1)?.block.members) return;
    if (!this.#membership.seesQuorum(branch.head.committee)) return;
    let position = entries.length;
    while (position > 0 && !isCredible(heads[position]!, entries[position - 1]!.block.members, true)) position--;
    if (position === entries.length) return;
    branch.truncate(position);
    this.#changedHeight();
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
      return this.#sync.askInTurn(true);
    }
    const state = this.#payloads.require(block, holders);
    if (state === 'unavailable' || state === 'refused') {
      this.#payloads.retry(block, holders);
      return this.#sync.askInTurn(true);
    }
    if (state !== 'held') return;
    this.#applying = blockHash(block);
    const next = stateAt(this.#core.branch.heads[applied.position + 1]!, { id: '', bytes: 0 });
    const { round, roster, cursor, tokens } = next;
    const final = block.members === null;
    const target = { round, roster, cursor, tokens };
    const keep = this.#core.keepNeeded();
    this.#core.emit({ type: 'apply', entry, block: this.#applying, final, state: target, keep });
  }

  #startRound(): void {
    const { applied, context, self } = this.#core;
    if (!applied || !this.#core.atTip || applied.head.places.length === 0) return;
    const { genesis } = context;
    const round = applied.state.round;
    if (genesis.rounds !== null && round >= genesis.rounds) {
      if (this.#endingSinceMs !== undefined) return;
      this.#endingSinceMs = this.#core.nowMs;
      return this.#chatter.sayWhereWeEnd();
    }
    const announced = this.#announced.get(applied.root);
    this.#round = new Round(this.#core, this.#payloads, applied);
    this.#payloads.keep(this.recentPayloads());
    this.#closing.beginRound();
    const place = applied.head.places.indexOf(self);
    if (announced) this.#round.adoptOwn(announced);
    else if (place >= 0 && !this.#membership.leaving) {
      const { innerSteps, batch } = genesis;
      const firstPosition = applied.state.cursor + place * innerSteps * batch;
      const [base, steps, firstStep] = [applied.root, innerSteps, round * innerSteps];
      this.#core.emit({ type: 'train', round, base, firstPosition, steps, firstStep });
    }
    this.#replayFuture();
  }

  #advanceRound(): void {
    const { applied, self } = this.#core;
    if (!applied || this.#endingSinceMs !== undefined) return;
    if (this.#membership.leaving && !isMember(applied.head, self)) return this.#finish('left');
    this.#round?.askToFinish();
    const entry = this.#closing.advance(this.#agreement, this.#round);
    if (!entry) return;
    this.#append(entry);
    this.#applyNext();
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
    this.#core.emit({
      type: 'persist',
      record: encodeRecord(this.#agreement.record(), this.#announced.values()),
    });
  }

  /** The payload rides in the newest alone: all of them are in every record. */
  #noteAnnounced(header: MessageOf<'header'>): void {
    for (const [base, before] of this.#announced) {
      if (before.inline) this.#announced.set(base, { ...before, inline: null });
    }
    this.#announced.set(header.base, header);
    if (this.#announced.size <= ANNOUNCED_KEPT) return;
    const states = new Set([...this.#core.states.values()].map(rootOf));
    for (const base of this.#announced.keys()) {
      if (this.#announced.size <= ANNOUNCED_KEPT) break;
      if (!states.has(base)) this.#announced.delete(base);
    }
  }

  #restoreRecord(bytes: Uint8Array): void {
    const { record, headers } = decodeRecord(bytes, this.run, this.#core.context.signer);
    for (const header of headers) this.#noteAnnounced(header);
    if (record.height === this.#agreement.height) this.#agreement.restore(record);
  }

  /** Gossip loses messages: as long as nothing moves, everything is said again. */
  #repeatWhenStuck(): void {
    if (this.#done) return;
    const waiting = this.#closing.isWaiting || this.#round?.own !== undefined || this.#endingSinceMs !== undefined;
    this.#chatter.repeatWhenStuck(waiting, this.#agreement, this.#round);
  }

  /** The last round is reached: stay a moment, so that nobody is left without its certificate and payloads. */
  #endWhenHeard(sinceMs: number): void {
    const atMs = sinceMs + LINGER_MS;
    const alone = !this.#membership.reachable().some((peer) => isMember(this.#core.branch.head, peer));
    if (alone || this.#core.nowMs >= atMs) this.#finish('rounds');
    else this.#core.wakeAt(atMs);
  }
}

/** Own headers remembered: those of a long stretch of unfinal rounds, which another history may send us back into. */
const ANNOUNCED_KEPT = 64;
/** How long a peer that is done stays, for others to fetch what they lack. */
const LINGER_MS = 2000;

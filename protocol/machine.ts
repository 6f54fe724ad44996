import { Agreement } from './agreement.ts';
import { Announced } from './announced.ts';
import { factsAt, type Head, leadersOf, rootOf, stateAt } from './chain.ts';
import { Chatter } from './chatter.ts';
import { Closing } from './closing.ts';
import { type Applied, Core } from './core.ts';
import { Ending } from './ending.ts';
import { assert } from './errors.ts';
import type { Effect, Event } from './events.ts';
import { type Genesis, runIdOf } from './genesis.ts';
import type { Hash } from './hash.ts';
import type { SegmentSize } from './history.ts';
import type { PeerId, Signer } from './identity.ts';
import { LIMITS } from './limits.ts';
import { isMember, Membership } from './membership.ts';
import type { History, Message, MessageOf, PageRequest } from './messages.ts';
import type { OwnHistory } from './own-updates.ts';
import { Patience } from './patience.ts';
import { Payloads } from './payloads.ts';
import { Post, type Present } from './post.ts';
import { decodeRecord, type PeerRecord } from './record.ts';
import { peersOf, placesIn } from './roster.ts';
import { BEGINNING, GATHERING, Round } from './round.ts';
import { blockHash } from './signing.ts';
import { roundReport } from './summary.ts';
import { LOST_AGAIN_WAITS, LOST_WAITS, Sync } from './sync.ts';
import { Unfinal } from './unfinal.ts';
import type { Block, Entry } from './wire.ts';

/**
 * A peer as a state machine: events in, effects out. It never waits, never looks at a clock and holds no parameters:
 * vectors are the replica's, named here by hash. Equal events give equal effects.
 *
 * The driver's duties:
 * 1. Give one event at a time, `start` first, each with a clock in milliseconds that never runs backwards. Messages that
 *    came together are best given together: everything is looked at once after each event, not after each message.
 * 2. Carry out the effects of a step in order. What `persist` and `append` say is durable before a later effect of the
 *    same step leaves the machine room: a vote that a crash makes us forget could be cast twice.
 * 3. Pass only messages that `decodeMessage` accepted, with the peer that handed them over.
 * 4. Answer every `fetch`, `take`, `apply`, `initialize`, `restore`, `train`, `train-on` and `request-history` with its event,
 *    errors included; the trainings only if they are not overtaken by `apply` or `restore`.
 * 5. `trained` and `trained-on` come when update and residual are durable, `restored` and `saved` when the agreed state is;
 *    `applied` may come before, for the state can be had again from an older one on disk and the payloads of the rounds
 *    since, which are kept.
 * 6. Send `wake` at the time last asked for, or a little later.
 * 7. Answer other peers' history requests with `history()`, once what was emitted before is carried out, and by way of
 *    `historyNow()` if that took time; and serve the states, payloads and blobs it names.
 * 8. Give `restart` back all that was persisted and appended, and the newest agreed state that is whole; and `unfinished`, if
 *    the process ended while it fetched a snapshot and has parts of it.
 *
 * A round: train, announce a header, fetch and check the others' payloads, agree on a block (`Agreement`), apply it.
 */
export class Machine {
  readonly run: Hash;
  readonly #core: Core;
  readonly #membership: Membership;
  readonly #payloads: Payloads;
  readonly #patience = { gathering: new Patience(GATHERING), beginning: new Patience(BEGINNING) };
  readonly #sync: Sync;
  readonly #unfinal: Unfinal;
  readonly #closing: Closing;
  readonly #chatter: Chatter;
  readonly #ending: Ending;
  readonly #post: Post;
  readonly #present: Present;
  #applying: Hash | undefined;
  /** the block that comes next, and since when nobody has all that it names */
  #lacking: { tip: Hash; sinceMs: number } | undefined;
  /** the block that comes next, where it was told that it builds on another state */
  #diverged: Hash | undefined;
  readonly #announced = new Announced();
  /** what was signed at a height that the history here does not reach: the end of that was lost */
  #signedAhead: PeerRecord | undefined;
  #started = false;

  /** @param init.segmentSize how much history is kept @default SEGMENT_SIZE */
  constructor(components: { signer: Signer }, init: { genesis: Genesis; segmentSize?: SegmentSize | undefined }) {
    this.run = runIdOf(init.genesis);
    this.#core = new Core({ genesis: init.genesis, run: this.run, signer: components.signer }, init.segmentSize);
    this.#membership = new Membership(this.#core);
    this.#payloads = new Payloads(this.#core);
    this.#sync = new Sync(this.#core, this.#membership);
    this.#unfinal = new Unfinal(this.#core, this.#membership, this.#payloads);
    this.#chatter = new Chatter(this.#core, this.#membership, this.#sync, this.#unfinal);
    this.#unfinal.onSaid = () => this.#chatter.said();
    this.#ending = new Ending(this.#core, this.#membership, this.#chatter);
    this.#closing = new Closing(this.#core, this.#membership, this.#payloads, this.#unfinal);
    this.#present = { agreement: this.#newAgreement(), round: undefined };
    this.#core.open = () => this.#present.agreement;
    this.#post = new Post({
      core: this.#core,
      present: this.#present,
      membership: this.#membership,
      sync: this.#sync,
      unfinal: this.#unfinal,
      append: (entry) => this.#append(entry),
    });
  }

  step(event: Event): readonly Effect[] {
    assert(this.#started !== (event.type === 'start'), 'start comes first, and once');
    this.#started = true;
    this.#core.nowMs = event.nowMs;
    this.#handle(event);
    if (!this.#ending.done) this.#progress();
    return this.#core.takeEffects();
  }

  /** What a peer that asks is told of this one's history. */
  history(request: PageRequest): History {
    return { run: this.run, ...this.#core.tell(request) };
  }

  /** The same answer, where it had to wait: without the states that have given way to newer ones meanwhile. */
  historyNow(told: History): History {
    return { ...told, states: this.#core.stillHeld(told.states) };
  }

  /** Whether a block is on the branch that this peer follows, as far back as it is kept. */
  follows(block: Hash): boolean {
    return this.#core.branch.find(block) >= 0;
  }

  /** For a screen: where this peer is. */
  get standing(): { round: number; roster: readonly PeerId[]; root: Hash | undefined; places: readonly PeerId[] } {
    const head = this.#core.applied?.head ?? this.#core.branch.head;
    return { round: head.round, roster: peersOf(head.roster), root: this.#core.applied?.root, places: head.places };
  }

  /** For a screen: what this peer waits for at the newest state, where it has nothing to train. */
  get awaits(): 'place' | 'updates' | undefined {
    const { round } = this.#present;
    if (!round || !this.#core.atTip || round.base !== this.#core.applied?.root) return undefined;
    if (!placesIn(round.places).has(this.#core.self)) return 'place';
    return round.own ? 'updates' : undefined;
  }

  /** For others: where this peer's branch is. */
  get status(): Message {
    return this.#core.status();
  }

  /** Whether a peer is in the newest roster that is known here. */
  isMember(peer: PeerId): boolean {
    return isMember(this.#core.branch.head, peer);
  }

  /** What the history up to its state says of this peer's updates; undefined where it has no state. */
  get ownHistory(): OwnHistory | undefined {
    const { applied } = this.#core;
    return applied && this.#core.ownHistory(applied.position);
  }

  /** Entries in every queue and map that others' messages fill, for a watcher; each is bounded by `LIMITS`. */
  get load() {
    const payloads = this.#payloads.load;
    const { agreement } = this.#present;
    return { payloads, ...this.#post.load, ...this.#membership.load, ...agreement.load, ...this.#unfinal.load };
  }

  #handle(event: Event): void {
    switch (event.type) {
      case 'start':
        return this.#onStart(event);
      case 'messages':
        for (let i = 0; i < event.messages.length; i++) this.#post.deliver(event.from[i]!, event.messages[i]!);
        return;
      case 'peer':
        return this.#onPeer(event.peer, event.up);
      case 'trained':
        return this.#onTrained(event);
      case 'broken':
        return this.#onBroken(event.base);
      case 'trained-on':
        return this.#onTrainedOn(event.base);
      case 'payload':
        return this.#payloads.onPayload(event.update, event.error);
      case 'taken':
        return this.#payloads.onTaken(event.headers, event.refused);
      case 'applied':
        return this.#onApplied(event);
      case 'saved':
        return this.#core.markSaved(event.block);
      case 'restored':
        return this.#onRestored(event);
      case 'history':
        return this.#onHistory(event.peer, event.history);
      case 'leave':
        return this.#ending.leave();
      case 'wake':
        return this.#core.woken();
      default:
        return event satisfies never;
    }
  }

  #onStart({ restart, trustBlock, unfinished }: Event & { type: 'start' }): void {
    const { context, self } = this.#core;
    this.#sync.unfinished = unfinished;
    if (restart) {
      this.#core.resume(restart.segments, restart.states);
      this.#present.agreement = this.#newAgreement();
      if (restart.record) this.#restoreRecord(restart.record);
    }
    this.#core.pin(trustBlock, restart?.segments ?? []);
    // where this peer stood is on a branch that it has left: nobody may be there to have another state from
    if (!this.#core.applied && !this.#core.pinIsMissing) this.#sync.goBack();
    const hasState = this.#core.applied !== undefined || this.#sync.restoring !== undefined;
    if (!hasState && context.genesis.founder === self && this.#core.branch.entries.length === 0) {
      this.#sync.initialize();
    }
  }

  #onPeer(peer: PeerId, up: boolean): void {
    this.#membership.onPeer(peer, up);
    // much may have been decided before others are there again
    if (this.#membership.connected().length === 0) this.#sync.caughtUp = false;
    if (!up) return;
    this.#core.lookAgain();
    this.#core.emit({ type: 'send', peer, message: this.#core.status() });
    if (!this.#core.applied) this.#sync.ask(peer, false);
    // the gossip mesh may not have formed yet, and what was said before would be lost on the newcomer
    for (const message of this.#chatter.standing(this.#present.agreement, this.#present.round)) {
      this.#core.emit({ type: 'send', peer, message });
    }
  }

  #onTrained(event: Event & { type: 'trained' }): void {
    const { round } = this.#present;
    if (round?.base !== event.base || round.own) return;
    const header = round.announce(event.update, event.inline);
    this.#noteAnnounced(header);
    this.#persist();
    this.#chatter.said();
    this.#core.emit({ type: 'broadcast', message: header });
  }

  #onBroken(base: Hash): void {
    const { round } = this.#present;
    if (round?.base === base) round.renounce();
  }

  #onTrainedOn(base: Hash): void {
    const { round } = this.#present;
    if (round?.base === base) round.trainedOn();
  }

  // --- agreed state -------------------------------------------------------------------------------------------------

  #onRestored(event: Event & { type: 'restored' }): void {
    if (!this.#sync.restored(event)) return;
    this.#present.round = undefined;
    this.#payloads.endRound();
    this.#chatter.hurry(); // a joiner asks to be let in at once
  }

  #onHistory(peer: PeerId, history: History | null): void {
    const busy = this.#applying !== undefined;
    if (this.#sync.follow(peer, history, busy)) this.#changedHeight();
  }

  #append(entry: Entry): void {
    const { branch, pinIsMissing } = this.#core;
    const position = branch.find(entry.block.previous);
    if (position < 0 || pinIsMissing) return;
    this.#core.truncate(position);
    this.#core.append(entry);
    this.#changedHeight();
  }

  #changedHeight(): void {
    const { applied, branch } = this.#core;
    // a certified block that overrules unfinal ones which are in our state: back to the state it builds on
    if (applied && branch.heads[applied.position]?.tip !== applied.head.tip) {
      this.#present.round = undefined;
      this.#sync.goBack();
    }
    if (this.#present.agreement.height === branch.head.height + 1) return;
    this.#present.agreement = this.#newAgreement();
    this.#post.replay();
  }

  #onApplied(event: Event & { type: 'applied' }): void {
    if (this.#applying !== event.block) return;
    this.#applying = undefined;
    const { applied, branch } = this.#core;
    assert(applied, 'a block is applied to a state');
    const position = applied.position + 1;
    const { block } = branch.entries[position - 1]!;
    const snapshot = { id: event.snapshot, bytes: event.snapshotBytes };
    const { root, head } = this.#core.setApplied(position, stateAt(branch.heads[position]!, snapshot), false);
    // the driver drops them now, whether a round begins or not
    this.#payloads.forgetBefore(head.round);
    this.#membership.onBlock(applied.head, block, head);
    this.#reportRound(block, root, applied.head);
    this.#startRound();
  }

  #reportRound(block: Block, root: Hash, before: Head): void {
    const { self } = this.#core;
    const { round: here } = this.#present;
    const hadPlace = here?.base === block.base && placesIn(here.places).has(self);
    const announced = this.#announced.on(block.base)?.update.payload;
    if (block.members === null) this.#closing.onFinalRound(before);
    this.#core.emit({ type: 'report', report: roundReport(block, root, { self, announced, hadPlace }) });
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
      const isAtTip = this.#core.atTip && !this.#isBusy;
      this.#present.agreement.setAtTip(isAtTip);
      if (isAtTip) this.#advanceRound();
    } while (this.#present.agreement.hasOutbox && !this.#ending.done);
    if (this.#isLetGo) this.#ending.reach('left');
    this.#sync.progress();
    if (this.#sync.doWithoutMissing()) this.#changedHeight();
    this.#repeatWhenStuck();
    this.#ending.finishWhenHeard(this.#isBusy);
  }

  /** Another state is being made. */
  get #isBusy(): boolean {
    return this.#applying !== undefined || this.#sync.restoring !== undefined;
  }

  /** A quorum has said so, and what it decided on has to wait for the state that is on its way. */
  get #isLetGo(): boolean {
    if (!this.#membership.leaving || !this.#sync.restoring) return false;
    const { leaves = [] } = this.#present.agreement.decision?.block ?? {};
    return leaves.some(({ author }) => author === this.#core.self);
  }

  /** A decided block becomes part of the branch, even over unfinal ones that we went on with. */
  #commit(): void {
    if (this.#core.pinIsMissing) return; // a decision says nothing of what it stands on
    while (this.#present.agreement.decision && !this.#applying && !this.#sync.restoring) {
      const { decision } = this.#present.agreement;
      const isHere = this.#core.branch.find(decision.block.previous) >= 0;
      if (!isHere && !this.#sync.returnTo(decision)) return this.#sync.askInTurn(false);
      this.#closing.onDecided(decision.certificate);
      if (isHere) this.#append(decision);
      else this.#changedHeight();
    }
    const { decidedHash, decision } = this.#present.agreement;
    if (decidedHash && !decision) this.#sync.askInTurn(false);
  }

  /** Back from rounds that nobody else will believe in, to what the others can go on from too. */
  #retreat(): void {
    if (this.#applying) return;
    const length = this.#unfinal.credibleLength();
    if (length === this.#core.branch.entries.length) return;
    if (this.#sync.restoring) return this.#sync.abandonPast(length);
    this.#core.truncate(length);
    this.#changedHeight();
    // the state that it was to go on from is not here
    if (!this.#core.applied && !this.#sync.restoring) this.#sync.goBack();
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
      this.#membership.onBlock(before, entry.block, head);
    }
    if (this.#core.atTip && !this.#sync.restoring && this.#present.round?.base !== this.#core.applied?.root)
      this.#startRound();
  }

  #applyRound(entry: Entry): void {
    const applied = this.#core.applied!;
    const { block } = entry;
    if (block.base !== applied.root) {
      const { tip } = this.#core.branch.heads[applied.position + 1]!;
      if (this.#diverged !== tip) {
        const what = `round ${block.round} builds on another root than ours`;
        this.#core.warn('W_DIVERGED', `${what}: fetching the agreed state`);
      }
      this.#diverged = tip;
      if (this.#givesUp(block, 'nobody who can be reached has the state that it builds on')) return this.#applyNext();
      return this.#sync.askInTurn(true);
    }
    const holders = () => this.#membership.reachable();
    const payloads = this.#payloads.require(block, holders);
    if (payloads === 'unavailable' || payloads === 'refused') {
      if (this.#givesUp(block, 'nobody who can be reached has all its updates any more')) return this.#applyNext();
      return this.#sync.askInTurn(true);
    }
    // round trips to fetch each in its turn would take whoever is behind as long as the others take for their rounds
    const { entries } = this.#core.branch;
    const next = applied.position + 1;
    for (const { block } of entries.slice(next, next + LIMITS.blocksFetchedAhead)) {
      this.#payloads.requireAhead(block, holders);
    }
    if (payloads !== 'held') return;
    this.#lacking = undefined;
    this.#applying = blockHash(block);
    const state = factsAt(this.#core.branch.heads[applied.position + 1]!);
    const [final, keep] = [block.members === null, this.#core.keepNeeded()];
    this.#core.emit({ type: 'apply', entry, block: this.#applying, final, state, keep });
  }

  /** An unfinal round that nobody has any more, or that was a lie: those who went on with it are gone, and it is gone with them. */
  #givesUp(block: Block, why: string): boolean {
    const { branch, context, nowMs } = this.#core;
    const { position } = this.#core.applied!;
    const { quorumWaitMs } = context.genesis.timing;
    if (block.members === null || quorumWaitMs === null || branch.certifiedLength() > position) return false;
    const { tip } = branch.heads[position + 1]!;
    if (this.#lacking?.tip !== tip) this.#lacking = { tip, sinceMs: nowMs };
    const atMs = this.#lacking.sinceMs + LOST_WAITS * quorumWaitMs;
    if (nowMs < atMs) {
      this.#core.wakeAt(atMs);
      return false;
    }
    // where it is followed again, somebody has come who may have it
    this.#lacking = undefined;
    const what = `round ${block.round + 1}, which was unfinal, is given up`;
    this.#core.warn('W_ROUND_LOST', `${what}: ${why}`);
    this.#core.giveUp(position, LOST_AGAIN_WAITS * quorumWaitMs);
    this.#changedHeight();
    return true;
  }

  #startRound(): void {
    const { applied, context } = this.#core;
    if (!applied || !this.#core.atTip || applied.head.places.length === 0) return;
    const { genesis } = context;
    const round = applied.state.round;
    if (genesis.rounds !== null && round >= genesis.rounds) return this.#ending.reach('rounds');
    this.#ending.goOn();
    const announced = this.#announced.on(applied.root);
    this.#patience.gathering.learn(this.#present.round?.outcome);
    this.#patience.beginning.learn(this.#present.round?.beginning);
    const [core, payloads, patience] = [this.#core, this.#payloads, this.#patience];
    const next = new Round({ core, payloads, patience }, applied);
    this.#present.round = next;
    this.#payloads.beginRound(next);
    this.#closing.beginRound();
    if (announced) next.adoptOwn(announced);
    else this.#train(applied);
    this.#post.replay();
  }

  #train(applied: Applied): void {
    const place = placesIn(applied.head.places).get(this.#core.self);
    if (place === undefined || this.#membership.leaving) return;
    this.#core.emit({ type: 'train', ...this.#trainingOf(applied, place) });
  }

  /** @param ahead how many rounds later, by data and learning rate, than the one that begins with this state */
  #trainingOf({ state, root, head }: Applied, place: number, ahead = 0): Omit<Effect & { type: 'train' }, 'type'> {
    const { innerSteps: steps, batch } = this.#core.context.genesis;
    const { round, cursor } = state;
    const firstPosition = cursor + (ahead * head.places.length + place) * steps * batch;
    return { round, base: root, firstPosition, steps, firstStep: (round + ahead) * steps };
  }

  /** Nobody can decide, and genesis forbids to go on: what is learned meanwhile goes with the next update. */
  #trainOn(applied: Applied, round: Round | undefined): void {
    const { context, self } = this.#core;
    const place = placesIn(applied.head.places).get(self);
    if (!round || place === undefined || this.#membership.leaving || !this.#closing.isShort) return;
    const { rounds } = context.genesis;
    if (rounds !== null && round.round + 1 >= rounds) return; // there is no next one
    const ahead = round.trainOn();
    if (ahead !== undefined) this.#core.emit({ type: 'train-on', ...this.#trainingOf(applied, place, ahead) });
  }

  #advanceRound(): void {
    const { applied, self } = this.#core;
    if (!applied || this.#ending.isReached) return;
    if (this.#membership.leaving && !isMember(applied.head, self)) return this.#ending.reach('left');
    this.#present.round?.askToFinish();
    if (this.#present.round?.triesAgain()) this.#train(applied);
    const entry = this.#closing.advance(this.#present.agreement, this.#present.round);
    if (!entry) return this.#trainOn(applied, this.#present.round);
    this.#append(entry);
    this.#applyNext();
  }

  // --- votes, repetition, the end -------------------------------------------------------------------------------------

  #newAgreement(): Agreement {
    const { context, branch } = this.#core;
    const { height, committee } = branch.head;
    const { run, signer, genesis } = context;
    const record = this.#signedAhead;
    const isMute = record !== undefined && record.height > height + 1;
    // unfinal blocks are not the same for all who vote at this height
    const leaders = leadersOf(branch.heads[branch.certifiedLength()]!);
    const agreement = new Agreement({
      run,
      seed: genesis.seed,
      height: height + 1,
      committee,
      leaders,
      signer,
      isMute,
      isAtTip: false, // `#progress` knows
    });
    if (!record || isMute) return agreement;
    if (record.height === height + 1) agreement.restore(record);
    this.#signedAhead = undefined;
    return agreement;
  }

  #flushVotes(): void {
    const { agreement } = this.#present;
    if (!agreement.hasOutbox && agreement.evidence.length === 0) return;
    for (const evidence of agreement.evidence.splice(0)) {
      const { author, height } = evidence;
      if (!this.#membership.onEvidence(evidence)) continue;
      this.#core.warn('W_EQUIVOCATION', `peer ${author} contradicted itself at height ${height}: it is to be evicted`);
    }
    const messages = agreement.takeOutbox();
    if (messages.length === 0) return;
    this.#persist();
    this.#chatter.voted();
    for (const message of messages) this.#core.emit({ type: 'broadcast', message });
  }

  #persist(): void {
    const signed = this.#signedAhead ?? this.#present.agreement.record();
    this.#core.emit({ type: 'persist', record: { ...signed, headers: this.#announced.all() } });
  }

  #noteAnnounced(header: MessageOf<'header'>): void {
    const { branch, states } = this.#core;
    const decided = branch.heads[branch.certifiedLength()]!.round;
    this.#announced.note(header, { held: new Set([...states.values()].map(rootOf)), decided });
  }

  #restoreRecord(bytes: Uint8Array): void {
    const record = decodeRecord(bytes, this.run, this.#core.context.signer);
    for (const header of record.headers) this.#noteAnnounced(header);
    const { height } = this.#present.agreement;
    if (record.height < height) return;
    this.#signedAhead = record;
    this.#present.agreement = this.#newAgreement();
    if (record.height === height) return;
    const fix = 'it votes again once it has caught up; if nobody has what is missing, remove record.bin';
    this.#core.warn('W_HISTORY_LOST', `the history here ends before what this peer has signed: ${fix}`);
  }

  /** Gossip loses messages: as long as nothing moves, everything is said again. */
  #repeatWhenStuck(): void {
    if (this.#ending.done) return;
    const { agreement, round } = this.#present;
    const waiting = this.#closing.isWaiting || round?.own !== undefined || this.#ending.isReached;
    this.#chatter.repeatWhenStuck(waiting, agreement, round);
  }
}

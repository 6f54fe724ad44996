import { contradict, evidenceOf } from './evidence.ts';
import type { Hash } from './hash.ts';
import type { PeerId, Signer } from './identity.ts';
import { LIMITS } from './limits.ts';
import type { Message, MessageOf, Proposal, Vote } from './messages.ts';
import { faultsTolerated, firstLeader, placesIn, quorumOf } from './roster.ts';
import { blockHash, certificateHolds, proposalBytes, voteBytes } from './signing.ts';
import { Tally } from './tally.ts';
import type { Block, Certificate, Entry, Evidence, VoteKind } from './wire.ts';

/**
 * Agreement on one block: Simplex consensus (Chan and Pass 2023, "Simplex Consensus: A Simple and Fast Consensus
 * Protocol") for a single height.
 *
 * In view v the leader proposes; the others notarize what they can check, or nullify the view when its time is up. A
 * quorum of notarizations or nullifications opens view v + 1. Who sees a notarization and has not nullified the view
 * votes to finalize; a quorum of those decides.
 *
 * Why two blocks can never both be decided: a decision in v means that more than f correct voters never nullify v, so
 * no nullification of v exists; a later leader must show a nullification for every view it passes over, so all it can do
 * is repeat the block notarized in v, and of those there is one, since a correct voter notarizes once in a view.
 *
 * The caller says when: `propose`, `notarize` (after its own checks), `nullify` (its timer). Votes are durable before they
 * are sent (`record` first, then the messages in `takeOutbox`).
 */
export class Agreement {
  readonly height: number;
  /** the view this peer is in */
  view = 0;
  /** set once decided */
  decision: Entry | undefined;
  /** a finalization whose block never reached us; its history must be asked for */
  decidedHash: Hash | undefined;
  /** voters that contradicted themselves in a view */
  readonly evidence: Evidence[] = [];
  /** whether this peer votes at this height */
  readonly isVoter: boolean;

  readonly #init: AgreementInit;
  /** of the committee's voters */
  readonly #placeOf: ReadonlyMap<PeerId, number>;
  readonly #quorum: number;
  readonly #views = new Map<number, View>();
  readonly #blocks = new Map<Hash, Block>();
  #isAtTip: boolean;
  /** its place: drawn once, asked for at every event */
  #firstLeader: number | undefined;
  /** the same message every time, so that it is encoded once */
  readonly #certificates = new Map<Certificate, MessageOf<'certificate'>>();
  #outbox: Message[] = [];
  /** of what a proposal has no room for, so far */
  #repeated = 0;

  constructor(init: AgreementInit) {
    this.#init = init;
    this.height = init.height;
    this.#placeOf = placesIn(init.committee);
    this.#quorum = quorumOf(init.committee.length);
    this.isVoter = this.#placeOf.has(init.signer.self) && !init.isMute;
    this.#isAtTip = init.isAtTip ?? true;
  }

  leader(view = this.view): PeerId {
    const { seed, committee, leaders = committee } = this.#init;
    this.#firstLeader ??= firstLeader(seed, this.height, leaders.length);
    return leaders[(this.#firstLeader + view) % leaders.length]!;
  }

  get hasOutbox(): boolean {
    return this.#outbox.length > 0;
  }

  /** Messages to broadcast since the last call; what they commit to is in `record()`. */
  takeOutbox(): Message[] {
    const messages = this.#outbox;
    this.#outbox = [];
    return messages;
  }

  /** The proposal of the current view, once here. */
  get proposal(): Proposal | undefined {
    return this.#views.get(this.view)?.proposal;
  }

  /** Entries in the maps that others' messages fill, for a watcher. */
  get load(): { view: number; views: number; blocks: number } {
    return { view: this.view, views: this.#views.size, blocks: this.#blocks.size };
  }

  hasVoted(kind: VoteKind): boolean {
    return this.#at(this.view).mine.has(kind);
  }

  /** Voters heard from in the current view: the others may be gone. */
  votersHeard(): Set<PeerId> {
    const { tallies, proposal } = this.#at(this.view);
    const heard = new Set<PeerId>(proposal ? [proposal.author] : []);
    for (const tally of tallies.values()) for (const place of tally.places()) heard.add(this.#init.committee[place]!);
    return heard;
  }

  /** The block that a leader of this view must repeat, if a notarized one is not ruled out by nullifications. */
  lockedBlock(): { view: number; block: Block } | undefined {
    for (let view = this.view - 1; view >= 0; view--) {
      const { notarization, nullification } = this.#at(view);
      const block = notarization?.block ? this.#blocks.get(notarization.block) : undefined;
      if (block) return { view, block };
      if (!nullification) return undefined;
    }
    return undefined;
  }

  /** Blocks that may yet be decided: earlier views are nullified, or their block is the one that is locked. */
  candidates(): Block[] {
    const locked = this.lockedBlock();
    const proposed = this.hasVoted('notarize') ? this.proposal : undefined;
    return [...(locked ? [locked.block] : []), ...(proposed ? [proposed.block] : [])];
  }

  /** Blocks that this peer has helped on in any view: one of them may come back as the one that is locked. */
  supported(): Block[] {
    const hashes = new Set<Hash>();
    for (const { mine, notarization } of this.#views.values()) {
      for (const hash of [mine.get('notarize')?.block, notarization?.block]) if (hash) hashes.add(hash);
    }
    return [...hashes].flatMap((hash) => this.#blocks.get(hash) ?? []);
  }

  /** As leader of the current view: proposes the locked block, or the fresh one where none is locked. */
  propose(fresh: Block | undefined): void {
    const self = this.#init.signer.self;
    const locked = this.lockedBlock();
    const block = locked?.block ?? fresh;
    if (!block || !this.isVoter || this.leader() !== self || this.proposal || this.hasVoted('nullify')) return;
    const parentView = locked?.view ?? -1;
    const justification = this.#justify(parentView);
    const { run, signer } = this.#init;
    const [height, view] = [this.height, this.view];
    const signature = signer.sign(proposalBytes(run, height, view, parentView, blockHash(block)));
    const proposal: Proposal = {
      type: 'proposal',
      run,
      author: self,
      height,
      view,
      parentView,
      block,
      justification: justification.inside,
      signature,
    };
    this.#at(view).ahead = justification.ahead;
    this.#outbox.push(...justification.ahead, proposal);
    this.onProposal(proposal);
  }

  /**
   * What others need in order to follow a proposal that repeats the block of `parentView`, or a fresh one.
   * @returns the newest of it, as much as fits inside, and what is sent before it
   */
  #justify(parentView: number): { inside: Certificate[]; ahead: Message[] } {
    const needed: Certificate[] = [];
    for (let view = Math.max(0, parentView); view < this.view; view++) {
      const { notarization, nullification } = this.#at(view);
      const certificate = view === parentView ? notarization : nullification;
      if (certificate) needed.push(certificate);
    }
    let [first, bytes] = [needed.length, 0];
    while (first > 0 && needed.length - first < LIMITS.viewsAheadMax) {
      bytes += certificateBytes(needed[first - 1]!);
      if (bytes > LIMITS.justificationBytesMax) break;
      first--;
    }
    const { run } = this.#init;
    // the block that they are about is in the proposal
    const ahead = needed.slice(0, first).map((certificate): Message => {
      return { type: 'certificate', run, certificate, block: null };
    });
    return { inside: needed.slice(first), ahead };
  }

  /** @returns whether it is the first of its view */
  onProposal(proposal: Proposal): boolean {
    if (proposal.block.height !== this.height || proposal.author !== this.leader(proposal.view)) return false;
    for (const certificate of proposal.justification) this.onCertificate(certificate, null);
    if (proposal.view > this.view + LIMITS.viewsAheadMax) return false;
    const view = this.#at(proposal.view);
    if (view.proposal) return false;
    view.proposal = proposal;
    // votes may have outrun it: a late proposal still brings the block that they are about
    this.#blocks.set(blockHash(proposal.block), proposal.block);
    for (const { finalization } of this.#views.values()) if (finalization) this.#decide(finalization);
    return true;
  }

  /** Whether the current proposal is a repetition that the certificates force, which needs no check of its content. */
  proposalIsLocked(): boolean {
    const proposal = this.proposal;
    if (!proposal || proposal.parentView < 0) return false;
    return this.#at(proposal.parentView).notarization?.block === blockHash(proposal.block);
  }

  /** Votes for the current proposal. The caller has checked its content, or `proposalIsLocked`. */
  notarize(): void {
    const proposal = this.proposal;
    if (!proposal || this.hasVoted('nullify') || this.hasVoted('notarize')) return;
    if (!this.#parentHolds(proposal)) return;
    this.#vote('notarize', this.view, blockHash(proposal.block));
  }

  /**
   * Whether this peer has the state to judge a proposal by. One that has not, and may not for long, follows nobody who gives up
   * a view: with its vote one view would follow the other, and the rest wait for it as for one that is there.
   */
  setAtTip(isAtTip: boolean): void {
    if (this.#isAtTip === isAtTip) return;
    this.#isAtTip = isAtTip;
    if (!this.decision) this.#followNullifyOfView();
  }

  /** Gives up on the current view. */
  nullify(): void {
    if (!this.hasVoted('nullify') && !this.hasVoted('finalize')) this.#vote('nullify', this.view, null);
  }

  /** @returns whether it is the first of its kind and view by this voter */
  onVote(vote: Vote): boolean {
    if (vote.kind === 'endorse' || (vote.kind === 'nullify') !== (vote.block === null)) return false;
    const place = this.#placeOf.get(vote.author);
    if (place === undefined || vote.view > this.view + LIMITS.viewsAheadMax) return false;
    const tally = this.#tally(vote.view, vote.kind);
    const earlier = tally.at(place);
    this.#lookForContradiction(vote, place);
    if (earlier) return false;
    const agreeing = tally.add(place, vote);
    if (agreeing >= this.#quorum) this.#certify(vote, tally);
    else if (vote.kind === 'nullify') this.#followNullify(vote.view, agreeing);
    return true;
  }

  /**
   * A certificate from elsewhere, with the block it is about where the sender has it.
   * @returns false when it does not hold
   */
  onCertificate(certificate: Certificate, block: Block | null): boolean {
    const { kind, height, view } = certificate;
    const { run, committee, signer } = this.#init;
    if (kind === 'endorse' || height !== this.height) return false;
    // nothing is kept, not even an empty view, before the signatures are found to hold
    const known = this.#views.get(view)?.[CERTIFIED[kind]];
    const same = known !== undefined && known.block === certificate.block;
    if (!same && !certificateHolds(signer, run, committee, certificate)) return false;
    if (block && blockHash(block) === certificate.block) this.#blocks.set(certificate.block, block);
    for (const [place, signature] of same ? [] : certificate.signatures) {
      const vote = { author: committee[place]!, kind, view, height, block: certificate.block, signature };
      this.#lookForContradiction({ ...vote, type: 'vote', run }, place);
    }
    if (known && (kind !== 'finalize' || this.decision)) return true;
    this.#adopt(known ?? certificate);
    return true;
  }

  /** Whoever said otherwise in the same view: what gossip brings to all, and what only a certificate shows. */
  #lookForContradiction(vote: Vote, place: number): void {
    const tallies = this.#views.get(vote.view)?.tallies;
    for (const kind of tallies ? CONTRADICTED_BY[vote.kind as SimplexKind] : []) {
      const other = tallies?.get(kind)?.at(place);
      if (other && contradict(vote, other)) this.evidence.push(evidenceOf(other, vote));
    }
  }

  /** This peer's votes in the current view, its proposal, and the certificates that opened it: sent again when stuck. */
  repeat(): Message[] {
    const { mine, proposal, ahead } = this.#at(this.view);
    const messages: Message[] = [];
    const opened = this.view > 0 ? this.#at(this.view - 1) : undefined;
    const opening = opened?.notarization ?? opened?.nullification;
    if (opening) messages.push(this.#certificateMessage(opening));
    if (opened) messages.push(...[...opened.mine.values()].filter((vote) => vote.kind === 'finalize'));
    if (proposal?.author === this.#init.signer.self) messages.push(...this.#someOf(ahead), proposal);
    messages.push(...mine.values());
    return messages;
  }

  /** Others the next time: after very many views they are a flood, and most have been heard by all who were there. */
  #someOf(ahead: readonly Message[]): Message[] {
    if (ahead.length <= AHEAD_REPEATED) return [...ahead];
    const first = this.#repeated;
    this.#repeated += AHEAD_REPEATED;
    return Array.from({ length: AHEAD_REPEATED }, (_, i) => ahead[(first + i) % ahead.length]!);
  }

  /** What must survive a crash: own votes, so that no view is voted in twice, and the certificates seen. */
  record(): AgreementRecord {
    const votes: Vote[] = [];
    const certificates: MessageOf<'certificate'>[] = [];
    for (const view of this.#views.values()) {
      votes.push(...view.mine.values());
      for (const certificate of [view.notarization, view.nullification, view.finalization]) {
        if (certificate) certificates.push(this.#certificateMessage(certificate));
      }
    }
    return { height: this.height, votes, certificates, proposals: this.#proposalsNeeded() };
  }

  /**
   * Its own in this view, to repeat it, and those that it voted for in any: what the votes are about must be known, for it
   * may come back as the block that is locked, and what that follows and names be kept. Of one block the newest proposal.
   */
  #proposalsNeeded(): Proposal[] {
    const needed = new Map<Hash, Proposal>();
    for (const [view, { proposal, mine }] of this.#views) {
      const isMine = view === this.view && proposal?.author === this.#init.signer.self;
      if (!proposal || !(isMine || mine.has('notarize'))) continue;
      const hash = blockHash(proposal.block);
      if (proposal.view > (needed.get(hash)?.view ?? -1)) needed.set(hash, proposal);
    }
    const newestFirst = [...needed.values()].sort((a, b) => b.view - a.view);
    return newestFirst.slice(0, PROPOSALS_RECORDED).reverse();
  }

  restore(record: AgreementRecord): void {
    // own votes first: a certificate may call for a vote, which must not contradict one cast before the crash
    for (const vote of record.votes) this.#at(vote.view).mine.set(vote.kind, vote);
    for (const { certificate, block } of record.certificates) this.onCertificate(certificate, block);
    for (const vote of record.votes) this.onVote(vote);
    for (const proposal of record.proposals) this.onProposal(proposal);
  }

  #certificateMessage(certificate: Certificate): MessageOf<'certificate'> {
    const block = certificate.block === null ? null : (this.#blocks.get(certificate.block) ?? null);
    let message = this.#certificates.get(certificate);
    if (message?.block !== block) {
      message = { type: 'certificate', run: this.#init.run, certificate, block };
      this.#certificates.set(certificate, message);
    }
    return message;
  }

  /** Every view between the parent and this one must be nullified, the parent notarized with this very block. */
  #parentHolds({ parentView, view, block }: Proposal): boolean {
    if (parentView >= view) return false;
    if (parentView >= 0 && this.#at(parentView).notarization?.block !== blockHash(block)) return false;
    for (let between = parentView + 1; between < view; between++) {
      if (!this.#at(between).nullification) return false;
    }
    return true;
  }

  #vote(kind: VoteKind, view: number, block: Hash | null): void {
    if (!this.isVoter) return;
    const { run, signer } = this.#init;
    const signature = signer.sign(voteBytes(run, kind, this.height, view, block));
    const vote: Vote = { type: 'vote', run, author: signer.self, kind, height: this.height, view, block, signature };
    this.#at(view).mine.set(kind, vote);
    this.#outbox.push(vote);
    this.onVote(vote);
  }

  /** f + 1 nullifications: one of them at least is a correct voter's, so waiting for our own timer gains nothing. */
  #followNullify(view: number, votes: number): void {
    if (!this.#isAtTip || view !== this.view) return;
    if (votes > faultsTolerated(this.#init.committee.length)) this.nullify();
  }

  #followNullifyOfView(): void {
    this.#followNullify(this.view, this.#views.get(this.view)?.tallies.get('nullify')?.count(null) ?? 0);
  }

  #certify({ kind, height, view, block }: Vote, tally: Tally): void {
    if (this.#at(view)[CERTIFIED[kind as SimplexKind]]) return;
    this.#adopt({ kind, height, view, block, signatures: tally.signatures(block) });
  }

  #adopt(certificate: Certificate): void {
    const { kind, view } = certificate;
    const state = this.#at(view);
    if (kind === 'endorse') return;
    state[CERTIFIED[kind]] = certificate;
    if (kind === 'finalize') return this.#decide(certificate);
    if (kind === 'notarize' && certificate.block && !state.mine.has('nullify') && !state.mine.has('finalize')) {
      this.#vote('finalize', view, certificate.block);
    }
    if (view < this.view || this.decision) return;
    this.view = view + 1;
    // the others may have given it up by now
    this.#followNullifyOfView();
  }

  #decide(certificate: Certificate): void {
    const block = certificate.block ? this.#blocks.get(certificate.block) : undefined;
    if (block) this.decision ??= { block, certificate };
    else this.decidedHash = certificate.block ?? undefined;
  }

  #at(view: number): View {
    let state = this.#views.get(view);
    if (!state) {
      state = { mine: new Map(), tallies: new Map(), ahead: [] };
      this.#views.set(view, state);
    }
    return state;
  }

  #tally(view: number, kind: VoteKind): Tally {
    const { tallies } = this.#at(view);
    let tally = tallies.get(kind);
    if (!tally) {
      tally = new Tally(this.#init.committee.length);
      tallies.set(kind, tally);
    }
    return tally;
  }
}

/** About the bytes of a certificate, and no less. */
function certificateBytes({ signatures }: Certificate): number {
  return 128 + 70 * signatures.length;
}

/** Different blocks voted for at a height that are remembered: each may be large, and is written with every vote. */
const PROPOSALS_RECORDED = 4;
/** Certificates that a proposal has no room for, and that are repeated at a time. */
const AHEAD_REPEATED = 16;

const CONTRADICTED_BY = {
  notarize: ['notarize'],
  nullify: ['finalize'],
  finalize: ['finalize', 'nullify'],
} as const;
const CERTIFIED = { notarize: 'notarization', nullify: 'nullification', finalize: 'finalization' } as const;
type SimplexKind = keyof typeof CERTIFIED;

interface View {
  proposal?: Proposal;
  notarization?: Certificate;
  nullification?: Certificate;
  finalization?: Certificate;
  tallies: Map<VoteKind, Tally>;
  /** what this peer has signed in this view */
  mine: Map<VoteKind, Vote>;
  /** what proves this peer's proposal and has no room in it */
  ahead: readonly Message[];
}

export interface AgreementInit {
  run: Hash;
  seed: number;
  height: number;
  /** who votes, in canonical order */
  committee: readonly PeerId[];
  /** those of them who lead, in canonical order @default all */
  leaders?: readonly PeerId[];
  signer: Signer;
  /** this peer has voted at this height, and does not remember how */
  isMute?: boolean;
  /** see `setAtTip` @default true */
  isAtTip?: boolean;
}

export interface AgreementRecord {
  height: number;
  votes: Vote[];
  certificates: MessageOf<'certificate'>[];
  /** of as many blocks */
  proposals: Proposal[];
}

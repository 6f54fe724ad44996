import { checkBlock, headHash, isCertificateOf, isCredible } from './chain.ts';
import type { Core } from './core.ts';
import { isCoded } from './errors.ts';
import type { Hash } from './hash.ts';
import { comparePeers, type PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import { isMember, type Membership } from './membership.ts';
import type { Message, MessageOf, Proposal, Vote } from './messages.ts';
import type { Payloads } from './payloads.ts';
import { peersOf, placesIn } from './roster.ts';
import type { Round } from './round.ts';
import { blockHash, certificateHolds, proposalBytes, voteBytes } from './signing.ts';
import type { Block, Certificate, Entry } from './wire.ts';

/**
 * Going on without a quorum: those who can still reach each other agree among themselves, all of them signing, and call
 * the round unfinal. Nothing is promised about such rounds: two parts of a partition each have theirs, and on healing the
 * certified history wins over both, or the one with more tokens (`compareBranches`). What is lost in them returns to its
 * authors' residuals.
 *
 * One of the live peers, by rotation, lists them as `members` and proposes; every member endorses; who stays silent for a
 * view is counted absent, and the next attempt is made without it.
 */
export class Unfinal {
  readonly #core: Core;
  readonly #membership: Membership;
  readonly #payloads: Payloads;
  /** the tip that the rest belongs to; another tip, another attempt */
  #tip: Hash | undefined;
  #waitingSinceMs = 0;
  /** silent when they should have proposed or signed: for this tip they are not asked again, whatever else they say */
  readonly #passedOver = new Set<PeerId>();
  #attempt: { proposal: Proposal; hash: Hash; sinceMs: number } | undefined;
  /** the tip for which a leader that has not been given up has proposed */
  #proposedOn: Hash | undefined;
  /** what is to be endorsed */
  #proposal: Proposal | undefined;
  /** proposed for this tip by each member */
  readonly #proposed = new Map<PeerId, Set<Hash>>();
  #proposedFor: Hash | undefined;
  /** that the endorsements are for */
  #height = 0;
  /** the last of each member, and the one for this peer's attempt: nobody can crowd that out */
  readonly #endorsements = new Map<PeerId, Vote[]>();

  /** something was broadcast just now */
  onSaid: () => void = () => undefined;

  constructor(core: Core, membership: Membership, payloads: Payloads) {
    this.#core = core;
    this.#membership = membership;
    this.#payloads = payloads;
  }

  /** Entries in the maps that others' messages fill, for a watcher. */
  get load(): { endorsers: number; endorsements: number; proposals: number } {
    const endorsements = [...this.#endorsements.values()].reduce((sum, { length }) => sum + length, 0);
    const proposals = [...this.#proposed.values()].reduce((sum, { size }) => sum + size, 0);
    return { endorsers: this.#endorsements.size, endorsements, proposals };
  }

  /** What was said on the rest's behalf for this tip, and may have been lost. */
  repeat(): Message[] {
    const { branch, self } = this.#core;
    const { tip } = branch.head;
    const mine = this.#attempt?.proposal.block.previous === tip ? [this.#attempt.proposal] : [];
    const asked = this.#proposal?.block.previous === tip ? [blockHash(this.#proposal.block)] : [];
    return [...mine, ...asked.flatMap((block) => this.#endorsementOf(block, self) ?? [])];
  }

  onProposal(proposal: Proposal): void {
    const { block, author } = proposal;
    const members = block.members ?? [];
    const { head } = this.#core.branch;
    if (block.previous !== head.tip || !isMember(head, author) || !members.includes(author)) return;
    const pending = this.#proposal?.block.previous === head.tip ? this.#proposal : undefined;
    if (!this.#isWithinReason(author, block)) return;
    // one that nobody could sign takes the place of none that they could
    if (pending && !this.#isSound(block) && this.#isSound(pending.block)) return;
    // the first one for a tip gives its leader time to bring it home, the next ones are part of that
    if (this.#proposedOn !== block.previous) this.#waitingSinceMs = this.#core.nowMs;
    this.#proposedOn = block.previous;
    if (members.includes(this.#core.self)) this.#proposal = proposal;
  }

  /** Each of them may name payloads that are new, and what is fetched for one takes room on the disk for rounds. */
  #isWithinReason(author: PeerId, block: Block): boolean {
    if (this.#proposedFor !== block.previous) this.#proposed.clear();
    this.#proposedFor = block.previous;
    const blocks = this.#proposed.get(author) ?? new Set();
    this.#proposed.set(author, blocks);
    const hash = blockHash(block);
    if (blocks.size >= LIMITS.unfinalProposalsMax && !blocks.has(hash)) return false;
    blocks.add(hash);
    return true;
  }

  onVote(vote: Vote): void {
    const { head } = this.#core.branch;
    if (vote.height !== head.height + 1 || vote.view !== 0 || !vote.block || !isMember(head, vote.author)) return;
    if (vote.height !== this.#height) this.#endorsements.clear();
    this.#height = vote.height;
    const votes = this.#endorsements.get(vote.author) ?? [];
    if (votes.some(({ block }) => block === vote.block)) return;
    const counting = votes.filter(({ block }) => block === this.#attempt?.hash);
    const others = votes.filter(({ block }) => block !== this.#attempt?.hash);
    this.#endorsements.set(vote.author, [...counting, ...[...others, vote].slice(-ENDORSEMENTS_KEPT)]);
  }

  #endorsementOf(block: Hash, member: PeerId): Vote | undefined {
    return this.#endorsements.get(member)?.find((vote) => vote.block === block);
  }

  /** An endorsed block that somebody completed: what to append, if it follows our tip and holds. */
  onCertificate(certificate: Certificate, block: Block | null): Entry | undefined {
    const { run, signer } = this.#core.context;
    if (!block?.members || block.previous !== this.#core.branch.head.tip) return undefined;
    if (!isCertificateOf(certificate, block)) return undefined;
    const { head } = this.#core.branch;
    if (!isCredible(head, block.members, this.#membership.seesQuorum(head.committee))) return undefined;
    // anybody can sign with keys just made
    if (!block.members.every((peer) => isMember(head, peer))) return undefined;
    if (!certificateHolds(signer, run, block.members, certificate) || !this.#isSound(block)) return undefined;
    return { block, certificate };
  }

  /**
   * How much of the branch others can be expected to follow. Where a quorum is in sight, rounds that too few voters went
   * on with (`isCredible`) are given up: else each part of the swarm would wait for the others on a branch of its own.
   */
  credibleLength(): number {
    const { branch } = this.#core;
    // asked at every event: most of the time there is nothing to ask the members about
    if (!branch.entries.at(-1)?.block.members) return branch.entries.length;
    return this.#membership.seesQuorum(branch.head.committee) ? branch.credibleLength() : branch.entries.length;
  }

  /** One push forward while no quorum is there. @returns the entry that all members have signed, once they have */
  progress(round: Round, viewMs: number): Entry | undefined {
    const { nowMs, branch } = this.#core;
    if (this.#tip !== branch.head.tip) {
      this.#tip = branch.head.tip;
      this.#passedOver.clear();
      this.#waitingSinceMs = nowMs;
      this.#attempt = undefined;
      if (this.#proposal?.block.previous !== this.#tip) this.#proposal = undefined;
    }
    // until then others may be waiting for the payloads that are here, and say nothing before
    const endMs = round.plannedEndMs();
    const gatheredMs = Number.isFinite(endMs) ? endMs : 0;
    const attemptMs = (sinceMs: number): number => Math.max(sinceMs, gatheredMs) + viewMs;
    if (this.#attempt && nowMs >= attemptMs(this.#attempt.sinceMs)) this.#giveUpOnSilent(this.#attempt);
    let live = this.#live();
    if (this.#leaderOf(live, round) !== this.#core.self && nowMs >= attemptMs(this.#waitingSinceMs) + viewMs) {
      // silent, or gone with its proposal
      this.#passOver(this.#leaderOf(live, round));
      this.#waitingSinceMs = nowMs;
      this.#proposedOn = undefined;
      this.#proposal = undefined;
      live = this.#live();
    }
    if (this.#leaderOf(live, round) === this.#core.self && !this.#attempt && round.held().length > 0) {
      this.#propose(round, this.#members(live));
    }
    this.#core.wakeAt(this.#attempt ? attemptMs(this.#attempt.sinceMs) : attemptMs(this.#waitingSinceMs) + viewMs);
    this.#endorse();
    return this.#complete();
  }

  #live(): PeerId[] {
    const members = peersOf(this.#core.branch.head.roster);
    return members.filter((peer) => this.#membership.isLive(peer) && !this.#passedOver.has(peer));
  }

  #leaderOf(live: readonly PeerId[], { round }: Round): PeerId {
    return live[round % live.length]!;
  }

  #passOver(peer: PeerId): void {
    this.#passedOver.add(peer);
    this.#membership.absent.add(peer);
  }

  /** Those who are to sign: where more are there than a block names, only those whose word counts (`isCredible`). */
  #members(live: readonly PeerId[]): readonly PeerId[] {
    if (live.length <= LIMITS.blockMembersMax) return live;
    const voters = placesIn(this.#core.branch.head.committee);
    return live.filter((peer) => voters.has(peer) || peer === this.#core.self);
  }

  #propose(round: Round, members: readonly PeerId[]): void {
    const { branch, context, nowMs } = this.#core;
    const { head } = branch;
    const block: Block = {
      height: head.height + 1,
      previous: head.tip,
      kind: 'round',
      round: round.round,
      base: round.base,
      head: headHash(head),
      members: [...members].sort(comparePeers),
      updates: round.held(),
      ...this.#membership.requests(head),
      leaves: [],
    };
    const hash = blockHash(block);
    const signature = context.signer.sign(proposalBytes(context.run, block.height, 0, -1, hash));
    const proposal: Proposal = {
      type: 'proposal',
      run: context.run,
      author: context.signer.self,
      height: block.height,
      view: 0,
      parentView: -1,
      block,
      justification: [],
      signature,
    };
    this.#attempt = { proposal, hash, sinceMs: nowMs };
    this.#proposal = proposal;
    if (members.length > 1) this.#say(proposal);
  }

  #giveUpOnSilent({ proposal, hash }: { proposal: Proposal; hash: Hash }): void {
    const isSilent = (member: PeerId) => this.#endorsementOf(hash, member) === undefined;
    for (const member of (proposal.block.members ?? []).filter(isSilent)) this.#passOver(member);
    this.#attempt = undefined;
  }

  #endorse(): void {
    const { branch, context } = this.#core;
    const block = this.#proposal?.block;
    if (!block || block.previous !== branch.head.tip) return;
    const hash = blockHash(block);
    if (this.#endorsementOf(hash, context.signer.self)) return;
    if (!this.#isSound(block) || this.#payloads.require(block, () => [this.#proposal!.author]) !== 'held') return;
    const signature = context.signer.sign(voteBytes(context.run, 'endorse', block.height, 0, hash));
    const author = context.signer.self;
    const { run } = context;
    const vote: Vote = {
      type: 'vote',
      run,
      author,
      kind: 'endorse',
      height: block.height,
      view: 0,
      block: hash,
      signature,
    };
    this.onVote(vote);
    if ((block.members ?? []).length > 1) this.#say(vote);
  }

  #say(message: Message): void {
    this.#core.emit({ type: 'broadcast', message });
    this.onSaid();
  }

  #complete(): Entry | undefined {
    const attempt = this.#attempt;
    const members = attempt?.proposal.block.members;
    if (!attempt || !members) return undefined;
    const { hash, proposal } = attempt;
    const { block } = proposal;
    const votes = members.flatMap((member) => this.#endorsementOf(hash, member) ?? []);
    if (votes.length < members.length) return undefined;
    const signatures = votes.map(({ signature }, i): [number, Uint8Array] => [i, signature]);
    const certificate: Certificate = { kind: 'endorse', height: block.height, view: 0, block: hash, signatures };
    const message: MessageOf<'certificate'> = { type: 'certificate', run: this.#core.context.run, certificate, block };
    if (members.length > 1) this.#core.emit({ type: 'broadcast', message });
    this.#endorsements.clear();
    this.#proposal = undefined;
    this.#attempt = undefined;
    return { block, certificate };
  }

  #isSound(block: Block): boolean {
    const { applied, branch, context } = this.#core;
    if (!applied || !this.#core.atTip) return false;
    try {
      checkBlock(context, branch.head, block, applied.root);
      return true;
    } catch (error) {
      if (isCoded(error)) return false;
      throw error;
    }
  }
}

/** Of one member, beside that for this peer's attempt: of attempts that follow each other, by whoever leads them. */
const ENDORSEMENTS_KEPT = 2;

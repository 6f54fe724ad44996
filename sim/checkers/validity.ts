import { isDeepStrictEqual } from 'node:util';
import { AnchorChain, isVouchedFor } from '../../protocol/anchors.ts';
import { type Head, headFacts, headHash } from '../../protocol/chain.ts';
import { isCoded } from '../../protocol/errors.ts';
import type { Effect, Event } from '../../protocol/events.ts';
import type { Hash } from '../../protocol/hash.ts';
import { type PeerId, publicKeyOf, type Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { Beginning, Message, MessageOf } from '../../protocol/messages.ts';
import { blockHash, joinBytes, leaveBytes, updateBytes, voteBytes } from '../../protocol/signing.ts';
import type { Anchor, Block, Entry, Update } from '../../protocol/wire.ts';
import type { BlobLibrary } from '../blob-library.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import { type Checker, Violation } from './checker.ts';
import type { Chronicle, Recorded } from './chronicle.ts';

/**
 * What is certified may be: a quorum of the committee signed it, each once; it names what it follows, and builds on the state
 * that its round began with; its updates are of peers with a place, in canonical order, each announced (or at least signed) by its author for
 * that round and state, and as large as it says, and of no more tokens than it can have seen; requests to come or go are their
 * authors' own, and none takes effect twice; and who is evicted did contradict itself.
 * Who votes for a fresh block or endorses one has all that it names, and who applies one too.
 * As many vote next as genesis says, and nobody is gone who did not ask for it, contradict itself or stay silent for long.
 */
export class ValidityChecker implements Checker {
  readonly #chronicle: Chronicle;
  readonly #signer: Signer;
  readonly #library: BlobLibrary;
  readonly #correct: ReadonlySet<PeerId>;
  /** by author, round, base and payload: what correct peers announced */
  readonly #announced = new Set<string>();
  /** by height, view and block: those proposed for the first time, and those said to be repeated */
  readonly #fresh = new Map<string, Block>();
  readonly #repeated = new Set<string>();
  /** the root after a round block, as peers computed it */
  readonly #roots = new Map<Hash, Hash>();

  constructor(components: {
    chronicle: Chronicle;
    signer: Signer;
    correct: ReadonlySet<PeerId>;
    library: BlobLibrary;
  }) {
    this.#chronicle = components.chronicle;
    this.#library = components.library;
    this.#signer = components.signer;
    this.#correct = components.correct;
  }

  onStep(peer: VirtualPeer, event: Event, effects: readonly Effect[]): void {
    if (event.type === 'messages') for (const message of event.messages) this.#note(message);
    for (const effect of effects) {
      if (effect.type === 'broadcast') this.#onBroadcast(peer, effect.message);
      if (effect.type === 'apply') this.#checkHas(peer, effect.entry.block, 'is applied by');
      if (effect.type !== 'append') continue;
      if (effect.segment) this.#checkBeginning(effect.segment);
      const recorded = this.#chronicle.add(effect.entry);
      if (recorded) this.#check(recorded);
      else this.#checkOther(effect.entry);
    }
    if (event.type !== 'applied') return;
    const report = effects.find((each) => each.type === 'report' && each.report.kind === 'round');
    if (report?.type === 'report' && report.report.kind === 'round') this.#roots.set(event.block, report.report.root);
  }

  /**
   * A history begins where correct peers have been, as the anchor says that they were; and it can be followed by everybody
   * who was there at any block since the anchor before.
   */
  #checkBeginning({ anchors, passed, pinned }: Beginning): void {
    const { head, entry } = anchors.at(-1)!;
    const { block } = entry;
    const last = this.#chronicle.get(block.previous);
    if (!last) throw fault(block, 'begins a history, and follows a block that no correct peer had');
    if (!isDeepStrictEqual(head, headFacts(last.after))) throw fault(block, 'begins a history that was another');
    // a block to trust may prove one that the anchors do not
    if (pinned === null && !this.#isProven(anchors)) throw fault(block, 'begins a history whose anchors prove nothing');
    if (!passed) return;
    const before = anchors.at(-2) && blockHash(anchors.at(-2)!.entry.block);
    const follows = ({ height, committee }: Head): void => {
      if (isVouchedFor(committee, last.after.committee, entry)) return;
      throw fault(block, `begins a history that cannot be followed from height ${height} on`);
    };
    for (const { hash, after } of this.#chronicle.back(block.previous)) {
      follows(after);
      if (hash === before) return;
    }
    follows(this.#chronicle.first);
  }

  #isProven(anchors: readonly Anchor[]): boolean {
    const { genesis, run, first } = this.#chronicle;
    const chain = new AnchorChain({ genesis, run, signer: this.#signer }, first, first);
    try {
      for (const anchor of anchors) chain.add(anchor, { strict: true });
    } catch (error) {
      if (isCoded(error)) return false;
      throw error;
    }
    return chain.isProven;
  }

  #note(message: Message): void {
    if (message.type !== 'proposal') return;
    const { height, view, parentView, block } = message;
    const place = `${height}/${view}/${blockHash(block)}`;
    // one that is repeated was checked by those who certified it
    if (parentView < 0) this.#fresh.set(place, block);
    else this.#repeated.add(place);
  }

  /** @throws Violation where the peer votes for updates that it does not have */
  #checkVote(peer: VirtualPeer, { kind, height, view, block: hash }: MessageOf<'vote'>): void {
    const place = `${height}/${view}/${hash}`;
    const isChecked = kind === 'endorse' || (kind === 'notarize' && !this.#repeated.has(place));
    const block = isChecked ? this.#fresh.get(place) : undefined;
    if (block) this.#checkHas(peer, block, 'gets the vote of');
  }

  /** @throws Violation where the peer's disk lacks one of the payloads */
  #checkHas({ index }: VirtualPeer, block: Block, what: string): void {
    const missing = block.updates.find(({ payload }) => !this.#library.has(index, payload));
    if (missing) throw fault(block, `${what} peer ${index}, who does not have ${missing.payload}`);
  }

  #onBroadcast(peer: VirtualPeer, message: Message): void {
    this.#note(message);
    if (message.type === 'vote' && message.author === peer.id) this.#checkVote(peer, message);
    if (message.type !== 'header' || message.update.author !== peer.id) return;
    const { round, base, update } = message;
    this.#announced.add(`${update.author}/${round}/${base}/${update.payload}`);
  }

  #check(recorded: Recorded): void {
    const { entry, before } = recorded;
    const { block } = entry;
    this.#checkCertificate(recorded);
    if (block.head !== headHash(before)) throw fault(block, 'has another account of what it follows');
    if (block.round !== before.round) throw fault(block, `is for round ${block.round} after ${before.round}`);
    if (block.height !== before.height + 1) throw fault(block, `follows height ${before.height}`);
    this.#checkBase(recorded);
    if (!ascending(block.updates.map(({ author }) => author))) throw fault(block, 'lists updates out of order');
    for (const update of block.updates) {
      const { author, payload, size, signature } = update;
      const { round, base } = block;
      if (!before.places.includes(author)) throw fault(block, `has an update of ${author}, who has no place`);
      const bytes = updateBytes(this.#chronicle.run, round, base, update);
      const signed = this.#signer.verify(publicKeyOf(author), bytes, signature);
      const announced = !this.#correct.has(author) || this.#announced.has(`${author}/${round}/${base}/${payload}`);
      if (!signed || !announced) throw fault(block, `has an update that ${author} did not make`);
      if (!this.#isPossible(update))
        throw fault(block, `has an update of ${update.tokens} tokens, ${update.steps} steps`);
      const { length = size } = this.#library.bytes(payload) ?? {};
      if (length !== size) throw fault(block, `says ${size} bytes of a payload of ${length}`);
    }
    this.#checkWhoStays(recorded);
    this.#checkRequests(recorded);
    for (const evidence of block.evictions) this.#checkEviction(block, evidence);
  }

  /** The same block with another certificate, as others tell it. */
  #checkOther(entry: Entry): void {
    const known = this.#chronicle.get(blockHash(entry.block));
    if (!known || isDeepStrictEqual(known.entry.certificate, entry.certificate)) return;
    this.#checkCertificate({ ...known, entry });
  }

  /** By counting: the committee that the code under test drew says who certifies, and when liars are too many. */
  #checkWhoStays({ entry: { block }, before, after }: Recorded): void {
    if (block.members !== null) return;
    const size = Math.min(this.#chronicle.genesis.committee.size, after.roster.length);
    const voters = new Set(after.committee);
    const isWhole = voters.size === size && after.committee.length === size;
    const members = new Set(after.roster.map(({ peer }) => peer));
    if (!isWhole || after.committee.some((peer) => !members.has(peer))) {
      throw fault(block, `lets ${after.committee.length} of ${after.roster.length} vote, ${size} should`);
    }
    const asked = new Set([...block.leaves, ...block.evictions].map(({ author }) => author));
    for (const { peer, lastRound } of before.roster) {
      const mayGo = members.has(peer) || asked.has(peer) || block.round - lastRound > SILENT_ROUNDS_MAX;
      if (!mayGo) throw fault(block, `puts out ${peer}, who was there ${block.round - lastRound} rounds ago`);
    }
  }

  /** No correct peer is put out, and nobody without two signatures of its own that contradict each other. */
  #checkEviction(block: Block, { author, height, view, votes }: Block['evictions'][number]): void {
    const signed = votes.filter((vote) => {
      const bytes = voteBytes(this.#chronicle.run, vote.kind, height, view, vote.block);
      return this.#signer.verify(publicKeyOf(author), bytes, vote.signature);
    });
    const kinds = votes.map(({ kind }) => kind).sort();
    const [a, b] = votes.map((vote) => vote.block);
    const contradict = kinds[0] === kinds[1] ? a !== b : `${kinds}` === 'finalize,nullify';
    if (this.#correct.has(author) || signed.length !== 2 || !contradict)
      throw fault(block, `evicts ${author} unjustly`);
  }

  #checkCertificate({ hash, entry, before }: Recorded): void {
    const { block, certificate } = entry;
    const { kind, height, view, signatures } = certificate;
    const voters = block.members ?? before.committee;
    const needed = block.members ? voters.length : voters.length - Math.floor((voters.length - 1) / 3);
    if (kind !== (block.members ? 'endorse' : 'finalize') || certificate.block !== hash || height !== block.height) {
      throw fault(block, 'has the certificate of something else');
    }
    const bytes = voteBytes(this.#chronicle.run, kind, height, view, hash);
    const signers = new Set<PeerId>();
    for (const [place, signature] of signatures) {
      const voter = voters[place];
      if (voter && this.#signer.verify(publicKeyOf(voter), bytes, signature)) signers.add(voter);
    }
    if (signers.size < needed) throw fault(block, `is certified by ${signers.size} of ${voters.length}`);
  }

  /** In the steps of a round, and with as much of late work for each of some rounds more. */
  #isPossible({ tokens, steps }: Update): boolean {
    const { innerSteps, batch, model } = this.#chronicle.genesis;
    const most = (1 + LIMITS.lateRoundsMax) * innerSteps * batch * model.context;
    return steps >= 1 && steps <= innerSteps && tokens >= 1 && tokens <= most;
  }

  #checkBase({ entry }: Recorded): void {
    const { block } = entry;
    for (const { hash, entry: past } of this.#chronicle.back(block.previous)) {
      if (past.block.kind !== 'round') continue;
      const root = this.#roots.get(hash);
      if (root !== undefined && root !== block.base)
        throw fault(block, `builds on ${block.base}, the state is ${root}`);
      return;
    }
  }

  #checkRequests({ hash, entry, before }: Recorded): void {
    const { block } = entry;
    const { run } = this.#chronicle;
    const members = new Set(before.roster.map(({ peer }) => peer));
    const isFrom = ({ author, height }: { author: PeerId; height: number }, bytes: Uint8Array, signature: Uint8Array) =>
      this.#signer.verify(publicKeyOf(author), bytes, signature) && height <= block.height;
    for (const join of block.joins) {
      const { author } = join;
      if (!isFrom(join, joinBytes(run, join), join.signature)) throw fault(block, `lets in ${author}, who did not ask`);
      if (members.has(author)) throw fault(block, `lets in ${author}, who is in`);
    }
    for (const leave of block.leaves) {
      const { author } = leave;
      if (!isFrom(leave, leaveBytes(run, leave), leave.signature))
        throw fault(block, `lets ${author} go, who did not ask`);
      if (!members.has(author) || block.members !== null) throw fault(block, `lets ${author} go, who cannot`);
    }
    if (block.members?.some((peer) => !members.has(peer))) throw fault(block, 'is of peers that are no members');
    const names = requestsOf(block);
    if (names.length === 0) return;
    for (const past of this.#chronicle.back(hash)) {
      if (past.hash === hash) continue;
      for (const name of requestsOf(past.entry.block)) {
        if (names.includes(name)) throw fault(block, `takes up a request again: ${name}`);
      }
    }
  }
}

/** Who has had no update in so many rounds may be put out. */
const SILENT_ROUNDS_MAX = 20;

function requestsOf({ joins, leaves }: Block): string[] {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  const came = joins.map(({ author, signature }) => `join of ${author} ${hex(signature)}`);
  return [...came, ...leaves.map(({ author, signature }) => `leave of ${author} ${hex(signature)}`)];
}

function ascending(peers: readonly PeerId[]): boolean {
  return peers.every((peer, i) => i === 0 || peers[i - 1]! < peer);
}

function fault({ height, kind, round }: Block, what: string): Violation {
  return new Violation('validity', `the ${kind} block at height ${height}, round ${round}, ${what}`);
}

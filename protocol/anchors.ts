import { type ChainContext, checkEntry, type Head, headAfter, headBefore } from './chain.ts';
import { CodedError } from './errors.ts';
import type { PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import type { Beginning } from './messages.ts';
import { placesIn } from './roster.ts';
import type { Anchor, Entry } from './wire.ts';

/**
 * How a history that begins in its middle is proven. A block names all of what it follows by a hash, roster included, and
 * its certificate shows that a quorum of that roster signed: what is to be shown is that these voters were the run's. They
 * were if more than half of the committee before it signed: then a correct one did, and a correct peer signs on the one
 * certified history only. So a few anchors, each vouched for by the committee at the one before it, lead from the founder to
 * the present, where all blocks in between would have to be kept.
 * (The rule by which light clients skip, as in Tendermint's. There a third is enough, the most that may be faulty; but of
 * the first two or three peers of a run none may, so that any one of them could prove a history of its own.)
 */

/** Those who vote, in order. A list never changes, and most are the same list as the one before. */
export type Committee = readonly PeerId[];

/** Whether most of those who vote on a branch have signed a certificate of another committee, `voters`. */
export function isVouchedFor(trusted: Committee, voters: Committee, entry: Entry): boolean {
  return allVouch({ core: trusted, largest: trusted.length }, voters, entry);
}

/** What is remembered of all committees between two anchors, so that the first can be left out later. */
export type Passed = NonNullable<Beginning['passed']>;

/** @param before of earlier ones */
export function summary(committees: readonly Committee[], before?: Passed): Passed {
  let core = before?.core ?? committees[0]!;
  let largest = before?.largest ?? 0;
  let last: Committee | undefined;
  for (const committee of committees) {
    if (committee === last) continue;
    last = committee;
    const places = placesIn(committee);
    core = core.filter((peer) => places.has(peer));
    largest = Math.max(largest, committee.length);
  }
  return { core, largest };
}

/** Whether each of them surely vouches: so many who were in all of them signed that they are most of the largest. */
export function allVouch({ core, largest }: Passed, voters: Committee, { certificate }: Entry): boolean {
  // of a roster that a liar made up, one may have many places
  const signers = new Set(certificate.signatures.flatMap(([place]) => voters[place] ?? []));
  return core.filter((peer) => signers.has(peer)).length > largest / 2;
}

/** Anchors one after the other, checked as they come from somebody who may lie. */
export class AnchorChain {
  /** those that are worth keeping and telling on: of a chain that proves nothing the last, where the history begins */
  readonly anchors: Anchor[] = [];
  /** anchors so far */
  told = 0;
  /** every anchor is vouched for by the committee at the one before it, the first by the founder */
  #isOfFounder = true;
  /** and the first after what this peer has followed, by the committee that it knows */
  #isOfOurs = true;
  readonly #context: ChainContext;
  #head: Head;
  /** where the branch stands that this peer has followed so far, moved on by the anchors behind it */
  #own: Head;

  /** @param own where this peer's branch stands: its committee has to vouch as well */
  constructor(context: ChainContext, first: Head, own: Head) {
    this.#context = context;
    this.#head = first;
    this.#own = own;
  }

  get isProven(): boolean {
    return this.#isOfFounder && this.#isOfOurs;
  }

  /**
   * @param strict one that nobody vouches for is not looked at further
   * @throws CodedError `E_HISTORY`
   */
  add(anchor: Anchor, { strict }: { strict: boolean }): void {
    const { genesis } = this.#context;
    const { entry } = anchor;
    if (this.told >= LIMITS.anchorsMax) throw fault('there are too many before it');
    if (entry.block.height <= this.#head.height) throw fault('it is not after the one before it');
    if (entry.block.members !== null) throw fault('it is not certified');
    const at = headBefore(genesis, anchor.head, entry.block);
    const isPastOwn = entry.block.height > this.#own.height;
    this.#isOfFounder &&= isVouchedFor(this.#head.committee, at.committee, entry);
    if (isPastOwn) this.#isOfOurs &&= isVouchedFor(this.#own.committee, at.committee, entry);
    if (strict && !this.isProven) return;
    checkEntry(this.#context, at, entry, undefined);
    this.#head = headAfter(genesis, at, entry.block);
    if (isPastOwn) this.#own = this.#head;
    this.told++;
    if (!this.#isOfFounder) this.anchors.length = 0;
    this.anchors.push(anchor);
  }
}

function fault(reason: string): CodedError<'E_HISTORY'> {
  return new CodedError('E_HISTORY', `anchor refused: ${reason}`);
}

import { type ChainContext, checkEntry, type Head, headAfter, headOfState, rootOf } from './chain.ts';
import { CodedError } from './errors.ts';
import type { PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import { faultsTolerated, placesIn } from './roster.ts';
import type { Anchor, Entry } from './wire.ts';

/**
 * How a history that begins in its middle is proven. A certificate shows that a quorum signed a block, and the block names
 * the root of the state that it builds on, roster included: what is to be shown is that these voters were the run's. They
 * were if more signers than the committee before it tolerates faulty ones had a vote in that committee too: then a correct
 * one of them signed, and a correct peer signs on the one certified history only. So a few anchors, each vouched for by the
 * committee at the one before it, lead from the founder to the present, where all blocks in between would have to be kept.
 * (The rule by which light clients skip, as in Tendermint's; here it is over all of a committee that is believed in, so
 * that it holds for as long as no more than f of its members are ever faulty.)
 */

/** Where the branch stands at an anchor: before its block. */
export function headAtAnchor({ genesis }: Pick<ChainContext, 'genesis'>, { state, recent, entry }: Anchor): Head {
  const { height, previous } = entry.block;
  return headOfState(genesis, state, { height: height - 1, tip: previous, recent });
}

/** @throws CodedError `E_HISTORY` when an anchor is not one: no matter who vouches for it */
function checkAnchor(context: ChainContext, anchor: Anchor): Head {
  const { state, recent, entry } = anchor;
  if (recent.unfinalTokens > 0 || entry.block.members !== null) throw fault('it is not between two certified blocks');
  const head = headAtAnchor(context, anchor);
  checkEntry(context, head, entry, rootOf(state));
  return head;
}

/** Whether enough of those who vote after a head have signed a certificate, whose committee is `voters`. */
export function isVouchedFor(head: Head, voters: readonly PeerId[], { certificate }: Entry): boolean {
  const trusted = placesIn(head.committee);
  // of a roster that a liar made up, one may have many places
  const signers = new Set(certificate.signatures.map(([place]) => voters[place]!));
  const known = [...signers].filter((peer) => trusted.has(peer));
  return known.length > faultsTolerated(head.committee.length);
}

/** Anchors one after the other, checked as they come from somebody who may lie. */
export class AnchorChain {
  readonly anchors: Anchor[] = [];
  /** every anchor is vouched for by the committee at the one before it, the first by the founder */
  isProven = true;
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

  /** @throws CodedError `E_HISTORY` */
  add(anchor: Anchor): void {
    const { genesis } = this.#context;
    const { entry } = anchor;
    if (this.anchors.length >= LIMITS.anchorsMax) throw fault('there are too many before it');
    if (entry.block.height <= this.#head.height) throw fault('it is not after the one before it');
    const at = checkAnchor(this.#context, anchor);
    this.isProven &&= isVouchedFor(this.#head, at.committee, entry);
    this.#head = headAfter(genesis, at, entry.block);
    if (entry.block.height > this.#own.height) {
      this.isProven &&= isVouchedFor(this.#own, at.committee, entry);
      this.#own = this.#head;
    }
    this.anchors.push(anchor);
  }
}

/**
 * As few anchors as prove the last one to those who know the founder, and to those who were there at one that is left out.
 * @param first the head at genesis
 */
export function fewest(context: ChainContext, first: Head, anchors: readonly Anchor[]): Anchor[] {
  const heads = anchors.map((anchor) => headAtAnchor(context, anchor));
  const after = anchors.map(({ entry }, i) => headAfter(context.genesis, heads[i]!, entry.block));
  const chosen: Anchor[] = [];
  for (let i = -1; i < anchors.length - 1; ) {
    // as far as everybody who is passed over vouches
    let next = i + 1;
    for (let j = i + 2; j < anchors.length; j++) {
      const [voters, { entry }] = [heads[j]!.committee, anchors[j]!];
      const passed = [i < 0 ? first : after[i]!, ...after.slice(i + 1, j)];
      if (passed.every((head) => isVouchedFor(head, voters, entry))) next = j;
    }
    chosen.push(anchors[next]!);
    i = next;
  }
  return chosen;
}

function fault(reason: string): CodedError<'E_HISTORY'> {
  return new CodedError('E_HISTORY', `anchor refused: ${reason}`);
}

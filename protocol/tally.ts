import type { Hash } from './hash.ts';
import type { Vote } from './messages.ts';

/** The votes of one kind in one view, by the voter's place in the committee. The first of each voter counts. */
export class Tally {
  readonly #votes: (Vote | undefined)[];
  /** by block, null where there is none */
  readonly #counts = new Map<Hash | null, number>();

  constructor(voters: number) {
    this.#votes = new Array<Vote | undefined>(voters).fill(undefined);
  }

  /** The vote of this place, once here. */
  at(place: number): Vote | undefined {
    return this.#votes[place];
  }

  /** Takes the first vote of a place. @returns how many say the same now */
  add(place: number, vote: Vote): number {
    const count = this.count(vote.block) + 1;
    this.#votes[place] = vote;
    this.#counts.set(vote.block, count);
    return count;
  }

  /** How many say so. */
  count(block: Hash | null): number {
    return this.#counts.get(block) ?? 0;
  }

  /** Who voted for a block: place and signature, places ascending, as a certificate has them. */
  signatures(block: Hash | null): [number, Uint8Array][] {
    const signatures: [number, Uint8Array][] = [];
    for (const [place, vote] of this.#votes.entries()) if (vote?.block === block) signatures.push(signed(vote, place));
    return signatures;
  }

  /** Places that voted, for whatever. */
  places(): number[] {
    return this.#votes.flatMap((vote, place) => (vote ? [place] : []));
  }
}

/** One pair for all certificates that a vote ends up in: a program that simulates many peers keeps many of these. */
function signed(vote: Vote, place: number): [number, Uint8Array] {
  let pair = pairs.get(vote);
  if (pair?.[0] !== place) {
    pair = [place, vote.signature];
    pairs.set(vote, pair);
  }
  return pair;
}
const pairs = new WeakMap<Vote, [number, Uint8Array]>();

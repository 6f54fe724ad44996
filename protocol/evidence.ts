import type { Hash } from './hash.ts';
import type { Signer } from './identity.ts';
import type { Vote } from './messages.ts';
import { signedBy, voteBytes } from './signing.ts';
import type { Evidence, VoteKind } from './wire.ts';

/**
 * Two votes of one voter that no correct one casts both: for two blocks in a view, or to finalize what it nullified. They
 * prove it to anybody, so a block may carry them and its author is out of the roster.
 */

type Choice = Pick<Vote, 'kind' | 'block'>;

/** Whether one view of a correct voter cannot have both. */
export function contradict(a: Choice, b: Choice): boolean {
  if (a.kind === b.kind) return a.kind !== 'endorse' && a.block !== b.block;
  const kinds: VoteKind[] = [a.kind, b.kind];
  return kinds.includes('finalize') && kinds.includes('nullify');
}

export function evidenceOf(a: Vote, b: Vote): Evidence {
  const { author, height, view } = a;
  const votes = [a, b].map(({ kind, block, signature }) => ({ kind, block, signature }));
  return { author, height, view, votes };
}

/** Whether the two votes contradict each other and the author signed both, in this run. */
export function evidenceHolds(signer: Signer, run: Hash, { author, height, view, votes }: Evidence): boolean {
  const [a, b] = votes;
  if (!a || !b || votes.length !== 2 || !contradict(a, b)) return false;
  return votes.every(({ kind, block, signature }) => {
    return signedBy(signer, author, voteBytes(run, kind, height, view, block), signature);
  });
}

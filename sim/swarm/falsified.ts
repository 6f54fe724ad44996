import { createHash } from 'node:crypto';
import { isVouchedFor } from '../../protocol/anchors.ts';
import { type ChainContext, hashOfFacts, headFacts, rootOf } from '../../protocol/chain.ts';
import { evidenceOf } from '../../protocol/evidence.ts';
import { branchFromLog, GENESIS } from '../../protocol/history.ts';
import type { Signer } from '../../protocol/identity.ts';
import type { History, Message, Vote } from '../../protocol/messages.ts';
import type { RandomStream } from '../../protocol/random.ts';
import { blockHash, updateBytes, voteBytes } from '../../protocol/signing.ts';
import type { AgreedState, Block, Certificate, Evidence, HeadFacts } from '../../protocol/wire.ts';
import type { BlobLibrary } from '../blob-library.ts';
import { pick } from './plan.ts';

/** A history that is cut, changed or ended early, that begins with a falsehood, or states that no history names. */
export function falsified(
  history: History,
  {
    random,
    library,
    index,
    context,
  }: { random: RandomStream; library: BlobLibrary; index: number; context: ChainContext },
): History {
  const { entries, states } = history;
  if (random.below(3) === 0) return poorlySigned(history, random);
  const shortened =
    random.below(4) > 0 && history.anchors.length === 0 ? beginningLater(history, context, random) : history;
  // where it begins is all that a newcomer has to go by
  if (shortened.anchors.length > 0) return rewritten(shortened, random);
  switch (random.below(6)) {
    case 0:
      return { ...history, entries: entries.slice(random.below(entries.length + 1)) };
    case 1:
      return { ...history, entries: entries.slice(0, random.below(entries.length + 1)) };
    case 2: {
      const changed = entries.map(({ block, certificate }) => {
        return { certificate, block: { ...block, joins: [], leaves: [] } };
      });
      return { ...history, entries: changed };
    }
    case 3:
      return { ...history, more: true, entries: entries.slice(0, 1) };
    case 4:
      return forged(history, context.signer, 1 + random.below(50));
    default: {
      const other = Uint8Array.from({ length: states[0]?.snapshotBytes ?? 4 }, (_, i) => (i % 4 === 3 ? 0x3f : 1));
      const snapshot = createHash('sha256').update(other).digest('hex');
      library.put(index, snapshot, other);
      return { ...history, states: states.map((state) => ({ ...state, snapshot })) };
    }
  }
}

/** The same history, some of whose certificates have fewer signatures than they need, or such as nobody made. */
function poorlySigned(history: History, random: RandomStream): History {
  const isEmptied = random.below(2) === 0;
  const entries = history.entries.map(({ block, certificate }) => {
    const signatures = isEmptied
      ? certificate.signatures.slice(0, random.below(certificate.signatures.length))
      : certificate.signatures.map(([place], i): [number, Uint8Array] => {
          return [place, certificate.signatures[(i + 1) % certificate.signatures.length]![1]];
        });
    return { block, certificate: { ...certificate, signatures } };
  });
  return { ...history, entries };
}

/** The same history from a block on that the founder has signed, where it is told from genesis. */
function beginningLater(history: History, context: ChainContext, random: RandomStream): History {
  const { entries } = history;
  if (entries[0]?.block.previous !== context.run) return history;
  const { heads } = branchFromLog(context, [{ ...GENESIS, entries }]);
  const vouchedFor = [...entries.keys()].slice(1).filter((i) => {
    const entry = entries[i]!;
    return entry.block.members === null && isVouchedFor(heads[0]!.committee, heads[i]!.committee, entry);
  });
  if (vouchedFor.length === 0) return history;
  const first = pick(random, vouchedFor);
  const anchor = { head: headFacts(heads[first]!), entry: entries[first]! };
  return { ...history, anchors: [anchor], entries: entries.slice(first + 1) };
}

/**
 * As if nobody had come or gone lately, so that old requests could take effect again; with a member too few, or one that has
 * gone; with others in the round, or more work in it.
 */
function rewritten(history: History, random: RandomStream): History {
  const change = random.below(8);
  const anchors = history.anchors.map(({ head, entry }) => {
    const { roster, cursor, tokens } = head;
    const gone = { peer: `12D3KooW${'x'.repeat(44)}`, lastRound: entry.block.round };
    const changes: Partial<HeadFacts>[] = [
      { changes: [] },
      { cursor: cursor + 1 },
      { tokens: tokens + 1 },
      { roster: roster.map(({ peer, lastRound }) => ({ peer, lastRound: lastRound + 1 })) },
      { roster: [...roster, gone] },
      { roster: roster.length > 1 ? roster.slice(1) : [...roster, gone] },
      { places: [gone.peer] },
      { committee: [gone.peer] },
    ];
    return { head: { ...head, ...changes[change] }, entry };
  });
  return { ...history, anchors };
}

/** A history that begins further on than the true one, with a roster of the liar alone. */
function forged(history: History, signer: Signer, ahead: number): History {
  const [{ run }, truth] = [history, history.states.at(-1)];
  if (!truth) return history;
  const { self } = signer;
  const state: AgreedState = {
    ...truth,
    roster: [{ peer: self, lastRound: truth.round }],
  };
  const { cursor, tokens, roster } = state;
  const head = { roster, places: null, committee: null, cursor, tokens, changes: [], unfinalTokens: 0 };
  const [base, { round }] = [rootOf(state), state];
  const unsigned = { author: self, payload: state.snapshot, size: 944, tokens: 4, steps: 1, loss: 1 };
  const update = { ...unsigned, signature: signer.sign(updateBytes(run, round, base, unsigned)) };
  const height = round + ahead;
  const requests = { joins: [], leaves: [], evictions: [] };
  const block: Block = {
    height,
    previous: base,
    kind: 'round',
    round,
    base,
    head: hashOfFacts(head),
    members: null,
    updates: [update],
    ...requests,
  };
  const hash = blockHash(block);
  const signature = signer.sign(voteBytes(run, 'finalize', height, 0, hash));
  const certificate: Certificate = { kind: 'finalize', height, view: 0, block: hash, signatures: [[0, signature]] };
  return {
    ...history,
    anchors: [{ head, entry: { block, certificate } }],
    entries: [],
    more: false,
    states: [state],
  };
}

/** Two true votes of somebody that do not contradict each other, called a contradiction. */
export function unjustEviction(heard: readonly Message[]): Evidence | undefined {
  const votes = heard.filter((each): each is Vote => each.type === 'vote' && each.kind !== 'endorse');
  const one = votes.at(-1);
  const other = votes.findLast(({ author, block }) => author === one?.author && block !== one.block);
  return one && other && evidenceOf(one, other);
}

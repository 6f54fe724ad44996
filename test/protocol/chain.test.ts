import { expect, test } from 'vitest';
import { checkBlock, firstHead, type Head, isTimely, leadersOf } from '../../protocol/chain.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { comparePeers, type Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { joinBytes } from '../../protocol/signing.ts';
import { testGenesis } from '../helpers/cluster.ts';
import { soloEntry } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';

test('a request takes effect once, and not long after it was made', () => {
  const [author, other] = [testSigner('author').self, testSigner('other').self];
  const genesis = testGenesis(author);
  const head = { ...firstHead(genesis, runIdOf(genesis)), height: 99, changes: new Map([[author, 97]]) };
  const timely = (peer: string) =>
    [34, 35, 36, 97, 98, 100, 101].filter((height) => isTimely(head, { author: peer, height }));
  // the block has height 100: up to 64 below it, and after the height at which its author last came or went
  expect(timely(author)).toEqual([98, 100]);
  expect(timely(other)).toEqual([36, 97, 98, 100]);
});

test('a block that lets in more than a run can hold is refused: nothing could name what comes of it', () => {
  const [founder, ...newcomers] = ['founder', 'one', 'two', 'three'].map(testSigner) as [Signer, ...Signer[]];
  const genesis = testGenesis(founder.self);
  const run = runIdOf(genesis);
  const stranger = (i: number) => `12D3KooW${String(i).padStart(44, 'x')}`;
  const joins = newcomers
    .map((signer) => {
      const join = { author: signer.self, height: 1, attempt: 0 };
      return { ...join, signature: signer.sign(joinBytes(run, join)) };
    })
    .sort((a, b) => comparePeers(a.author, b.author));
  const check = (change: Partial<Head>): void => {
    const head = { ...firstHead(genesis, run), places: [founder.self], ...change };
    const { block } = soloEntry(run, head, founder, run);
    checkBlock({ genesis, run, signer: founder }, head, { ...block, joins }, undefined);
  };
  const rosterOf = (count: number): Head['roster'] => {
    const others = Array.from({ length: count - 1 }, (_, i) => ({ peer: stranger(i), lastRound: 0 }));
    return [...others, { peer: founder.self, lastRound: 0 }].sort((a, b) => comparePeers(a.peer, b.peer));
  };
  expect(() => check({ roster: rosterOf(LIMITS.rosterMax - 3) })).not.toThrow();
  expect(() => check({ roster: rosterOf(LIMITS.rosterMax - 2) })).toThrow('more than a run can hold');
  const changesOf = (count: number) => new Map(Array.from({ length: count }, (_, i) => [stranger(i), 0]));
  // the founder itself, who may go, and the three who come
  expect(() => check({ changes: changesOf(LIMITS.changesMax - 4) })).not.toThrow();
  expect(() => check({ changes: changesOf(LIMITS.changesMax - 3) })).toThrow('more than a run can hold');
  expect(() => check({ tokens: Number.MAX_SAFE_INTEGER })).toThrow('more than a run can hold');
});

test('after the first round nobody comes in by a membership block: one after the other would keep rounds from their end', () => {
  const [founder, guest] = ['founder', 'guest'].map(testSigner) as [Signer, Signer];
  const genesis = testGenesis(founder.self);
  const run = runIdOf(genesis);
  const unsigned = { author: guest.self, height: 1, attempt: 0 };
  const joins = [{ ...unsigned, signature: guest.sign(joinBytes(run, unsigned)) }];
  const check = (places: readonly string[]) => () => {
    const head = { ...firstHead(genesis, run), places };
    const { block } = soloEntry(run, head, founder, run);
    const membership = { ...block, kind: 'membership' as const, members: null, updates: [], joins };
    checkBlock({ genesis, run, signer: founder }, head, membership, undefined);
  };
  expect(check([])).not.toThrow();
  expect(check([founder.self])).toThrow('before the round ends');
});

test('who has just come does not lead, where most have been there for longer', () => {
  const genesis = testGenesis(testSigner('founder').self);
  const committee = ['a', 'b', 'c', 'd', 'e'];
  const leaders = (changes: [string, number][]) => {
    const head = { ...firstHead(genesis, runIdOf(genesis)), committee, height: 70, changes: new Map(changes) };
    return leadersOf(head).join('');
  };
  expect(leaders([])).toBe('abcde');
  expect(
    leaders([
      ['b', 10],
      ['x', 69],
    ]),
  ).toBe('acde');
  expect(
    leaders([
      ['b', 10],
      ['c', 70],
    ]),
  ).toBe('ade');
  expect(
    leaders([
      ['b', 10],
      ['c', 70],
      ['d', 70],
    ]),
  ).toBe('abcde');
});

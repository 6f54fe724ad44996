import { expect, test } from 'vitest';
import { firstHead, isTimely } from '../../protocol/chain.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { testGenesis } from '../helpers/cluster.ts';
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

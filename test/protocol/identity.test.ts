import { expect, test } from 'vitest';
import { peerIdOf, publicKeyOf } from '../../protocol/identity.ts';
import { testSigner } from '../helpers/signers.ts';

const id = testSigner('somebody').self;

test('a peer id is the name of a key, and a key has one', () => {
  expect(id).toHaveLength(52);
  expect(peerIdOf(publicKeyOf(id))).toBe(id);
});

test.each([
  ['a digit that is none, before the first', `1\u0100${id.slice(1)}`],
  ['many of them', `1${'\uffee'.repeat(12)}${id.slice(1)}`],
  ['a zero more', `1${id}`],
  ['a space after it', `${id} `],
  ['one character less', id.slice(0, -1)],
  ['another kind of key', `Qm${id.slice(2)}`],
  ['nothing', ''],
  ['far too long', 'z'.repeat(10_000)],
])('%s makes it no peer id', (_, spelling) => {
  expect(() => publicKeyOf(spelling)).toThrow(expect.objectContaining({ code: 'E_PEER_ID' }));
});

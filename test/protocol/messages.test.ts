import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CodedError } from '../../protocol/errors.ts';
import { hashOf } from '../../protocol/hash.ts';
import {
  decodeHistory,
  decodeHistoryRequest,
  decodeMessage,
  EARLY,
  encodeHistoryRequest,
  encodeMessage,
  type Message,
} from '../../protocol/messages.ts';
import { joinBytes, leaveBytes, updateBytes, voteBytes } from '../../protocol/signing.ts';
import { wireBlock } from '../../protocol/wire.ts';
import { testSigner } from '../helpers/signers.ts';

const signer = testSigner('author');
const run = hashOf(new Uint8Array([1]));
const hash = hashOf(new Uint8Array([2]));

function header(): Message {
  const unsigned = { author: signer.self, payload: hash, size: 10, tokens: 64, steps: 2, loss: 3.25 };
  const signature = signer.sign(updateBytes(run, 4, hash, unsigned));
  return { type: 'header', run, round: 4, base: hash, update: { ...unsigned, signature }, inline: new Uint8Array(10) };
}

function vote(): Message {
  const signature = signer.sign(voteBytes(run, 'notarize', 5, 1, hash));
  return { type: 'vote', run, author: signer.self, kind: 'notarize', height: 5, view: 1, block: hash, signature };
}

function join(): Message {
  const unsigned = { author: signer.self, height: 3, attempt: 0 };
  return { type: 'join', run, join: { ...unsigned, signature: signer.sign(joinBytes(run, unsigned)) } };
}

function leave(): Message {
  const unsigned = { author: signer.self, height: 3 };
  return { type: 'leave', run, leave: { ...unsigned, signature: signer.sign(leaveBytes(run, unsigned)) } };
}

const messages = { header: header(), vote: vote(), join: join(), leave: leave() };

function codeOf(act: () => unknown): string {
  try {
    act();
    return 'accepted';
  } catch (error) {
    // anything uncoded is a crash that a stranger could cause
    if (error instanceof CodedError) return error.code;
    throw error;
  }
}

test.each(Object.entries(messages))('%s survives the wire', (_, message) => {
  expect(decodeMessage(encodeMessage(message), run, signer)).toEqual(message);
});

test.each(Object.entries(messages))('%s of another run is refused', (_, message) => {
  const other = hashOf(new Uint8Array([9]));
  expect(codeOf(() => decodeMessage(encodeMessage(message), other, signer))).toBe('E_OTHER_RUN');
});

test('every field of a header but the payload inline is signed', () => {
  const message = header() as Message & { type: 'header' };
  const changed: Message[] = [
    { ...message, round: 5 },
    { ...message, base: run },
    { ...message, update: { ...message.update, author: testSigner('other').self } },
    { ...message, update: { ...message.update, payload: run } },
    { ...message, update: { ...message.update, size: 11 } },
    { ...message, update: { ...message.update, tokens: 65 } },
    { ...message, update: { ...message.update, steps: 3 } },
    { ...message, update: { ...message.update, loss: 3 } },
  ];
  for (const each of changed) {
    expect(codeOf(() => decodeMessage(encodeMessage(each), run, signer))).toBe('E_SIGNATURE');
  }
});

test('a vote for one thing is no vote for another', () => {
  const message = vote() as Message & { type: 'vote' };
  for (const changed of [{ kind: 'finalize' as const }, { height: 6 }, { view: 2 }, { block: run }]) {
    expect(codeOf(() => decodeMessage(encodeMessage({ ...message, ...changed }), run, signer))).toBe('E_SIGNATURE');
  }
});

test('random bytes are refused with a code', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      expect(codeOf(() => decodeMessage(bytes, run, signer))).not.toBe('accepted');
      expect(codeOf(() => decodeHistory(bytes, run))).not.toBe('accepted');
      expect(codeOf(() => decodeHistoryRequest(bytes, run))).not.toBe('accepted');
    }),
    { numRuns: 2000 },
  );
});

test('a changed byte is refused with a code, or changes nothing that is signed', () => {
  const all = Object.values(messages).map(encodeMessage);
  fc.assert(
    fc.property(fc.nat(), fc.nat(), fc.integer({ min: 1, max: 255 }), (which, where, flip) => {
      const bytes = all[which % all.length]!.slice();
      bytes[where % bytes.length] = bytes[where % bytes.length]! ^ flip;
      const code = codeOf(() => {
        const message = decodeMessage(bytes, run, signer);
        // the inline payload is checked against its hash where it is taken
        if (message.type !== 'header') throw new Error(`accepted a changed ${message.type}`);
        expect(message.update).toEqual((messages.header as Message & { type: 'header' }).update);
      });
      expect(['accepted', 'E_MALFORMED', 'E_OTHER_RUN', 'E_SIGNATURE', 'E_TOO_LARGE']).toContain(code);
    }),
    { numRuns: 2000 },
  );
});

test('requests for history are bounded and of one run', () => {
  const request = { fromHeight: 7, skip: 2, anchors: 1 };
  expect(decodeHistoryRequest(encodeHistoryRequest(run, request), run)).toEqual({ run, ...request });
  expect(codeOf(() => decodeHistoryRequest(new Uint8Array(5000), run))).toBe('E_TOO_LARGE');
  expect(codeOf(() => decodeHistoryRequest(encodeHistoryRequest(hash, request), run))).toBe('E_OTHER_RUN');
});

test('of all that is wrong the first alone is told: an answer can hold a million fields that are', () => {
  const count = (value: unknown): number => wireBlock.safeParse(value, EARLY).error?.issues.length ?? 0;
  const [update] = [{ author: 'short', payload: new Uint8Array(31), size: -1, tokens: 0.5, steps: 0, loss: -1 }];
  expect(count({ updates: Array.from({ length: 100 }, () => 0) })).toBe(1);
  expect(count({ height: 0 })).toBe(1);
  const fine = { height: 1, previous: new Uint8Array(32), kind: 'round', round: 0, base: new Uint8Array(32) };
  const block = { ...fine, head: new Uint8Array(32), members: null };
  expect(count({ ...block, updates: Array.from({ length: 100 }, () => update) })).toBe(1);
  expect(count({ ...block, members: Array.from({ length: 100 }, () => 'short') })).toBe(1);
});

import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { type Batch, Inbox } from '../../node/inbox.ts';
import { MessageRates, type Passage } from '../../node/message-rates.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { encodeMessage, statusFields } from '../../protocol/messages.ts';
import { statusBytes, updateBytes } from '../../protocol/signing.ts';
import { testSigner } from '../helpers/signers.ts';

const RUN = 'ab'.repeat(32);
const [self, neighbour] = [testSigner('self'), testSigner('neighbour')];

/** However much comes. */
const ANY = new MessageRates(() => undefined);

/** A signed message that tells its number, as bytes from a socket. */
function message(height: number, run = RUN): Uint8Array {
  const standing = { author: neighbour.self, height, unfinalTokens: 0, round: 0, tip: RUN };
  const fields = statusFields(standing);
  return encodeMessage({ type: 'status', run, ...fields, signature: neighbour.sign(statusBytes(run, fields)) });
}

/** As large as headers become. */
function header(round: number): Uint8Array {
  const inline = new Uint8Array(LIMITS.inlinePayloadBytesMax);
  const unsigned = { author: neighbour.self, payload: RUN, size: inline.length, tokens: 1, steps: 1, loss: 1 };
  const update = { ...unsigned, signature: neighbour.sign(updateBytes(RUN, round, RUN, unsigned)) };
  return encodeMessage({ type: 'header', run: RUN, round, base: RUN, update, inline });
}

function hear(inbox: Inbox, ...heights: number[]): void {
  for (const height of heights) {
    const bytes = message(height);
    expect(inbox.validate(bytes, neighbour.self)).toBe('accept');
    inbox.onMessage(bytes, neighbour.self);
  }
}

function heights({ messages }: Batch): number[] {
  return messages.map((each) => (each.type === 'status' ? each.height : -1));
}

it('keeps what comes before there is a reader, and hands it over at once', () => {
  const inbox = new Inbox(RUN, self, ANY);
  hear(inbox, 1, 2, 3);
  const read: Batch[] = [];
  inbox.open((batch) => read.push(batch));
  expect(read.map(heights)).toEqual([[1, 2, 3]]);
  expect(read[0]).toMatchObject({
    from: [1, 2, 3].map(() => neighbour.self),
    bytes: [message(1), message(2), message(3)],
  });
});

it('hands nothing over where nothing came', async () => {
  const inbox = new Inbox(RUN, self, ANY);
  const read: Batch[] = [];
  inbox.open((batch) => read.push(batch));
  await setImmediate();
  expect(read).toEqual([]);
});

it('keeps the newest 1024 of them', () => {
  const inbox = new Inbox(RUN, self, ANY);
  const numbers = Array.from({ length: 1030 }, (_, i) => i);
  hear(inbox, ...numbers);
  const read: Batch[] = [];
  inbox.open((batch) => read.push(batch));
  expect(read.map(heights)).toEqual([numbers.slice(6)]);
  expect(read[0]?.bytes).toHaveLength(1024);
  expect(read[0]?.from).toHaveLength(1024);
});

it('keeps four mebibytes of them', () => {
  const inbox = new Inbox(RUN, self, ANY);
  const sizes: number[] = [];
  for (let round = 0; round < 200; round++) {
    const bytes = header(round);
    sizes.push(bytes.length);
    expect(inbox.validate(bytes, neighbour.self)).toBe('accept');
    inbox.onMessage(bytes, neighbour.self);
  }
  const fits = Math.floor((4 * 1024 * 1024) / Math.max(...sizes));
  expect(fits).toBeLessThan(200);
  const read: Batch[] = [];
  inbox.open((batch) => read.push(batch));
  expect(read[0]?.messages.map((each) => each.type === 'header' && each.round)).toEqual(
    Array.from({ length: fits }, (_, i) => 200 - fits + i),
  );
});

it('hands over together what comes in one turn', async () => {
  const inbox = new Inbox(RUN, self, ANY);
  const read: Batch[] = [];
  inbox.open((batch) => read.push(batch));
  hear(inbox, 1, 2);
  expect(read).toEqual([]);
  await setImmediate();
  hear(inbox, 3);
  await setImmediate();
  expect(read.map(heights)).toEqual([[1, 2], [3]]);
});

it('rejects what is not of this run, not signed, or no message', () => {
  const inbox = new Inbox(RUN, self, ANY);
  expect(inbox.validate(message(1, 'cd'.repeat(32)), neighbour.self)).toBe('reject');
  const forged = message(1);
  forged[forged.length - 1]! ^= 1;
  expect(inbox.validate(forged, neighbour.self)).toBe('reject');
  expect(inbox.validate(new Uint8Array(3), neighbour.self)).toBe('reject');
});

it('takes in and hands on as much as is due to who hands it over, and decodes nothing else', () => {
  const taken: [string, number][] = [];
  const passages: Passage[] = ['hand on', 'keep', 'pass over', 'cut off', 'hand on', 'pass over'];
  const take = (from: string, bytes: number) => {
    taken.push([from, bytes]);
    return passages[taken.length - 1]!;
  };
  const inbox = new Inbox(RUN, self, { take, accepts: () => true });
  const good = message(1);
  const bad = new Uint8Array(3);
  const verdicts = [good, good, good, good, bad, bad].map((bytes) => inbox.validate(bytes, neighbour.self));
  expect(verdicts).toEqual(['accept', 'keep', 'ignore', 'reject', 'reject', 'ignore']);
  expect(taken).toEqual([good, good, good, good, bad, bad].map(({ length }) => [neighbour.self, length]));
});

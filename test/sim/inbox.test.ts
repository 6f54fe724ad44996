import { expect, test } from 'vitest';
import type { Message } from '../../protocol/messages.ts';
import { Inboxes } from '../../sim/inbox.ts';
import { Kernel } from '../../sim/kernel.ts';

const message = { type: 'status' } as Message;

function inboxes(everyMs: number, cut = new Set<number>()) {
  const kernel = new Kernel();
  const reads: { atMs: number; peer: number; numbers: number[]; from: number[] }[] = [];
  const boxes = new Inboxes(
    {
      kernel,
      connected: (from) => !cut.has(from),
      onRead: (peer, { numbers, from }) =>
        reads.push({ atMs: kernel.nowMs, peer, numbers: [...numbers], from: [...from] }),
    },
    { peers: 2, everyMs },
  );
  const send = (number: number, arrivals: readonly number[], direct = false): void => {
    boxes.announce({ message, number, size: 1 }, arrivals.length);
    for (const [peer, atMs] of arrivals.entries()) boxes.put(peer, atMs, number, 7, direct);
  };
  const run = () => kernel.run({ until: () => false });
  return { kernel, boxes, reads, send, run };
}

test('a peer reads at once what comes first, and the rest in one go when it looks again', async () => {
  const { reads, send, run } = inboxes(10);
  send(0, [5, 3]);
  send(1, [6]);
  send(2, [14]);
  send(3, [40]);
  await run();
  expect(reads.filter(({ peer }) => peer === 0)).toEqual([
    { atMs: 5, peer: 0, numbers: [0], from: [7] },
    { atMs: 15, peer: 0, numbers: [1, 2], from: [7, 7] },
    { atMs: 40, peer: 0, numbers: [3], from: [7] },
  ]);
  expect(reads.filter(({ peer }) => peer === 1)).toEqual([{ atMs: 3, peer: 1, numbers: [0], from: [7] }]);
});

test('without a pause everything is read when it arrives, together with what arrives then', async () => {
  const { reads, send, run } = inboxes(0);
  for (const number of [0, 1, 2]) send(number, [number === 1 ? 4 : 3]);
  await run();
  expect(reads.map(({ atMs, numbers }) => ({ atMs, numbers }))).toEqual([
    { atMs: 3, numbers: [0, 2] },
    { atMs: 4, numbers: [1] },
  ]);
});

test('what comes over a connection that broke meanwhile is lost, and what is on the way to a process that ends', async () => {
  const cut = new Set<number>();
  const { kernel, boxes, reads, send, run } = inboxes(0, cut);
  send(0, [5], true);
  send(1, [5]);
  send(2, [8, 8]);
  kernel.at(4, () => cut.add(7));
  kernel.at(6, () => boxes.clear(0));
  await run();
  expect(reads).toEqual([
    { atMs: 5, peer: 0, numbers: [1], from: [7] },
    { atMs: 8, peer: 1, numbers: [2], from: [7] },
  ]);
});

test('thousands of messages come and go in any order', async () => {
  const { reads, send, run } = inboxes(1);
  const count = 5000;
  for (let number = 0; number < count; number++) send(number, [(number * 7919) % 997, (number * 104_729) % 1009]);
  await run();
  for (const peer of [0, 1]) {
    const numbers = reads.filter((read) => read.peer === peer).flatMap((read) => read.numbers);
    expect(numbers.sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
  }
});

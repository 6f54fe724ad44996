import { expect, it } from 'vitest';
import { untilNobodyFetches } from '../../node/lingering.ts';

const never = (_: number): boolean => false;

/** Bytes sent at each look; the last number stays. @returns the waits that were made */
async function waitsWith(sent: number[], { isClosed = never, isBusy = never } = {}): Promise<number> {
  let [looks, waits] = [0, 0];
  const serving = {
    sentBefore: 0,
    bytesSent: () => sent[Math.min(looks++, sent.length - 1)]!,
    isBusy: () => isBusy(waits),
    isClosed: () => isClosed(waits),
  };
  await untilNobodyFetches(serving, async () => {
    waits++;
  });
  return waits;
}

it('goes once nothing was sent for a while', async () => {
  expect(await waitsWith([5])).toBe(1);
  expect(await waitsWith([5, 5000, 900_000, 904_000])).toBe(3);
});

it('stays longer where a large state was fetched, which takes a while to write before the rest is asked for', async () => {
  const state = 100 * 1024 * 1024;
  expect(await waitsWith([5, 9_000_000, state, state])).toBe(2 + 15);
  expect(await waitsWith([5, ...Array.from({ length: 10 }, () => state), state + 9000])).toBe(11 + 15);
});

it('stays while one chunk takes long', async () => {
  expect(await waitsWith([5], { isBusy: (waits) => waits < 9 })).toBe(9);
});

it('goes when it is closed, and does not stay for ever', async () => {
  const more = Array.from({ length: 10_000 }, (_, i) => 5000 * i);
  expect(await waitsWith(more, { isClosed: (waits) => waits === 7 })).toBe(7);
  expect(await waitsWith(more)).toBe(300);
});

import { expect, it } from 'vitest';
import { untilNobodyFetches } from '../../node/lingering.ts';

/** Bytes sent at each look; the last number stays. @returns the waits that were made */
async function waitsWith(sent: number[], isClosed = (_: number) => false): Promise<number> {
  let [looks, waits] = [0, 0];
  await untilNobodyFetches(
    () => sent[Math.min(looks++, sent.length - 1)]!,
    () => isClosed(waits),
    async () => {
      waits++;
    },
  );
  return waits;
}

it('goes once nothing was sent for a while', async () => {
  expect(await waitsWith([5])).toBe(1);
  expect(await waitsWith([5, 5000, 900_000, 904_000])).toBe(3);
});

it('goes when it is closed, and does not stay for ever', async () => {
  const more = Array.from({ length: 10_000 }, (_, i) => 5000 * i);
  expect(await waitsWith(more, (waits) => waits === 7)).toBe(7);
  expect(await waitsWith(more)).toBe(300);
});

import { expect, test } from 'vitest';
import { MachineSpeed } from '../../../node/chaos/machine-speed.ts';

test('is the mean of what was measured in the spans', () => {
  let nowMs = 0;
  const costs = [2, 4, 0, 8, 1];
  const speed = new MachineSpeed(
    () => costs.shift()!,
    () => nowMs,
  );
  for (; nowMs < 500; nowMs += 100) speed.sample();
  expect(speed.in([{ fromMs: 0, toMs: 100 }])).toBe((1 / 2 + 1 / 4) / 2);
  // no processor's time at all is a clock too coarse, not a machine of infinite speed
  expect(speed.in([{ fromMs: 0, toMs: 300 }])).toBe((1 / 2 + 1 / 4 + 1 / 8) / 3);
  expect(
    speed.in([
      { fromMs: 0, toMs: 0 },
      { fromMs: 350, toMs: 1000 },
    ]),
  ).toBe((1 / 2 + 1) / 2);
  expect(speed.in([{ fromMs: 401, toMs: 1000 }])).toBeNull();
  expect(speed.in([])).toBeNull();
});

test('measures a computation of this machine', () => {
  const speed = new MachineSpeed();
  speed.sample();
  expect(speed.in([{ fromMs: 0, toMs: performance.now() }])).toBeGreaterThan(0);
});

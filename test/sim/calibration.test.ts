import { expect, test } from 'vitest';
import { makeWorld, runSimulated, type WorldChoices } from '../../scripts/calibrate/worlds.ts';

/**
 * What real peers took, by `npm run calibrate:sim` (docs/simulator.md has the table): a change of the simulator that leads
 * away from it shows here. Its own figures are virtual, and the same on every machine.
 */
const training = { innerSteps: 10, stepMs: 100, rounds: 4 };
const MEASURED: { world: WorldChoices; encodeMs: number; diskMs: number; roundMs: number; bytes: number }[] = [
  {
    world: { peers: 4, codec: 'topk', oneWayMs: 40, mbit: 20, ...training },
    encodeMs: 0.6,
    diskMs: 2.1,
    roundMs: 1236,
    bytes: 162_000,
  },
  {
    world: { peers: 4, codec: 'int8', oneWayMs: 40, mbit: 20, ...training },
    encodeMs: 3.5,
    diskMs: 1.6,
    roundMs: 2327,
    bytes: 2_448_800,
  },
  {
    world: { peers: 6, codec: 'int8', oneWayMs: 100, mbit: 10, ...training },
    encodeMs: 3.7,
    diskMs: 3.4,
    roundMs: 5004,
    bytes: 4_183_200,
  },
];

test.each(MEASURED)('$world.peers real peers, $world.codec: rounds and bytes', async (measured) => {
  const { world, encodeMs, diskMs, roundMs, bytes } = measured;
  const { roundsMs, bytesARound } = await runSimulated(
    makeWorld(world, (peer) => new Uint8Array(32).fill(1 + peer)),
    { stepMs: 100.1, encodeMs, diskMs },
  );
  expect(roundsMs).toHaveLength(3);
  for (const ms of roundsMs) expect(Math.abs(ms / roundMs - 1)).toBeLessThan(0.05);
  expect(Math.abs(bytesARound / bytes - 1)).toBeLessThan(0.05);
});

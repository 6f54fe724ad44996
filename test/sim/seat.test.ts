import { expect, test } from 'vitest';
import { AgreedStates, type InnerTrainer, Seat } from '../../sim/seat.ts';
import { syntheticWorld } from './world.ts';

test('training that broke down leaves no moments behind', async () => {
  const { genesis } = syntheticWorld({ peers: 1, rounds: 3, innerSteps: 2 });
  const begunWith: string[] = [];
  const trainer: InnerTrainer<string> = {
    fresh: () => 'fresh',
    evaluate: async () => 0,
    train: async ({ optimizer, parameters }) => {
      begunWith.push(optimizer);
      const badParameters = begunWith.length === 2;
      return { local: parameters.slice(), optimizer: 'grown', steps: 2, tokens: 32, meanLoss: 1, badParameters };
    },
  };
  const seat = new Seat(0, genesis, trainer, new AgreedStates());
  await seat.initialize();
  const contributed: boolean[] = [];
  for (let round = 0; round < 3; round++) {
    seat.train({ round, firstStep: 2 * round, steps: 2, firstPosition: 2 * round });
    contributed.push((await seat.contribute(2)) !== null);
  }
  expect(contributed).toEqual([true, false, true]);
  expect(begunWith).toEqual(['fresh', 'grown', 'fresh']);
});

import { expect, it } from 'vitest';
import type { PeerEvent } from '../../node/peer-events.ts';
import { Telling } from '../../node/telling.ts';
import { syntheticGenesis } from '../../sim/synthetic.ts';

const [ME, SHE, HE] = ['me', 'she', 'he'] as const;

function telling() {
  const genesis = syntheticGenesis({
    founder: 'x'.repeat(52),
    seed: 1,
    innerSteps: 5,
    codec: { name: 'fp32', chunk: 4096, k: 64, bits: 2 },
    outer: { name: 'sgd', learningRate: 1, momentum: 0 },
    rounds: 9,
    waitFor: 3,
    timing: { graceMs: 1, viewMs: 1, quorumWaitMs: null },
  });
  const events: PeerEvent[] = [];
  const network = { peers: () => [SHE, HE], counters: () => ({ bytesSent: 0, bytesReceived: 0 }) as never };
  return { told: new Telling({ network, onEvent: (event) => events.push(event) }, genesis), events };
}

it('tells how many updates of a round are here, once this peer waits for them', () => {
  const { told, events } = telling();
  const members = [ME, SHE, HE];
  told.arrived(4, SHE, 4);
  told.arrived(3, HE, 4); // too late for its round
  expect(events).toEqual([]);
  told.arrived(4, ME, 4);
  told.gathering(4, members);
  const gathering = { event: 'progress', phase: 'gathering', round: 4, rounds: 9, peers: 2 };
  expect(events).toEqual([{ ...gathering, updates: { here: 2, of: 3 } }]);
  told.arrived(4, HE, 4);
  expect(events.at(-1)).toEqual({ ...gathering, updates: { here: 3, of: 3 } });
  told.phase('applying', 5);
  told.arrived(5, SHE, 5);
  expect(events.at(-1)).toMatchObject({ phase: 'applying' });
  told.arrived(5, ME, 5);
  told.gathering(5, members);
  expect(events.at(-1)).toMatchObject({ updates: { here: 2, of: 3 } });
});

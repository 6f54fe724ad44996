import { expect, it } from 'vitest';
import { Ledger } from '../../sim/ledger.ts';

it('takes pauses out of what a peer does, and nothing out of the time in which it is down', () => {
  const ledger = new Ledger(2);
  ledger.turn(0, 'training', 10);
  ledger.pause(0, 20, 30);
  ledger.turn(0, 'waiting', 25);
  ledger.turn(0, 'training', 40);
  ledger.pause(0, 45, 90);
  ledger.turn(0, 'down', 50);
  ledger.close(60);
  const spans = ledger.spans.filter(({ peer }) => peer === 0);
  expect(spans.map(({ activity, fromMs, toMs }) => [activity, fromMs, toMs])).toEqual([
    ['down', 0, 10],
    ['training', 10, 20],
    ['paused', 20, 25],
    ['paused', 25, 30],
    ['waiting', 30, 40],
    ['training', 40, 45],
    ['paused', 45, 50],
    ['down', 50, 60],
  ]);
  const { spentMs } = ledger.ofPeer(0);
  expect(spentMs).toMatchObject({ training: 15, paused: 15, waiting: 10, down: 20 });
});

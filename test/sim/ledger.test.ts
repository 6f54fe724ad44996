import { expect, test } from 'vitest';
import { Ledger } from '../../sim/ledger.ts';
import { syntheticWorld } from './world.ts';

test('a pause is booked as one, and what goes on afterwards as what it was', async () => {
  const scenario = {
    step: '1s',
    latency: '1ms',
    encode: '0ms',
    apply: '0ms',
    disk: '0ms',
    read: '0ms',
    // in the middle of a round of ten steps, and again while it lasts
    events: [
      { at: '14s', do: 'pause' as const, peers: [1], for: '3s' },
      { at: '15s', do: 'pause' as const, peers: [1], for: '5s' },
    ],
  };
  const timing = { graceMs: 60_000, viewMs: 2000, quorumWaitMs: null };
  const { simulation } = syntheticWorld({ peers: 2, rounds: 3, innerSteps: 10, scenario, timing });
  const { ledger, rows } = await simulation.run();
  const [there, paused] = [0, 1].map((peer) => ledger.ofPeer(peer).spentMs);
  expect(paused).toMatchObject({ paused: 6000, training: 30_000 });
  expect(there).toMatchObject({ paused: 0, training: 30_000 });
  expect(there!.waiting - paused!.waiting).toBeCloseTo(6000, -2);
  const spans = ledger.spans.filter(({ peer, fromMs }) => peer === 1 && fromMs < rows[1]!.virtualMs);
  expect(spans.map(({ activity }) => activity)).toEqual(expect.arrayContaining(['training', 'paused', 'training']));
  const pause = spans.find(({ activity }) => activity === 'paused');
  expect(pause).toMatchObject({ fromMs: 14_000, toMs: 20_000 });
});

test('a process that starts is not paused, whatever became of the one before it', async () => {
  const events = [
    { at: '3s', do: 'pause' as const, peers: [3], for: '1h' },
    { at: '4s', do: 'crash' as const, peers: [3] },
    { at: '5s', do: 'restart' as const, peers: [3] },
  ];
  const { simulation } = syntheticWorld({ peers: 4, rounds: 12, scenario: { events } });
  const { ledger, rows } = await simulation.run();
  expect(ledger.ofPeer(3).spentMs).toMatchObject({ paused: 1000, down: 1000 });
  expect(rows.at(-1)!.contributors).toBe(4);
});

test('what a paused peer turns to begins when it goes on, and a crash ends the pause', () => {
  const ledger = new Ledger(2);
  for (const peer of [0, 1]) {
    ledger.turn(peer, 'training', 10);
    ledger.pause(peer, 20);
    ledger.turn(peer, 'waiting', 25);
  }
  ledger.turn(1, 'down', 28);
  ledger.resume(0, 30);
  ledger.resume(1, 30);
  ledger.close(50);
  expect(ledger.ofPeer(0).spentMs).toMatchObject({ down: 10, training: 10, paused: 10, waiting: 20 });
  expect(ledger.ofPeer(1).spentMs).toMatchObject({ down: 10 + 22, training: 10, paused: 8, waiting: 0 });
});

test('what is planned for later is not booked twice when something else comes before', () => {
  const ledger = new Ledger(1);
  ledger.turn(0, 'applying', 0);
  ledger.turn(0, 'training', 10);
  ledger.turn(0, 'down', 5);
  ledger.close(20);
  expect(ledger.ofPeer(0).spentMs).toMatchObject({ applying: 10, training: 0, down: 10 });
});

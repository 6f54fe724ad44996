import { expect, test } from 'vitest';
import { cutOff } from '../../../sim/report/chart.ts';
import { timelineSvg } from '../../../sim/report/timeline.ts';

function curve(name: string, losses: readonly number[]) {
  const points = losses.map((y, x) => ({ x: x + 1, y, low: y, high: y }));
  return { name, className: name, points };
}

test('of two strategies none is cut off; one that went astray among others is, and is named', () => {
  const [central, same, slow] = [
    [2.2, 2, 1.8],
    [2.2, 2, 1.8],
    [3.5, 3, 2.5],
  ];
  expect(cutOff([curve('centralized', central), curve('ddp', same), curve('diloco', slow)])).toEqual([]);
  const others = [curve('centralized', central), curve('ddp', same), curve('a', [2.4, 2.1, 1.9])];
  expect(cutOff([...others, curve('astray', [3, 4, 5])])).toEqual(['astray']);
  expect(cutOff([])).toEqual([]);
});

test('a long run of many short rounds is drawn as what peers did most', () => {
  const [rounds, roundMs] = [2000, 1000];
  const spans = Array.from({ length: rounds }, (_, i) => [
    { peer: 0, activity: 'training' as const, fromMs: i * roundMs, toMs: i * roundMs + 900 },
    { peer: 0, activity: 'waiting' as const, fromMs: i * roundMs + 900, toMs: (i + 1) * roundMs },
  ]).flat();
  const endMs = rounds * roundMs;
  const timeline = { series: 'a', seed: 1, peers: 1, rounds, virtualMs: endMs, spans, carried: [] };
  expect(timelineSvg(timeline, 0, endMs)).toContain('class="lane-training"');
  expect(timelineSvg(timeline, 0, endMs)).not.toContain('class="lane-waiting"');
  // from near both are there
  const near = timelineSvg(timeline, 0, 4 * roundMs);
  for (const lane of ['training', 'waiting']) expect(near).toContain(`class="lane-${lane}"`);
});

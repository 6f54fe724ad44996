import { expect, test } from 'vitest';
import { parseDuration } from '../../sim/distribution.ts';
import { makeScenario, parseBandwidth, readScenario, type ScenarioText } from '../../sim/scenario.ts';

const crash = (peer: number, at: string) => ({ at, do: 'crash' as const, peers: [peer] });

test.each<[string, ScenarioText, RegExp]>([
  ['a negative latency', { latency: '-5ms' }, /latency: -5ms is negative.*give 0 or more/],
  ['a latency without unit', { latency: '80' }, /latency takes a duration like 80ms/],
  ['a wild sigma', { latency: 'lognormal(80ms,9)' }, /sigma.*from 0 to 5/],
  ['a range upside down', { latency: 'uniform(90ms,20ms)' }, /from <= to/],
  ['no bandwidth at all', { bandwidth: '0mbit' }, /nothing ever arrives at 0mbit; give more than 0/],
  ['no upload', { bandwidth: '50mbit/0kbit' }, /nothing ever arrives at 0kbit/],
  ['more loss than TCP bears', { loss: '80%' }, /at most 50%/],
  ['more than all', { loss: '101%' }, /from 0% to 100%/],
  ['steps that take no time', { step: '0ms' }, /a step takes time/],
  ['stragglers that are faster', { stragglers: '10%x0.5' }, /factor of 1 or more/],
  ['stragglers that are nobody', { stragglers: '10%x3' }, /^stragglers: 10% of 4 peers is nobody; give a larger share/],
  [
    'a region of a peer alone',
    { peers: { 3: { region: 'sa-east' } } },
    /^peers.3.region: the others are in none.*; give regions/,
  ],
  ['churn without its unit', { churn: '5%' }, /5%\/round/],
  [
    'churn that leaves everybody alone',
    { churn: '5%/round', events: [crash(0, '1s'), crash(1, '1s'), crash(2, '1s'), crash(3, '1s')] },
    /all peers come or go by events.*name fewer/,
  ],
  ['leaves of those who must stay', { leaves: '5%/round' }, /4 peers always stay, and there are 4; give 5 peers/],
  ['joins without their unit', { joins: '5%', late: '50%' }, /joins takes a share a round, like 5%\/round/],
  ['joins of nobody', { joins: '5%/round' }, /nobody waits to join; say who is late/],
  ['late peers who never come', { late: '50%' }, /nobody comes without joins; give "joins"/],
  ['nobody at the beginning', { late: '100%', joins: '5%/round' }, /100% of 4 peers is 4; .*one begins the run/],
  ['a late peer that has a time', { late: '25%', joins: '5%/round', events: [crash(3, '1s')] }, /peer 3 comes or goes/],
  ['a cut that leaves nobody', { partition: '100%@1s+2s' }, /leaves one part empty/],
  ['a peer that is not there', { peers: { 9: { step: '1s' } } }, /no peer 9 among 4.*add peers/],
  ['an event for one that is not there', { events: [crash(4, '1s')] }, /no peer 4 among 4/],
  ['more leavers than peers', { events: [{ at: '1s', do: 'leave', peers: [0, 1, 2, 3] }] }, /4 of 4 peers leave.*stay/],
  ['one that crashes twice', { events: [crash(1, '1s'), crash(1, '2s')] }, /peer 1.*is down then/],
  ['one that comes back and was never away', { events: [{ at: '1s', do: 'restart', peers: [2] }] }, /is up then/],
  ['a founder that comes late', { events: [{ at: '1s', do: 'join', peers: [0] }] }, /peer 0 begins the run/],
  ['a negative time', { events: [crash(1, '-1s')] }, /events.0.at: -1s is negative/],
  ['one named twice', { events: [{ at: '1s', do: 'crash', peers: [1, 1] }] }, /names a peer twice/],
])('%s is refused, with cause and fix', (_, scenario, message) => {
  try {
    makeScenario(scenario, 4);
    expect.unreachable('it was taken');
  } catch (error) {
    expect(error).toMatchObject({ code: 'E_SCENARIO' });
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).not.toContain('\n');
  }
});

test('who is late joins at no given time', () => {
  const { events, joins, leaves } = makeScenario({ late: '40%', joins: '10%/round', leaves: '2%/round' }, 5);
  expect({ events, joins, leaves }).toEqual({
    events: [{ atMs: Number.POSITIVE_INFINITY, do: 'join', peers: [3, 4] }],
    joins: 0.1,
    leaves: 0.02,
  });
});

test('churn needs a swarm that tolerates one who is down', () => {
  expect(() => makeScenario({ churn: '50%/round' }, 3)).toThrow(
    expect.objectContaining({
      code: 'E_SCENARIO',
      message: expect.stringMatching(/^churn: 3 peers tolerate none that is down; give 4 peers or more, or no churn$/),
    }),
  );
  expect(makeScenario({ churn: '0%/round' }, 3).churn).toBe(0);
  expect(makeScenario({ churn: '50%/round' }, 4).churn).toBe(0.5);
});

test('times are read with units from us to h', () => {
  const texts = ['500us', '80ms', '1.5s', '2min', '3m', '.5h'];
  expect(texts.map((text) => parseDuration('at', text))).toEqual([0.5, 80, 1500, 120_000, 180_000, 1_800_000]);
});

test('a field that is not known, and text that is not JSON, are refused by name', () => {
  expect(() => readScenario('{"latencie": "1ms"}')).toThrow(/latencie/);
  expect(() => readScenario('{')).toThrow(/not JSON/);
});

test('what is not said has a default, what is said is in base units', () => {
  const { links, compute, events, churn } = makeScenario(
    { latency: 'lognormal(80ms,0.3)', bandwidth: '50mbit/20mbit', churn: '5%/round', partition: '50%@10s+20s' },
    4,
  );
  expect(links.latency).toEqual({ kind: 'lognormal', median: 80, sigma: 0.3 });
  expect([links.downloadBits, links.uploadBits]).toEqual([50e6, 20e6]);
  expect(compute.step).toEqual({ kind: 'constant', value: 100 });
  expect(churn).toBe(0.05);
  expect(events).toEqual([
    {
      atMs: 10_000,
      do: 'partition',
      groups: [
        [0, 1],
        [2, 3],
      ],
    },
    { atMs: 30_000, do: 'heal' },
  ]);
  expect(parseBandwidth('x', '1.5gbit')).toEqual({ downloadBits: 1.5e9, uploadBits: 1.5e9 });
});

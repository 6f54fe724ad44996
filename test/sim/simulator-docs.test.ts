import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { makeScenario, readScenario, type ScenarioText } from '../../sim/scenario.ts';
import { STRATEGY_FIELDS } from '../../sim/strategy.ts';

/** What docs/simulator.md tells of files that people write; the compiler finds a field that is missing here. */

const DOCS = readFileSync(new URL('../../docs/simulator.md', import.meta.url), 'utf8');

const SCENARIO: Record<keyof ScenarioText, true> = {
  latency: true,
  asymmetric: true,
  bandwidth: true,
  loss: true,
  regions: true,
  step: true,
  encode: true,
  apply: true,
  disk: true,
  read: true,
  stragglers: true,
  churn: true,
  late: true,
  joins: true,
  leaves: true,
  partition: true,
  peers: true,
  events: true,
};

const EVENTS: Record<NonNullable<ScenarioText['events']>[number]['do'], true> = {
  join: true,
  leave: true,
  crash: true,
  restart: true,
  pause: true,
  partition: true,
  heal: true,
};

it.each([SCENARIO, STRATEGY_FIELDS, EVENTS].flatMap((fields) => Object.keys(fields)))('has a row for %s', (name) => {
  expect(DOCS).toContain(`\n| \`${name}\` | `);
});

it('has an example with every field and every event, which can be', () => {
  const [, json = ''] = /```json\n([^`]*)```/.exec(DOCS) ?? [];
  const written = readScenario(json);
  expect(Object.keys(written).sort()).toEqual(Object.keys(SCENARIO).sort());
  const done = makeScenario(written, 8).events.map((event) => event.do);
  expect([...new Set(done)].sort()).toEqual(Object.keys(EVENTS).sort());
});

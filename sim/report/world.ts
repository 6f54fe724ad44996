import type { ScenarioText } from '../scenario.ts';
import type { Report } from './report.ts';

/** Of a long list so many are named, and the rest counted: all of it is in the configuration. */
const LISTED_MAX = 6;

/** The world that a report is of, in words: a short text for each field of its scenario. */
export function worldOf({ configuration }: Pick<Report, 'configuration'>): string[] {
  const scenario = (configuration.scenario ?? {}) as ScenarioText;
  const { regions = [], asymmetric, peers = {}, events = [], loss, latency, ...rest } = scenario;
  // where all are in regions, a table has their latency
  const words = Object.entries({ ...(regions.length > 0 ? {} : { latency }), ...rest });
  const plain = words.flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${value}`]));
  return [
    ...plain,
    ...(loss === undefined ? [] : [`packet loss ${loss}`]),
    ...(asymmetric ? ['asymmetric links'] : []),
    ...(regions.length > 0 ? [`regions ${regions.join(', ')}`] : []),
    ...listed(Object.entries(peers).map(peerWords), 'peers that differ'),
    ...listed(events.map(eventWords), 'events'),
  ];
}

function peerWords([index, fields]: [string, object]): string {
  return `peer ${index}: ${Object.entries(fields).flat().join(' ')}`;
}

function eventWords(event: NonNullable<ScenarioText['events']>[number]): string {
  const at = `at ${event.at}`;
  if (event.do === 'heal') return `heal ${at}`;
  if (event.do === 'partition') return `partition ${event.groups.map((group) => group.join(' ')).join(' | ')} ${at}`;
  const many = event.peers.length > LISTED_MAX ? `${event.peers.length} peers` : event.peers.join(' ');
  return `${event.do} ${many} ${at}${event.do === 'pause' ? ` for ${event.for}` : ''}`;
}

function listed(all: readonly string[], what: string): string[] {
  if (all.length <= LISTED_MAX) return [...all];
  return [...all.slice(0, LISTED_MAX), `${all.length - LISTED_MAX} more ${what}`];
}

import * as z from 'zod';
import { type ComputeConfig, stragglersAmong } from './compute.ts';
import { constant, type Distribution, parseDuration, parseDurations } from './distribution.ts';
import { scenarioError } from './errors.ts';
import { type LinkConfig, REGIONS } from './links.ts';

const text = z.string().min(1).max(200);
const index = z.number().int().min(0);
const at = { at: text };
const peers = z.array(index).min(1);

const eventSchema = z.discriminatedUnion('do', [
  z.strictObject({ ...at, do: z.literal('join'), peers }),
  z.strictObject({ ...at, do: z.literal('leave'), peers }),
  z.strictObject({ ...at, do: z.literal('crash'), peers }),
  z.strictObject({ ...at, do: z.literal('restart'), peers }),
  z.strictObject({ ...at, do: z.literal('pause'), peers, for: text }),
  z.strictObject({ ...at, do: z.literal('partition'), groups: z.array(peers).min(2).max(255) }),
  z.strictObject({ ...at, do: z.literal('heal') }),
]);

/**
 * A world as a person writes it, in a JSON file or on the command line: durations like `80ms` or `lognormal(80ms,0.3)`,
 * rates like `50mbit`, shares like `5%`.
 */
const scenarioSchema = z.strictObject({
  /** one-way, of a link */
  latency: text.optional(),
  asymmetric: z.boolean().optional(),
  /** down/up, or one for both */
  bandwidth: text.optional(),
  loss: text.optional(),
  regions: z.array(z.enum(REGIONS)).optional(),
  /** one inner step */
  step: text.optional(),
  encode: text.optional(),
  apply: text.optional(),
  disk: text.optional(),
  /** between two reads of a peer's sockets, at least; the default grows with the swarm */
  read: text.optional(),
  /** `10%x3`: one in ten takes three times as long */
  stragglers: text.optional(),
  /** `5%/round` */
  churn: text.optional(),
  /** `5%/round`: of those who are not there yet (see `late`) or have left by `leaves` */
  joins: text.optional(),
  /** `2%/round`: leave in good order */
  leaves: text.optional(),
  /** `40%`: the last ones, who are not there at the beginning and come by `joins` */
  late: text.optional(),
  /** `50%@10s+20s`: the share that is cut off, when, for how long */
  partition: text.optional(),
  /** peers that differ, by index */
  peers: z
    .record(
      z.string().regex(/^\d{1,6}$/),
      z.strictObject({ bandwidth: text.optional(), region: z.enum(REGIONS).optional(), step: text.optional() }),
    )
    .optional(),
  events: z.array(eventSchema).max(100_000).optional(),
});

export type ScenarioText = z.infer<typeof scenarioSchema>;

/** A peer that joins at infinity does so when `joins` draws it. */
export type FaultEvent = { atMs: number } & (
  | { do: 'join' | 'leave' | 'crash' | 'restart'; peers: number[] }
  | { do: 'pause'; peers: number[]; forMs: number }
  | { do: 'partition'; groups: number[][] }
  | { do: 'heal' }
);

export interface Scenario {
  links: LinkConfig;
  compute: ComputeConfig;
  /** between two reads of a peer's sockets, at least */
  readMs: number;
  /** in order of time */
  events: FaultEvent[];
  /**
   * share of the peers that crash in a round, to come back a while later; drawn from the seed, from those that no event
   * makes come or go, and never more down than the roster tolerates
   */
  churn: number;
  /** share of those who wait that join in a round */
  joins: number;
  /** share of the members that leave in a round; drawn like churn, and no more than the swarm can spare */
  leaves: number;
}

export const DEFAULT_SCENARIO = {
  latency: '40ms',
  loss: '0%',
  step: '100ms',
  encode: '5ms',
  apply: '5ms',
  disk: '1ms',
} satisfies ScenarioText;

/** The smallest swarm that goes on with one peer down: chance makes none smaller. */
export const TOLERANT_PEERS_MIN = 4;

/** @throws CodedError `E_SCENARIO` naming the field */
export function readScenario(json: string): ScenarioText {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw scenarioError(`the scenario is not JSON (${(cause as Error).message}); see outerloop sim --help`);
  }
  return checkedText(value);
}

function checkedText(value: unknown): ScenarioText {
  const parsed = scenarioSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const unknown = issue?.code === 'unrecognized_keys' && issue.path.length === 0 ? issue.keys[0] : undefined;
  if (unknown !== undefined) {
    const known = Object.keys(scenarioSchema.shape).join(', ');
    throw scenarioError(`a scenario has no field "${unknown}"; it may have ${known}`);
  }
  throw scenarioError(`field ${issue?.path.join('.') || '(root)'}: ${issue?.message}; correct it in the scenario`);
}

/**
 * Turns text into numbers and checks that the world can be.
 * @param count peers
 * @throws CodedError `E_SCENARIO` with the cause and the fix
 */
export function makeScenario(written: ScenarioText, count: number): Scenario {
  const { peers = {}, ...rest } = checkedText(written);
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  const asked: typeof rest & typeof DEFAULT_SCENARIO = { ...DEFAULT_SCENARIO, ...given };
  const links: LinkConfig = {
    latency: parseDurations('latency', asked.latency),
    asymmetric: asked.asymmetric ?? false,
    ...(asked.bandwidth === undefined ? {} : parseBandwidth('bandwidth', asked.bandwidth)),
    loss: parseShare('loss', asked.loss),
    regions: asked.regions ?? [],
    peers: {},
  };
  if (links.loss > 0.5) throw scenarioError(`loss: TCP gives up long before ${asked.loss}; give at most 50%`);
  const steps: Record<number, Distribution> = {};
  for (const [name, { bandwidth, region, step }] of Object.entries(peers)) {
    const peer = Number(name);
    checkPeers(`peers.${name}`, [peer], count);
    links.peers[peer] = {
      ...(bandwidth === undefined ? {} : parseBandwidth(`peers.${name}.bandwidth`, bandwidth)),
      ...(region === undefined ? {} : { region }),
    };
    if (step !== undefined) steps[peer] = parseSteps(`peers.${name}.step`, step);
  }
  const placed = Object.entries(peers).filter(([, { region }]) => region !== undefined);
  if (links.regions.length === 0 && placed.length > 0 && placed.length < count) {
    const [[name] = []] = placed;
    throw scenarioError(
      `peers.${name}.region: the others are in none, so no link has a region at both ends; give regions`,
    );
  }
  const compute: ComputeConfig = {
    step: parseSteps('step', asked.step),
    peers: steps,
    stragglers: asked.stragglers === undefined ? null : parseStragglers(asked.stragglers, count),
    encodeMs: parseDuration('encode', asked.encode),
    applyMs: parseDuration('apply', asked.apply),
    diskMs: parseDuration('disk', asked.disk),
  };
  const events = (asked.events ?? []).map(parseEvent);
  if (asked.partition !== undefined) events.push(...parsePartition(asked.partition, count));
  events.sort((a, b) => a.atMs - b.atMs);
  const rates = parseRates(asked, events, count);
  if (asked.late !== undefined) events.push(parseLate(asked.late, rates.joins, { events, count }));
  checkEvents(events, count);
  const readMs = asked.read === undefined ? usualReadMs(count) : parseDuration('read', asked.read);
  return { links, compute, readMs, events, ...rates };
}

/**
 * The more messages come, the more of them are there whenever an event loop comes back to its sockets: 50 us a peer, at
 * most 50 ms. It also keeps the simulator's events in a large swarm from growing with the square of it.
 */
function usualReadMs(peers: number): number {
  return Math.min(50, 0.05 * peers);
}

function parseSteps(field: string, value: string): Distribution {
  const step = parseDurations(field, value);
  if (step.kind === 'constant' && step.value === 0)
    throw scenarioError(`${field}: a step takes time; give 1us or more`);
  return step;
}

const BITS: Readonly<Record<string, number>> = { bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9 };

/** `50mbit/20mbit` is down and up, `50mbit` both. */
export function parseBandwidth(field: string, value: string): { downloadBits: number; uploadBits: number } {
  const parts = value.split('/').map((part) => parseRate(field, part));
  if (parts.length > 2) throw scenarioError(`${field} takes down/up, like 50mbit/20mbit: "${value}"`);
  const [downloadBits, uploadBits = downloadBits] = parts as [number, number?];
  return { downloadBits, uploadBits };
}

function parseRate(field: string, value: string): number {
  const match = /^(\d+(?:\.\d+)?)(bit|kbit|mbit|gbit)$/.exec(value.trim().toLowerCase());
  if (!match) throw scenarioError(`${field} takes a rate like 50mbit or 50mbit/20mbit: "${value}"`);
  const bits = Number(match[1]) * BITS[match[2]!]!;
  if (bits > 0) return bits;
  throw scenarioError(`${field}: nothing ever arrives at ${value}; give more than 0, or use a partition for a cut`);
}

function parseShare(field: string, value: string): number {
  const match = /^(\d+(?:\.\d+)?)%$/.exec(value.trim());
  const share = match ? Number(match[1]) / 100 : Number.NaN;
  if (share <= 1) return share;
  throw scenarioError(`${field} takes a share from 0% to 100%: "${value}"`);
}

function parseStragglers(value: string, count: number): { share: number; factor: number } {
  const [text = '', factor] = value.split('x');
  const times = /^\d+(\.\d+)?$/.test(factor ?? '') ? Number(factor) : Number.NaN;
  if (!(times >= 1)) throw scenarioError(`stragglers takes <share>x<factor of 1 or more>, like 10%x3: "${value}"`);
  const share = parseShare('stragglers', text);
  if (share > 0 && stragglersAmong(count, share) === 0) {
    throw scenarioError(`stragglers: ${text} of ${count} peers is nobody; give a larger share, or none`);
  }
  return { share, factor: times };
}

function parseRateARound(field: string, value: string | undefined): number {
  const [share, unit] = value?.split('/') ?? ['0%', 'round'];
  if (unit !== 'round') throw scenarioError(`${field} takes a share a round, like 5%/round: "${value}"`);
  return parseShare(field, share!);
}

/** What is drawn must be able to happen: what never comes to pass is no news to anybody. */
function parseRates(asked: ScenarioText, events: readonly FaultEvent[], count: number) {
  const [churn, joins, leaves] = (['churn', 'joins', 'leaves'] as const).map((field) => {
    return parseRateARound(field, asked[field]);
  }) as [number, number, number];
  const going = churn > 0 ? 'churn' : 'leaves';
  if (churn > 0 && count < TOLERANT_PEERS_MIN) {
    const fix = `give ${TOLERANT_PEERS_MIN} peers or more, or no churn`;
    throw scenarioError(`churn: ${count} peers tolerate none that is down; ${fix}`);
  }
  if (leaves > 0 && count <= TOLERANT_PEERS_MIN) {
    const fix = `give ${TOLERANT_PEERS_MIN + 1} peers or more, or no leaves`;
    throw scenarioError(`leaves: ${TOLERANT_PEERS_MIN} peers always stay, and there are ${count}; ${fix}`);
  }
  if (churn + leaves > 0 && datedPeers(events).size === count) {
    const cause = `${going}: all peers come or go by events, which leave nobody to draw`;
    throw scenarioError(`${cause}; name fewer, or give no ${going}`);
  }
  if (joins > 0 && leaves === 0 && asked.late === undefined) {
    throw scenarioError('joins: nobody waits to join; say who is late, like "late": "40%", or give leaves');
  }
  return { churn, joins, leaves };
}

function parseLate(
  value: string,
  joins: number,
  { events, count }: { events: readonly FaultEvent[]; count: number },
): FaultEvent {
  const late = Math.round(parseShare('late', value) * count);
  if (joins === 0) throw scenarioError('late: nobody comes without joins; give "joins": "10%/round" or so, or no late');
  if (late === 0 || late === count) {
    throw scenarioError(`late: ${value} of ${count} peers is ${late}; one at least is late, and one begins the run`);
  }
  const peers = Array.from({ length: late }, (_, i) => count - late + i);
  const dated = datedPeers(events);
  const both = peers.find((peer) => dated.has(peer));
  if (both !== undefined) {
    throw scenarioError(
      `late: peer ${both} comes or goes by events already; name one of the first ${count - late} there`,
    );
  }
  return { atMs: Number.POSITIVE_INFINITY, do: 'join', peers };
}

function parsePartition(value: string, count: number): FaultEvent[] {
  const match = /^([^@]+)@([^+]+)\+(.+)$/.exec(value);
  if (!match) throw scenarioError(`partition takes <share>@<when>+<how long>, like 50%@10s+20s: "${value}"`);
  const [, share, when, length] = match as unknown as [string, string, string, string];
  const cut = Math.round(parseShare('partition', share) * count);
  if (cut === 0 || cut === count) {
    throw scenarioError(
      `partition: ${share} of ${count} peers is ${cut}, which leaves one part empty; give another share`,
    );
  }
  const atMs = parseDuration('partition', when);
  const all = Array.from({ length: count }, (_, i) => i);
  const groups = [all.slice(0, count - cut), all.slice(count - cut)];
  return [
    { atMs, do: 'partition', groups },
    { atMs: atMs + parseDuration('partition', length), do: 'heal' },
  ];
}

function parseEvent(event: NonNullable<ScenarioText['events']>[number], i: number): FaultEvent {
  const field = `events.${i}`;
  const atMs = parseDuration(`${field}.at`, event.at);
  if (event.do === 'heal') return { atMs, do: 'heal' };
  if (event.do === 'partition') return { atMs, do: 'partition', groups: event.groups };
  if (event.do === 'pause') {
    return { atMs, do: 'pause', peers: event.peers, forMs: parseDuration(`${field}.for`, event.for) };
  }
  return { atMs, do: event.do, peers: event.peers };
}

/** What happens to each peer must be possible in its order: nobody leaves twice, nobody comes back who is there. */
function checkEvents(events: readonly FaultEvent[], count: number): void {
  const joining = new Set(events.flatMap((event) => (event.do === 'join' ? event.peers : [])));
  if (joining.has(0)) throw scenarioError('peer 0 begins the run and cannot join it later; let another one join');
  if (joining.size >= count) throw scenarioError(`${joining.size} of ${count} peers join later: nobody begins the run`);
  const up = new Map(Array.from({ length: count }, (_, peer) => [peer, !joining.has(peer)] as const));
  const left = new Set<number>();
  for (const event of events) {
    if (event.do === 'heal') continue;
    const named = event.do === 'partition' ? event.groups.flat() : event.peers;
    checkPeers(`event "${event.do}" at ${event.atMs} ms`, named, count);
    if (event.do === 'partition' || event.do === 'pause') continue;
    const comes = event.do === 'join' || event.do === 'restart';
    for (const peer of event.peers) {
      const where = `peer ${peer}, "${event.do}" at ${event.atMs} ms`;
      if (left.has(peer)) throw scenarioError(`${where}: it has left for good; use crash for one that comes back`);
      if (up.get(peer) === comes) throw scenarioError(`${where}: it is ${comes ? 'up' : 'down'} then; check the order`);
      up.set(peer, comes);
      if (event.do === 'leave') left.add(peer);
    }
    if (left.size >= count) throw scenarioError(`${left.size} of ${count} peers leave: one at least must stay`);
  }
}

/** Those who come or go at given times; what is drawn leaves them alone. */
export function datedPeers(events: readonly FaultEvent[]): ReadonlySet<number> {
  const comesOrGoes = ['join', 'leave', 'crash', 'restart'];
  const dated = events.filter(({ atMs }) => atMs !== Number.POSITIVE_INFINITY);
  return new Set(dated.flatMap((event) => ('peers' in event && comesOrGoes.includes(event.do) ? event.peers : [])));
}

function checkPeers(field: string, named: readonly number[], count: number): void {
  const [unknown] = named.filter((peer) => peer >= count);
  if (unknown !== undefined) {
    throw scenarioError(
      `${field}: there is no peer ${unknown} among ${count} (the first is 0); name fewer or add peers`,
    );
  }
  if (new Set(named).size < named.length) throw scenarioError(`${field}: names a peer twice; name each once`);
}

/** Links without latency, loss or bounds, and computing that takes only its steps: for closed forms. */
export function idealScenario(step: Distribution): Scenario {
  const links = { latency: constant(0), asymmetric: false, loss: 0, regions: [], peers: {} };
  const compute = { step, peers: {}, stragglers: null, encodeMs: 0, applyMs: 0, diskMs: 0 };
  return { links, compute, readMs: 0, events: [], churn: 0, joins: 0, leaves: 0 };
}

import * as z from 'zod';
import { decodeCanonical, encodeCanonical } from '../../protocol/encoding.ts';
import { HASH_PATTERN } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { networkError, printable } from './errors.ts';
import { NET_LIMITS } from './limits.ts';

/**
 * What two peers say first to each other, as canonical CBOR: the dialer its greeting, the listener an answer. `version`
 * and `runId` must agree; a dialer without a run (`runId: null`) gets the genesis and nothing else.
 */
export interface Greeting {
  version: number;
  runId: string | null;
  software: string;
  /** where the sender can be dialed */
  addresses: string[];
  /** addresses of other members, each with its peer id */
  peers: string[];
}

export type Answer =
  | ({ kind: 'welcome' } & Greeting)
  | { kind: 'genesis'; version: number; genesis: Uint8Array }
  | { kind: 'refusal'; version: number; code: string; text: string };

const version = z.number().int().min(0).max(0xffffffff);
const addresses = (max: number) => z.array(z.string().max(NET_LIMITS.addressMax)).max(max);
const greetingFields = {
  version,
  runId: z.string().regex(HASH_PATTERN).nullable(),
  software: z.string().max(NET_LIMITS.softwareMax),
  addresses: addresses(NET_LIMITS.ownAddressesMax),
  peers: addresses(NET_LIMITS.exchangePeersMax * NET_LIMITS.addressesPerPeerMax),
};
const greetingSchema = z.strictObject(greetingFields);
const answerSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('welcome'), ...greetingFields }),
  z.strictObject({
    kind: z.literal('genesis'),
    version,
    genesis: z.instanceof(Uint8Array).refine((bytes) => bytes.length <= LIMITS.genesisBytesMax),
  }),
  z.strictObject({
    kind: z.literal('refusal'),
    version,
    code: z.string().max(40),
    text: z.string().max(NET_LIMITS.textMax),
  }),
]);

export function encodeGreeting(message: Greeting | Answer): Uint8Array {
  return encodeCanonical(message);
}

/**
 * @throws CodedError `E_TOO_LARGE`, `E_MALFORMED`, and `E_OTHER_VERSION` before the rest is looked at: another version
 * may well greet in other words
 */
export function decodeGreeting(bytes: Uint8Array, ours: number): Greeting {
  const value = decodeCanonical(bytes, NET_LIMITS.helloBytesMax);
  checkVersion(value, ours);
  return tidy(checked(greetingSchema, value));
}

/** A refusal is read whatever version it comes from, so that its words reach the user. Throws as `decodeGreeting`. */
export function decodeAnswer(bytes: Uint8Array, ours: number): Answer {
  const value = decodeCanonical(bytes, NET_LIMITS.helloBytesMax);
  if ((value as { kind?: unknown } | null)?.kind !== 'refusal') checkVersion(value, ours);
  const answer = checked(answerSchema, value);
  if (answer.kind === 'refusal') return { ...answer, text: printable(answer.text, NET_LIMITS.textMax) };
  return answer.kind === 'welcome' ? tidy(answer) : answer;
}

function otherVersion(ours: number, theirs: number): Error {
  const text = `a peer of protocol ${ours} met one of protocol ${theirs}: run the same version of outerloop on both`;
  return networkError('E_OTHER_VERSION', text);
}

export function otherRun(ours: string, theirs: string): Error {
  const [a, b] = [ours, theirs].map((run) => run.slice(0, 12));
  return networkError(
    'E_OTHER_RUN',
    `a peer of run ${a} met one of run ${b}: bootstrap from a peer of the run you want`,
  );
}

function checkVersion(value: unknown, ours: number): void {
  const theirs = (value as { version?: unknown } | null)?.version;
  if (typeof theirs === 'number' && theirs !== ours) throw otherVersion(ours, theirs);
}

function checked<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const field = parsed.error.issues[0]?.path.join('.') || '(all)';
  throw networkError('E_MALFORMED', `the hello has a wrong field ${printable(field, 60)}`);
}

function tidy<T extends Greeting>(greeting: T): T {
  return { ...greeting, software: printable(greeting.software, NET_LIMITS.softwareMax) };
}

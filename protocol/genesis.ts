import * as z from 'zod';
import { AVERAGING_NAMES } from './averaging/averaging.ts';
import { CODEC_NAMES } from './codecs/codec.ts';
import { decodeCanonical, encodeCanonical } from './encoding.ts';
import { CodedError } from './errors.ts';
import { HASH_PATTERN, type Hash, hashOf } from './hash.ts';
import { LIMITS } from './limits.ts';
import { modelLayout } from './model.ts';
import { outerOf } from './outer/index.ts';
import { OUTER_NAMES } from './outer/outer.ts';

/** The version of messages, payloads, snapshots and rules; peers of different versions refuse each other at hello. */
export const PROTOCOL_VERSION = 1;

const hash = z.string().regex(HASH_PATTERN);
const count = (max: number) => z.number().int().min(1).max(max);
const positive = z.number().positive().max(1e12);

/** Bytes that every peer holds, named by their hash and fetched from any peer that has them. */
const blob = z.strictObject({ id: hash, size: count(LIMITS.blobBytesMax) });

/**
 * The document that every peer of a run must agree on, and so everything that decides what the agreed state becomes.
 * What only one machine's speed depends on (backend, threads, micro-batch) is not here.
 */
export const genesisSchema = z.strictObject({
  version: z.literal(PROTOCOL_VERSION),
  /** the peer that begins the run and alone makes up the first roster */
  founder: z.string().min(46).max(64),
  /** for people: the data set and preset, never trusted */
  title: z.string().max(120),
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  model: z.strictObject({
    layers: count(256),
    heads: count(256),
    width: count(65_536),
    context: count(65_536),
    vocabulary: count(1_000_000),
  }),
  tokenizer: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('byte') }),
    z.strictObject({ kind: z.literal('char'), blob }),
  ]),
  data: z.strictObject({
    name: z.string().max(120),
    blob,
    /** the last part of the tokens, kept out of training */
    validationFraction: z.number().min(0).max(0.5),
  }),
  /** inner optimizer: AdamW with linear warmup, cosine decay to `learningRateMin` and global-norm clipping */
  inner: z.strictObject({
    learningRate: positive,
    learningRateMin: z.number().min(0).max(1e12),
    warmupSteps: z.number().int().min(0).max(1e9),
    decaySteps: count(1e9),
    beta1: z.number().min(0).lt(1),
    beta2: z.number().min(0).lt(1),
    epsilon: positive,
    weightDecay: z.number().min(0).max(1),
    /** global norm above which a gradient is scaled down; 0 turns clipping off */
    clipNorm: z.number().min(0).max(1e12),
  }),
  /** inner steps a peer takes in a round (H) */
  innerSteps: count(1_000_000),
  /** sequences of `model.context` tokens in one inner step of one peer */
  batch: count(1_000_000),
  codec: z.strictObject({
    name: z.enum(CODEC_NAMES),
    chunk: count(4096),
    k: count(4096),
    bits: z.union([z.literal(1), z.literal(2)]),
  }),
  averaging: z.strictObject({ name: z.enum(AVERAGING_NAMES) }),
  outer: z.strictObject({
    name: z.enum(OUTER_NAMES),
    learningRate: positive,
    momentum: z.number().min(0).lt(1),
  }),
  /** rounds in the whole run; null goes on until stopped */
  rounds: count(1e9).nullable(),
  /** peers in the roster before the first round begins */
  waitFor: count(LIMITS.rosterMax),
  /** in a roster larger than `size` so many vote that are drawn anew every `heights` certified blocks */
  committee: z.strictObject({ size: z.number().int().min(4).max(LIMITS.blockMembersMax), heights: count(1e9) }),
  timing: z.strictObject({
    /** how long a round waits for an update that is late, beyond the usual length of a round */
    graceMs: count(86_400_000),
    /** how long a leader has to propose, and its proposal to gather votes, before it is nullified */
    viewMs: count(3_600_000),
    /** how long without a quorum before the rest go on among themselves; null forbids unfinal rounds */
    quorumWaitMs: count(86_400_000).nullable(),
  }),
});

export type Genesis = z.infer<typeof genesisSchema>;

/**
 * What runs are begun with. Draws are to last: where a history begins is proven from one committee to the next
 * (`anchors.ts`), and two draws of a large roster share few peers.
 */
export const COMMITTEE: Genesis['committee'] = { size: 200, heights: 4096 };

/** `runId = sha256(canonical CBOR(genesis))` */
export function runIdOf(genesis: Genesis): Hash {
  return hashOf(encodeGenesis(genesis));
}

export function encodeGenesis(genesis: Genesis): Uint8Array {
  return encodeCanonical(genesis);
}

/**
 * Reads a genesis that a peer or a disk gave us.
 * @throws CodedError `E_TOO_LARGE`, `E_MALFORMED`, `E_VERSION` for another protocol version, `E_GENESIS` naming the field
 */
export function decodeGenesis(bytes: Uint8Array): Genesis {
  const value = decodeCanonical(bytes, LIMITS.genesisBytesMax);
  const version = (value as { version?: unknown } | null)?.version;
  if (version !== PROTOCOL_VERSION) {
    throw new CodedError('E_VERSION', `the run speaks protocol ${String(version)}, this program ${PROTOCOL_VERSION}`);
  }
  return checkGenesis(value);
}

/** @throws CodedError `E_GENESIS` with the first field at fault and why */
export function checkGenesis(value: unknown): Genesis {
  const parsed = genesisSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new CodedError('E_GENESIS', `genesis field ${issue?.path.join('.') || '(root)'}: ${issue?.message}`);
  }
  const genesis = parsed.data;
  const fault = crossFieldFault(genesis);
  if (fault) throw new CodedError('E_GENESIS', fault);
  return genesis;
}

function crossFieldFault({ model, codec, outer, inner }: Genesis): string | undefined {
  if (model.width % (4 * model.heads) !== 0) {
    return `genesis field model.width: ${model.width} must be a multiple of 4 x heads (${model.heads})`;
  }
  const stateBytes = 4 * modelLayout(model).length * (1 + outerOf(outer.name).slots);
  if (stateBytes > LIMITS.blobBytesMax) {
    return `genesis field model: its state of ${stateBytes} bytes with this outer optimizer exceeds ${LIMITS.blobBytesMax}`;
  }
  if (codec.k > codec.chunk) return `genesis field codec.k: ${codec.k} exceeds the chunk of ${codec.chunk}`;
  if (outer.name === 'sgd' && outer.momentum !== 0) return 'genesis field outer.momentum: sgd has none, use nesterov';
  if (inner.learningRateMin > inner.learningRate) {
    return 'genesis field inner.learningRateMin: exceeds inner.learningRate';
  }
  return undefined;
}

/** Tokens that a peer trains on in a round with all its inner steps. */
export function roundTokens({ innerSteps, batch, model }: Pick<Genesis, 'innerSteps' | 'batch' | 'model'>): number {
  return innerSteps * batch * model.context;
}

import { basename, resolve } from 'node:path';
import { blobIdOf } from '../protocol/blob.ts';
import type { CodecName } from '../protocol/codecs/codec.ts';
import { isCoded } from '../protocol/errors.ts';
import { COMMITTEE, checkGenesis, type Genesis, PROTOCOL_VERSION } from '../protocol/genesis.ts';
import type { PeerId } from '../protocol/identity.ts';
import { MODEL_PRESETS, type ModelPreset, type ModelShape } from '../protocol/model.ts';
import type { OuterConfig, OuterName } from '../protocol/outer/outer.ts';
import { checkLargeEnough, makeDataset } from './data/dataset.ts';
import { BUILT_IN_SOURCES, loadText, type TextSource } from './data/sources.ts';
import { byteTokenizer, charTokenizer, type Tokenizer } from './data/tokenizer.ts';
import { type BlobReference, nativeSha256 } from './store/blobs.ts';

/**
 * Everything that nobody has to choose: from the few things a user asked for and a text to a whole genesis.
 */

/** What a run is asked to be. Only what was asked for is there; the rest follows from the model. */
export interface RunChoices {
  /** as `loadText` takes it */
  data?: string;
  /** @default DEFAULT_MODEL */
  model?: ModelPreset;
  /** @default 'char' */
  tokenizer?: TokenizerKind;
  innerSteps?: number;
  batch?: number;
  /** @default DEFAULT_CODEC */
  codec?: CodecName;
  /** @default the one that belongs to the codec */
  outer?: OuterName;
  /** @default 1 */
  waitFor?: number;
  /** @default no end */
  rounds?: number;
  /** @default DEFAULT_SEED */
  seed?: number;
  /** @default the model's */
  graceMs?: number;
  /** null forbids unfinal rounds */
  quorumWaitMs?: number | null;
}

export type TokenizerKind = Tokenizer['kind'];

export const MODEL_NAMES = Object.keys(MODEL_PRESETS) as ModelPreset[];
export const TOKENIZER_KINDS = ['char', 'byte'] as const satisfies TokenizerKind[];

export const DEFAULT_MODEL: ModelPreset = 'nano';
export const DEFAULT_CODEC: CodecName = 'int8';
/** nanoGPT's. The same for every run: two runs differ in their founder anyway, and figures can be made again. */
export const DEFAULT_SEED = 1337;
/** nanoGPT's split of Shakespeare */
const VALIDATION_FRACTION = 0.1;
const VIEW_MS = 2000;
const QUORUM_WAIT_MS = 10_000;

type InnerConfig = Genesis['inner'];

interface PresetDefaults {
  inner: Pick<InnerConfig, 'learningRate' | 'learningRateMin' | 'warmupSteps' | 'decaySteps' | 'beta2'>;
  batch: number;
  innerSteps: number;
  graceMs: number;
}

/**
 * `nano` and `baby` are nanoGPT's `train_shakespeare_char` on a CPU and on a GPU (without its dropout, and with a batch
 * of 16 instead of 64 sequences for `baby`, since peers add up), `gpt2` has the learning rates of its `train_gpt2` and a
 * shorter warmup and decay. A larger model takes longer over a step, so its peers may be later, too.
 */
const PRESETS: Readonly<Record<ModelPreset, PresetDefaults>> = {
  micro: {
    inner: { learningRate: 1e-3, learningRateMin: 1e-4, warmupSteps: 20, decaySteps: 500, beta2: 0.99 },
    batch: 8,
    innerSteps: 20,
    graceMs: 2000,
  },
  nano: {
    inner: { learningRate: 1e-3, learningRateMin: 1e-4, warmupSteps: 100, decaySteps: 2000, beta2: 0.99 },
    batch: 12,
    innerSteps: 50,
    graceMs: 2000,
  },
  baby: {
    inner: { learningRate: 1e-3, learningRateMin: 1e-4, warmupSteps: 100, decaySteps: 5000, beta2: 0.99 },
    batch: 16,
    innerSteps: 30,
    graceMs: 10_000,
  },
  gpt2: {
    inner: { learningRate: 6e-4, learningRateMin: 6e-5, warmupSteps: 700, decaySteps: 20_000, beta2: 0.95 },
    batch: 8,
    innerSteps: 30,
    graceMs: 30_000,
  },
};

/** DiLoCo's values; with sgd at 1 the outer step is the plain average, SparseLoCo's. */
const OUTER: Readonly<Record<OuterName, OuterConfig>> = {
  nesterov: { name: 'nesterov', learningRate: 0.7, momentum: 0.9 },
  sgd: { name: 'sgd', learningRate: 1, momentum: 0 },
};

/** The error feedback of a sparse codec is already a momentum; a second one on top overshoots (SparseLoCo §3). */
const OUTER_OF_CODEC: Readonly<Record<CodecName, OuterName>> = {
  fp32: 'nesterov',
  fp16: 'nesterov',
  int8: 'nesterov',
  sparseloco: 'sgd',
  topk: 'sgd',
};

/** 64 of 4096 is Covenant-72B's setting; the dense codecs pass over all three. */
const CODEC_SETTINGS = { chunk: 4096, k: 64, bits: 2 } as const;

/** A part of a run's steps at most that goes into warmup, where the run is shorter than its preset expects. */
const WARMUP_PART = 0.1;

export function tokenizerFor(kind: TokenizerKind | undefined, text: Uint8Array): Tokenizer {
  return kind === 'byte' ? byteTokenizer() : charTokenizer(text);
}

/**
 * The genesis of a new run. Nothing is stored: its blobs are `source.bytes` and, if there is one, `tokenizer.blob`.
 * @throws CodedError `E_DATA_TOO_SMALL`, `E_TOKENIZER_UNKNOWN`, `E_GENESIS`
 */
export function buildGenesis(choices: RunChoices, founder: PeerId, source: TextSource, tokenizer: Tokenizer): Genesis {
  const { model = DEFAULT_MODEL, codec = DEFAULT_CODEC, seed = DEFAULT_SEED, waitFor = 1 } = choices;
  const preset = PRESETS[model];
  const { innerSteps = preset.innerSteps, batch = preset.batch, rounds = null } = choices;
  const { graceMs = preset.graceMs, quorumWaitMs = QUORUM_WAIT_MS } = choices;
  const shape = { ...MODEL_PRESETS[model], vocabulary: tokenizer.vocabulary };
  checkLargeEnough(makeDataset(source.bytes, tokenizer, VALIDATION_FRACTION), shape.context);
  const name = shortName(source.name);
  return checkGenesis({
    version: PROTOCOL_VERSION,
    founder,
    title: `${model} on ${name}`,
    seed,
    model: shape,
    tokenizer: tokenizer.blob ? { kind: 'char', blob: blobReference(tokenizer.blob) } : { kind: 'byte' },
    data: { name, blob: blobReference(source.bytes), validationFraction: VALIDATION_FRACTION },
    inner: innerOf(preset, rounds === null ? undefined : rounds * innerSteps),
    innerSteps,
    batch,
    codec: { name: codec, ...CODEC_SETTINGS },
    averaging: { name: 'all' },
    outer: OUTER[choices.outer ?? OUTER_OF_CODEC[codec]],
    rounds,
    waitFor,
    committee: COMMITTEE,
    timing: { graceMs, viewMs: VIEW_MS, quorumWaitMs },
  } satisfies Genesis);
}

function blobReference(bytes: Uint8Array): BlobReference {
  return { id: blobIdOf(bytes, nativeSha256), size: bytes.length };
}

/**
 * @param steps inner steps of one peer in the whole run, where it has an end: the learning rate then falls over just
 *   these, for a run that stops while it is still high has a worse model than one that ends low
 */
function innerOf({ inner }: PresetDefaults, steps: number | undefined): InnerConfig {
  const common = { beta1: 0.9, epsilon: 1e-8, weightDecay: 0.1, clipNorm: 1 };
  if (steps === undefined) return { ...inner, ...common };
  const warmupSteps = Math.min(inner.warmupSteps, Math.floor(WARMUP_PART * steps));
  return { ...inner, ...common, warmupSteps, decaySteps: steps };
}

/** Something a joiner asked for, and what the run does. */
export interface Conflict {
  /** as it is typed */
  option: string;
  asked: string;
  run: string;
}

/** What was asked for that the run does otherwise: a joiner takes all of it from genesis and is told. */
export function conflictsWith(genesis: Genesis, choices: RunChoices): Conflict[] {
  const { model } = choices;
  const data = choices.data === undefined ? undefined : dataConflict(choices.data, genesis.data);
  const askedShape = model && { ...MODEL_PRESETS[model], vocabulary: genesis.model.vocabulary };
  const pairs: [string, unknown, unknown][] = [
    ['--data', data?.asked, data?.run],
    ['--model', askedShape && shapeName(askedShape), shapeName(genesis.model)],
    ['--tokenizer', choices.tokenizer, genesis.tokenizer.kind],
    ['--inner-steps', choices.innerSteps, genesis.innerSteps],
    ['--batch', choices.batch, genesis.batch],
    ['--codec', choices.codec, genesis.codec.name],
    ['--outer', choices.outer, genesis.outer.name],
    ['--wait-for', choices.waitFor, genesis.waitFor],
    ['--rounds', choices.rounds, genesis.rounds ?? 'without end'],
    ['--seed', choices.seed, genesis.seed],
    ['--grace', orNever(choices.graceMs), orNever(genesis.timing.graceMs)],
    ['--quorum-wait', orNever(choices.quorumWaitMs), orNever(genesis.timing.quorumWaitMs)],
  ];
  return pairs
    .filter(([, asked, run]) => asked !== undefined && asked !== run)
    .map(([option, asked, run]) => ({ option, asked: String(asked), run: String(run) }));
}

/** As it is typed. */
function orNever(ms: number | null | undefined): string | undefined {
  if (ms === undefined) return undefined;
  if (ms === null) return 'never';
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}

/** By content where this machine has the text, else by name: a joiner may not have it at all. */
function dataConflict(source: string, run: Genesis['data']): Pick<Conflict, 'asked' | 'run'> | undefined {
  const names = { asked: sourceName(source), run: run.name };
  let here: BlobReference;
  try {
    here = blobReference(loadText(source).bytes);
  } catch (error) {
    if (!isCoded(error)) throw error;
    return names.asked === names.run ? undefined : names;
  }
  if (here.id === run.blob.id) return undefined;
  if (names.asked !== names.run) return names;
  const shown = (name: string, { id, size }: BlobReference) => `${name} of ${size} bytes, hash ${id.slice(0, 8)}`;
  return { asked: shown(names.asked, here), run: shown(run.name, run.blob) };
}

/** The name that `loadText` gives a source, without reading it. */
function sourceName(source: string): string {
  return BUILT_IN_SOURCES.includes(source) ? source : shortName(basename(resolve(source)) || 'text');
}

/** Genesis bounds names at 120 UTF-16 units; the title holds one and the preset. A pair that is cut is no character. */
function shortName(name: string): string {
  return name.slice(0, 100).toWellFormed();
}

function shapeName(shape: ModelShape): string {
  const { layers, heads, width, context } = shape;
  const isShape = (preset: ModelPreset) => {
    const other = MODEL_PRESETS[preset];
    return other.layers === layers && other.heads === heads && other.width === width && other.context === context;
  };
  return MODEL_NAMES.find(isShape) ?? `${layers} layers, ${heads} heads, width ${width}, context ${context}`;
}

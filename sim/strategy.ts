import type { CodecConfig } from '../protocol/codecs/codec.ts';
import { checkGenesis, type Genesis } from '../protocol/genesis.ts';
import type { OuterConfig } from '../protocol/outer/outer.ts';
import { BASELINES } from './comparison.ts';
import { strategyError } from './errors.ts';

/**
 * A way for peers to train together: what it sets in genesis, all else being the same for all that are compared. One of
 * your own is an object like this one; docs/strategy-example.ts has one.
 */
export interface Strategy {
  /** letters, digits and hyphens; parameters that were typed follow it, like `diloco:H=20` */
  name: string;
  /** one line for a reader of the report */
  about: string;
  /**
   * `rounds`: inner steps, then an exchange, by the protocol. `steps`: an all-reduce of gradients after every step,
   * which is charged and not simulated (sim/all-reduce.ts). @default 'rounds'
   */
  exchange?: 'rounds' | 'steps';
  /** H @default the one that was asked for, or the model's */
  innerSteps?: number;
  /** @default int8; chunk 4096, k 64, 2 bits where the codec is sparse */
  codec?: Partial<CodecConfig>;
  /** @default everyone's update */
  averaging?: Genesis['averaging'];
  /** @default Nesterov, 0.7 and 0.9 */
  outer?: OuterConfig;
  /** the inner optimizer and its schedule, from what the baseline has for as many steps. @default the same */
  inner?: (inner: Genesis['inner'], steps: number) => Genesis['inner'];
}

/** Douillard et al. 2023, arXiv 2311.08105 */
const NESTEROV: OuterConfig = { name: 'nesterov', learningRate: 0.7, momentum: 0.9 };
/** the plain average; error feedback is already a momentum (Sarfi et al. 2025, arXiv 2508.15706, section 3) */
const AVERAGE: OuterConfig = { name: 'sgd', learningRate: 1, momentum: 0 };
const CODEC: CodecConfig = { name: 'int8', chunk: 4096, k: 64, bits: 2 };

/** What each codec heeds beside its name. */
const HEEDED: Readonly<Record<CodecConfig['name'], readonly (keyof CodecConfig)[]>> = {
  fp32: [],
  fp16: [],
  int8: [],
  sparseloco: ['chunk', 'k'],
  topk: ['chunk', 'k', 'bits'],
};

/** What a strategy sends and does with it, as it is set. */
function settingsInWords({ codec = CODEC, outer = NESTEROV }: Pick<Strategy, 'codec' | 'outer'>): string {
  const { name, k, chunk, bits } = { ...CODEC, ...codec };
  const each = HEEDED[name].includes('bits') ? `, ${bits} bit each` : '';
  const sent = HEEDED[name].includes('k')
    ? `${name}: ${k} of ${chunk} values${each}, error feedback`
    : `${name} updates`;
  const { learningRate, momentum } = outer;
  if (outer.name === 'nesterov') return `${sent}, Nesterov ${learningRate} / ${momentum}`;
  return `${sent}, ${learningRate === 1 ? 'plain average' : `SGD ${learningRate}`}`;
}

const diloco = (name: string, codec: CodecConfig['name']): Strategy => {
  const settings = { codec: { name: codec }, outer: NESTEROV };
  return { name, about: `DiLoCo: ${settingsInWords(settings)}`, ...settings };
};
const sparse = (name: string, codec: Partial<CodecConfig>): Strategy => {
  const settings = { codec, outer: AVERAGE };
  return { name, about: settingsInWords(settings), ...settings };
};

export const STRATEGIES: readonly Strategy[] = [
  { name: 'ddp', about: 'gradients all-reduced in float32 after every step', exchange: 'steps' },
  diloco('diloco', 'fp32'),
  diloco('diloco-fp16', 'fp16'),
  diloco('diloco-int8', 'int8'),
  { name: 'fedavg', about: 'plain average of fp32 updates', codec: { name: 'fp32' }, outer: AVERAGE },
  sparse('sparseloco', { name: 'sparseloco' }),
  sparse('sparseloco-k128', { name: 'sparseloco', k: 128 }),
  sparse('topk', { name: 'topk' }),
  sparse('topk-1bit', { name: 'topk', bits: 1 }),
  sparse('topk-k128', { name: 'topk', k: 128 }),
  sparse('topk-k128-1bit', { name: 'topk', k: 128, bits: 1 }),
];

/** What can follow a name, and how each changes the strategy. */
const PARAMETERS: Readonly<Record<string, (strategy: Strategy, value: number) => Strategy>> = {
  H: (strategy, innerSteps) => ({ ...strategy, innerSteps }),
  k: (strategy, k) => ({ ...strategy, codec: { ...strategy.codec, k } }),
  chunk: (strategy, chunk) => ({ ...strategy, codec: { ...strategy.codec, chunk } }),
  bits: (strategy, bits) => ({ ...strategy, codec: { ...strategy.codec, bits: bits as 1 | 2 } }),
  outer: (strategy, learningRate) => ({ ...strategy, outer: { ...(strategy.outer ?? NESTEROV), learningRate } }),
  momentum: (strategy, momentum) => ({
    ...strategy,
    outer: {
      learningRate: (strategy.outer ?? NESTEROV).learningRate,
      momentum,
      name: momentum > 0 ? 'nesterov' : 'sgd',
    },
  }),
  rate: (strategy, rate) => ({
    ...strategy,
    inner: (inner, steps) => atRate(strategy.inner?.(inner, steps) ?? inner, rate),
  }),
};

/** The same optimizer and schedule at so many times the learning rate. */
export function atRate(inner: Genesis['inner'], rate: number): Genesis['inner'] {
  return { ...inner, learningRate: rate * inner.learningRate, learningRateMin: rate * inner.learningRateMin };
}

/**
 * Reads what follows `--strategies`: names with parameters, like `ddp,diloco:H=20,topk:k=128:bits=1`.
 * @param more strategies beside the known ones; one of the same name takes its place
 * @throws CodedError `E_STRATEGY`
 */
export function parseStrategies(text: string, more: readonly Strategy[] = []): Strategy[] {
  const names = text.split(',').map((part) => part.trim());
  const strategies = names.filter((name) => name !== '').map((name) => parseStrategy(name, more));
  if (strategies.length === 0) throw strategyError(`no strategy is named; known are ${known(more)}`);
  const twice = strategies.find(({ name }, i) => strategies.findIndex((other) => other.name === name) < i);
  if (twice) throw strategyError(`"${twice.name}" is named twice; name each once`);
  return strategies;
}

function parseStrategy(text: string, more: readonly Strategy[]): Strategy {
  const [name, ...parameters] = text.split(':');
  const named = [...more, ...STRATEGIES].find((other) => other.name === name);
  if (!named) throw strategyError(`there is no strategy "${name}"; known are ${known(more)}`);
  let strategy = named;
  if (strategy.exchange === 'steps' && parameters.length > 0) {
    throw strategyError(`"${text}": ${name} exchanges every step and takes no parameters; leave them out`);
  }
  for (const parameter of parameters) {
    const [key = '', value = ''] = parameter.split('=');
    const change = Object.hasOwn(PARAMETERS, key) ? PARAMETERS[key] : undefined;
    const number = /^\d+(\.\d+)?$/.test(value) ? Number(value) : undefined;
    if (!change || number === undefined) {
      const takes = Object.keys(PARAMETERS).join(', ');
      throw strategyError(`"${text}": "${parameter}" is not <parameter>=<number>; there are ${takes}`);
    }
    strategy = change(strategy, number);
  }
  return { ...strategy, name: text, about: aboutChanged(named, strategy) };
}

/** What somebody wrote of a strategy is not true any more where its parameters say otherwise. */
function aboutChanged(named: Strategy, strategy: Strategy): string {
  const words = settingsInWords(strategy);
  if (words === settingsInWords(named)) return named.about;
  return STRATEGIES.includes(named) ? words : `${named.about}; here ${words}`;
}

function known(more: readonly Strategy[]): string {
  return [...more, ...STRATEGIES].map(({ name }) => name).join(', ');
}

/**
 * The genesis of a run by a strategy.
 * @param base what all runs have in common; its `innerSteps` is for strategies without one of their own
 * @param steps inner steps of a peer in the whole run
 * @throws CodedError `E_STRATEGY` naming the field that cannot be
 */
export function strategyGenesis(base: Genesis, strategy: Strategy, steps: number): Genesis {
  const { name, codec, averaging = base.averaging, outer = NESTEROV } = strategy;
  const { innerSteps = base.innerSteps } = strategy;
  const { name: kind = CODEC.name, ...fields } = codec ?? {};
  const unheeded = (Object.keys(fields) as (keyof typeof fields)[]).find((field) => !HEEDED[kind]?.includes(field));
  if (unheeded) throw strategyError(`"${name}": ${kind} has no ${unheeded}; leave it out`);
  if (!Number.isInteger(innerSteps) || innerSteps < 1) {
    throw strategyError(`"${name}": H is ${innerSteps}, and a round has whole inner steps; give 1 or more`);
  }
  try {
    return checkGenesis({
      ...base,
      innerSteps,
      rounds: steps / innerSteps,
      codec: { ...CODEC, ...codec },
      averaging,
      outer,
      inner: strategy.inner?.(base.inner, steps) ?? base.inner,
    });
  } catch (cause) {
    throw strategyError(`"${name}": ${(cause as Error).message}`, cause);
  }
}

export const STRATEGY_FIELDS: Record<keyof Strategy, true> = {
  name: true,
  about: true,
  exchange: true,
  innerSteps: true,
  codec: true,
  averaging: true,
  outer: true,
  inner: true,
};

/** All that one has which exchanges every step: the rest is about rounds. */
const STEPS_FIELDS: readonly string[] = ['name', 'about', 'exchange'] satisfies (keyof Strategy)[];

const EXCHANGES: readonly string[] = ['rounds', 'steps'] satisfies Strategy['exchange'][];

/** A module's export, checked. @throws CodedError `E_STRATEGY` */
export function checkStrategies(value: unknown, where: string): Strategy[] {
  const listed = Array.isArray(value) ? value : [value];
  return listed.map((each: Partial<Strategy> | null | undefined) => {
    const { name, about } = each ?? {};
    const isNamed = typeof name === 'string' && /^[\w-]{1,60}$/.test(name) && typeof about === 'string';
    if (!isNamed) {
      throw strategyError(
        `${where}: a strategy has a name of letters, digits and hyphens, and a line "about"; see docs`,
      );
    }
    const baseline = BASELINES.find((reserved) => reserved === name);
    if (baseline) throw strategyError(`${where}: ${baseline} is what a baseline is called; give another name`);
    const { exchange = 'rounds' } = each ?? {};
    if (!EXCHANGES.includes(exchange)) {
      throw strategyError(`${where}: ${name} exchanges by ${EXCHANGES.join(' or ')}, not "${exchange}"`);
    }
    const fields = Object.keys(each ?? {});
    const extra = exchange === 'steps' && fields.find((field) => !STEPS_FIELDS.includes(field));
    if (extra) throw strategyError(`${where}: ${name} exchanges every step and takes no "${extra}"; leave it out`);
    const unknown = fields.find((field) => !Object.hasOwn(STRATEGY_FIELDS, field));
    if (unknown === undefined) return each as Strategy;
    throw strategyError(
      `${where}: ${name} has a field "${unknown}"; a strategy has ${Object.keys(STRATEGY_FIELDS).join(', ')}`,
    );
  });
}

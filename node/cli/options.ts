import { statSync } from 'node:fs';
import { isIP } from 'node:net';
import { type Command, Option } from 'commander';
import { CODEC_NAMES } from '../../protocol/codecs/codec.ts';
import { CodedError, isCoded } from '../../protocol/errors.ts';
import { HASH_PATTERN } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { OUTER_NAMES } from '../../protocol/outer/outer.ts';
import { durationMs } from '../../sim/distribution.ts';
import { BUILT_IN_SOURCES, DEFAULT_SOURCE } from '../data/sources.ts';
import {
  DEFAULT_CODEC,
  DEFAULT_MODEL,
  DEFAULT_SEED,
  MODEL_NAMES,
  type RunChoices,
  TOKENIZER_KINDS,
} from '../defaults.ts';
import { isHere } from '../probe.ts';
import { DETERMINISTIC_BACKENDS } from '../train/backend.ts';
import { BACKEND_NAMES, type BackendName } from '../train/index.ts';

/** Options that several commands have, and the parsers of their values. */

export type OptionErrorCode = 'E_OPTION'; // a value that the option does not take

/** As `StartOptions` and `EngineSettings` take it. */
export interface Machine {
  backend: BackendName | 'auto';
  deterministic: boolean;
  /** sequences; the engine chooses where it is absent */
  microBatch?: number;
}

export type MachineFlags = Partial<Machine>;

export type SimulatedBackend = 'auto' | (typeof DETERMINISTIC_BACKENDS)[number];

export function integer(option: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw optionError(`${option} takes a whole number from ${min} to ${max}, not "${text}"`);
  };
}

export function decimal(option: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d+(\.\d+)?$|^\.\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw optionError(`${option} takes a number from ${min} to ${max}, not "${text}"`);
  };
}

export function oneOf<Name extends string>(option: string, names: readonly Name[]): (text: string) => Name {
  return (text) => {
    const name = names.find((other) => other === text);
    if (name !== undefined) return name;
    throw optionError(`${option} takes ${listed(names)}, not "${text}"`);
  };
}

/** With a parser of a scenario's fields, for a command that has no scenario: what it says is said of the option. */
export function asInScenario<Value>(
  option: string,
  parse: (option: string, text: string) => Value,
): (text: string) => Value {
  return (text) => {
    try {
      return parse(option, text);
    } catch (error) {
      throw asOptionError(error);
    }
  };
}

/** What a coded error says of a value, as one of the option that has the value. */
export function asOptionError(error: unknown, before = ''): unknown {
  return isCoded(error) ? optionError(`${before}${error.message}`) : error;
}

/** One to write to: that it cannot be one is said at once, not when there is something to write. */
export function folder(option: string): (text: string) => string {
  return (text) => {
    if (text === '') throw optionError(`${option} takes a folder, not an empty word: is a variable not set?`);
    if (!mayBeFolder(text)) throw optionError(`${option} takes a folder, and ${text} is or lies in a file`);
    return text;
  };
}

function mayBeFolder(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? true;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code !== 'ENOTDIR';
  }
}

export function ipAddress(text: string): string {
  if (isIP(text) !== 0 || text === ANY) return text;
  throw notHere(text);
}

/** @throws CodedError `E_OPTION` for an address that this machine does not have: every connection from it would fail */
export async function checkIsHere(ip: string): Promise<void> {
  if (!(await isHere(ip))) throw notHere(ip);
}

function notHere(ip: string): CodedError<OptionErrorCode> {
  return optionError(`--dial-from takes an IP address of this machine or ${ANY}, not "${ip}"`);
}

/** For `--dial-from`, and `NONE` for `--announce`: what was given before holds no more. */
export const ANY = 'any';
export const NONE = 'none';

export function blockHash(text: string): string {
  if (HASH_PATTERN.test(text)) return text;
  throw optionError(
    `--trust-block takes a hash of 64 hexadecimal digits, as start --json prints it for every round, not "${text}"`,
  );
}

/** For an option that can be given several times. */
export function repeated(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text];
}

function listed(names: readonly string[]): string {
  return names.length === 1 ? `${names[0]}` : `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}

function optionError(message: string): CodedError<OptionErrorCode> {
  return new CodedError('E_OPTION', message);
}

/** What a run trains on and how: `--data --model --tokenizer --batch --seed`. */
export function addTrainingOptions(command: Command): Command {
  const builtIn = BUILT_IN_SOURCES.join(', ');
  return command
    .option('--data <source>', `a text file, a folder of them, or built in: ${builtIn} (default: ${DEFAULT_SOURCE})`)
    .option('--model <preset>', `${listed(MODEL_NAMES)} (default: ${DEFAULT_MODEL})`, oneOf('--model', MODEL_NAMES))
    .option('--tokenizer <kind>', 'char or byte (default: char)', oneOf('--tokenizer', TOKENIZER_KINDS))
    .option('--batch <n>', "sequences in an inner step (default: the model's)", integer('--batch', 1, 1_000_000))
    .option(
      '--seed <n>',
      `of everything random (default: ${DEFAULT_SEED})`,
      integer('--seed', 0, Number.MAX_SAFE_INTEGER),
    );
}

/** How the rounds of a run are. */
export function addRoundOptions(command: Command): Command {
  return command
    .option('--inner-steps <H>', "in a round (default: the model's)", integer('--inner-steps', 1, 1_000_000))
    .option('--codec <name>', `${listed(CODEC_NAMES)} (default: ${DEFAULT_CODEC})`, oneOf('--codec', CODEC_NAMES))
    .option('--outer <name>', `${listed(OUTER_NAMES)} (default: the codec's)`, oneOf('--outer', OUTER_NAMES));
}

/** What only a run of many peers has. */
export function addRunOptions(command: Command): Command {
  return addRoundOptions(command)
    .option('--wait-for <peers>', 'before the first round (default: 1)', integer('--wait-for', 1, LIMITS.rosterMax))
    .option('--rounds <n>', 'then stop (default: go on)', integer('--rounds', 1, 1_000_000_000))
    .option(
      '--grace <time>',
      "like 10s, that slower peers get, and half the fastest's time, before a round ends (default: the model's)",
      grace,
    )
    .option(
      '--quorum-wait <time>',
      'like 30s, without a quorum before going on in unfinal rounds; or never (default: 10s)',
      quorumWait,
    );
}

function grace(text: string): number {
  const ms = timingMs(text);
  if (ms !== undefined) return ms;
  throw optionError(`--grace takes a time from 1ms to 24h like 10s, not "${text}"`);
}

function quorumWait(text: string): number | 'never' {
  if (text === 'never') return text;
  const ms = timingMs(text);
  if (ms !== undefined) return ms;
  throw optionError(`--quorum-wait takes a time from 1ms to 24h like 30s, or never, not "${text}"`);
}

/** What genesis allows: whole milliseconds, a day at most. */
function timingMs(text: string): number | undefined {
  const ms = durationMs(text) ?? Number.NaN;
  return Number.isInteger(ms) && ms >= 1 && ms <= 86_400_000 ? ms : undefined;
}

/** What only this machine's speed and bits depend on. */
export function addMachineOptions(command: Command): Command {
  const backends = ['auto', ...BACKEND_NAMES] as const;
  return command
    .option('--backend <name>', `${listed(backends)} (default: auto)`, oneOf('--backend', backends))
    .option('--deterministic', 'the same bits on every run and CPU, a little slower')
    .option('--micro-batch <n>', 'sequences computed at once', integer('--micro-batch', 1, 1_000_000));
}

/** Of simulated training, which must give the same bits anywhere. */
export function addSimulatedMachineOptions(command: Command): Command {
  const backends = ['auto', ...DETERMINISTIC_BACKENDS] as const;
  return command
    .option('--backend <name>', `${listed(backends)} (default: auto)`, simulatedBackend)
    .option('--micro-batch <n>', 'sequences computed at once', integer('--micro-batch', 1, 1_000_000));
}

function simulatedBackend(text: string): SimulatedBackend {
  const backends = ['auto', ...DETERMINISTIC_BACKENDS] as const;
  if (!BACKEND_NAMES.some((name) => name === text) || backends.some((name) => name === text)) {
    return oneOf('--backend', backends)(text);
  }
  const cause = `${text} does not give the same bits on every machine, which simulated training must`;
  throw optionError(`--backend: ${cause}; give ${listed(backends)}`);
}

export function addDebugOption(command: Command): Command {
  // read by main.ts before anything is parsed, and listed here so that it is known
  return command.addOption(new Option('--debug', 'the stack of an unexpected error'));
}

/** Of all flags, what a run was explicitly asked to be. */
export function choicesOf(flags: RunFlags): RunChoices {
  const { data, model, tokenizer, innerSteps, batch, codec, outer, waitFor, rounds, seed, grace, quorumWait } = flags;
  const all = { data, model, tokenizer, innerSteps, batch, codec, outer, waitFor, rounds, seed, graceMs: grace };
  const asked = Object.entries(all).filter(([, value]) => value !== undefined);
  const choices: RunChoices = Object.fromEntries(asked);
  if (quorumWait !== undefined) choices.quorumWaitMs = quorumWait === 'never' ? null : quorumWait;
  return choices;
}

export interface RunFlags extends Omit<RunChoices, 'graceMs' | 'quorumWaitMs'> {
  /** milliseconds */
  grace?: number;
  /** milliseconds. Commander would make an empty text of null. */
  quorumWait?: number | 'never';
}

export function machineOf({ backend = 'auto', deterministic = false, microBatch }: MachineFlags): Machine {
  return { backend, deterministic, ...(microBatch === undefined ? {} : { microBatch }) };
}

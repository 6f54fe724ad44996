import { readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { CodedError } from '../../protocol/errors.ts';
import { decodeGenesis, type Genesis } from '../../protocol/genesis.ts';
import { modelLayout } from '../../protocol/model.ts';
import { loadTokenizer } from '../data/run-data.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { DEFAULT_SEED } from '../defaults.ts';
import { BlobStore } from '../store/blob-store.ts';
import { checkpointPath, checkpointSerials, loadNewestCheckpoint } from '../store/checkpoint.ts';
import { defaultBase, readGenesisFile, runPaths } from '../store/directory.ts';
import { createEngine, generate } from '../train/index.ts';
import { shellWord } from './format.ts';
import {
  addDebugOption,
  addMachineOptions,
  decimal,
  folder,
  integer,
  type MachineFlags,
  machineOf,
} from './options.ts';
import { KILLED_EXIT_CODE, onStopRequest } from './signals.ts';

export type GenerateErrorCode =
  | 'E_NO_RUN' // the folder has none, or there is no folder to choose
  | 'E_NO_MODEL'; // a run without a whole checkpoint, or one of another model

interface GenerateFlags extends MachineFlags {
  dir?: string;
  prompt?: string;
  tokens: number;
  temperature: number;
  seed: number;
}

/** nanoGPT's `sample.py` */
const TOKENS = 500;
const TEMPERATURE = 0.8;

const EXAMPLES = `
Examples:
  $ outerloop generate
  $ outerloop generate --dir ./my-run --prompt "Call me" --tokens 200 --temperature 0.7
`;

export function addGenerate(program: Command, finish: (code: number) => void): void {
  const command = program.command('generate').description('sample text from the model of a run');
  command
    .option('--dir <path>', "a run's folder (default: the newest in ~/.outerloop/runs)", folder('--dir'))
    .option('--prompt <text>', 'text to go on from (default: a new line)')
    .option('--tokens <n>', 'how many to add', integer('--tokens', 1, 1_000_000), TOKENS)
    .option('--temperature <t>', '0 takes the likeliest', decimal('--temperature', 0, 100), TEMPERATURE)
    .option('--seed <n>', 'another seed, another text', integer('--seed', 0, Number.MAX_SAFE_INTEGER), DEFAULT_SEED);
  addMachineOptions(command);
  addDebugOption(command).addHelpText('after', EXAMPLES);
  command.action(async (flags: GenerateFlags) => finish(await sample(flags)));
}

async function sample(flags: GenerateFlags): Promise<number> {
  const path = flags.dir === undefined ? newestRun() : resolve(flags.dir);
  const { genesis, parameters, round } = loadModel(path);
  const tokenizer = await loadTokenizer(genesis, new BlobStore(runPaths(path).blobs));
  const prompt = encodePrompt(tokenizer, flags.prompt);
  console.error(`outerloop: round ${round} of the run in ${path}`);
  const { model, inner } = genesis;
  const engine = await createEngine({ ...machineOf(flags), model, inner });
  await engine.writeParameters(parameters);
  const abort = new AbortController();
  const removeHandlers = onStopRequest({ stop: () => abort.abort(), kill: () => process.exit(KILLED_EXIT_CODE) });
  try {
    const { tokens: count, temperature, seed } = flags;
    process.stdout.write(flags.prompt ?? '');
    const text = new TokenText(tokenizer);
    for await (const token of generate(engine, prompt, { count, temperature, seed, signal: abort.signal })) {
      process.stdout.write(shown(text.push(token)));
    }
    process.stdout.write(`${shown(text.flush())}\n`);
  } finally {
    removeHandlers();
    engine.dispose();
  }
  return 0;
}

function loadModel(folder: string): { genesis: Genesis; parameters: Float32Array; round: number } {
  const bytes = readGenesisFile(folder);
  if (!bytes) throw generateError('E_NO_RUN', `${folder} holds no run; give the folder that start showed as --dir`);
  const genesis = decodeGenesis(bytes);
  const { loaded, skipped } = loadNewestCheckpoint(runPaths(folder).checkpoints);
  for (const { code, reason } of skipped) console.error(`outerloop: warning: ${reason} [${code}]`);
  const parameters = loaded?.checkpoint.vectors.get('parameters');
  if (!loaded || !parameters) {
    const message = `the run in ${folder} has no model on disk yet`;
    throw generateError('E_NO_MODEL', `${message}; let node start --dir ${shellWord(folder)} go on for a round`);
  }
  const { length } = modelLayout(genesis.model);
  if (parameters.length !== length) {
    const message = `the checkpoint in ${folder} has ${parameters.length} parameters, its run's model ${length}`;
    throw generateError('E_NO_MODEL', `${message}; remove ${loaded.path}`);
  }
  return { genesis, parameters, round: loaded.checkpoint.round };
}

/** The folder with the newest checkpoint among those that `start` chose by itself. */
function newestRun(): string {
  const base = defaultBase();
  const found = folders(base).flatMap((folder) => {
    const { checkpoints } = runPaths(folder);
    const [serial] = checkpointSerials(checkpoints);
    if (serial === undefined) return [];
    const stats = statSync(checkpointPath(checkpoints, serial), { throwIfNoEntry: false });
    return stats ? [{ folder, savedMs: stats.mtimeMs }] : [];
  });
  const [newest] = found.sort((a, b) => b.savedMs - a.savedMs);
  if (!newest) throw generateError('E_NO_RUN', `no run in ${base}; begin one with node start, or give a --dir`);
  return newest.folder;
}

function folders(base: string): string[] {
  try {
    const entries = readdirSync(base, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => join(base, entry.name));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw cause;
  }
}

/** @throws CodedError `E_TOKENIZER_UNKNOWN` for a prompt that the run's vocabulary cannot spell */
function encodePrompt(tokenizer: Tokenizer, prompt: string | undefined): ArrayLike<number> {
  if (prompt) return tokenizer.encode(prompt);
  try {
    return tokenizer.encode('\n');
  } catch {
    // a text without line breaks: any token will do to begin with
    return [0];
  }
}

/** Tokens to text piece by piece, where a character may take several tokens. */
export class TokenText {
  readonly #tokenizer: Tokenizer;
  /** keeps the beginning of a character until the rest of it comes, or something that is none */
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** @returns the text that is certain now */
  push(token: number): string {
    if (this.#tokenizer.kind === 'char') return this.#tokenizer.decode([token]);
    return this.#utf8.decode(Uint8Array.of(token), { stream: true });
  }

  /** What is left at the end. */
  flush(): string {
    return this.#utf8.decode();
  }
}

/** The data may be a stranger's: on a terminal nothing of it may be taken for a command. Lines may end in CR and LF. */
function shown(text: string): string {
  return process.stdout.isTTY ? text.replaceAll('\r', '').replace(/(?![\n\t])\p{Cc}/gu, '\ufffd') : text;
}

function generateError(code: GenerateErrorCode, message: string): CodedError<GenerateErrorCode> {
  return new CodedError(code, message);
}

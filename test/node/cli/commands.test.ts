import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { buildGenesis, tokenizerFor } from '../../../node/defaults.ts';
import { BlobStore } from '../../../node/store/blob-store.ts';
import { writeBlob } from '../../../node/store/blobs.ts';
import { saveCheckpoint } from '../../../node/store/checkpoint.ts';
import { openDirectory } from '../../../node/store/directory.ts';
import { framed, readFramed } from '../../../node/store/framed.ts';
import { createSeed, saveIdentity } from '../../../node/store/identity.ts';
import { saveWhereabouts } from '../../../node/store/whereabouts.ts';
import { encodeCanonical } from '../../../protocol/encoding.ts';
import { encodeGenesis } from '../../../protocol/genesis.ts';
import { peerIdOf } from '../../../protocol/identity.ts';
import { initialParameters } from '../../../protocol/model.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** Whole processes, for what only they show: exit codes and which stream a line is on. */

const START = new URL('../../../start.js', import.meta.url).pathname;
const TEXT = 'The quick brown fox jumps over the lazy dog.\n'.repeat(200);

function begin(argv: string[], env: NodeJS.ProcessEnv = {}) {
  return spawn(process.execPath, [START, ...argv], { env: { ...process.env, NO_COLOR: '1', ...env } });
}

async function run(argv: string[], env: NodeJS.ProcessEnv = {}) {
  const child = begin(argv, env);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = await once(child, 'close');
  return { code, stdout, stderr };
}

const HAS_FULL_DISK = existsSync('/dev/full');
const OUTPUT_LOST = 'outerloop: cannot write its output (ENOSPC): stopping [E_OUTPUT]\n';

/** With standard output redirected to where there is no room. */
async function runOnFullDisk(argv: string[]) {
  const full = openSync('/dev/full', 'w');
  const child = spawn(process.execPath, [START, ...argv], { stdio: ['ignore', full, 'pipe'] });
  closeSync(full);
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = await once(child, 'close');
  return { code, stderr };
}

function textFile(text: string): string {
  const path = join(temporaryFolder(), 'text.txt');
  writeFileSync(path, text);
  return path;
}

function events(stdout: string): { event: string; [field: string]: unknown }[] {
  const lines = stdout.trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line));
}

describe('a bad command line', () => {
  const missing = '/nowhere/at/all.txt';
  it.each([
    [['nope'], 2, "unknown command 'nope'; see outerloop --help [E_USAGE]"],
    [['train', '--foo'], 2, "unknown option '--foo'; see outerloop train --help [E_USAGE]"],
    [['train', '--batch'], 2, "option '--batch <n>' argument missing; see outerloop train --help [E_USAGE]"],
    [['--model', 'huge'], 2, '--model takes micro, nano, baby or gpt2, not "huge" [E_OPTION]'],
    [['--codec', 'zip'], 2, '--codec takes fp32, fp16, int8, sparseloco or topk, not "zip" [E_OPTION]'],
    [['train', '--batch', 'many'], 2, '--batch takes a whole number from 1 to 1000000, not "many" [E_OPTION]'],
    [
      ['--trust-block', 'abc'],
      2,
      '--trust-block takes a hash of 64 hexadecimal digits, as start --json prints it for every round, not "abc" [E_OPTION]',
    ],
    [['--trust-block', 'ab'.repeat(32)], 2, '--trust-block is for joining a run: give --bootstrap with it [E_OPTION]'],
    [['--dial-from', 'here'], 2, '--dial-from takes an IP address of this machine or any, not "here" [E_OPTION]'],
    [
      ['--dial-from', '192.0.2.7'],
      2,
      '--dial-from takes an IP address of this machine or any, not "192.0.2.7" [E_OPTION]',
    ],
    [['--listen', '4001'], 2, /^"4001" is not an address to listen on, such as \/ip4\/0.*\[E_MULTIADDR\]$/],
    [['--bootstrap', 'here'], 2, /^"here" is not an address .*\[E_MULTIADDR\]$/],
    [['train', '--data', missing], 1, /^no file, folder or built-in text is called .*\[E_DATA_NOT_FOUND\]$/],
    [['chaos', '--kinds', 'flood'], 2, '--kinds takes kill, stop, restart or cut, not "flood" [E_OPTION]'],
    [['chaos', '--every', 'now'], 2, '--every takes a duration like 80ms, 30s or 20min: "now" [E_OPTION]'],
    [['chaos', '--minutes', '0.4'], 2, /^--every is longer than --minutes, .*\[E_OPTION\]$/],
    [['chaos', '--dir', ''], 2, /^--dir takes a folder, .*\[E_OPTION\]$/],
    [['chaos', '--bandwidth', '5'], 2, '--bandwidth takes a rate like 50mbit or 50mbit/20mbit: "5" [E_OPTION]'],
    [['chaos', '--dir', new URL('.', import.meta.url).pathname], 1, /is not empty: .*\[E_DIR_NOT_EMPTY\]$/],
    [['--dir', new URL('.', import.meta.url).pathname], 1, /is not empty: .*\[E_DIR_NOT_EMPTY\]$/],
    [['replay'], 2, "missing required argument 'journal'; see outerloop replay --help [E_USAGE]"],
    [['replay', '/nowhere'], 1, /^no journal in \/nowhere: .*\[E_JOURNAL_NOT_FOUND\]$/],
    [['replay', `${START}/x`], 1, /^no journal in .*\[E_JOURNAL_NOT_FOUND\]$/],
    [['train', '--data', ''], 1, /^no text is named .*\[E_DATA_NOT_FOUND\]$/],
    [['replay', START], 1, /^.*: not a journal .*\[E_JOURNAL_FORMAT\]$/],
    [['generate', '--dir', START], 2, `--dir takes a folder, and ${START} is or lies in a file [E_OPTION]`],
    [['generate', '--dir', '/nowhere'], 1, /^\/nowhere holds no run; .*\[E_NO_RUN\]$/],
  ] as const)('%j ends in one line', async (argv, code, line) => {
    const result = await run([...argv]);
    expect(result).toMatchObject({ code, stdout: '' });
    const [said, ...rest] = result.stderr.split('\n');
    expect(rest).toEqual(['']);
    const text = said?.replace(/^outerloop: /, '');
    if (typeof line === 'string') expect(text).toBe(line);
    else expect(text).toMatch(line);
  });

  it('names a text that is too small', async () => {
    const { code, stderr } = await run(['train', '--data', textFile('tiny')]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^outerloop: .*tokens to train on.*\[E_DATA_TOO_SMALL\]\n$/);
  });

  it('shows a stack to who asks for it', async () => {
    const { stderr } = await run(['generate', '--dir', '/nowhere', '--debug']);
    expect(stderr).toMatch(/\[E_NO_RUN\]\n.*\n +at /);
  });
});

describe('help', () => {
  it('is on standard output, for all and for each command', async () => {
    const all = await run(['help']);
    expect(all).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining('Examples:') });
    const { code, stdout } = await run(['train', '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('--eval-every <steps>');
    expect(stdout).toContain('$ outerloop train');
  });
});

describe.skipIf(!HAS_FULL_DISK)('output that cannot be written', () => {
  const MICRO = ['--model', 'micro', '--json'];

  it.each([
    ['help'],
    ['sim', ...MICRO, '--trainer', 'synthetic', '--peers', '2', '--rounds', '3'],
    ['train', ...MICRO, '--steps', '2', '--eval-every', '2'],
  ])('makes %s fail with the same line, whenever it is found out', async (...argv) => {
    expect(await runOnFullDisk(argv)).toEqual({ code: 1, stderr: OUTPUT_LOST });
  });

  it('makes start fail, and generate', async () => {
    const folder = join(temporaryFolder(), 'run');
    const argv = [...MICRO, '--inner-steps', '2', '--rounds', '1', '--listen', '/ip4/127.0.0.1/tcp/0', '--dir', folder];
    const { code, stderr } = await runOnFullDisk(argv);
    expect(code).toBe(1);
    expect(stderr).toContain(OUTPUT_LOST);
    const made = temporaryFolder();
    await runFolder(made);
    const generated = await runOnFullDisk(['generate', '--dir', made]);
    expect(generated).toEqual({ code: 1, stderr: `outerloop: round 3 of the run in ${made}\n${OUTPUT_LOST}` });
  });
});

describe('train', () => {
  /** evaluates soon, and ends within the patience of a test only when it is stopped */
  const ENDLESS = ['train', '--model', 'micro', '--steps', '1000000', '--eval-every', '5', '--json'];

  it('prints evaluations as JSON and learns', async () => {
    const argv = ['train', '--model', 'micro', '--steps', '20', '--eval-every', '8', '--json'];
    const { code, stdout, stderr } = await run([...argv, '--data', textFile(TEXT)]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [first, second, last, done] = events(stdout);
    const evaluation = {
      event: 'eval',
      trainLoss: expect.any(Number),
      valLoss: expect.any(Number),
      tokensPerSecond: expect.any(Number),
      skipped: 0,
    };
    expect(first).toEqual({ ...evaluation, step: 8 });
    expect(second).toEqual({ ...evaluation, step: 16 });
    expect(last).toEqual({ ...evaluation, step: 20 });
    expect(done).toEqual({ event: 'done', reason: 'steps', step: 20, loss: expect.any(Number) });
    expect(last?.valLoss).toBeLessThan(first?.valLoss as number);
  });

  it('gives the same losses again, and others with another seed', async () => {
    const data = textFile(TEXT);
    const lossesOf = async (seed: string) => {
      const argv = ['train', '--model', 'micro', '--steps', '3', '--deterministic', '--json', '--data', data];
      const { stdout } = await run([...argv, '--seed', seed]);
      return events(stdout).map(({ trainLoss, valLoss }) => ({ trainLoss, valLoss }));
    };
    const losses = await lossesOf('1');
    expect(losses[0]?.valLoss).toBeGreaterThan(0);
    expect(await lossesOf('1')).toEqual(losses);
    expect(await lossesOf('2')).not.toEqual(losses);
  });

  it('tells people the same', async () => {
    const argv = ['train', '--model', 'micro', '--steps', '4', '--backend', 'wasm', '--data', textFile(TEXT)];
    const { code, stdout } = await run(argv);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^outerloop train {2}micro on text.txt\n/);
    expect(stdout).toMatch(/\nstep 4\/4 {2}train \d[.]\d{4} {2}val \d[.]\d{4} {2}\S+ tok\/s\n/);
    expect(stdout).toMatch(/\ndone in .*; at step 4 the validation loss was \d[.]\d{4}\n$/);
  });

  it('stops in good order when it is interrupted', async () => {
    const child = begin([...ENDLESS, '--data', textFile(TEXT)]);
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (stdout === '') child.kill('SIGINT');
      stdout += text;
    });
    expect(await once(child, 'close')).toEqual([0, null]);
    const [evaluation, done] = events(stdout).slice(-2);
    expect(done).toEqual({ event: 'done', reason: 'stopped', step: expect.any(Number), loss: expect.any(Number) });
    expect(done?.step).toBeGreaterThanOrEqual(evaluation?.step as number);
  });

  it.skipIf(!HAS_FULL_DISK)('stops in good order when its output cannot be written, and fails', async () => {
    expect(await runOnFullDisk([...ENDLESS, '--data', textFile(TEXT)])).toEqual({ code: 1, stderr: OUTPUT_LOST });
  });

  it('ends quietly when nobody reads on', async () => {
    const child = begin([...ENDLESS, '--data', textFile(TEXT)]);
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdout.once('data', () => child.stdout.destroy());
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(stderr).toBe('');
  });
});

/** A run's folder as `start` leaves it, with the model it began with. */
async function runFolder(path: string, kind: 'char' | 'byte' = 'char'): Promise<void> {
  const source = { name: 'fox', bytes: new TextEncoder().encode(TEXT) };
  const tokenizer = tokenizerFor(kind, source.bytes);
  const genesis = buildGenesis({ model: 'micro', tokenizer: kind }, peerIdOf(new Uint8Array(32)), source, tokenizer);
  const { paths, release } = openDirectory(path, encodeGenesis(genesis));
  if (tokenizer.blob) await writeBlob(new BlobStore(paths.blobs), tokenizer.blob);
  const parameters = initialParameters(genesis.model, genesis.seed);
  await saveCheckpoint(paths.checkpoints, {
    round: 3,
    meta: new Uint8Array(),
    vectors: new Map([['parameters', parameters]]),
  });
  release();
}

it('start says that it begins a run of its own where a peer of this machine is in another, and how to join that', async () => {
  const home = temporaryFolder();
  const path = join(home, '.outerloop', 'runs', 'another-1');
  const { paths, release } = openDirectory(path, new TextEncoder().encode('another genesis'));
  saveIdentity(paths.identity, createSeed());
  saveWhereabouts(paths.whereabouts, { listen: ['/ip4/127.0.0.1/tcp/4001'], peers: [] });
  const argv = [
    '--model',
    'micro',
    '--inner-steps',
    '2',
    '--rounds',
    '1',
    '--listen',
    '/ip4/127.0.0.1/tcp/0',
    '--json',
  ];
  const beside = await run(argv, { HOME: home });
  release();
  expect(beside.code).toBe(0);
  const [warning, ready] = events(beside.stdout);
  expect(warning).toMatchObject({ event: 'warning', code: 'W_OTHER_RUN_HERE' });
  expect(warning?.message).toMatch(
    /this begins a new run.*another-1.*--bootstrap \/ip4\/127\.0\.0\.1\/tcp\/4001\/p2p\/12D3/,
  );
  expect(ready).toMatchObject({ event: 'ready', resumed: false });
});

describe('generate', () => {
  const prompt = ['--prompt', 'The fox', '--tokens', '30', '--backend', 'wasm'];

  it('goes on from a prompt, the same for the same seed', async () => {
    const folder = temporaryFolder();
    await runFolder(folder);
    const sample = (seed: string) => run(['generate', '--dir', folder, ...prompt, '--seed', seed]);
    const first = await sample('1');
    expect(first).toMatchObject({ code: 0, stderr: `outerloop: round 3 of the run in ${folder}\n` });
    // a vocabulary of characters makes one of each token
    expect(first.stdout).toHaveLength('The fox'.length + 30 + 1);
    expect(first.stdout).toMatch(/^The fox[\s\S]*\n$/);
    expect((await sample('1')).stdout).toBe(first.stdout);
    expect((await sample('2')).stdout).not.toBe(first.stdout);
  });

  it('stops at the next token when it is interrupted', async () => {
    const folder = temporaryFolder();
    await runFolder(folder);
    const child = begin(['generate', '--dir', folder, '--prompt', 'The', '--tokens', '1000000']);
    onTestFinished(() => void child.kill('SIGKILL'));
    child.stdout.once('data', () => child.kill('SIGINT'));
    child.stdout.resume();
    expect(await once(child, 'close')).toEqual([0, null]);
  });

  it('finds the newest run by itself', async () => {
    const home = temporaryFolder();
    const nothing = await run(['generate'], { HOME: home });
    expect(nothing.code).toBe(1);
    expect(nothing.stderr).toMatch(/^outerloop: no run in .*\[E_NO_RUN\]\n$/);
    const folder = join(home, '.outerloop', 'runs', 'micro-on-fox-1');
    mkdirSync(join(home, '.outerloop', 'runs', 'empty'), { recursive: true });
    await runFolder(folder, 'byte');
    const { code, stdout, stderr } = await run(['generate', '--tokens', '5', '--temperature', '0'], { HOME: home });
    expect({ code, stderr }).toEqual({ code: 0, stderr: `outerloop: round 3 of the run in ${folder}\n` });
    expect(stdout.length).toBeGreaterThan(1);
  });

  it('names the file of a damaged genesis', async () => {
    const folder = temporaryFolder();
    await runFolder(folder);
    writeFileSync(join(folder, 'genesis.cbor'), 'damaged');
    const { code, stderr } = await run(['start', '--dir', folder]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/genesis\.cbor is damaged .* another --dir \[E_\w+\]\n$/);
  });

  it('refuses a prompt that the run cannot spell, and a run without a model', async () => {
    const folder = temporaryFolder();
    await runFolder(folder);
    const unknown = await run(['generate', '--dir', folder, '--prompt', '漢']);
    expect(unknown).toMatchObject({ code: 1, stdout: '' });
    expect(unknown.stderr).toMatch(/^outerloop: the character "漢" .*\[E_TOKENIZER_UNKNOWN\]\n$/);
    writeFileSync(join(folder, 'checkpoints', 'checkpoint-0.bin'), 'damaged');
    const damaged = await run(['generate', '--dir', folder]);
    expect(damaged.code).toBe(1);
    expect(damaged.stderr).toMatch(
      /\[E_CHECKPOINT_DAMAGED\]\nouterloop: .* has no model on disk yet; .*\[E_NO_MODEL\]\n$/,
    );
  });
});

describe('chaos', () => {
  it('ends all that it started when it is interrupted', async () => {
    const folder = temporaryFolder();
    const child = begin(['chaos', '--peers', '2', '--model', 'micro', '--no-baseline', '--dir', folder]);
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (stdout === '') child.kill('SIGINT');
      stdout += text;
    });
    expect(await once(child, 'close')).toEqual([130, null]);
    expect(stdout).toMatch(/^starting 2 peers, and then the faults\nstopped; .*\n$/);
    const processes = spawnSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).stdout;
    expect(processes).not.toContain(folder);
  });
});

describe('replay', () => {
  it('goes through what start left, names rounds and answers, without the key', async () => {
    const folder = join(temporaryFolder(), 'run');
    const argv = ['start', '--model', 'micro', '--inner-steps', '2', '--rounds', '3', '--data', textFile(TEXT)];
    const started = await run([...argv, '--listen', '/ip4/127.0.0.1/tcp/0', '--dir', folder, '--json']);
    const rounds = events(started.stdout).filter(({ event }) => event === 'round');
    const receipts = events(started.stdout).filter(({ event }) => event === 'receipt');
    expect(receipts).toMatchObject([1, 2, 3].map((round) => ({ round, status: 'accepted', acceptedIn: round })));
    rmSync(join(folder, 'identity.key'));
    const { code, stdout, stderr } = await run(['replay', folder, '--json']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const replayed = events(stdout);
    expect(replayed.slice(0, 3)).toMatchObject(rounds.map(({ round, root }) => ({ event: 'round', round, root })));
    expect(replayed[3]).toMatchObject({ event: 'replayed', difference: null, tornBytes: 0, continued: false });
    // a file that a full disk left empty
    writeFileSync(join(folder, 'journal', '000002.journal'), '');
    const why = await run(['replay', folder, '--why', '2']);
    expect(why.stdout).toMatch(/000002[.]journal: passed over/);
    expect(why.stdout).toMatch(/\nround 2, peer …\w{8}: .*\[included\]\n$/);
    for (const [option, refused] of [
      [['--why', '9'], 'E_ROUND'],
      // no id ends in a nought: base58 has none
      [['--why', '2', '--peer', '0'], 'E_PEER_UNKNOWN'],
    ] as const) {
      const wrong = await run(['replay', folder, ...option]);
      expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining(`[${refused}]`)]);
    }
    // whole frames of what is no journal: the others are read all the same, and alone it is an error
    const odd = join(folder, 'journal', '000003.journal');
    const [head] = readFramed(readFileSync(join(folder, 'journal', '000001.journal'))).contents;
    writeFileSync(odd, Buffer.concat([framed(head!), framed(encodeCanonical([null, 3, '\u001b[31m']))]));
    const some = await run(['replay', folder]);
    expect([some.code, some.stdout]).toEqual([
      1,
      expect.stringMatching(/ events, the same effects\n.*000003[.]journal: /s),
    ]);
    const alone = await run(['replay', odd]);
    expect([alone.code, alone.stderr]).toEqual([1, expect.stringContaining('[E_JOURNAL_FORMAT]')]);
  });

  it('is not possible where no journal was wanted', async () => {
    const folder = join(temporaryFolder(), 'run');
    const argv = ['start', '--model', 'micro', '--inner-steps', '2', '--rounds', '1', '--data', textFile(TEXT)];
    await run([...argv, '--listen', '/ip4/127.0.0.1/tcp/0', '--dir', folder, '--no-journal']);
    expect((await run(['replay', folder])).stderr).toContain('[E_JOURNAL_NOT_FOUND]');
  });
});

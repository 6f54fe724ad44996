/**
 * Trains the same model on the same tokens with every codec, each time with real peers in processes of their own on
 * loopback, and prints the table of the README.
 *
 *   npm run compare:codecs                       4 peers, nano, 20 rounds of 25 inner steps, the default data set
 *   npm run compare:codecs -- --rounds 2 --model micro --codecs fp32,topk
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { readArguments } from './arguments.ts';

const { values } = readArguments(import.meta.url, {
  options: {
    peers: { type: 'string', default: '4' },
    model: { type: 'string', default: 'nano' },
    rounds: { type: 'string', default: '20' },
    'inner-steps': { type: 'string', default: '25' },
    codecs: { type: 'string', default: 'fp32,int8,sparseloco,topk' },
    data: { type: 'string' },
    baseline: { type: 'boolean', default: false },
    seed: { type: 'string', default: '1' },
  },
});

interface Line {
  event: string;
  [field: string]: unknown;
}

const program = fileURLToPath(new URL('../start.js', import.meta.url));
const peers = Number(values.peers);

/** Runs the program, gives each line of its `--json` output, resolves with all of them when it exits. */
function run(args: string[], onLine: (line: Line) => void = () => {}): Promise<Line[]> {
  const child = spawn(process.execPath, [program, ...args, '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines: Line[] = [];
  createInterface({ input: child.stdout }).on('line', (text) => {
    const line = JSON.parse(text) as Line;
    lines.push(line);
    onLine(line);
  });
  return new Promise((resolve, reject) => {
    child.on('close', (code) =>
      code === 0 ? resolve(lines) : reject(new Error(`${args.join(' ')}: exit code ${code}`)),
    );
  });
}

async function swarm(codec: string): Promise<Line[][]> {
  const folder = mkdtempSync(join(tmpdir(), 'outerloop-compare-'));
  const common = ['start', '--listen', '/ip4/127.0.0.1/tcp/0', '--model', values.model, '--codec', codec];
  const schedule = ['--rounds', values.rounds, '--inner-steps', values['inner-steps'], '--wait-for', values.peers];
  const options = [...common, ...schedule, '--seed', values.seed, ...(values.data ? ['--data', values.data] : [])];
  let tellAddress: (address: string) => void = () => {};
  const address = new Promise<string>((resolve) => (tellAddress = resolve));
  const founder = run([...options, '--dir', join(folder, '0')], (line) => {
    if (line.event === 'ready') tellAddress((line.addresses as string[])[0] ?? '');
    if (line.event === 'round') process.stderr.write(`${codec} round ${line.round}: ${line.trainLoss}\n`);
  });
  const bootstrap = await address;
  const joiners = Array.from({ length: peers - 1 }, (_, i) =>
    run([...options, '--dir', join(folder, String(i + 1)), '--bootstrap', bootstrap]),
  );
  const lines = await Promise.all([founder, ...joiners]);
  rmSync(folder, { recursive: true, force: true });
  return lines;
}

interface Row {
  codec: string;
  valLoss: number;
  tokens: number;
  /** sent by one peer in a round, mean over peers and rounds, joining (the first round) left out */
  bytes: number;
}

async function measure(codec: string): Promise<Row> {
  const all = await swarm(codec);
  const rounds = all.map((lines) => lines.filter(({ event }) => event === 'round'));
  const last = rounds[0]?.at(-1);
  const sent = rounds.flatMap((lines) => lines.slice(1).map(({ bytesSent }) => bytesSent as number));
  const tokens = (rounds[0] ?? []).reduce((sum, line) => sum + (line.tokens as number), 0);
  const bytes = sent.reduce((sum, each) => sum + each, 0) / sent.length;
  return { codec, valLoss: last?.valLoss as number, tokens, bytes };
}

function kilobytes(bytes: number): string {
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(2)} MB` : `${(bytes / 1e3).toFixed(1)} kB`;
}

const rows: Row[] = [];
console.log('| codec | validation loss | tokens | sent by a peer, a round | bytes a token | of fp32 |');
console.log('|---|---|---|---|---|---|');
for (const codec of values.codecs.split(',')) {
  const row = await measure(codec);
  rows.push(row);
  const roundTokens = row.tokens / Number(values.rounds) / peers;
  const whole = rows.find(({ codec: other }) => other === 'fp32');
  const share = whole ? `${((100 * row.bytes) / whole.bytes).toFixed(1)} %` : '';
  const perToken = (row.bytes / roundTokens).toFixed(2);
  console.log(
    `| ${codec} | ${row.valLoss.toFixed(4)} | ${row.tokens} | ${kilobytes(row.bytes)} | ${perToken} | ${share} |`,
  );
}
if (values.baseline) {
  const steps = peers * Number(values.rounds) * Number(values['inner-steps']);
  const args = ['train', '--model', values.model, '--steps', String(steps), '--seed', values.seed];
  const lines = await run([...args, '--eval-every', String(steps), ...(values.data ? ['--data', values.data] : [])]);
  const last = lines.filter(({ event }) => event === 'eval').at(-1);
  console.log(`| centralized, ${steps} steps | ${Number(last?.valLoss).toFixed(4)} | | 0 | 0 | |`);
}

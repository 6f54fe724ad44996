/**
 * What a real peer costs: how long its network thread is kept from answering while it trains, and which part of the time
 * two peers on loopback spend training.
 *
 *   npm run bench:peer -- --delay --model baby --batch 2 --inner-steps 3 --rounds 2
 *   npm run bench:peer -- --fraction --model nano --rounds 6        (each peer pinned to a core where taskset is there)
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { openRun } from '../node/run.ts';
import { readArguments, usage } from './arguments.ts';

const { values } = readArguments(import.meta.url, {
  options: {
    delay: { type: 'boolean', default: false },
    fraction: { type: 'boolean', default: false },
    model: { type: 'string', default: 'nano' },
    batch: { type: 'string' },
    'inner-steps': { type: 'string' },
    rounds: { type: 'string', default: '5' },
    codec: { type: 'string', default: 'int8' },
  },
});
const folder = mkdtempSync(join(tmpdir(), 'outerloop-bench-'));

/** One peer in this process, so that this thread is its network thread. */
async function measureDelay(): Promise<void> {
  const choices = {
    model: values.model as 'nano',
    codec: values.codec as 'int8',
    rounds: Number(values.rounds),
    ...(values.batch ? { batch: Number(values.batch) } : {}),
    ...(values['inner-steps'] ? { innerSteps: Number(values['inner-steps']) } : {}),
  };
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const machine = { backend: 'auto', deterministic: false } as const;
  const options = { bootstrap: [], choices, dir: join(folder, 'peer'), listen: ['/ip4/127.0.0.1/tcp/0'], ...machine };
  const peer = await openRun(options, (event) => {
    // starting up is not training: from the first inner step on
    if (event.event === 'progress' && event.phase === 'training' && event.step === 1 && event.round === 0)
      delay.enable();
    if (event.event === 'round') process.stderr.write(`round ${event.round}: loss ${event.trainLoss.toFixed(3)}\n`);
  });
  await peer.run();
  delay.disable();
  const ms = (nanoseconds: number) => (nanoseconds / 1e6).toFixed(1);
  const { model, rounds } = values;
  console.log(`event-loop delay of the network thread, ${model}, ${rounds} rounds, measured every millisecond:`);
  console.log(`p50 ${ms(delay.percentile(50))} ms, p99 ${ms(delay.percentile(99))} ms, max ${ms(delay.max)} ms`);
}

interface Round {
  round: number;
  computeFraction: number;
}

function startPinned(core: number, args: string[], onAddress: (address: string) => void): Promise<Round[]> {
  const program = fileURLToPath(new URL('../start.js', import.meta.url));
  const pinned = spawnSync('taskset', ['-V']).status === 0;
  const command = pinned ? ['taskset', '-c', String(core), process.execPath] : [process.execPath];
  const [file = process.execPath, ...before] = command;
  const child = spawn(file, [...before, program, 'start', '--json', '--listen', '/ip4/127.0.0.1/tcp/0', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const rounds: Round[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    const event = JSON.parse(line);
    if (event.event === 'ready') onAddress(event.addresses[0]);
    if (event.event === 'round') rounds.push(event);
  });
  return new Promise((resolve, reject) => {
    child.on('close', (code) => (code === 0 ? resolve(rounds) : reject(new Error(`peer ended with ${code}`))));
  });
}

/** Two real peers, one a core. The first round holds the waiting for each other, the last the final evaluation. */
async function measureFraction(): Promise<void> {
  const inner = values['inner-steps'] ? ['--inner-steps', values['inner-steps']] : [];
  const options = [
    '--model',
    values.model,
    '--codec',
    values.codec,
    '--rounds',
    values.rounds,
    '--wait-for',
    '2',
    ...inner,
  ];
  let found: (address: string) => void = () => {};
  const address = new Promise<string>((resolve) => (found = resolve));
  const first = startPinned(0, [...options, '--dir', join(folder, '0')], found);
  const second = startPinned(1, [...options, '--dir', join(folder, '1'), '--bootstrap', await address], () => {});
  for (const rounds of await Promise.all([first, second])) {
    const inside = rounds.slice(1, -1).map(({ computeFraction }) => computeFraction);
    const mean = inside.reduce((sum, each) => sum + each, 0) / inside.length;
    console.log(`compute fraction ${mean.toFixed(3)} (${inside.map((each) => each.toFixed(3)).join(' ')})`);
  }
}

if (!values.delay && !values.fraction) usage(import.meta.url, 'say what to measure: --delay, --fraction, or both');
if (values.delay) await measureDelay();
if (values.fraction) await measureFraction();
rmSync(folder, { recursive: true, force: true });
process.exit(0);

/**
 * Times the training step of the wasm engine, and others in turn with it where they are there:
 *
 *   npm run bench
 *   npm run bench -- --prototype <dir>                  a directory with gpt-wasm.mjs (makeTrainer), same step, for the ratio
 *   npm run bench -- --prototype <dir> --python <path>  also its PyTorch twin gpt-torch.py
 *   npm run bench -- --rounds 8 --steps 20
 *
 * Rounds alternate (A B A B ...), because other work on the machine changes speed more than code does.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { spawnWorker } from '../node/train/spawn-worker.ts';
import { readArguments } from './arguments.ts';
import type { BenchShape } from './bench-worker.ts';

/** `twin` is what the prototype's PyTorch twin calls the same shape. */
const SHAPES: (BenchShape & { name: string; twin: string; steps: number })[] = [
  { name: 'nano', twin: 'baby', layers: 4, heads: 4, width: 128, context: 64, vocabulary: 65, batch: 12, steps: 20 },
  { name: 'baby', twin: 'big4', layers: 6, heads: 6, width: 384, context: 256, vocabulary: 65, batch: 4, steps: 3 },
];

const { values: options } = readArguments(import.meta.url, {
  options: {
    prototype: { type: 'string' },
    python: { type: 'string', default: 'python3' },
    rounds: { type: 'string', default: '5' },
    steps: { type: 'string' },
  },
});

const cache = fileURLToPath(new URL('../node_modules/.cache/outerloop-bench/', import.meta.url));
const prototype = options.prototype === undefined ? undefined : copyPrototype(options.prototype);

/** One engine in a worker thread of its own, for both change the kernels of the TF.js they share a thread with. */
class Contender {
  readonly name: string;
  readonly milliseconds: number[] = [];
  readonly #worker: Worker;

  constructor(name: string, workerData: { shape: BenchShape; prototype?: string }) {
    this.name = name;
    this.#worker = spawnWorker(new URL('./bench-worker.ts', import.meta.url), {
      workerData,
      env: { ...process.env, FMA: '1' }, // the prototype's switch for its fused kernels
    });
  }

  run(steps: number): Promise<number[]> {
    return new Promise((resolve, reject) => {
      this.#worker.once('message', resolve);
      this.#worker.once('error', reject);
      this.#worker.postMessage(steps);
    });
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** Copied to where its imports of TF.js resolve to the version we have. @returns URL of its module */
function copyPrototype(directory: string): string {
  const target = path.join(cache, 'prototype');
  rmSync(target, { recursive: true, force: true });
  mkdirSync(cache, { recursive: true });
  cpSync(directory, target, { recursive: true });
  return pathToFileURL(path.join(target, 'gpt-wasm.mjs')).href;
}

function runTwin(name: string, steps: number): void {
  const directory = path.join(cache, 'prototype');
  if (!prototype || !existsSync(path.join(directory, 'gpt-torch.py'))) {
    console.log('  PyTorch: skipped, its twin comes with --prototype');
    return;
  }
  if (spawnSync(options.python, ['-c', 'import torch']).status !== 0) {
    console.log(`  PyTorch: skipped, '${options.python}' cannot import torch (--python names another)`);
    return;
  }
  const run = (command: string, args: string[]) =>
    spawnSync(command, args, {
      cwd: directory,
      encoding: 'utf8',
      env: { ...process.env, OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1' },
    });
  run(process.execPath, ['dump.mjs', name, String(steps)]);
  const twin = run(options.python, ['gpt-torch.py', name, String(steps), '1']);
  console.log(`  PyTorch: ${twin.status === 0 ? twin.stdout.split('\n')[0] : `failed: ${twin.stderr.trim()}`}`);
}

function report(name: string, milliseconds: number[], shape: BenchShape): void {
  const [middle, best] = [median(milliseconds), Math.min(...milliseconds)];
  const tokens = ((shape.batch * shape.context) / middle) * 1000;
  const speed = floatingPointOperations(shape) / best / 1e6;
  console.log(
    `  ${name.padEnd(10)} median ${middle.toFixed(1)} ms, min ${best.toFixed(1)} ms per step; ` +
      `${tokens.toFixed(0)} tokens/s at the median, ${speed.toFixed(1)} GFLOP/s at best`,
  );
}

/** Three times the forward pass: the way back takes two products for each one. */
function floatingPointOperations({ layers, width, context, vocabulary, batch }: BenchShape): number {
  const tokens = batch * context;
  const perLayer = 2 * tokens * 12 * width * width + 4 * tokens * context * width;
  return 3 * (layers * perLayer + 2 * tokens * width * vocabulary);
}

function describe({ layers, heads, width, context, vocabulary, batch }: BenchShape): string {
  return `${layers} layers, ${heads} heads, width ${width}, context ${context}, vocabulary ${vocabulary}, batch ${batch}`;
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

for (const shape of SHAPES) {
  const steps = options.steps === undefined ? shape.steps : Number(options.steps);
  const contenders = [new Contender('outerloop', { shape })];
  if (prototype) contenders.push(new Contender('prototype', { shape, prototype }));
  for (const contender of contenders) await contender.run(1); // compiles and warms the heap
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const contender of contenders) contender.milliseconds.push(...(await contender.run(steps)));
  }
  console.log(`${shape.name}: ${describe(shape)}`);
  for (const contender of contenders) {
    report(contender.name, contender.milliseconds, shape);
    await contender.close();
  }
  const [ours, theirs] = contenders.map(({ milliseconds }) => milliseconds);
  if (ours && theirs) {
    const [medians, minima] = [median(ours) / median(theirs), Math.min(...ours) / Math.min(...theirs)];
    console.log(`  ratio outerloop / prototype: medians ${medians.toFixed(3)}, minima ${minima.toFixed(3)}`);
  }
  runTwin(shape.twin, steps * Number(options.rounds));
}

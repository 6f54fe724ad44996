import { statfs } from 'node:fs/promises';
import { arch, availableParallelism, cpus, freemem, homedir, platform, totalmem } from 'node:os';
import type { Command } from 'commander';
import { isCoded } from '../../protocol/errors.ts';
import { DEFAULT_MODEL } from '../defaults.ts';
import { defaultBase } from '../store/directory.ts';
import { type BackendReport, reportBackends } from '../train/index.ts';
import { openBaseline } from './baseline.ts';
import { formatBytes, formatCount, printable } from './format.ts';
import { addDebugOption } from './options.ts';
import { Terminal } from './terminal.ts';

/** Enough to be past the first steps, in which code is compiled and memory allocated, and still a second or two. */
const WARM_STEPS = 5;
const MEASURED_STEPS = 20;

export function addDoctor(program: Command, finish: (code: number) => void): void {
  const command = program.command('doctor').description('what this machine can do, and what would help');
  addDebugOption(command).addHelpText('after', '\nExamples:\n  $ outerloop doctor\n');
  command.action(async () => finish(await doctor(new Terminal(process.stdout, process.env))));
}

/** @returns the exit code: 1 where `start` would not train */
export async function doctor(terminal: Terminal, trials: Trials = { measure, reportBackends }): Promise<number> {
  const field = (name: string, value: string): void => terminal.line(`${name.padEnd(9)}${value}`);
  const [cpu] = cpus();
  field('node', `${process.versions.node} on ${platform()} ${arch()}`);
  field('cores', `${availableParallelism()} (${cpu?.model.trim() || 'unknown'})`);
  field('memory', `${formatBytes(freemem())} free of ${formatBytes(totalmem())}`);
  field('disk', await diskWords());
  terminal.line();
  // before the backends are tried: those that come later could change what TF.js computes with
  terminal.status('measuring…');
  let speed: string;
  let code = 0;
  try {
    speed = await trials.measure();
  } catch (error) {
    // it is what doctor is asked about
    speed = `start would not train: ${error instanceof Error ? error.message : String(error)}`;
    code = 1;
  }
  terminal.status('trying the backends…');
  const reports = await trials.reportBackends();
  terminal.status('');
  terminal.line('backends');
  for (const report of reports) terminal.line(backendLine(report, terminal));
  terminal.line();
  terminal.line(printable(speed));
  return code;
}

/** What takes a while, and may fail in ways of its own. */
export interface Trials {
  measure: () => Promise<string>;
  reportBackends: () => Promise<BackendReport[]>;
}

async function diskWords(): Promise<string> {
  try {
    return `${await freeDisk()} for ${defaultBase()}`;
  } catch (error) {
    if (!isCoded(error)) throw error;
    return error.message;
  }
}

async function freeDisk(): Promise<string> {
  // the folder of the runs may not be there yet; it will be on the disk of the home
  try {
    const { bavail, bsize } = await statfs(homedir());
    return `${formatBytes(bavail * bsize)} free`;
  } catch {
    // no home either, as of a service's user
    return 'unknown';
  }
}

function backendLine({ name, available, detail }: BackendReport, terminal: Terminal): string {
  const mark = available ? terminal.paint('green', 'yes') : terminal.paint('dim', 'no ');
  // what is missing is told with the line that installs it, which is to be copied
  const [what = '', install] = detail.split('. Install it: ');
  const lines = [`  ${mark} ${name.padEnd(14)} ${what}`];
  if (install) lines.push(`${' '.repeat(21)}to install it: ${terminal.paint('cyan', install)}`);
  return lines.join('\n');
}

/** Trains the default model for a moment with the backend that `start` would choose. */
async function measure(): Promise<string> {
  const machine = { backend: 'auto', deterministic: false } as const;
  const { genesis, trainer } = await openBaseline({}, machine, WARM_STEPS + MEASURED_STEPS);
  const { batch, model } = genesis;
  await trainer.trainRound({ firstStep: 0, steps: WARM_STEPS, firstPosition: 0 });
  const plan = { firstStep: WARM_STEPS, steps: MEASURED_STEPS, firstPosition: WARM_STEPS * batch };
  const startedMs = performance.now();
  await trainer.trainRound(plan);
  const seconds = (performance.now() - startedMs) / 1000;
  const { backend, detail } = trainer.engine;
  trainer.engine.dispose();
  const rate = formatCount((MEASURED_STEPS * batch * model.context) / seconds);
  return `start would use ${backend} (${detail}): ${rate} tokens a second with the ${DEFAULT_MODEL} model`;
}

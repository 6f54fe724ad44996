import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

const ROOT = new URL('../../', import.meta.url).pathname;
const PROGRAM = join(ROOT, 'node/cli/outerloop.js');

/** Starts `outerloop …` as a process of its own; it is gone when the running test is over. */
export function begin(argv: string[]) {
  const child = spawn(process.execPath, [PROGRAM, ...argv], { cwd: ROOT, env: { ...process.env, NO_COLOR: '1' } });
  const exited = once(child, 'exit');
  // a test that runs out of time must not leave its processes behind, nor remove the folders that they write into
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  const said = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => {
      said[stream] += text;
    });
  }
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, ...said }));
  return { child, ended };
}

/** The objects that `--json` prints, one a line. */
export function eventsIn(stdout: string): { event: string; [field: string]: unknown }[] {
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

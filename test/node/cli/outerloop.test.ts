import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** The real start.js and outerloop.js before a main.ts that tells what it was given. */
function clone(main: string, { installed = true } = {}): string {
  const root = temporaryFolder();
  mkdirSync(join(root, 'node/cli'), { recursive: true });
  const files = ['start.js', 'node/cli/outerloop.js', 'node/typescript.js', 'package.json'];
  for (const file of files) cpSync(file, join(root, file));
  writeFileSync(join(root, 'node/cli/main.ts'), main);
  if (installed) symlinkSync(resolve('node_modules'), join(root, 'node_modules'));
  return root;
}

const ECHO = 'export async function main(argv: string[]): Promise<number> { console.log(argv.join(" ")); return 3; }\n';

function run(cwd: string, ...argv: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { cwd, encoding: 'utf8' });
  return { status, stdout: stdout.trim(), stderr: stderr.trim() };
}

describe('node start', () => {
  it('is `outerloop start`, and another command when a word says so', () => {
    const root = clone(ECHO);
    expect(run(root, 'start')).toEqual({ status: 3, stdout: 'start', stderr: '' });
    expect(run(root, 'start', '--bootstrap', 'x').stdout).toBe('start --bootstrap x');
    expect(run(root, 'start.js', 'doctor', '--json').stdout).toBe('doctor --json');
  });
});

describe('outerloop', () => {
  it('passes its arguments on as they are, from wherever it is called', () => {
    const root = clone(ECHO);
    const elsewhere = temporaryFolder();
    // npm makes links like this one in node_modules/.bin
    symlinkSync(join(root, 'node/cli/outerloop.js'), join(elsewhere, 'outerloop'));
    expect(run(elsewhere, 'outerloop', 'sim', '-n', '3')).toEqual({ status: 3, stdout: 'sim -n 3', stderr: '' });
  });

  it('says in one line that Node is too old', () => {
    const root = clone(ECHO);
    const pretend = "Object.defineProperty(process.versions, 'node', { value: process.env.PRETEND });\n";
    writeFileSync(join(root, 'pretend.cjs'), pretend);
    const on = (version: string) =>
      spawnSync(process.execPath, ['--require', './pretend.cjs', 'start'], {
        cwd: root,
        encoding: 'utf8',
        env: { ...process.env, PRETEND: version },
      });
    for (const old of ['14.21.3', '18.19.0', '20.18.3']) {
      const { status, stderr } = on(old);
      expect(status).toBe(1);
      expect(stderr).toMatch(/^outerloop: Node 20[.]19 or newer is needed, this is [\d.]+;.*\n$/);
    }
    // what comes after the check may find out about the pretence, so only the check itself is asked
    for (const fine of ['20.19.0', '22.1.0']) expect(on(fine).stderr).not.toContain('is needed');
  });

  it('says in one line that nothing is installed', () => {
    const { status, stderr } = run(clone(ECHO, { installed: false }), 'start');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^outerloop: the package \S+ is not installed; run `npm install` in .*$/);
  });

  it('fails when main throws, and does not wait for what main left open', () => {
    const failing = clone('export async function main(): Promise<number> { throw new Error("a mistake of ours"); }\n');
    expect(run(failing, 'start')).toMatchObject({ status: 1, stderr: expect.stringContaining('a mistake of ours') });
    const open = clone('export async function main() { setInterval(() => {}, 1000); return 4; }\n');
    expect(run(open, 'start').status).toBe(4);
  });
});

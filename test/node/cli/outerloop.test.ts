import { execFile, spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** The real start.js and outerloop.js before a main.ts that tells what it was given. */
function clone(main: string, { installed = true } = {}): string {
  const root = temporaryFolder();
  mkdirSync(join(root, 'node/cli'), { recursive: true });
  const files = [
    'start.js',
    'node/cli/outerloop.js',
    'node/typescript.js',
    'node/train/worker-boot.js',
    'package.json',
  ];
  for (const file of files) cpSync(file, join(root, file));
  writeFileSync(join(root, 'node/cli/main.ts'), main);
  if (!installed) return root;
  mkdirSync(join(root, 'node_modules'));
  for (const name of readdirSync('node_modules')) {
    // a clone keeps what it makes of its sources in a folder of its own
    if (name !== '.cache') symlinkSync(resolve('node_modules', name), join(root, 'node_modules', name));
  }
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
    const root = clone(ECHO, { installed: false });
    const { status, stderr } = run(root, 'start');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^outerloop: the package \S+ is not installed; run `npm install` in .*$/);
    const [, home = ''] = stderr.split('npm install` in ');
    expect(realpathSync(home)).toBe(realpathSync(root));
  });

  it('fails when main throws, and does not wait for what main left open', () => {
    const failing = clone('export async function main(): Promise<number> { throw new Error("a mistake of ours"); }\n');
    expect(run(failing, 'start')).toMatchObject({ status: 1, stderr: expect.stringContaining('a mistake of ours') });
    const open = clone('export async function main() { setInterval(() => {}, 1000); return 4; }\n');
    expect(run(open, 'start').status).toBe(4);
  });
});

describe('its TypeScript', () => {
  const says = (text: string): string =>
    `export async function main(): Promise<number> { console.log(${text}); return 0; }\n`;
  const library = (folder: string, text: string): string => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{ "main": "index.js", "type": "module" }');
    writeFileSync(join(folder, 'index.js'), `export const text = '${text}';\n`);
    return folder;
  };
  const cacheOf = (root: string): string => join(root, 'node_modules/.cache/outerloop');
  const madeIn = (cache: string): string[] => readdirSync(cache).filter((name) => /[.](js|json)$/.test(name));
  const stateOf = (root: string): string[] => {
    const cache = cacheOf(root);
    const files = readdirSync(cache).filter((name) => statSync(join(cache, name)).isFile());
    return files.map((name) => `${name} ${statSync(join(cache, name)).mtimeMs}`).sort();
  };

  it('is made into JavaScript once, and again when a file has changed', () => {
    const root = clone(says('"before"'));
    expect(run(root, 'start').stdout).toBe('before');
    const first = stateOf(root);
    expect(run(root, 'start').stdout).toBe('before');
    expect(stateOf(root)).toEqual(first);
    writeFileSync(join(root, 'node/cli/main.ts'), says('"after"'));
    expect(run(root, 'start').stdout).toBe('after');
    expect(stateOf(root)).not.toEqual(first);
  });

  it('is made again when what was made of it is damaged', () => {
    const root = clone(says('"here"'));
    run(root, 'start');
    const cache = cacheOf(root);
    const made = madeIn(cache);
    for (const name of made) {
      truncateSync(join(cache, name));
      expect(run(root, 'start')).toEqual({ status: 0, stdout: 'here', stderr: '' });
      expect(statSync(join(cache, name)).size).toBeGreaterThan(0);
    }
    expect(made.length).toBeGreaterThan(1);
    const [list] = made.filter((name) => name.endsWith('.json'));
    for (const strange of [{}, { entry: 'main.js', files: [] }, { entry: 'main.js', inputs: [], outputs: [] }]) {
      writeFileSync(join(cache, list!), JSON.stringify(strange));
      expect(run(root, 'start')).toEqual({ status: 0, stdout: 'here', stderr: '' });
    }
  });

  it('is made again when a library has changed', () => {
    const root = clone(
      'import { text } from "library"; export async function main() { console.log(text); return 0; }\n',
    );
    const [first, second] = ['first', 'second'].map((name) => library(join(root, name), name));
    const link = join(root, 'node_modules/library');
    symlinkSync(first!, link);
    expect(run(root, 'start').stdout).toBe('first');
    library(first!, 'first, but edited');
    expect(run(root, 'start').stdout).toBe('first, but edited');
    // pnpm leaves the old files, leads elsewhere and notes it
    rmSync(link);
    symlinkSync(second!, link);
    writeFileSync(join(root, 'node_modules/.modules.yaml'), '');
    expect(run(root, 'start').stdout).toBe('second');
  });

  it('is made again when a file has changed while it was made', () => {
    const root = clone(says('"before"'));
    const [source, changed] = [join(root, 'node/cli/main.ts'), says('"after"')].map((text) => JSON.stringify(text));
    const preload = `
      const fs = require('node:fs');
      const read = fs.readFileSync;
      fs.readFileSync = (path, ...options) => {
        const text = read(path, ...options);
        if (path === ${source}) fs.writeFileSync(${source}, ${changed});
        return text;
      };
      require('node:module').syncBuiltinESMExports();`;
    writeFileSync(join(root, 'preload.cjs'), preload);
    expect(run(root, '--require', './preload.cjs', 'start').stdout).toBe('before');
    expect(run(root, 'start').stdout).toBe('after');
  });

  it('is kept for those who run it, however old it is', () => {
    const root = clone(says('"before"'));
    run(root, 'start');
    const cache = cacheOf(root);
    const made = madeIn(cache);
    const other = ['of-another-node.json', 'of-another-node.js'];
    writeFileSync(
      join(cache, other[0]!),
      JSON.stringify({ entry: other[1], inputs: [['x', null]], outputs: [[other[1], 0]] }),
    );
    for (const name of [other[1]!, 'left-over.js', 'left-over.js.7.0.tmp']) writeFileSync(join(cache, name), '');
    const monthAgo = Date.now() / 1000 - 30 * 24 * 3600;
    for (const name of readdirSync(cache)) utimesSync(join(cache, name), monthAgo, monthAgo);

    writeFileSync(join(root, 'node/cli/main.ts'), says('"after"'));
    expect(run(root, 'start').stdout).toBe('after');
    const kept = readdirSync(cache);
    expect(kept).toEqual(expect.arrayContaining([...made, ...other]));
    expect(kept.filter((name) => name.startsWith('left-over'))).toEqual([]);
  });

  it.skipIf(process.platform !== 'linux')('leaves nothing running that it was made with', () => {
    const root = clone(`
      import { readFileSync } from 'node:fs';
      const children = (): string => readFileSync('/proc/thread-self/children', 'utf8');
      export async function main(): Promise<number> {
        // who is told to end takes a moment
        const until = performance.now() + 20_000;
        while (children() && performance.now() < until) await new Promise(setImmediate);
        console.log(children() || 'alone');
        return 0;
      }`);
    expect(run(root, 'start').stdout).toBe('alone');
  });

  it('names lines of the sources with --debug, in worker threads too', () => {
    const root = clone(`
      import { Worker } from 'node:worker_threads';
      export async function main(): Promise<number> {
        const argv = [new URL('../train/failing.ts', import.meta.url).href];
        const worker = new Worker(new URL('../train/worker-boot.js', import.meta.url), { argv });
        return new Promise((resolve) => worker.on('error', ({ stack }) => resolve((console.log(stack), 5))));
      }`);
    writeFileSync(join(root, 'node/train/failing.ts'), 'interface Nothing {}\n\nthrow new Error("a mistake");\n');
    expect(run(root, 'start', '--debug').stdout).toContain('failing.ts:3:');
  });

  it('is told where its sources are when it asks', () => {
    const root = clone(says('import.meta.url'));
    expect(run(root, 'start').stdout).toBe(pathToFileURL(join(root, 'node/cli/main.ts')).href);
  });

  it('is read as it is where nothing can be written', () => {
    const root = clone(says('import.meta.url'));
    writeFileSync(join(root, 'node_modules/.cache'), 'a file where the folder would be');
    expect(run(root, 'start')).toMatchObject({ status: 0, stderr: '' });
  });

  it('is made by several processes at once, each of which runs', async () => {
    const root = clone(says('"here"'));
    const one = () => promisify(execFile)(process.execPath, ['start'], { cwd: root });
    const all = await Promise.all(Array.from({ length: 4 }, one));
    expect(all.map(({ stdout }) => stdout)).toEqual(Array(4).fill('here\n'));
  });

  it('names the mistake, and where it is, when it cannot be read', () => {
    const { status, stderr } = run(clone('export const = 3;\n'), 'start');
    expect(status).toBe(1);
    expect(stderr).toContain('main.ts:1');
  });
});

/**
 * Plants bugs into a copy of the source, one at a time, and lets the swarm look for each (docs/testing.md):
 *
 *   npm run swarm:bugs                     all of them, 200 seeds each at most
 *   npm run swarm:bugs -- --only quorum    those with this in their name
 *
 * A checker that finds no planted bug is no checker. Exits with 1 when a bug is not found, and when a piece of source
 * that a bug replaces is not there exactly once: then the bug must be planted anew.
 */
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readArguments } from './arguments.ts';
import { BUGS, type Bug } from './planted-bugs/bugs.ts';

const { values: options } = readArguments(import.meta.url, {
  options: {
    seeds: { type: 'string', default: '200' },
    only: { type: 'string', default: '' },
    workers: { type: 'string', default: '2' },
  },
});

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const COPIED = ['package.json', 'tsconfig.json', 'protocol', 'sim', 'node', 'scripts'];

interface Found {
  seed: number;
  checker: string;
}

/** @throws Error naming the bug, when the source is no longer what the bug replaces */
function plant(folder: string, { name, edits }: Bug): void {
  for (const { file, find, replace } of edits) {
    const path = join(folder, file);
    const source = readFileSync(path, 'utf8');
    const places = source.split(find).length - 1;
    if (places !== 1)
      throw new Error(`"${name}": what it replaces is ${places} times in ${file}; plant it anew:\n${find}`);
    writeFileSync(
      path,
      source.replace(find, () => replace),
    );
  }
}

function swarm(folder: string): Promise<string> {
  const { seeds, workers } = options;
  const argv = ['--import', 'tsx', 'scripts/swarm.ts', '--first', '--seeds', seeds, '--workers', workers];
  return new Promise((resolve) => {
    execFile(process.execPath, argv, { cwd: folder, maxBuffer: 1 << 26 }, (_error, stdout, stderr) => {
      resolve(`${stdout}\n${stderr}`);
    });
  });
}

/** The failure with the smallest seed, of those that were under way when the first was found. */
async function hunt(bug: Bug): Promise<Found | undefined> {
  const folder = mkdtempSync(join(tmpdir(), 'planted-bug-'));
  try {
    for (const name of COPIED) cpSync(join(ROOT, name), join(folder, name), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    plant(folder, bug);
    const output = await swarm(folder);
    const found = [...output.matchAll(/^FOUND (.*)$/gm)].map((match) => JSON.parse(match[1]!) as Found);
    if (found.length === 0 && !/^0 failed$/m.test(output)) throw new Error(`"${bug.name}" does not run:\n${output}`);
    return found.sort((a, b) => a.seed - b.seed)[0];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const bugs = BUGS.filter(({ name }) => name.includes(options.only));
if (bugs.length === 0) {
  console.error(`no planted bug has "${options.only}" in its name`);
  process.exit(2);
}
let missed = 0;
console.log('| planted bug | found by seed | checker |\n|---|---|---|');
for (const bug of bugs) {
  const found = await hunt(bug);
  console.log(`| ${bug.name} | ${found?.seed ?? `none of ${options.seeds}`} | ${found?.checker ?? '-'} |`);
  if (!found) missed++;
}
if (missed > 0) {
  console.log(`${missed} planted bugs were not found`);
  process.exitCode = 1;
}

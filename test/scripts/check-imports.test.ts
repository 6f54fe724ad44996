import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

/** What a planted module holds when only its place matters. */
const EMPTY = 'export type B = string;\n';
const SCRIPT = resolve('scripts/check-imports.js');

/** A house with one clean module in it, into which a test plants a violation. */
let root: string;

beforeEach(() => {
  root = temporaryFolder();
  symlinkSync(resolve('node_modules'), join(root, 'node_modules'));
  cpSync('package.json', join(root, 'package.json'));
  plant('protocol/clean.ts', "import { encode } from 'cborg';\nexport const clean = encode(1);\n");
});

function plant(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

function check(): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, root], { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

describe('check-imports', () => {
  it('passes a clean house and says how much it looked at', () => {
    expect(check()).toEqual({ status: 0, output: 'import rules: 1 modules, 0 violations\n' });
  });

  it('fails when it looked at no module', () => {
    rmSync(join(root, 'protocol'), { recursive: true });
    plant('test/only.test.ts', 'export {};\n');
    expect(check()).toMatchObject({ status: 1, output: expect.stringContaining('no module') });
  });

  /** The first file of each breaks the rule. */
  const planted: [rule: string, files: Record<string, string>][] = [
    ['protocol-is-pure', { 'protocol/disk.ts': "import 'node:fs';\n" }],
    ['protocol-is-pure', { 'protocol/net.ts': "import 'libp2p';\n" }],
    ['protocol-is-pure', { 'protocol/up.ts': "import '../node/alone.ts';\n", 'node/alone.ts': EMPTY }],
    [
      'training-and-data-without-network',
      { 'node/train/a.ts': "import type { B } from '../net/b.ts';\nexport type A = B;\n", 'node/net/b.ts': EMPTY },
    ],
    ['training-and-data-without-network', { 'node/data/a.ts': "import '../net/c.ts';\n", 'node/net/c.ts': EMPTY }],
    ['network-on-its-own', { 'node/net/k.ts': "import '../store/k.ts';\n", 'node/store/k.ts': EMPTY }],
    ['journal-reads-disk-and-identities', { 'node/journal/l.ts': "import '../l.ts';\n", 'node/l.ts': EMPTY }],
    ['chaos-from-outside', { 'node/chaos/m.ts': "import '../store/m.ts';\n", 'node/store/m.ts': EMPTY }],
    ['sim-without-sockets', { 'sim/net.ts': "import '../node/net/d.ts';\n", 'node/net/d.ts': EMPTY }],
    ['sim-without-sockets', { 'sim/lazy.ts': "export const a = import('../node/e.ts');\n", 'node/e.ts': EMPTY }],
    ['sim-only-from-command-line', { 'node/peer.ts': "import '../sim/f.ts';\n", 'sim/f.ts': EMPTY }],
    ['product-without-tests', { 'node/tested.ts': "import '../test/g.ts';\n", 'test/g.ts': EMPTY }],
    ['not-own-index', { 'sim/h.ts': "import './index.ts';\n", 'sim/index.ts': EMPTY }],
    [
      'no-cycles',
      {
        'sim/i.ts': "import { j } from './j.ts';\nexport const i = () => j;\n",
        'sim/j.ts': "import { i } from './i.ts';\nexport const j = () => i;\n",
      },
    ],
    ['resolvable', { 'sim/lost.ts': "import './missing.ts';\n" }],
  ];

  it('fails on planted violations of every rule', () => {
    // each in rooms of its own, all looked at in one go because a run takes a second
    for (const [, files] of planted) for (const [path, text] of Object.entries(files)) plant(path, text);
    const { status, output } = check();
    for (const [rule, files] of planted) expect(output).toContain(`${rule}: ${Object.keys(files)[0]} -> `);
    expect(status).toBe(1);
  });

  it('allows training and data to the simulator', () => {
    plant('sim/a.ts', "import '../node/train/b.ts';\nimport '../node/data/c.ts';\nimport '../protocol/clean.ts';\n");
    plant('node/train/b.ts', "import '../../protocol/clean.ts';\n");
    plant('node/data/c.ts', "import 'node:fs';\n");
    expect(check().output).toBe('import rules: 4 modules, 0 violations\n');
  });
});

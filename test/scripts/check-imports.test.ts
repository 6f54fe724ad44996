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
    ['no-sockets', { 'node/data/sockets.ts': "import 'libp2p';\n" }],
    ['no-sockets', { 'sim/sockets.ts': "import '@chainsafe/libp2p-gossipsub';\n" }],
    ['room protocol/', { 'protocol/up.ts': "import '../node/up.ts';\n", 'node/up.ts': EMPTY }],
    [
      'room node/train/',
      { 'node/train/a.ts': "import type { B } from '../net/b.ts';\nexport type A = B;\n", 'node/net/b.ts': EMPTY },
    ],
    ['room node/data/', { 'node/data/c.ts': "import '../train/c.ts';\n", 'node/train/c.ts': EMPTY }],
    ['room node/store/', { 'node/store/d.ts': "import '../data/d.ts';\n", 'node/data/d.ts': EMPTY }],
    ['room node/net/', { 'node/net/e.ts': "import '../store/e.ts';\n", 'node/store/e.ts': EMPTY }],
    ['room node/journal/', { 'node/journal/f.ts': "import '../f.ts';\n", 'node/f.ts': EMPTY }],
    ['room node/chaos/', { 'node/chaos/g.ts': "import '../store/g.ts';\n", 'node/store/g.ts': EMPTY }],
    ['room node/[^/]+$', { 'node/h.ts': "import './cli/h.ts';\n", 'node/cli/h.ts': EMPTY }],
    ['room node/[^/]+$', { 'node/i.ts': "import '../sim/i.ts';\n", 'sim/i.ts': EMPTY }],
    ['room node/cli/', { 'node/cli/j.ts': "import '../../test/j.ts';\n", 'test/j.ts': EMPTY }],
    ['room sim/', { 'sim/k.ts': "import '../node/net/k.ts';\n", 'node/net/k.ts': EMPTY }],
    ['room sim/', { 'sim/lazy.ts': "export const a = import('../node/l.ts');\n", 'node/l.ts': EMPTY }],
    ['not-own-index', { 'sim/m.ts': "import './index.ts';\n", 'sim/index.ts': EMPTY }],
    [
      'no-cycles',
      {
        'sim/n.ts': "import { o } from './o.ts';\nexport const n = () => o;\n",
        'sim/o.ts': "import { n } from './n.ts';\nexport const o = () => n;\n",
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

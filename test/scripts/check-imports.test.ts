import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

/** What a planted module holds when only its place matters. */
const NET = 'export type B = string;\n';
const SCRIPT = resolve('scripts/check-imports.js');

/** A house with one clean module in it, into which a test plants a violation. */
let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'outerloop-imports-'));
  symlinkSync(resolve('node_modules'), join(root, 'node_modules'));
  cpSync('package.json', join(root, 'package.json'));
  plant('protocol/clean.ts', "import { encode } from 'cborg';\nexport const clean = encode(1);\n");
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

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

  const planted: [rule: string, files: Record<string, string>][] = [
    ['protocol-is-pure', { 'protocol/a.ts': "import 'node:fs';\n" }],
    ['protocol-is-pure', { 'protocol/a.ts': "import 'libp2p';\n" }],
    ['protocol-is-pure', { 'protocol/a.ts': "import '../node/b.ts';\n", 'node/b.ts': 'export {};\n' }],
    [
      'training-and-data-without-network',
      { 'node/train/a.ts': "import type { B } from '../net/b.ts';\nexport type A = B;\n", 'node/net/b.ts': NET },
    ],
    ['training-and-data-without-network', { 'node/data/a.ts': "import '../net/b.ts';\n", 'node/net/b.ts': NET }],
    ['sim-without-sockets', { 'sim/a.ts': "import '../node/net/b.ts';\n", 'node/net/b.ts': NET }],
    ['sim-without-sockets', { 'sim/a.ts': "await import('../node/peer.ts');\nexport {};\n", 'node/peer.ts': NET }],
    ['sim-only-from-command-line', { 'node/peer.ts': "import '../sim/a.ts';\n", 'sim/a.ts': 'export {};\n' }],
    ['product-without-tests', { 'node/peer.ts': "import '../test/a.ts';\n", 'test/a.ts': 'export {};\n' }],
    ['not-own-index', { 'sim/a.ts': "import './index.ts';\n", 'sim/index.ts': 'export {};\n' }],
    [
      'no-cycles',
      {
        'sim/a.ts': "import { b } from './b.ts';\nexport const a = b;\n",
        'sim/b.ts': "import { a } from './a.ts';\nexport const b = a;\n",
      },
    ],
    ['resolvable', { 'sim/a.ts': "import './missing.ts';\n" }],
  ];

  it.each(planted)('fails on a planted violation of %s', (rule, files) => {
    for (const [path, text] of Object.entries(files)) plant(path, text);
    const { status, output } = check();
    expect(output).toContain(`${rule}: `);
    expect(status).toBe(1);
  });

  it('allows training and data to the simulator', () => {
    plant('sim/a.ts', "import '../node/train/b.ts';\nimport '../node/data/c.ts';\nimport '../protocol/clean.ts';\n");
    plant('node/train/b.ts', "import '../../protocol/clean.ts';\n");
    plant('node/data/c.ts', "import 'node:fs';\n");
    expect(check().output).toBe('import rules: 4 modules, 0 violations\n');
  });
});

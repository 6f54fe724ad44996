/**
 * Checks the import rules of .dependency-cruiser.cjs: `node scripts/check-imports.js [root]`.
 * Exit 0 when they hold, 1 with one line a violation, 1 also when no module was looked at (a cruiser that cannot read
 * TypeScript sees none and would report success).
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { cruise } from 'dependency-cruiser';

const ROOMS = ['protocol', 'node', 'sim', 'scripts', 'test'];
const rules = createRequire(import.meta.url)('../.dependency-cruiser.cjs');
const root = resolve(process.argv[2] ?? '.');
const rooms = ROOMS.filter((room) => existsSync(join(root, room)));

const { output } = await cruise(rooms, {
  ...rules.options,
  baseDir: root,
  validate: true,
  ruleSet: { forbidden: rules.forbidden },
});
const own = output.modules.filter((module) => /^(protocol|node|sim)\/.*[.]ts$/.test(module.source));
for (const { from, to, rule, cycle } of output.summary.violations) {
  const path = cycle ? cycle.map((step) => step.name ?? step).join(' -> ') : to;
  console.error(`${rule.name}: ${from} -> ${path}`);
}
if (own.length === 0) console.error('no module of protocol/, node/ or sim/ was looked at: is typescript installed?');
const violations = output.summary.violations.length;
console.log(`import rules: ${own.length} modules, ${violations} violations`);
if (own.length === 0 || violations > 0) process.exitCode = 1;

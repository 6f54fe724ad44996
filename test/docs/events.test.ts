import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, it } from 'vitest';

const pathOf = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** Fields of each event, as the page lists them. */
function listed(): Map<string, Set<string>> {
  const [ofPeers] = readFileSync(pathOf('docs/events.md'), 'utf8').split('\n## ') as [string];
  const events = new Map<string, Set<string>>();
  let fields = new Set<string>();
  for (const line of ofPeers.split('\n')) {
    const [, event, field] = /^\| (?:`([a-z]\w*)`)? ?\| (?:`(\w+)`)?/.exec(line) ?? [];
    if (event) {
      fields = new Set(['event']);
      events.set(event, fields);
    } else if (field) fields.add(field);
  }
  return events;
}

/** Fields of each event, as the type has them. */
function declared(): Map<string, Set<string>> {
  const path = pathOf('node/peer-events.ts');
  const program = ts.createProgram([path], { strict: true, allowImportingTsExtensions: true, noEmit: true });
  const checker = program.getTypeChecker();
  const module = checker.getSymbolAtLocation(program.getSourceFile(path)!)!;
  const symbol = checker.getExportsOfModule(module).find(({ name }) => name === 'PeerEvent')!;
  const type = checker.getDeclaredTypeOfSymbol(symbol);
  const events = new Map<string, Set<string>>();
  for (const each of (type as ts.UnionType).types) {
    const name = checker.getTypeOfSymbol(each.getProperty('event')!) as ts.StringLiteralType;
    const fields = events.get(name.value) ?? new Set();
    for (const property of each.getProperties()) fields.add(property.name);
    events.set(name.value, fields);
  }
  return events;
}

it('lists every event of a peer with its fields', () => {
  const events = declared();
  expect(listed()).toEqual(events);
});

it('lists every warning', () => {
  const files = ['node', 'protocol', 'sim'].flatMap((folder) =>
    readdirSync(pathOf(folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => pathOf(`${folder}/${name}`)),
  );
  const given = files.flatMap((file) => readFileSync(file, 'utf8').match(/'W_[A-Z_]+'/g) ?? []);
  const warnings = readFileSync(pathOf('docs/events.md'), 'utf8').match(/^\| `W_[A-Z_]+` \|/gm) ?? [];
  const codes = (found: readonly string[]) => [...new Set(found.map((each) => /W_\w+/.exec(each)![0]))].sort();
  expect(warnings.length).toBe(codes(warnings).length);
  expect(codes(warnings)).toEqual(codes(given));
});

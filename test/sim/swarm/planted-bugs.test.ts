import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { BUGS } from '../../../scripts/planted-bugs/bugs.ts';

/** Hunting them takes minutes (`npm run swarm:bugs`); a change of the source that moves one shows here. */
it.each(BUGS)('can still be planted: $name', ({ edits }) => {
  const root = new URL('../../../', import.meta.url);
  const sources = new Map<string, string>();
  for (const { file, find, replace } of edits) {
    const source = sources.get(file) ?? readFileSync(new URL(file, root), 'utf8');
    expect(source.split(find)).toHaveLength(2);
    sources.set(
      file,
      source.replace(find, () => replace),
    );
  }
});

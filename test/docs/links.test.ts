import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

/** Paths in the words for people: a file that moves takes them along. */
const root = new URL('../../', import.meta.url);
const docs = readdirSync(new URL('docs/', root))
  .filter((name) => !name.endsWith('.png'))
  .map((name) => `docs/${name}`);
const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...docs];

/** Folders that a path in backticks may begin with; `sim/` comes later. */
const PATH = /`((?:protocol|node|scripts|test|docs)\/[\w./-]*)`/g;

describe.each(pages)('%s', (page) => {
  const text = readFileSync(new URL(page, root), 'utf8');

  it('links to files that are there', () => {
    const links = [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link!).filter((link) => !/^https:/.test(link));
    expect(links.filter((link) => !existsSync(new URL(link, new URL(page, root))))).toEqual([]);
  });

  it('names files that are there', () => {
    const paths = [...text.matchAll(PATH)].map(([, path]) => path!);
    expect(paths.filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
  });

  it('names scripts that package.json has', () => {
    const { scripts } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { scripts: object };
    const named = [...text.matchAll(/npm run ([\w:]+)/g)].map(([, name]) => name!);
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });
});

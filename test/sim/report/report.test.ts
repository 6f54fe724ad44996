import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compare } from '../../../sim/compare.ts';
import { BYTE_KINDS } from '../../../sim/ledger.ts';
import { reportMarkdown } from '../../../sim/report/markdown.ts';
import { KINDS } from '../../../sim/report/page.ts';
import { makeReport, type Report, reportCsv } from '../../../sim/report/report.ts';
import { headlines } from '../../../sim/report/words.ts';
import { writeReport } from '../../../sim/report/write.ts';
import { parseStrategies } from '../../../sim/strategy.ts';
import { comparisonInit } from '../../helpers/comparisons.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const TITLE = 'a <b> & "c"';
const COMMAND = "outerloop compare --data 'https://example.org/</script><script>x'";
let report: Report;
let html: string;
const folder = mkdtempSync(join(tmpdir(), 'outerloop-test-'));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeAll(async () => {
  const strategies = parseStrategies('ddp,diloco:H=5,topk');
  const compared = await compare(comparisonInit({ strategies, seeds: [1, 2] }));
  const facts = {
    title: TITLE,
    command: COMMAND,
    commit: 'abc',
    complete: true,
    wallSeconds: 2,
    peers: 4,
    seeds: [1, 2],
  };
  report = makeReport(compared, {
    ...facts,
    tokensAsked: 1600,
    configuration: { scenario: { latency: '20ms' } },
    strategies,
  });
  writeReport(folder, report);
  html = readFileSync(join(folder, 'report.html'), 'utf8');
});

it('writes four files', () => {
  expect(readdirSync(folder).sort()).toEqual(['report.html', 'report.md', 'results.csv', 'results.json']);
});

it('writes everything as JSON', () => {
  const read = JSON.parse(readFileSync(join(folder, 'results.json'), 'utf8')) as Report;
  expect(read).toEqual(JSON.parse(JSON.stringify(report)));
  expect(read.summary.map(({ series }) => series)).toEqual(['centralized', 'one-peer', 'ddp', 'diloco:H=5', 'topk']);
  expect(read.timeline?.series).toBe('diloco:H=5');
});

it('writes a line a point and one for the whole split as CSV', () => {
  const [head, ...lines] = reportCsv(report).trimEnd().split('\n');
  expect(head).toBe('series,seed,split,tokens,virtualMs,bytesPerPeer,valLoss');
  expect(lines).toHaveLength(report.runs.reduce((sum, { points }) => sum + points.length + 1, 0));
  for (const line of lines) expect(line).toMatch(/^[\w:=-]+,\d+,(sample|whole),\d+,[\d.]+,\d+,[\d.e-]+$/);
});

describe('the page', () => {
  it('asks for nothing from outside and runs nothing', () => {
    const withoutCommand = html.replaceAll('https://example.org/', '');
    expect(withoutCommand).not.toMatch(/https?:|\bsrc=|\bhref=|@import|url\((?!#)|<script|<link|<img|<iframe/i);
  });

  it('shows what others wrote as text', () => {
    expect(html).toContain('a &lt;b&gt; &amp; &quot;c&quot;');
    expect(html).toContain('&lt;/script&gt;&lt;script&gt;x');
    expect(html).not.toContain('<b> &');
  });

  it('has a row, a legend and a curve for every strategy', () => {
    for (const name of ['centralized', 'one-peer', 'ddp', 'diloco:H=5', 'topk']) {
      expect(html.split(`<span>${name}</span>`).length, name).toBeGreaterThan(1);
      expect(html, name).toContain(`${name}: `);
    }
    // three charts in three widths; what sends nothing is not drawn against bytes
    expect(html.match(/<g class="curve /g)).toHaveLength(3 * (5 + 3 + 5));
    expect(html.match(/<svg class="timeline /g)).toHaveLength(4);
  });

  it('draws numbers alone', () => {
    expect(html).not.toMatch(/NaN|Infinity|undefined|\[object/);
  });

  it('closes what it opens', () => {
    for (const tag of [
      'section',
      'div',
      'svg',
      'g',
      'figure',
      'table',
      'tr',
      'td',
      'th',
      'ul',
      'li',
      'main',
      'style',
    ]) {
      const count = (pattern: string) => html.match(new RegExp(pattern, 'g'))?.length ?? 0;
      expect(count(`<${tag}[ >]`), tag).toBe(count(`</${tag}>`));
    }
  });

  it('has a colour for every kind of bytes', () => {
    expect([...KINDS].sort()).toEqual([...BYTE_KINDS, 'all-reduce'].sort());
    for (const kind of KINDS) expect(html).toContain(`.kind-${kind}{`);
  });
});

it('says in words what the page shows', () => {
  const text = readFileSync(join(folder, 'report.md'), 'utf8');
  const rows = text.split('\n').filter((line) => line.startsWith('| `'));
  expect(rows).toHaveLength(5);
  expect(text).toContain(COMMAND);
  expect(text).toContain('(n = 2)');
});

it('writes a dash for bytes by no token, and divides by no bytes', () => {
  const one = { ...report.summary.find(({ series }) => series === 'diloco:H=5')!, bytes: 0 };
  const gapPercent = { mean: 0, spread: null, n: 1 };
  const summary = report.summary.map((row) => ({ ...row, bytes: 0, bytesAToken: null }));
  const alone = { ...report, summary: [...summary.filter(({ series }) => series === 'ddp'), { ...one, gapPercent }] };
  expect(headlines(alone).map(({ value }) => value)).toContain('0 B');
  expect(reportMarkdown(alone)).toMatch(/^\| `ddp` \|.* \| 0 B \| – \|/m);
  expect(reportMarkdown(alone)).not.toMatch(/NaN|Infinity/);
});

it('is a page even when it was stopped before anything was done', () => {
  const empty = { runs: [], timeline: null, steps: 100, tokens: 1600, rates: [] };
  const facts = { title: 't', command: 'c', commit: null, complete: false, wallSeconds: 0, peers: 4, seeds: [1] };
  const stopped = makeReport(empty, { ...facts, tokensAsked: 1600, configuration: {}, strategies: [] });
  const other = temporaryFolder();
  writeReport(other, stopped);
  const page = readFileSync(join(other, 'report.html'), 'utf8');
  expect(page).toContain('results so far');
  expect(page).not.toMatch(/NaN|Infinity|undefined/);
});

import { beforeAll, describe, expect, it } from 'vitest';
import { compare } from '../../../sim/compare.ts';
import { BYTE_KINDS, SPANS_MAX } from '../../../sim/ledger.ts';
import { comparisonFiles } from '../../../sim/report/files.ts';
import { reportMarkdown } from '../../../sim/report/markdown.ts';
import { KINDS, reportPage } from '../../../sim/report/page.ts';
import { describeStrategies, makeReport, type Report, reportCsv } from '../../../sim/report/report.ts';
import { footnotes, headlines } from '../../../sim/report/words.ts';
import { parseStrategies } from '../../../sim/strategy.ts';
import { comparisonInit } from '../../helpers/comparisons.ts';

const TITLE = 'a <b> & "c"';
const COMMAND = "outerloop compare --data 'https://example.org/</script><script>x'";
let report: Report;
let files: Record<string, string>;
let html: string;

beforeAll(async () => {
  const strategies = parseStrategies('ddp,diloco:H=5,topk');
  const init = comparisonInit({ strategies, seeds: [1, 2] });
  const compared = await compare(init);
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
    strategies: describeStrategies(init, compared.steps),
  });
  files = comparisonFiles(report);
  html = files['report.html']!;
});

it('writes four files', () => {
  expect(Object.keys(files).sort()).toEqual(['report.html', 'report.md', 'results.csv', 'results.json']);
});

it('writes everything as JSON', () => {
  const read = JSON.parse(files['results.json']!) as Report;
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
    expect(html.match(/<svg class="timeline /g)).toHaveLength(2 * 3);
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
  const text = files['report.md']!;
  const rows = text.split('\n').filter((line) => line.startsWith('| `'));
  expect(rows).toHaveLength(5);
  expect(text).toContain(COMMAND);
  expect(text).toContain('(n = 2)');
});

it('says of every row why it has no loss, and what its peers warned of', () => {
  const odd = report.runs.map((run) => {
    if (run.series === 'topk') return { ...run, reason: 'stuck' as const, loss: null };
    const missed = [1, 2, 3, 4].map((minute) => ({ do: 'crash' as const, atMs: 60_000 * minute }));
    return run.series === 'diloco:H=5' ? { ...run, warnings: { W_A: 2 }, diverged: [3, 4], missed } : run;
  });
  const files = comparisonFiles({ ...report, runs: odd });
  for (const text of [files['report.md'], files['report.html']]) {
    expect(text).toMatch(/topk.*stuck: nobody was left.*seed 2/);
    expect(text).toMatch(/diloco:H=5.*two certified states in round 3, 4/);
    expect(text).toMatch(/diloco:H=5.*its peers warned: W_A 4×/);
    expect(text).toMatch(
      /diloco:H=5.*it ended before crash at .*, crash at .* and 1 more events, which the scenario has/,
    );
  }
  expect(html).not.toContain('class="notes remarks"');
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

it('says what exchanges every step by what it does, not by its name', () => {
  const named = (name: string) => (name === 'ddp' ? 'every-step' : name === 'topk' ? 'ddp' : name);
  const other = {
    ...report,
    strategies: report.strategies.map((each) => ({ ...each, name: named(each.name) })),
    summary: report.summary.map((row) => ({ ...row, series: named(row.series) })),
  };
  const says = headlines(other).map((headline) => headline.says);
  expect(says.filter((text) => /lowest of those with rounds|leanest|as fast as/.test(text)).join()).not.toMatch(
    /: every-step/,
  );
  expect(footnotes(other).join()).toMatch(/every-step is centralized training, charged/);
  expect(footnotes(other).join()).not.toMatch(/(^|,)ddp is centralized/);
});

describe('what is said of learning rates', () => {
  const said = (change: Partial<Report>) => footnotes({ ...report, ...change }).join('\n');

  it('is that all are the same, where they are', () => {
    expect(said({})).toContain('All have the same inner learning rate');
  });

  it('names the rate of the baseline where it has another one, tried or given', () => {
    const given = said({ rates: [{ rate: 4, loss: 2 }] });
    expect(given).toContain('The centralized baseline and ddp had 4× the usual inner learning rate.');
    expect(given).not.toContain('All have the same inner learning rate');
    const rates = [
      { rate: 1, loss: 3 },
      { rate: 2, loss: 2 },
    ];
    expect(said({ rates })).toMatch(/suits the large batch best, 2× the usual one; tried with the first seed: 1× 3/);
  });

  it('names strategies with rates of their own', () => {
    const init = comparisonInit({ strategies: parseStrategies('ddp,diloco,diloco:rate=2') });
    const strategies = describeStrategies(init, 100);
    const genesis = init.base({ seed: 1, founder: 'x'.repeat(52), steps: 1, batches: 1 });
    const text = said({ strategies, configuration: { genesis } });
    expect(text).toContain('diloco:rate=2 had 2× the usual inner learning rate.');
    expect(text).not.toMatch(/diloco had|All have the same inner/);
  });
});

it('draws a run of very many rounds, as much of it as can be seen', () => {
  const points = Array.from({ length: 200_000 }, (_, i) => ({
    tokens: i,
    virtualMs: i,
    bytes: i,
    loss: 1 + 1 / (i + 1),
  }));
  const page = reportPage({ ...report, kind: 'sim', training: points });
  expect(page).toContain('at 200k');
  expect(page.length).toBeLessThan(4_000_000);
});

it('says where the timeline ends, of what is on its way, too', () => {
  const { timeline } = report;
  const virtualMs = timeline!.virtualMs;
  const one = { from: 0, to: 1, fromMs: 0, toMs: virtualMs / 2 };
  const withCarried = (count: number) =>
    reportPage({ ...report, timeline: { ...timeline!, carried: Array(count).fill(one) } });
  expect(withCarried(SPANS_MAX)).toMatch(/What was on its way after [\d.]+ s was not kept/);
  expect(withCarried(1)).not.toMatch(/was not kept/);
});

it('is a page even when it was stopped before anything was done', () => {
  const empty = { runs: [], timeline: null, steps: 100, tokens: 1600, rates: [] };
  const facts = { title: 't', command: 'c', commit: null, complete: false, wallSeconds: 0, peers: 4, seeds: [1] };
  const stopped = makeReport(empty, { ...facts, tokensAsked: 1600, configuration: {}, strategies: [] });
  const page = comparisonFiles(stopped)['report.html'];
  expect(page).toContain('results so far');
  expect(page).not.toMatch(/NaN|Infinity|undefined/);
});

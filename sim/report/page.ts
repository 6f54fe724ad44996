import {
  ALONE,
  bySeries,
  CENTRALIZED,
  type ChargedKind,
  completeOrAll,
  meanCurve,
  type RunRecord,
} from '../comparison.ts';
import { SPANS_MAX } from '../ledger.ts';
import { type ChartSeries, chartSvg, cutOff } from './chart.ts';
import { bytesText, countText, escapeHtml, lossText, timeText } from './format.ts';
import type { Report } from './report.ts';
import { PAGE_STYLE } from './style.ts';
import { LANES, PEERS_MAX, timelineSvg } from './timeline.ts';
import { aboutOf, columnsOf, footnotes, headlines, remarksOf, rowsAre } from './words.ts';
import { worldOf } from './world.ts';

/** all of the ledger's, and the one that is charged */
export const KINDS: readonly ChargedKind[] = ['payload', 'all-reduce', 'gossip', 'direct', 'snapshot', 'history'];
/** Colours that can be told apart; further curves take them again, with dashes. */
const COLOURS = 8;
/** As many points of a curve are drawn as a wide screen has pixels; the files beside the page have all of them. */
const POINTS_MAX = 1000;
/** A run with more rounds than this is also shown from near. */
const NEAR_ROUNDS = 6;

/**
 * One page with all in it: no script, no request, so that it can be mailed and opened anywhere. Charts are drawn at three
 * widths, of which the style sheet shows one.
 */
export function reportPage(report: Report): string {
  const { kind, title, peers } = report;
  const heading = `${title}, ${peers} peers`;
  const sections = [
    header(report),
    section('Results', '', table(report) + remarks(report)),
    charts(report),
    section('What the bytes are for', `Sent by all peers${kind === 'sim' ? '' : ', in the mean run'}.`, kinds(report)),
    report.timeline ? timelines(report) : '',
    section(
      'How to read it',
      '',
      `<ul class="notes">${footnotes(report)
        .map((n) => `<li>${escapeHtml(n)}</li>`)
        .join('')}</ul>`,
    ),
    reproduce(report),
  ];
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">' +
    '<meta name="viewport" content="width=device-width, initial-scale=1">' +
    '<meta name="color-scheme" content="light dark">' +
    `<title>${escapeHtml(heading)} – outerloop ${kind}</title><style>${PAGE_STYLE}${alone(curvesOf(report).length)}</style></head>\n` +
    `<body><main>${sections.join('\n')}</main></body></html>\n`
  );
}

function section(title: string, lead: string, content: string): string {
  return `<section><h2>${escapeHtml(title)}</h2>${lead ? `<p class="lead">${escapeHtml(lead)}</p>` : ''}${content}</section>`;
}

function header(report: Report): string {
  const { kind, title, peers, tokens, seeds, complete } = report;
  const facts = [
    `${countText(tokens)} tokens`,
    seeds.length === 1 ? `seed ${seeds[0]}` : `${seeds.length} seeds`,
    ...worldOf(report),
  ];
  const tiles = headlines(report).map(
    ({ value, says }) => `<div class="tile"><b>${escapeHtml(value)}</b><span>${escapeHtml(says)}</span></div>`,
  );
  return (
    `<header><p class="over">outerloop ${kind}</p><h1>${escapeHtml(title)}, ${peers} peers</h1>` +
    `<p class="facts">${facts.map((fact) => `<span>${escapeHtml(fact)}</span>`).join('')}</p>` +
    (complete ? '' : '<p class="warning">Stopped before its end: these are the results so far.</p>') +
    `<div class="tiles">${tiles.join('')}</div></header>`
  );
}

/** Every series with the class that its colour and its dashes come from. */
function seriesOf({ runs }: Report): { name: string; className: string; runs: RunRecord[] }[] {
  let next = 0;
  return [...bySeries(runs)].map(([name, group], i) => {
    const own = name === CENTRALIZED ? 'central' : name === ALONE ? 'alone' : colour(next++);
    return { name, className: `n${i} ${own}`, runs: group };
  });
}

function colour(i: number): string {
  return `c${i % COLOURS}${i >= COLOURS ? ' dashed' : ''}`;
}

/** While a name in the legend is pointed at, or has the focus, all other curves fade. */
function alone(count: number): string {
  const rules = Array.from(
    { length: count },
    (_, i) => `.charts:has(.legend .n${i}:is(:hover,:focus)) .curve:not(.n${i}){opacity:.12}`,
  );
  return rules.join('');
}

function swatch(className: string): string {
  return `<svg class="swatch ${className}" viewBox="0 0 22 10" aria-hidden="true"><path d="M1 5H21"/></svg>`;
}

function table(report: Report): string {
  const styles = new Map(seriesOf(report).map(({ name, className }) => [name, className]));
  const columns = columnsOf(report);
  const rows = report.summary.map((row) => {
    const cells = columns.map(
      ({ title, text }) => `<td role="cell" data-label="${escapeHtml(title)}">${escapeHtml(text(row))}</td>`,
    );
    const name = `${swatch(styles.get(row.series) ?? '')}<span>${escapeHtml(row.series)}</span>`;
    const about = `<small>${escapeHtml(aboutOf(report, row.series))}</small>`;
    return `<tr role="row"><th scope="row" role="rowheader"><div class="name">${name}</div>${about}</th>${cells.join('')}</tr>`;
  });
  const titles = columns.map(({ title }) => `<th scope="col">${escapeHtml(title)}</th>`);
  const head = `<thead role="rowgroup"><tr role="row"><th scope="col">${rowsAre(report)}</th>${titles.join('')}</tr></thead>`;
  // narrow pages lay it out as blocks, which would take its roles away
  return `<div class="card flush"><table role="table">${head}<tbody role="rowgroup">${rows.join('')}</tbody></table></div>`;
}

function remarks(report: Report): string {
  const items = remarksOf(report).map(
    ({ series, says }) => `<li><b>${escapeHtml(series)}</b> ${escapeHtml(says)}</li>`,
  );
  return items.length > 0 ? `<ul class="notes remarks">${items.join('')}</ul>` : '';
}

interface Curve {
  name: string;
  className: string;
  points: ReturnType<typeof meanCurve>;
}

function curvesOf(report: Report): Curve[] {
  const { training } = report;
  const curves = seriesOf(report).map(({ runs, ...style }) => ({ ...style, points: meanCurve(runs) }));
  if (!training) return curves;
  const points = training.map((point) => ({ ...point, low: point.loss, high: point.loss }));
  return [
    ...curves.map((curve) => ({ ...curve, name: 'validation sample' })),
    { name: 'training batches', className: `n${curves.length} alone`, points },
  ];
}

function charts(report: Report): string {
  const curves = curvesOf(report);
  const over =
    report.kind === 'sim'
      ? 'over a sample of the validation split, and over the batches of each round'
      : 'over a sample of the validation split';
  const lead = `In nats, ${over}. Point at a name, or tap it, to see its curve alone.`;
  return section(report.kind === 'sim' ? 'Loss' : 'Validation loss', lead, figures(curves));
}

function figures(curves: readonly Curve[]): string {
  if (curves.every(({ points }) => points.length === 0)) return '<p class="card">Nothing was measured.</p>';
  const series = (x: 'tokens' | 'bytes' | 'virtualMs'): ChartSeries[] =>
    curves
      .map((curve) => ({
        ...curve,
        points: thinned(curve.points).map(({ loss, low, high, ...at }) => ({ x: at[x], y: loss, low, high })),
      }))
      // what sends nothing has no place on an axis of bytes
      .filter(({ points }) => x !== 'bytes' || points.some((point) => point.x > 0));
  const drawn = [
    {
      label: 'against tokens',
      className: 'full',
      xLabel: 'tokens trained on',
      xText: countText,
      xIsTime: false,
      series: series('tokens'),
    },
    {
      label: 'against bytes',
      className: 'half',
      xLabel: 'bytes sent and received by a peer',
      xText: bytesText,
      xIsTime: false,
      series: series('bytes'),
    },
    {
      label: 'against virtual time',
      className: 'half',
      xLabel: 'virtual time',
      xText: timeText,
      xIsTime: true,
      series: series('virtualMs'),
    },
  ].map(
    ({ className, ...chart }) =>
      `<figure class="card ${className}"><figcaption>${chart.label}</figcaption>${chartSvg(chart)}</figure>`,
  );
  const legend = curves.map(
    ({ name, className }) => `<li class="${className}" tabindex="0">${swatch(className)}${escapeHtml(name)}</li>`,
  );
  const cut = cutOff(series('tokens'));
  const note = cut.length > 0 ? `<p class="cut">${escapeHtml(`Cut off above: ${cut.join(', ')}.`)}</p>` : '';
  return `<div class="charts"><ul class="legend">${legend.join('')}</ul>${note}${drawn.join('')}</div>`;
}

/** Every so manieth point, and the last. */
function thinned<Point>(points: readonly Point[]): Point[] {
  const every = Math.ceil(points.length / POINTS_MAX);
  return points.filter((_, i) => i % every === 0 || i === points.length - 1);
}

function kinds(report: Report): string {
  const sums = seriesOf(report).flatMap(({ name, runs: all }) => {
    const runs = completeOrAll(all);
    const of = (kind: ChargedKind) => runs.reduce((sum, run) => sum + (run.bytesByKind[kind] ?? 0), 0) / runs.length;
    const parts = KINDS.map((kind) => ({ kind, bytes: of(kind) })).filter(({ bytes }) => bytes > 0);
    return parts.length > 0 ? [{ name, parts, bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0) }] : [];
  });
  const bars = sums.map(({ name, parts, bytes: all }) => {
    const pieces = parts.map(({ kind, bytes }) => {
      const said = `${kind}: ${bytesText(Math.round(bytes))}, ${((100 * bytes) / all).toFixed(1)} %`;
      return `<i class="kind-${kind}" style="flex-grow:${(bytes / all).toFixed(5)}" title="${said}"></i>`;
    });
    const most = parts.map(({ kind, bytes }) => `${kind} ${bytesText(Math.round(bytes))}`).join(', ');
    return `<li><span>${escapeHtml(name)}</span><b>${bytesText(Math.round(all))}</b><div class="bar">${pieces.join('')}</div><small>${most}</small></li>`;
  });
  const used = [...KINDS].filter((kind) => sums.some(({ parts }) => parts.some((part) => part.kind === kind)));
  const legend = used.map((kind) => `<li><i class="box kind-${kind}"></i>${kind}</li>`).join('');
  return `<div class="card"><ul class="legend plain">${legend}</ul><ul class="bars">${bars.join('')}</ul></div>`;
}

function timelines({ timeline }: Report): string {
  if (!timeline) return '';
  const { series, seed, rounds, peers, spans, carried } = timeline;
  const endOf = (kept: readonly { toMs: number }[]) => kept.reduce((last, { toMs }) => Math.max(last, toMs), 0);
  const keptMs = endOf(spans);
  // where no round ended, what was done all the same
  const virtualMs = timeline.virtualMs || keptMs;
  if (virtualMs === 0) return '';
  const whole = `<figure class="card"><figcaption>the whole run</figcaption>${timelineSvg(timeline, 0, virtualMs)}</figure>`;
  const length = (NEAR_ROUNDS * virtualMs) / Math.max(1, rounds);
  const near =
    rounds > 2 * NEAR_ROUNDS
      ? `<figure class="card"><figcaption>about ${NEAR_ROUNDS} rounds from near</figcaption>${timelineSvg(timeline, virtualMs / 2, virtualMs / 2 + length)}</figure>`
      : '';
  const legend = LANES.map((lane) => `<li><i class="box lane-${lane}"></i>${lane}</li>`).join('');
  const first = peers > PEERS_MAX ? ` The first ${PEERS_MAX} of ${peers} peers.` : '';
  const cuts = [
    { what: 'What peers did', ms: keptMs },
    // it may also be that nothing more was on its way
    { what: 'What was on its way', ms: carried.length < SPANS_MAX ? Number.POSITIVE_INFINITY : endOf(carried) },
  ].filter(({ ms }) => ms < virtualMs);
  const cut = cuts.map(({ what, ms }) => ` ${what} after ${timeText(ms)} was not kept: there was too much of it.`);
  const lead = `${series}, seed ${seed}: what each peer did when, and below it when bulk was on its way.${first}${cut.join('')}`;
  return section('Timeline', lead, `<ul class="legend plain">${legend}</ul>${near}${whole}`);
}

function reproduce({ command, commit, seeds, configuration, strategies, wallSeconds, target, steps }: Report): string {
  const said = [
    `Commit ${commit ?? 'unknown'}`,
    `seed${seeds.length > 1 ? 's' : ''} ${seeds.join(', ')}`,
    `${steps} inner steps a peer`,
    ...(target === null ? [] : [`target ${lossText(target)}`]),
    `${timeText(1000 * wallSeconds)} of real time`,
  ];
  const facts = `${said.join('; ')}.`;
  const settings = Object.fromEntries(strategies.map(({ name, settings }) => [name, settings]));
  const json = escapeHtml(JSON.stringify({ ...configuration, strategies: settings }, null, 2));
  return section(
    'Make it again',
    facts,
    `<pre class="card">${escapeHtml(command)}</pre><details class="card"><summary>Configuration, defaults filled in</summary><pre>${json}</pre></details>`,
  );
}

import { escapeHtml, timeTickTexts } from './format.ts';
import { decimalsOf, logTicks, logTimeTicks, niceTicks, timeTicks } from './ticks.ts';

export interface ChartPoint {
  x: number;
  y: number;
  /** of several runs */
  low: number;
  high: number;
}

export interface ChartSeries {
  name: string;
  /** sets the colour `--c` and the dashes, in the page's style sheet */
  className: string;
  points: readonly ChartPoint[];
}

export interface Chart {
  label: string;
  xLabel: string;
  xText: (x: number) => string;
  /** milliseconds have round numbers of their own */
  xIsTime: boolean;
  series: readonly ChartSeries[];
}

/** Widths in CSS pixels at which a chart is drawn, so that letters are as large as they say; the page shows one. */
const SIZES = [
  { className: 'wide', width: 1080, height: 400 },
  { className: 'middle', width: 520, height: 340 },
  { className: 'narrow', width: 330, height: 290 },
] as const;

const MARGIN = { left: 46, right: 14, top: 12, bottom: 44 };
/** Final values that lie further apart than this are drawn by their logarithm. */
const LOG_FROM = 6;
/** The curves' steep beginning, as a share of their points, is cut off, so that their ends can be told apart. */
const CUT_PART = 0.1;

/** Of three curves or more, one that comes so many times as far from the best as all others do is cut off above. */
const ASTRAY = 3;

interface Scale {
  isLog: boolean;
  ticks: number[];
  /** 0 at the axis' beginning, 1 at its end */
  at: (value: number) => number;
}

/** A line chart in each of the widths, as SVG. */
export function chartSvg(chart: Chart): string {
  return SIZES.map((size) => draw(chart, size)).join('');
}

function draw({ label, xLabel, xText, xIsTime, series }: Chart, size: (typeof SIZES)[number]): string {
  const { className, width, height } = size;
  const drawn = series.filter(({ points }) => points.length > 0);
  const x = xScale(drawn, width / 90, xIsTime);
  const y = yScale(drawn);
  const [plotWidth, plotHeight] = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
  const px = (value: number) => (MARGIN.left + x.at(value) * plotWidth).toFixed(1);
  const py = (value: number) => (MARGIN.top + (1 - y.at(value)) * plotHeight).toFixed(1);
  const [right, bottom] = [width - MARGIN.right, height - MARGIN.bottom];
  // on a log scale units differ from one end to the other
  const xTexts = xIsTime && !x.isLog ? timeTickTexts(x.ticks) : x.ticks.map(xText);
  const digits = decimalsOf(y.ticks);
  const parts = [
    ...y.ticks.map((tick) => `<path class="grid" d="M${MARGIN.left} ${py(tick)}H${right}"/>`),
    ...y.ticks.map(
      (t) => `<text x="${MARGIN.left - 8}" y="${py(t)}" dy=".32em" class="end">${t.toFixed(digits)}</text>`,
    ),
    ...x.ticks.map((tick) => `<path class="tick" d="M${px(tick)} ${bottom}v5"/>`),
    ...x.ticks.map((tick, i) => `<text x="${px(tick)}" y="${bottom + 19}" class="middle-text">${xTexts[i]}</text>`),
    `<path class="axis" d="M${MARGIN.left} ${bottom}H${right}"/>`,
    `<text x="${right}" y="${height - 6}" class="end name">${escapeHtml(xLabel)}${x.isLog ? ', log scale' : ''}</text>`,
  ];
  const id = `${label.replace(/\W/g, '')}-${className}`;
  const clip = `<clipPath id="${id}"><rect x="${MARGIN.left}" y="${MARGIN.top - 4}" width="${plotWidth + 8}" height="${plotHeight + 4}"/></clipPath>`;
  // the first lie on top: the baselines, which others may hide
  const curves = drawn.toReversed().map((one) => curve(one, px, py, xText));
  return (
    `<svg class="chart ${className}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(label)}">` +
    `${clip}${parts.join('')}<g clip-path="url(#${id})">${curves.join('')}</g></svg>`
  );
}

function curve(
  { name, className, points }: ChartSeries,
  px: (x: number) => string,
  py: (y: number) => string,
  xText: (x: number) => string,
): string {
  const line = points.map(({ x, y }, i) => `${i === 0 ? 'M' : 'L'}${px(x)} ${py(y)}`).join('');
  const upper = points.map(({ x, high }, i) => `${i === 0 ? 'M' : 'L'}${px(x)} ${py(high)}`).join('');
  const lower = points.toReversed().map(({ x, low }) => `L${px(x)} ${py(low)}`);
  const band = points.some(({ low, high }) => high > low) ? `<path class="band" d="${upper}${lower.join('')}Z"/>` : '';
  const dots = points.map(
    ({ x, y }) =>
      `<circle cx="${px(x)}" cy="${py(y)}" r="7"><title>${escapeHtml(name)}: ${y.toFixed(4)} at ${xText(x)}</title></circle>`,
  );
  const last = points.at(-1)!;
  const end = `<circle class="last" cx="${px(last.x)}" cy="${py(last.y)}" r="3"/>`;
  return `<g class="curve ${className}">${band}<path class="line" d="${line}"/>${end}${dots.join('')}</g>`;
}

function xScale(series: readonly ChartSeries[], ticksMax: number, isTime: boolean): Scale {
  const ends = series.map(({ points }) => points.at(-1)!.x).filter((x) => x > 0);
  const isLog = ends.length > 0 && most(ends) > LOG_FROM * least(ends);
  const to = Math.max(most(ends), isLog ? 0 : 1e-9);
  if (!isLog) return { isLog, ticks: (isTime ? timeTicks : niceTicks)(0, to, ticksMax), at: (value) => value / to };
  const from = least(series.map(({ points }) => points.find(({ x }) => x > 0)?.x ?? to));
  const [low, high] = [Math.log10(from), Math.log10(to)];
  const at = (value: number) => (Math.log10(Math.max(value, from)) - low) / (high - low);
  return { isLog, ticks: (isTime ? logTimeTicks : logTicks)(from, to, ticksMax), at };
}

/** Names of curves that are cut off above, beyond their steep beginning. */
export function cutOff(series: readonly ChartSeries[]): string[] {
  const range = yRange(series);
  return series.filter((one) => range && most(late(one)) > range.top).map(({ name }) => name);
}

function yScale(series: readonly ChartSeries[]): Scale {
  const range = yRange(series);
  if (!range) return { isLog: false, ticks: [0, 1], at: (value) => value };
  const { bottom, top } = range;
  const room = 0.05 * (top - bottom) || 0.1;
  const [from, to] = [bottom - room, top + room];
  return { isLog: false, ticks: niceTicks(from, to, 6), at: (value) => (value - from) / (to - from) };
}

/** Values of a curve without its beginning. */
function late({ points }: ChartSeries): number[] {
  const kept = points.slice(Math.min(points.length - 1, Math.floor(CUT_PART * points.length)));
  return kept.flatMap(({ low, high }) => [low, high]).filter((value) => Number.isFinite(value));
}

function yRange(series: readonly ChartSeries[]): { bottom: number; top: number } | undefined {
  const values = series.map(late).filter(({ length }) => length > 0);
  if (values.length === 0) return undefined;
  const bottom = least(values.map(least));
  // those that are the same (what is charged over the baseline) are one
  const tops = [...new Set(values.map(most))].sort((a, b) => a - b);
  const [next, last] = [tops.at(-2)!, tops.at(-1)!];
  // a curve that went astray must not flatten all others
  return { bottom, top: tops.length > 2 && next > bottom ? Math.min(last, bottom + ASTRAY * (next - bottom)) : last };
}

/** A function takes only so many arguments, and a curve may have more points than that. */
function least(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
}

function most(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
}

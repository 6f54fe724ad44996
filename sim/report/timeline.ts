import type { Timeline } from '../comparison-runs.ts';
import type { Activity } from '../ledger.ts';
import { timeTickTexts } from './format.ts';
import { timeTicks } from './ticks.ts';

/** What a peer does, in the words of the page. Sending and receiving have a lane of their own below the peer's. */
export const LANES = ['training', 'applying', 'waiting', 'paused', 'down', 'sending', 'receiving'] as const;
type Lane = (typeof LANES)[number];

const LANE_OF: Readonly<Record<Activity, Lane>> = {
  training: 'training',
  applying: 'applying',
  fetching: 'waiting',
  waiting: 'waiting',
  paused: 'paused',
  down: 'down',
};

export const PEERS_MAX = 32;
const ROW = 30;
const MARGIN = { left: 56, right: 12, bottom: 26 };
const SIZES = [
  { className: 'wide', width: 1080, ticks: 8 },
  { className: 'middle', width: 640, ticks: 5 },
  { className: 'narrow', width: 330, ticks: 3 },
] as const;
/** Of what a peer is at by turns, the longest in a column is drawn: in a long run all of it comes in each. */
const BY_TURNS: ReadonlySet<Lane> = new Set<Lane>(['training', 'applying', 'waiting']);
/** In pixels. */
const COLUMN = 0.5;
/** Bars nearer to each other than this are drawn as one, in pixels: nobody can tell. */
const MERGE_BELOW = 0.4;

interface Bar {
  from: number;
  to: number;
}

/** Bars of every peer between two virtual times, as SVG in each of the widths. */
export function timelineSvg(timeline: Timeline, fromMs: number, toMs: number): string {
  const peers = Math.min(PEERS_MAX, timeline.peers);
  const lanes = Array.from({ length: peers }, () => new Map<Lane, Bar[]>());
  const add = (peer: number, lane: Lane, from: number, to: number): void => {
    if (peer >= peers || to <= fromMs || from >= toMs) return;
    const bars = lanes[peer]!.get(lane) ?? [];
    bars.push({ from: Math.max(from, fromMs), to: Math.min(to, toMs) });
    lanes[peer]!.set(lane, bars);
  };
  for (const { peer, activity, fromMs: from, toMs: to } of timeline.spans) add(peer, LANE_OF[activity], from, to);
  for (const { from: sender, to: receiver, fromMs: from, toMs: to } of timeline.carried) {
    add(sender, 'sending', from, to);
    add(receiver, 'receiving', from, to);
  }
  return SIZES.map((size) => draw(lanes, size, fromMs, toMs)).join('');
}

function draw(
  lanes: readonly Map<Lane, Bar[]>[],
  { className, width, ticks }: (typeof SIZES)[number],
  fromMs: number,
  toMs: number,
): string {
  const plotWidth = width - MARGIN.left - MARGIN.right;
  const x = (ms: number) => MARGIN.left + (plotWidth * (ms - fromMs)) / (toMs - fromMs);
  const height = lanes.length * ROW + MARGIN.bottom;
  const rows = lanes.map((bars, peer) => {
    const top = peer * ROW;
    const lane = inPixels(bars, x);
    const paths = LANES.map((name) => {
      const [y, tall] = name === 'sending' ? [top + 19, 3] : name === 'receiving' ? [top + 23, 3] : [top + 3, 15];
      const d = merged(lane.get(name) ?? []).map(({ from, to }) => {
        const w = (to - from).toFixed(1);
        return `M${from.toFixed(1)} ${y}h${w}v${tall}h-${w}z`;
      });
      return d.length > 0 ? `<path class="lane-${name}" d="${d.join('')}"/>` : '';
    });
    return `<text x="0" y="${top + 15}">peer ${peer}</text>${paths.join('')}`;
  });
  const bottom = lanes.length * ROW;
  const times = timeTicks(fromMs, toMs, ticks);
  const texts = timeTickTexts(times);
  const marks = times.map((ms, i) => {
    const [at, anchor] = [x(ms).toFixed(1), x(ms) > width - 2 * MARGIN.right ? 'end' : 'middle-text'];
    return `<path class="tick" d="M${at} ${bottom}v4"/><text x="${at}" y="${bottom + 18}" class="${anchor}">${texts[i]}</text>`;
  });
  return (
    `<svg class="timeline ${className}" viewBox="0 0 ${width} ${height}" role="img" aria-label="timeline of every peer">` +
    `${rows.join('')}${marks.join('')}</svg>`
  );
}

function inPixels(lane: ReadonlyMap<Lane, Bar[]>, x: (ms: number) => number): Map<Lane, Bar[]> {
  const drawn = new Map<Lane, Bar[]>();
  const columns = new Map<number, Map<Lane, number>>();
  for (const [name, bars] of lane) {
    const pixels = bars.map(({ from, to }) => ({ from: x(from), to: x(to) }));
    if (!BY_TURNS.has(name)) drawn.set(name, pixels);
    else for (const bar of pixels) share(columns, name, bar);
  }
  for (const [column, shares] of columns) {
    const [longest] = [...shares].sort(([, a], [, b]) => b - a);
    const [name] = longest!;
    if (!drawn.has(name)) drawn.set(name, []);
    drawn.get(name)!.push({ from: column * COLUMN, to: (column + 1) * COLUMN });
  }
  return drawn;
}

/** Adds a bar to the columns that it touches. */
function share(columns: Map<number, Map<Lane, number>>, name: Lane, { from, to }: Bar): void {
  for (let column = Math.floor(from / COLUMN); column * COLUMN < to; column++) {
    const shares = columns.get(column) ?? new Map<Lane, number>();
    const pixels = Math.min(to, (column + 1) * COLUMN) - Math.max(from, column * COLUMN);
    columns.set(column, shares.set(name, (shares.get(name) ?? 0) + pixels));
  }
}

/** In order, with what touches made one. Nothing is too short to be seen. */
function merged(bars: readonly Bar[]): Bar[] {
  const drawn: Bar[] = [];
  const pixels = bars.map(({ from, to }) => ({ from, to: Math.max(to, from + 0.2) }));
  for (const bar of pixels.sort((a, b) => a.from - b.from)) {
    const last = drawn.at(-1);
    if (last && bar.from - last.to < MERGE_BELOW) last.to = Math.max(last.to, bar.to);
    else drawn.push(bar);
  }
  return drawn;
}

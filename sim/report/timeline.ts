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
  { className: 'wide middle', width: 1080, ticks: 8 },
  { className: 'narrow', width: 330, ticks: 3 },
] as const;
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
  const rows = lanes.map((lane, peer) => {
    const top = peer * ROW;
    const paths = LANES.map((name) => {
      const [y, tall] = name === 'sending' ? [top + 19, 3] : name === 'receiving' ? [top + 23, 3] : [top + 3, 15];
      const d = merged(lane.get(name) ?? [], x).map(({ from, to }) => {
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

/** As pixels, in order, with what touches made one. Nothing is too short to be seen. */
function merged(bars: readonly Bar[], x: (ms: number) => number): Bar[] {
  const drawn: Bar[] = [];
  const pixels = bars.map(({ from, to }) => ({ from: x(from), to: Math.max(x(to), x(from) + 0.2) }));
  for (const bar of pixels.sort((a, b) => a.from - b.from)) {
    const last = drawn.at(-1);
    if (last && bar.from - last.to < MERGE_BELOW) last.to = Math.max(last.to, bar.to);
    else drawn.push(bar);
  }
  return drawn;
}

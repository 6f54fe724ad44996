import { ALONE, CENTRALIZED, type SummaryRow } from '../comparison.ts';
import { bytesText, countText, lossText, percentText, statisticText, timeText } from './format.ts';
import type { Report } from './report.ts';

/** What the page and the text say with the same words. */

export function aboutOf(report: Pick<Report, 'strategies' | 'peers'>, series: string): string {
  if (series === CENTRALIZED) return `one machine as fast as ${report.peers}, the batches of all peers in one step`;
  if (series === ALONE) return 'one peer alone with its own batch, and the tokens of all';
  return report.strategies.find(({ name }) => name === series)?.about ?? '';
}

export const TABLE_COLUMNS: readonly { title: string; text: (row: SummaryRow) => string }[] = [
  { title: 'Validation loss', text: ({ loss }) => statisticText(loss, lossText, 3) },
  { title: 'Against centralized', text: ({ gapPercent: gap }) => statisticText(gap, percentText, 1) },
  { title: 'Bytes a peer', text: ({ bytes }) => bytesText(bytes) },
  {
    title: 'Bytes a token',
    text: ({ bytesAToken: bytes }) => (bytes === null ? '–' : `${Number(bytes.toPrecision(3))}`),
  },
  {
    title: 'Computing',
    text: ({ computeFraction }) => `${(100 * computeFraction).toFixed(computeFraction < 0.1 ? 1 : 0)} %`,
  },
  { title: 'Virtual time', text: ({ virtualMs }) => timeText(virtualMs) },
  { title: 'Time to target', text: targetText },
];

function targetText({ target: { reached, of, virtualMs } }: SummaryRow): string {
  if (virtualMs === null) return 'not reached';
  return `${timeText(virtualMs)}${reached < of ? ` (${reached} of ${of} runs)` : ''}`;
}

/** A strategy that ends no further from centralized training than this, in percent of its loss, is a good one. */
const GOOD_PERCENT = 5;

/** The figures that one would tell a colleague first. */
export function headlines(report: Report): { value: string; says: string }[] {
  const rows = report.summary;
  const central = rows.find(({ series }) => series === CENTRALIZED);
  const peers = rows.filter(({ series, gapPercent }) => series !== CENTRALIZED && series !== ALONE && gapPercent);
  const ddp = peers.find(({ series }) => series === 'ddp');
  const rounds = peers.filter((row) => row !== ddp);
  const said: { value: string; says: string }[] = [];
  if (central?.loss) said.push({ value: lossText(central.loss.mean), says: 'nats: where centralized training ends' });
  const nearest = least(rounds, ({ gapPercent }) => gapPercent?.mean ?? Number.POSITIVE_INFINITY);
  if (!nearest) return said;
  said.push({
    value: percentText(nearest.gapPercent?.mean ?? Number.NaN),
    says: `loss against centralized: ${nearest.series}, the lowest of those with rounds`,
  });
  // bytes and time that are saved by learning nothing are no saving
  const good = rounds.filter(({ gapPercent }) => (gapPercent?.mean ?? Number.NaN) <= GOOD_PERCENT);
  const leanest = least(good, ({ bytes }) => bytes);
  const within = `within ${GOOD_PERCENT} % of centralized`;
  // one peer alone sends nothing: there is nothing to divide by
  if (leanest && leanest.bytes > 0 && ddp) {
    const times = (ddp.bytes / leanest.bytes).toPrecision(3);
    said.push({ value: `${Number(times)}×`, says: `fewer bytes than ddp: ${leanest.series}, the leanest ${within}` });
  } else if (leanest) {
    said.push({ value: bytesText(leanest.bytes), says: `a peer: ${leanest.series}, the leanest ${within}` });
  }
  const fastest = least(good, ({ virtualMs }) => virtualMs);
  if (fastest && ddp) {
    const times = (ddp.virtualMs / fastest.virtualMs).toPrecision(3);
    said.push({ value: `${Number(times)}×`, says: `as fast as ddp over these links: ${fastest.series}` });
  }
  return said;
}

function least(rows: readonly SummaryRow[], value: (row: SummaryRow) => number): SummaryRow | undefined {
  return rows.reduce<SummaryRow | undefined>(
    (best, row) => (!best || value(row) < value(best) ? row : best),
    undefined,
  );
}

export function footnotes({ target, tokensAsked, tokens, strategies, summary, rates }: Report): string[] {
  const counts = summary.map(({ loss }) => loss?.n ?? 0);
  const [least, most] = [Math.min(...counts), Math.max(0, ...counts)];
  const n = least < most ? `${least} to ${most}` : `${most}`;
  return [
    most > 1
      ? `Means ± the sample standard deviation over the seeds that were finished (n = ${n}); gaps are taken seed by seed. Bands show the lowest and the highest run.`
      : 'One seed: differences of about a percent mean nothing; run more with --seeds.',
    'The table has the loss over the whole validation split; the curves, and the time to target, have it over a fixed sample of it, so the two differ a little.',
    ...(target === null ? [] : [`The target is a loss of ${lossText(target)} on that sample.`]),
    ...(tokens === tokensAsked
      ? []
      : [`${countText(tokensAsked)} tokens were asked for; ${countText(tokens)} make whole rounds of every strategy.`]),
    'Bytes a peer: sent and received, by the mean peer. Bytes a token: sent by all, by token trained on. Computing: the share of its time that a peer trained.',
    ...(strategies.some(({ name }) => name === 'ddp')
      ? [
          'ddp is centralized training, charged for a ring all-reduce of float32 gradients after every step over the same links, without overlap; faults do not touch it.',
        ]
      : []),
    rateNote(rates),
  ];
}

/** Which learning rate whom was given: what a reader must know before believing any order of the rows. */
function rateNote(rates: Report['rates']): string {
  const same =
    'All have the same data order, and as many tokens to train on; where peers are slow or come and go, a strategy may have trained on others.';
  if (rates.length < 2) {
    return `${same} All have the same inner learning rate; nothing was tuned for any of them. With so few steps, one peer with small batches and more of them often beats the large batch of the centralized baseline, and so can a strategy.`;
  }
  const best = rates.reduce((least, each) => (each.loss < least.loss ? each : least));
  const tried = rates.map(({ rate, loss }) => `${rate}× ${lossText(loss)}`).join(', ');
  return `${same} The centralized baseline (and ddp) has the learning rate that suits its large batch best, ${best.rate}× that of the others; tried with the first seed: ${tried}. Nothing was tuned for the others.`;
}

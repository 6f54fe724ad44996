import type { Genesis } from '../../protocol/genesis.ts';
import { ALONE, bySeries, CENTRALIZED, type RunRecord, type SummaryRow } from '../comparison.ts';
import type { MissedEvent } from '../simulation.ts';
import { bytesText, countText, lossText, percentText, statisticText, timeText } from './format.ts';
import type { Report } from './report.ts';

/** What the page and the text say with the same words. */

export function aboutOf(report: Pick<Report, 'strategies' | 'peers'>, series: string): string {
  if (series === CENTRALIZED) return `one machine as fast as ${report.peers}, the batches of all peers in one step`;
  if (series === ALONE) return 'one peer alone with its own batch, and the tokens of all';
  return report.strategies.find(({ name }) => name === series)?.about ?? '';
}

export interface Column {
  title: string;
  text: (row: SummaryRow) => string;
}

const COLUMNS: readonly (Column & { compares?: boolean })[] = [
  { title: 'Validation loss', text: ({ loss }) => statisticText(loss, lossText, 3) },
  { title: 'Against centralized', text: ({ gapPercent: gap }) => statisticText(gap, percentText, 1), compares: true },
  { title: 'Tokens', text: ({ tokens }) => countText(tokens) },
  { title: 'Rounds', text: ({ rounds }) => (rounds > 0 ? countText(rounds) : '–') },
  { title: 'Bytes a peer', text: ({ bytes }) => bytesText(bytes) },
  {
    title: 'Bytes a token',
    text: ({ bytesAToken: bytes }) => (bytes === null ? '–' : `${Number(bytes.toPrecision(3))}`),
  },
  {
    title: 'Computing',
    text: ({ computeFraction }) => computingText(computeFraction),
  },
  { title: 'Virtual time', text: ({ virtualMs }) => timeText(virtualMs) },
  { title: 'Time to target', text: targetText, compares: true },
];

/** Those of the table: a single simulation has nothing to be held against. */
export function columnsOf({ kind }: Pick<Report, 'kind'>): readonly Column[] {
  return COLUMNS.filter(({ compares }) => kind === 'compare' || !compares);
}

/** What the rows of the table are. */
export function rowsAre({ kind }: Pick<Report, 'kind'>): string {
  return kind === 'compare' ? 'Strategy' : 'Run';
}

export interface Remark {
  series: string;
  says: string;
}

/** What one must know before reading a row: why it has no loss, and what its peers warned of. */
export function remarksOf({ runs }: Pick<Report, 'runs'>): Remark[] {
  const ends = runs.flatMap(({ series, seed, reason, loss, diverged, missed = [] }): Remark[] => {
    const ending = loss === null || reason === 'unfinal' ? ENDINGS[reason] : undefined;
    const fault = `two certified states in round ${diverged.join(', ')}: a bug in the protocol, please tell us`;
    const all = [ending, diverged.length > 0 && fault, missed.length > 0 && missedWords(missed)];
    return all
      .filter((says) => typeof says === 'string')
      .map((says) => {
        return { series, says: `${says} (seed ${seed})` };
      });
  });
  return [...ends, ...[...bySeries(runs)].flatMap(([series, group]) => warningsOf(series, group))];
}

/** Of a long list the first few. */
const MISSED_MAX = 3;

/** @param missed at least one */
export function missedWords(missed: readonly MissedEvent[]): string {
  const words = missed.slice(0, MISSED_MAX).map((event) => `${event.do} at ${timeText(event.atMs)}`);
  const more = missed.length - words.length;
  const listed = `${words.join(', ')}${more > 0 ? ` and ${more} more events` : ''}`;
  return `it ended before ${listed}, which the scenario has`;
}

const ENDINGS: Readonly<Record<RunRecord['reason'], string>> = {
  rounds: 'ended without a loss: training fell apart, it was not asked for, or nobody was left who could measure it',
  stopped: 'stopped before its end',
  stuck: 'stuck: nobody was left, or no round came in a long time, look at the scenario; there is no loss',
  unfinal: 'no quorum has certified its last round: other peers may have another one',
};

function warningsOf(series: string, runs: readonly RunRecord[]): Remark[] {
  const sums = new Map<string, number>();
  for (const { warnings } of runs) {
    for (const [code, times] of Object.entries(warnings)) sums.set(code, (sums.get(code) ?? 0) + times);
  }
  if (sums.size === 0) return [];
  const listed = [...sums].map(([code, times]) => `${code} ${times}×`).join(', ');
  return [{ series, says: `its peers warned: ${listed}` }];
}

function computingText(share: number): string {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

function targetText({ target: { reached, of, virtualMs } }: SummaryRow): string {
  if (virtualMs === null) return 'not reached';
  return `${timeText(virtualMs)}${reached < of ? ` (${reached} of ${of} runs)` : ''}`;
}

/** A strategy that ends no further from centralized training than this, in percent of its loss, is a good one. */
const GOOD_PERCENT = 5;

interface Headline {
  value: string;
  says: string;
}

/** The figures that one would tell a colleague first. */
export function headlines(report: Report): Headline[] {
  return report.kind === 'sim' ? swarmHeadlines(report) : comparedHeadlines(report);
}

function swarmHeadlines({ summary, runs, training = [] }: Report): Headline[] {
  const sample = runs[0]?.points.at(-1)?.loss;
  return summary.flatMap(({ loss, rounds, bytes, computeFraction, virtualMs }) => {
    const learnt =
      loss !== null
        ? { value: lossText(loss.mean), says: 'nats: validation loss at the end' }
        : sample !== undefined
          ? { value: lossText(sample), says: 'nats: validation loss so far, over a sample' }
          : { value: lossText(training.at(-1)?.loss), says: 'nats: training loss of the last round' };
    return [
      learnt,
      { value: bytesText(bytes), says: 'sent and received by the mean peer' },
      { value: computingText(computeFraction), says: 'of its time a peer trained' },
      { value: timeText(virtualMs), says: `of virtual time for ${countText(rounds)} rounds` },
    ];
  });
}

function comparedHeadlines(report: Report): Headline[] {
  const rows = report.summary;
  const central = rows.find(({ series }) => series === CENTRALIZED);
  const peers = rows.filter(({ series, gapPercent }) => series !== CENTRALIZED && series !== ALONE && gapPercent);
  const everyStep = new Set(everyStepOf(report));
  const ddp = peers.find(({ series }) => everyStep.has(series));
  const rounds = peers.filter(({ series }) => !everyStep.has(series));
  const said: Headline[] = [];
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
    const says = `fewer bytes than ${ddp.series}: ${leanest.series}, the leanest ${within}`;
    said.push({ value: `${Number(times)}×`, says });
  } else if (leanest) {
    said.push({ value: bytesText(leanest.bytes), says: `a peer: ${leanest.series}, the leanest ${within}` });
  }
  const fastest = least(good, ({ virtualMs }) => virtualMs);
  if (fastest && ddp) {
    const times = (ddp.virtualMs / fastest.virtualMs).toPrecision(3);
    said.push({ value: `${Number(times)}×`, says: `as fast as ${ddp.series} over these links: ${fastest.series}` });
  }
  return said;
}

function least(rows: readonly SummaryRow[], value: (row: SummaryRow) => number): SummaryRow | undefined {
  return rows.reduce<SummaryRow | undefined>(
    (best, row) => (!best || value(row) < value(best) ? row : best),
    undefined,
  );
}

export function footnotes(report: Report): string[] {
  return [...(report.kind === 'sim' ? swarmNotes : comparedNotes(report)), ...commonNotes];
}

const commonNotes = [
  'Bytes a peer: sent and received, by the mean peer. Bytes a token: sent by all, by token trained on. Computing: the share of its time that a peer trained.',
  'In the timeline, sending and receiving are transfers of bulk; gossip, and updates small enough to ride in a header, are in the bytes and not in the picture.',
];

const swarmNotes = [
  'The table has the loss over the whole validation split at the end; the curve has it over a fixed sample of it, so the two differ a little. The loss of the training batches is that of each round, before its outer step.',
  'One seed: another one begins another model, order of the data, links and faults. Strategies are held against each other by outerloop compare.',
];

function comparedNotes(report: Report): string[] {
  const { target, tokensAsked, tokens, summary } = report;
  const everyStep = everyStepOf(report);
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
    ...everyStep.map(
      (name) =>
        `${name} is centralized training, charged for a ring all-reduce of float32 gradients after every step over the same links, without overlap; faults do not touch it.`,
    ),
    rateNote(report),
  ];
}

/** Strategies that exchange after every step: trained as the baseline is, and charged for it. */
function everyStepOf({ strategies }: Pick<Report, 'strategies'>): string[] {
  return strategies.filter(({ settings }) => settings.exchange === 'steps').map(({ name }) => name);
}

/** Which learning rate whom was given: what a reader must know before believing any order of the rows. */
function rateNote(report: Report): string {
  const { rates } = report;
  const said = [
    'All have the same data order, and as many tokens to train on; where peers are slow or come and go, a strategy may have trained on others.',
  ];
  const best = rates.reduce<Report['rates'][number] | undefined>(
    (least, each) => (!least || each.loss < least.loss ? each : least),
    undefined,
  );
  const own = ownRates(report);
  if ((best?.rate ?? 1) === 1 && rates.length < 2 && own.length === 0) {
    said.push(
      'All have the same inner learning rate; nothing was tuned for any of them. With so few steps, one peer with small batches and more of them often beats the large batch of the centralized baseline, and so can a strategy.',
    );
    return said.join(' ');
  }
  const pooled = ['The centralized baseline', ...everyStepOf(report)].join(' and ');
  if (best && rates.length > 1) {
    const tried = rates.map(({ rate, loss }) => `${rate}× ${lossText(loss)}`).join(', ');
    said.push(
      `${pooled} had the learning rate that suits the large batch best, ${best.rate}× the usual one; tried with the first seed: ${tried}.`,
    );
  } else if (best && best.rate !== 1) said.push(`${pooled} had ${best.rate}× the usual inner learning rate.`);
  for (const { name, rate } of own) said.push(`${name} had ${rate}× the usual inner learning rate.`);
  said.push('All others had the usual one, and nothing was tuned for them.');
  return said.join(' ');
}

/** Strategies with an inner learning rate of their own, as a multiple of the one that was asked for. */
function ownRates({ strategies, configuration }: Pick<Report, 'strategies' | 'configuration'>) {
  const { inner: usual } = (configuration.genesis ?? {}) as Partial<Genesis>;
  return strategies.flatMap(({ name, settings: { inner } }) => {
    const rate = inner && usual ? Number((inner.learningRate / usual.learningRate).toPrecision(3)) : 1;
    return rate === 1 ? [] : [{ name, rate }];
  });
}

import { isDeepStrictEqual } from 'node:util';
import { CodedError } from '../../protocol/errors.ts';
import type { Compared } from '../comparison-runs.ts';
import type { Results } from '../results.ts';
import type { Report } from './report.ts';

export type ResultsErrorCode = 'E_RESULTS'; // a folder has results of something else, which would be overwritten

/** What makes two comparisons the same one. */
type Identity = Pick<Report, 'title' | 'peers' | 'seeds' | 'tokens' | 'strategies' | 'configuration'>;

/**
 * What a folder holds of this very comparison, so that it can go on. Seeds and strategies may have been added since, and
 * strategies left out of which no run is whole.
 * @param found what its `results.json` has; undefined where there is none
 * @throws CodedError `E_RESULTS` when that is something else
 */
export function comparisonBefore(found: unknown, folder: string, asked: Identity): Report | undefined {
  if (found === undefined) return undefined;
  const report = found as Partial<Report> | null;
  if (report?.version !== 1 || report.kind !== 'compare') throw other(folder, found, 'compare');
  return sameComparison(report as Report, folder, asked);
}

function sameComparison(report: Report, folder: string, asked: Identity): Report {
  const plain = asJson(asked);
  const isAmong = (known: unknown, all: readonly unknown[]) => all.some((each) => isDeepStrictEqual(each, known));
  const isRun = ({ name }: { name: string }) =>
    report.runs.some(({ series, reason }) => series === name && reason !== 'stopped');
  const differing = (Object.keys(plain) as (keyof Identity)[]).filter((key) => {
    if (key === 'seeds')
      return report.seeds[0] !== plain.seeds[0] || !report.seeds.every((each) => isAmong(each, plain.seeds));
    if (key === 'strategies') {
      const asked = plain.strategies.map(settingsOf);
      return !report.strategies.filter(isRun).every((each) => isAmong(settingsOf(each), asked));
    }
    return !isDeepStrictEqual(report[key], plain[key]);
  });
  if (differing.length === 0) return report;
  const said = differing.flatMap((key) =>
    key === 'configuration' ? differences(report.configuration, plain.configuration) : [key],
  );
  throw resultsError(`${folder} holds another comparison (with other ${said.join(', ')}); ${WAYS}`);
}

/** What a strategy does. What is said of it may change. */
function settingsOf({ about: _, ...settings }: Report['strategies'][number]): object {
  return settings;
}

/**
 * That nothing is lost where a simulation writes its results: the same one makes the same again.
 * @param found what the folder's `results.json` has; undefined where there is none
 * @returns the results, of as far as that one came
 * @throws CodedError `E_RESULTS`
 */
export function simulationBefore(
  found: unknown,
  folder: string,
  asked: Pick<Results, 'seed' | 'configuration'>,
): Results | undefined {
  if (found === undefined) return undefined;
  const results = found as Partial<Results> | null;
  if (results?.version !== 1 || results.kind !== 'sim') throw other(folder, found, 'sim');
  const seeds = results.seed === asked.seed ? [] : ['seed'];
  const differing = [...seeds, ...differences(results.configuration, asJson(asked.configuration))];
  if (differing.length === 0) return results as Results;
  throw resultsError(`${folder} holds another simulation (with other ${differing.join(', ')}); ${WAYS}`);
}

const WAYS = 'give another --out, or remove the folder';

function other(folder: string, found: unknown, wanted: 'sim' | 'compare'): CodedError<ResultsErrorCode> {
  const kind = (found as { kind?: unknown } | null)?.kind;
  const isOurs = kind === 'sim' || kind === 'compare';
  const has = isOurs && kind !== wanted ? `of outerloop ${kind}` : `not of outerloop ${wanted} in this version`;
  return resultsError(`${folder}/results.json is ${has}; ${WAYS}`);
}

/** Fields of the outermost level, by name. */
function differences(known: Record<string, unknown> = {}, asked: Record<string, unknown>): string[] {
  const names = new Set([...Object.keys(known), ...Object.keys(asked)]);
  return [...names].filter((name) => !isDeepStrictEqual(known[name], asked[name]));
}

/** As it will read in the file: without what JSON leaves out. */
function asJson<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}

function resultsError(message: string): CodedError<ResultsErrorCode> {
  return new CodedError('E_RESULTS', message);
}

/** The part of a report that a comparison begins with when it goes on. */
export function comparedIn({ runs, timeline, steps, tokens, rates }: Report): Compared {
  return { runs, timeline, steps, tokens, rates };
}

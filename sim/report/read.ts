import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { Compared } from '../comparison-runs.ts';
import { comparisonError } from '../errors.ts';
import type { Report } from './report.ts';

/** What makes two comparisons the same one. */
type Identity = Pick<Report, 'title' | 'peers' | 'seeds' | 'tokens' | 'strategies' | 'configuration'>;

/**
 * What a folder holds of this very comparison, so that it can go on. Seeds and strategies may have been added since, and
 * strategies left out of which no run is whole.
 * @returns undefined where there is none
 * @throws CodedError `E_COMPARISON` when the folder holds another one, which would be overwritten
 */
export function readReport(folder: string, asked: Identity): Report | undefined {
  const report = reportIn(folder);
  if (!report) return undefined;
  // as it will read in the file: without what JSON leaves out
  const plain = JSON.parse(JSON.stringify(asked)) as Identity;
  const isAmong = (known: unknown, all: readonly unknown[]) => all.some((each) => isDeepStrictEqual(each, known));
  const isRun = ({ name }: { name: string }) =>
    report.runs.some(({ series, reason }) => series === name && reason !== 'stopped');
  const differing = (Object.keys(plain) as (keyof Identity)[]).filter((key) => {
    if (key === 'seeds')
      return report.seeds[0] !== plain.seeds[0] || !report.seeds.every((each) => isAmong(each, plain.seeds));
    if (key === 'strategies') return !report.strategies.filter(isRun).every((each) => isAmong(each, plain.strategies));
    return !isDeepStrictEqual(report[key], plain[key]);
  });
  if (differing.length === 0) return report;
  const ways = 'give another --out, or remove the folder';
  throw comparisonError(`${folder} holds another comparison (with other ${differing.join(', ')}); ${ways}`);
}

function reportIn(folder: string): Report | undefined {
  let text: string;
  try {
    text = readFileSync(`${folder}/results.json`, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
  try {
    const report = JSON.parse(text) as Report;
    if (report.version === 1 && Array.isArray(report.seeds) && Array.isArray(report.runs)) return report;
  } catch {
    // said below
  }
  const ways = 'give another --out, or remove the file';
  throw comparisonError(`${folder}/results.json is not of a comparison by this version; ${ways}`);
}

/** The part of a report that a comparison begins with when it goes on. */
export function comparedIn({ runs, timeline, steps, tokens, rates }: Report): Compared {
  return { runs, timeline, steps, tokens, rates };
}

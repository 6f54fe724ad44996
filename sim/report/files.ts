import { reportMarkdown } from './markdown.ts';
import { reportPage } from './page.ts';
import { type Report, reportCsv } from './report.ts';

/** What a comparison leaves behind, by file name: the text of each. */
export function comparisonFiles(report: Report): Record<string, string> {
  return {
    'results.json': `${JSON.stringify(report)}\n`,
    'results.csv': reportCsv(report),
    ...reportTexts(report),
  };
}

/** The report for people. */
export function reportTexts(report: Report): Record<string, string> {
  return { 'report.md': reportMarkdown(report), 'report.html': reportPage(report) };
}

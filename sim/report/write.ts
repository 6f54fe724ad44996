import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { reportMarkdown } from './markdown.ts';
import { reportPage } from './page.ts';
import { type Report, reportCsv } from './report.ts';

/** Writes `results.json`, `results.csv`, `report.md` and `report.html`. */
export function writeReport(folder: string, report: Report): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'results.json'), `${JSON.stringify(report)}\n`);
  writeFileSync(join(folder, 'results.csv'), reportCsv(report));
  writeFileSync(join(folder, 'report.md'), reportMarkdown(report));
  writeFileSync(join(folder, 'report.html'), reportPage(report));
}

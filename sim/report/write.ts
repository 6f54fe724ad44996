import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { reportMarkdown } from './markdown.ts';
import { reportPage } from './page.ts';
import { type Report, reportCsv } from './report.ts';

/** Writes `results.json`, `results.csv`, `report.md` and `report.html`. */
export function writeReport(folder: string, report: Report): void {
  mkdirSync(folder, { recursive: true });
  const put = (name: string, content: string): void => {
    const path = join(folder, name);
    // hours of work are in it: a reader, or whoever goes on from it, finds the old one or the new one
    writeFileSync(`${path}.tmp`, content);
    renameSync(`${path}.tmp`, path);
  };
  put('results.json', `${JSON.stringify(report)}\n`);
  put('results.csv', reportCsv(report));
  put('report.md', reportMarkdown(report));
  put('report.html', reportPage(report));
}

import { countText, lossText, timeText } from './format.ts';
import type { Report } from './report.ts';
import { aboutOf, footnotes, headlines, TABLE_COLUMNS } from './words.ts';

/** The report as a text for a pull request or a mail. */
export function reportMarkdown(report: Report): string {
  const { title, peers, tokens, seeds, summary, target, command, commit, complete, wallSeconds } = report;
  const columns = ['Strategy', ...TABLE_COLUMNS.map(({ title }) => title)];
  const row = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const lines = [
    `# ${title}: ${peers} peers`,
    '',
    `${countText(tokens)} tokens, seeds ${seeds.join(', ')}${target === null ? '' : `, target ${lossText(target)}`}.`,
    ...(complete ? [] : ['', '**Stopped before its end: these are the results so far.**']),
    '',
    ...headlines(report).map(({ value, says }) => `- **${value}** ${says}`),
    '',
    row(columns),
    row(columns.map((_, i) => (i === 0 ? '---' : '---:'))),
    ...summary.map((line) => row([`\`${line.series}\``, ...TABLE_COLUMNS.map(({ text }) => text(line))])),
    '',
    ...summary.map(({ series }) => `- \`${series}\`: ${aboutOf(report, series)}`),
    '',
    ...footnotes(report).map((note) => `- ${note}`),
    '',
    `Commit ${commit ?? 'unknown'}, ${timeText(1000 * wallSeconds)} of real time. Made again by`,
    '',
    '```sh',
    command,
    '```',
  ];
  return `${lines.join('\n')}\n`;
}

import { countText, lossText, timeText } from './format.ts';
import type { Report } from './report.ts';
import { aboutOf, columnsOf, footnotes, headlines, remarksOf, rowsAre } from './words.ts';
import { worldOf } from './world.ts';

const capitalized = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

/** The report as a text for a pull request or a mail. */
export function reportMarkdown(report: Report): string {
  const { title, peers, tokens, seeds, summary, target, command, commit, complete, wallSeconds } = report;
  const columns = columnsOf(report);
  const titles = [rowsAre(report), ...columns.map(({ title }) => title)];
  const row = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const lines = [
    `# ${title}: ${peers} peers`,
    '',
    `${countText(tokens)} tokens, seed${seeds.length > 1 ? 's' : ''} ${seeds.join(', ')}${target === null ? '' : `, target ${lossText(target)}`}. ${capitalized(worldOf(report).join(', '))}.`,
    ...(complete ? [] : ['', '**Stopped before its end: these are the results so far.**']),
    '',
    ...headlines(report).map(({ value, says }) => `- **${value}** ${says}`),
    '',
    row(titles),
    row(titles.map((_, i) => (i === 0 ? '---' : '---:'))),
    ...summary.map((line) => row([`\`${line.series}\``, ...columns.map(({ text }) => text(line))])),
    '',
    ...summary.map(({ series }) => `- \`${series}\`: ${aboutOf(report, series)}`),
    '',
    ...remarksOf(report).map(({ series, says }) => `- \`${series}\`: **${says}**`),
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

import type { Command } from 'commander';
import { CodedError } from '../../protocol/errors.ts';
import { shellWord } from './format.ts';

/** Options that npm has too: there without having been typed, where somebody's .npmrc has them. */
const OF_NPM: readonly string[] = ['json', 'progress'];

/**
 * `npm start --rounds 3`, without a `--` between, is an option of npm's: the program would begin without it, and with the
 * value for a command. npm tells its scripts of them in the environment, the value as `true` where it came as a word.
 * @param start the command, for its options
 * @param argv what is left
 * @throws CodedError `E_OPTION` with the right line
 */
export function refuseEatenOptions(start: Command, argv: readonly string[], env: NodeJS.ProcessEnv): void {
  if (env.npm_lifecycle_event !== 'start') return;
  const eaten = start.options.flatMap((option) => {
    const { long = '', negate, required } = option;
    const name = long.replace(/^--(no-)?/, '');
    const value = env[`npm_config_${name.replaceAll('-', '_')}`];
    if (value === undefined || OF_NPM.includes(name)) return [];
    // without an option its default is not in the environment, and --no-x makes x empty
    if (negate !== (value === '')) return [];
    return [{ long, value: required ? value : undefined }];
  });
  if (eaten.length === 0) return;
  const values = argv.filter((word) => !word.startsWith('-') && word !== start.name());
  const typed = eaten.map(({ long, value }) => {
    if (value === undefined) return long;
    if (value !== 'true') return `${long} ${shellWord(value)}`;
    // which of several words belongs to which option is not known any more
    return `${long} ${eaten.length === 1 && values[0] !== undefined ? shellWord(values[0]) : '…'}`;
  });
  const names = eaten.map(({ long }) => long).join(', ');
  throw new CodedError('E_OPTION', `npm kept ${names} for itself; put -- before: npm start -- ${typed.join(' ')}`);
}

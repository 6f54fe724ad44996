import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type ParseArgsConfig, parseArgs } from 'node:util';

/**
 * The options of a script. `--help`, and a wrong option, print what stands at the head of its file, and end the process.
 * @param url `import.meta.url` of the script
 */
export function readArguments<const Config extends ParseArgsConfig>(
  url: string,
  config: Config,
): ReturnType<typeof parseArgs<Config>> {
  if (process.argv.slice(2).includes('--help')) {
    console.log(headOf(url));
    process.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    if (!String((error as { code?: unknown }).code).startsWith('ERR_PARSE_ARGS')) throw error;
    return usage(url, (error as Error).message);
  }
}

/** Ends the process with what is wrong with the command line, and what stands at the head of the script's file. */
export function usage(url: string, problem: string): never {
  console.error(`${problem}\n\n${headOf(url)}`);
  process.exit(2);
}

/**
 * The number that an option is given; one that is none, or too small, ends the process.
 * @param option with its dashes
 */
export function wholeNumber(option: string, text: string, least = 1): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= least) return value;
  console.error(`${option} takes a whole number from ${least} on, not "${text}"`);
  process.exit(2);
}

/** The first comment of a file, without its stars. */
function headOf(url: string): string {
  const [, comment = ''] = /^\/\*\*\n(.*?)\n \*\//s.exec(readFileSync(fileURLToPath(url), 'utf8')) ?? [];
  return comment.replaceAll(/^ \* ?/gm, '');
}

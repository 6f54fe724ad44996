import { createRequire } from 'node:module';
import { Command, CommanderError } from 'commander';
import { isCoded } from '../../protocol/errors.ts';
import type { NetworkErrorCode } from '../net/index.ts';
import { printable } from './format.ts';
import { refuseEatenOptions } from './npm-options.ts';
import type { OptionErrorCode } from './options.ts';
import { ignoreBrokenPipes } from './signals.ts';

/** Exit code for a command line that cannot be understood, as the shell's own commands have it. */
const USAGE_EXIT_CODE = 2;
const ERROR_EXIT_CODE = 1;
/** An option with a value that it does not take is no better understood than one that nobody knows. */
const USAGE_ERRORS: readonly string[] = ['E_OPTION', 'E_MULTIADDR'] satisfies (OptionErrorCode | NetworkErrorCode)[];

type AddCommand = (program: Command, finish: (code: number) => void) => void;

/** In the order of the help. Each is loaded when it is named, all of them when none is. */
const COMMANDS: Readonly<Record<string, () => Promise<AddCommand>>> = {
  start: async () => (await import('./start.ts')).addStart,
  train: async () => (await import('./train.ts')).addTrain,
  generate: async () => (await import('./generate.ts')).addGenerate,
  sim: async () => (await import('./sim.ts')).addSim,
  compare: async () => (await import('./compare.ts')).addCompare,
  chaos: async () => (await import('./chaos.ts')).addChaos,
  replay: async () => (await import('./replay.ts')).addReplay,
  doctor: async () => (await import('./doctor.ts')).addDoctor,
};

const EXAMPLES = `
Examples:
  $ outerloop start                                begins a run with the defaults
  $ outerloop start --bootstrap <multiaddr>        joins one: the line to copy is on the first peer's screen
  $ outerloop generate --prompt "Call me"          samples text from the newest run
  $ outerloop start --help                         all options of a command

From a clone: \`npx outerloop <command>\`, and \`node start [options]\` is \`outerloop start [options]\`.
`;

/**
 * Runs one command.
 * @param argv without node and script
 * @returns the exit code
 */
export async function main(argv: string[]): Promise<number> {
  const debug = argv.includes('--debug') || Boolean(process.env.OUTERLOOP_DEBUG);
  ignoreBrokenPipes();
  process.on('uncaughtException', (error) => process.exit(reportError(error, debug)));
  let code = 0;
  const name = Object.keys(COMMANDS).find((known) => known === argv[0]);
  try {
    const program = createProgram();
    for (const [known, load] of Object.entries(COMMANDS)) {
      if (name !== undefined && known !== name) continue;
      const addCommand = await load();
      addCommand(program, (result) => {
        code = result;
      });
    }
    const start = program.commands.find((command) => command.name() === 'start');
    if (start) refuseEatenOptions(start, argv, process.env);
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    return error instanceof CommanderError ? reportUsage(error, name) : reportError(error, debug);
  }
}

function createProgram(): Command {
  const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
  return (
    new Command('outerloop')
      .description('Trains one model on many machines that talk little.')
      .version(version, '--version', 'the version of this program')
      .addHelpText('after', EXAMPLES)
      .exitOverride()
      // errors are thrown, and reported by us
      .configureOutput({ outputError: () => undefined })
  );
}

/** Says why the command line cannot be understood, and where to look. @returns the exit code */
function reportUsage({ exitCode, message }: CommanderError, command: string | undefined): number {
  // help and version are "errors" with exit code 0
  if (exitCode === 0) return 0;
  const cause = printable(message.replace(/^error: /, '')).replace(/[.]$/, '');
  console.error(`outerloop: ${cause}; see outerloop ${command ? `${command} ` : ''}--help [E_USAGE]`);
  return USAGE_EXIT_CODE;
}

/** Says what went wrong in one line on standard error. @returns the exit code */
function reportError(error: unknown, debug: boolean): number {
  const message = printable(error instanceof Error ? error.message : String(error));
  if (isCoded(error)) {
    console.error(`outerloop: ${message} [${error.code}]`);
  } else {
    const advice = debug ? '' : '; run it again with --debug to see where';
    console.error(`outerloop: unexpected error: ${message}${advice} [E_UNEXPECTED]`);
  }
  if (debug) console.error(error);
  return isCoded(error) && USAGE_ERRORS.includes(error.code) ? USAGE_EXIT_CODE : ERROR_EXIT_CODE;
}

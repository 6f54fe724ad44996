import { createRequire } from 'node:module';
import { Command, CommanderError } from 'commander';
import { isCoded } from '../../protocol/errors.ts';
import { addChaos } from './chaos.ts';
import { addCompare } from './compare.ts';
import { addDoctor } from './doctor.ts';
import { printable } from './format.ts';
import { addGenerate } from './generate.ts';
import { addReplay } from './replay.ts';
import { ignoreBrokenPipes } from './signals.ts';
import { addSim } from './sim.ts';
import { addStart } from './start.ts';
import { addTrain } from './train.ts';

/** Exit code for a command line that cannot be understood, as the shell's own commands have it. */
const USAGE_EXIT_CODE = 2;
const ERROR_EXIT_CODE = 1;

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
  const program = createProgram((result) => {
    code = result;
  });
  const [name] = argv;
  const command = program.commands.find((known) => known.name() === name);
  try {
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    return error instanceof CommanderError ? reportUsage(error, command?.name()) : reportError(error, debug);
  }
}

function createProgram(finish: (code: number) => void): Command {
  const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
  const program = new Command('outerloop')
    .description('Trains one model on many machines that talk little.')
    .version(version, '--version', 'the version of this program')
    .addHelpText('after', EXAMPLES)
    .exitOverride()
    // errors are thrown, and reported by us
    .configureOutput({ outputError: () => undefined });
  addStart(program, finish);
  addTrain(program, finish);
  addGenerate(program, finish);
  addSim(program, finish);
  addCompare(program, finish);
  addChaos(program, finish);
  addReplay(program, finish);
  addDoctor(program, finish);
  return program;
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
  return ERROR_EXIT_CODE;
}

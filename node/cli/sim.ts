import { readFileSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Command } from 'commander';
import { CodedError } from '../../protocol/errors.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { simulationBefore } from '../../sim/report/read.ts';
import { type Results, resultsOf, simulationFiles, simulationReport } from '../../sim/results.ts';
import { makeScenario, readScenario, type ScenarioText } from '../../sim/scenario.ts';
import { shellWord } from './format.ts';
import {
  addDebugOption,
  addRoundOptions,
  addSimulatedMachineOptions,
  addTrainingOptions,
  asOptionError,
  choicesOf,
  folder,
  integer,
  oneOf,
  type RunFlags,
  type SimulatedBackend,
} from './options.ts';
import { ResultsFolder } from './results-folder.ts';
import { KILLED_EXIT_CODE, onStopRequest } from './signals.ts';
import {
  commitOf,
  type OpenedSimulation,
  openSimulation,
  type SimChoices,
  TRAINERS,
  type TrainerName,
} from './sim-run.ts';
import { jsonSimView, SimScreen, type SimView } from './sim-screen.ts';
import { exitCodeOf, STATUS_INTERVAL_MS } from './sim-words.ts';
import { Terminal } from './terminal.ts';

export interface WorldFlags {
  scenario?: string;
  latency?: string;
  bandwidth?: string;
  loss?: string;
  step?: string;
  stragglers?: string;
  churn?: string;
  partition?: string;
}

interface SimFlags extends WorldFlags, Omit<RunFlags, 'waitFor' | 'rounds'> {
  peers: number;
  rounds: number;
  trainer: TrainerName;
  workers?: number;
  backend?: SimulatedBackend;
  microBatch?: number;
  evalEvery: number;
  out?: string;
  json?: boolean;
}

const PEERS = 8;
const ROUNDS = 20;
const EVAL_EVERY = 5;

const EXAMPLES = `
Examples:
  $ outerloop sim --peers 8 --rounds 20 --latency 'lognormal(80ms,0.3)' --bandwidth 50mbit/20mbit
  $ outerloop sim --peers 100 --trainer synthetic --churn 5%/round --stragglers 10%x3
  $ outerloop sim --scenario world.json --out results

A scenario is JSON with the same fields as the options, and more, all described in docs/simulator.md:
  {"latency": "80ms", "regions": ["us-east", "eu-west"], "peers": {"3": {"bandwidth": "5mbit/1mbit", "step": "1s"}},
   "events": [{"at": "20s", "do": "crash", "peers": [2]}, {"at": "40s", "do": "restart", "peers": [2]}]}
`;

export function addSim(program: Command, finish: (code: number) => void): void {
  const command = program.command('sim').description('many peers in virtual time, on this machine');
  command
    .option('--peers <n>', 'in the swarm', integer('--peers', 1, LIMITS.rosterMax), PEERS)
    .option('--rounds <n>', 'then stop', integer('--rounds', 1, 1_000_000_000), ROUNDS)
    .option('--trainer <kind>', 'real, or synthetic: a noisy quadratic', oneOf('--trainer', TRAINERS), 'real');
  addWorldOptions(command);
  addTrainingOptions(command);
  addRoundOptions(command);
  addSimulatedMachineOptions(command);
  command
    .option('--eval-every <rounds>', 'validation loss; 0 for never', integer('--eval-every', 0, 1_000_000), EVAL_EVERY)
    .option(
      '--workers <n>',
      'training threads (default: one a core); results do not depend on it',
      integer('--workers', 1, 256),
    )
    .option('--out <folder>', 'for results.json, results.csv, report.md and report.html', folder('--out'))
    .option('--json', 'one JSON object a line instead of the screen');
  addDebugOption(command).addHelpText('after', EXAMPLES);
  command.action(async (flags: SimFlags) => finish(await sim(flags)));
}

/** Links, computing and faults, for every command that simulates. */
export function addWorldOptions(command: Command): Command {
  return command
    .option('--scenario <file>', 'the world as JSON; its fields are in docs/simulator.md')
    .option('--latency <time>', 'one-way, of a link: 80ms, uniform(20ms,90ms), lognormal(80ms,0.3) (default: 40ms)')
    .option('--bandwidth <down/up>', 'of a peer, like 50mbit/20mbit (default: without limit)')
    .option('--loss <share>', 'of packets, like 0.1% (default: none)')
    .option('--step <time>', 'virtual time of an inner step, like --latency (default: 100ms)')
    .option('--stragglers <share>x<factor>', 'peers that are slower, like 10%x3')
    .option('--churn <share>/round', 'peers that crash in a round and come back, like 5%/round')
    .option('--partition <share>@<when>+<length>', 'a part that is cut off for a while, like 50%@10s+20s');
}

/** @throws CodedError `E_OPTION`, `E_SCENARIO`, `E_SCENARIO_FILE` */
export function scenarioOf({ scenario, peers, ...flags }: WorldFlags & { peers: number }): ScenarioText {
  const { latency, bandwidth, loss, step, stragglers, churn, partition } = flags;
  const given = Object.entries({ latency, bandwidth, loss, step, stragglers, churn, partition });
  const asked = Object.fromEntries(given.filter(([, value]) => value !== undefined));
  try {
    makeScenario(asked, peers);
  } catch (error) {
    throw asOptionError(error, '--'); // it begins with the name of the field
  }
  return { ...(scenario === undefined ? {} : readScenario(readFile(scenario))), ...asked };
}

function readFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new CodedError('E_SCENARIO_FILE', `cannot read the scenario ${path} (${reason}); check the path`, { cause });
  }
}

async function sim(flags: SimFlags): Promise<number> {
  const abort = new AbortController();
  const removeHandlers = onStopRequest({ stop: () => abort.abort(), kill: () => process.exit(KILLED_EXIT_CODE) });
  const now = () => performance.now();
  const startedMs = now();
  const view = flags.json ? jsonSimView() : new SimScreen(new Terminal(process.stdout, process.env), now);
  let opened: OpenedSimulation | undefined;
  let out: ResultsFolder | undefined;
  let before: Results | undefined;
  try {
    opened = await openSimulation(simChoices(flags));
    if (flags.out !== undefined) {
      out = new ResultsFolder(flags.out);
      before = simulationBefore(out.read(), flags.out, opened);
    }
    return await runSimulation(opened, { view, signal: abort.signal, startedMs, out, before });
  } finally {
    removeHandlers();
    view.close();
    out?.close();
    await opened?.host.close();
  }
}

interface Surroundings {
  view: SimView;
  signal: AbortSignal;
  startedMs: number;
  /** none where nothing is to be written */
  out: ResultsFolder | undefined;
  /** what is there of the same simulation */
  before: Results | undefined;
}

async function runSimulation(
  opened: OpenedSimulation,
  { view, signal, startedMs, out, before }: Surroundings,
): Promise<number> {
  const { simulation, genesis, signers, seed, configuration } = opened;
  const commit = commitOf();
  view.begin(opened, commit);
  const tick = (): void => view.tick(simulation.kernel.nowMs);
  // no event comes while a training is waited for
  const ticker = setInterval(tick, STATUS_INTERVAL_MS);
  const turn = async (): Promise<void> => {
    await nextTurn();
    tick();
  };
  const running = simulation.run({ signal, turn, onRound: (row) => view.round(row) });
  const result = await running.finally(() => clearInterval(ticker));
  const wallSeconds = (performance.now() - startedMs) / 1000;
  const command = ['outerloop', ...process.argv.slice(2)].map(shellWord).join(' ');
  const ids = signers.map(({ self }) => self);
  const facts = { command, seed, commit, configuration, wallSeconds, genesis, ids };
  const results = resultsOf(result, facts);
  // shown first: a disk that fails now takes away nothing that could be shown
  view.done(results);
  if (out && before && !isAsFar(results, before)) view.kept(out.path);
  else if (out) {
    out.write(simulationFiles(results, simulationReport(result, facts)));
    view.wrote(out.path);
  }
  return exitCodeOf([results]);
}

/** Of the same simulation: one that was stopped has less to say than one that came further. */
function isAsFar(results: Results, before: Results): boolean {
  return results.reason !== 'stopped' || (before.reason === 'stopped' && results.rounds.length >= before.rounds.length);
}

function simChoices(flags: SimFlags): SimChoices {
  const { peers, rounds, trainer, workers, backend = 'auto', microBatch, evalEvery: evaluateEvery } = flags;
  return {
    run: { ...choicesOf(flags), rounds },
    peers,
    scenario: scenarioOf(flags),
    trainer,
    backend,
    evaluateEvery,
    ...(workers === undefined ? {} : { workers }),
    ...(microBatch === undefined ? {} : { microBatch }),
  };
}

import { readFileSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Command } from 'commander';
import { CodedError } from '../../protocol/errors.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { type Results, resultsOf, writeResults } from '../../sim/results.ts';
import { readScenario, type ScenarioText } from '../../sim/scenario.ts';
import type { RoundRow } from '../../sim/simulation.ts';
import { BACKEND_NAMES, type BackendName } from '../train/backend.ts';
import { formatBar, formatBytes, formatCount, formatDuration, formatLoss, shellWord } from './format.ts';
import {
  addDebugOption,
  addRoundOptions,
  addTrainingOptions,
  choicesOf,
  folder,
  integer,
  oneOf,
  type RunFlags,
} from './options.ts';
import { KILLED_EXIT_CODE, onStopRequest } from './signals.ts';
import {
  commitOf,
  type OpenedSimulation,
  openSimulation,
  type SimChoices,
  TRAINERS,
  type TrainerName,
} from './sim-run.ts';
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
  backend?: BackendName | 'auto';
  microBatch?: number;
  evalEvery: number;
  out?: string;
  json?: boolean;
}

const PEERS = 8;
const ROUNDS = 20;
const EVAL_EVERY = 5;
const STATUS_INTERVAL_MS = 100;

const EXAMPLES = `
Examples:
  $ outerloop sim --peers 8 --rounds 20 --latency 'lognormal(80ms,0.3)' --bandwidth 50mbit/20mbit
  $ outerloop sim --peers 100 --trainer synthetic --churn 5%/round --stragglers 10%x3
  $ outerloop sim --scenario world.json --out results

A scenario is JSON with the same fields as the options, and more (options come before it):
  {"latency": "80ms", "regions": ["us-east", "eu-west"], "peers": {"3": {"bandwidth": "5mbit/1mbit", "step": "1s"}},
   "events": [{"at": "20s", "do": "crash", "peers": [2]}, {"at": "40s", "do": "restart", "peers": [2]}]}
What is done: join, leave, crash, restart (peers), pause (peers, for), partition (groups), heal.
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
  command
    .option('--eval-every <rounds>', 'validation loss; 0 for never', integer('--eval-every', 0, 1_000_000), EVAL_EVERY)
    .option(
      '--workers <n>',
      'training threads (default: one a core); results do not depend on it',
      integer('--workers', 1, 256),
    )
    .option('--backend <name>', 'default: auto', oneOf('--backend', ['auto', ...BACKEND_NAMES] as const))
    .option('--micro-batch <n>', 'sequences computed at once', integer('--micro-batch', 1, 1_000_000))
    .option('--out <folder>', 'for results.json and results.csv', folder('--out'))
    .option('--json', 'one JSON object a line instead of the screen');
  addDebugOption(command).addHelpText('after', EXAMPLES);
  command.action(async (flags: SimFlags) => finish(await sim(flags)));
}

/** Links, computing and faults, for every command that simulates. */
export function addWorldOptions(command: Command): Command {
  return command
    .option('--scenario <file>', 'the world as JSON; see below')
    .option('--latency <time>', 'one-way, of a link: 80ms, uniform(20ms,90ms), lognormal(80ms,0.3) (default: 40ms)')
    .option('--bandwidth <down/up>', 'of a peer, like 50mbit/20mbit (default: without limit)')
    .option('--loss <share>', 'of packets, like 0.1% (default: none)')
    .option('--step <time>', 'virtual time of an inner step, like --latency (default: 100ms)')
    .option('--stragglers <share>x<factor>', 'peers that are slower, like 10%x3')
    .option('--churn <share>/round', 'peers that crash in a round and come back, like 5%/round')
    .option('--partition <share>@<when>+<length>', 'a part that is cut off for a while, like 50%@10s+20s');
}

/** @throws CodedError `E_SCENARIO`, `E_SCENARIO_FILE` */
export function scenarioOf({ scenario, ...flags }: WorldFlags): ScenarioText {
  const { latency, bandwidth, loss, step, stragglers, churn, partition } = flags;
  const given = Object.entries({ latency, bandwidth, loss, step, stragglers, churn, partition });
  const asked = Object.fromEntries(given.filter(([, value]) => value !== undefined));
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
  const startedMs = performance.now();
  const view = flags.json ? jsonView() : new SimScreen(new Terminal(process.stdout, process.env), startedMs);
  let opened: OpenedSimulation | undefined;
  try {
    opened = await openSimulation(simChoices(flags));
    const commit = commitOf();
    view.begin(opened, commit);
    const { simulation, seed, configuration, signers } = opened;
    const turn = async (): Promise<void> => {
      await nextTurn();
      view.turn(simulation.kernel.nowMs);
    };
    const result = await simulation.run({ signal: abort.signal, turn, onRound: (row) => view.round(row) });
    const wallSeconds = (performance.now() - startedMs) / 1000;
    const command = ['outerloop', ...process.argv.slice(2)].map(shellWord).join(' ');
    const ids = signers.map(({ self }) => self);
    const results = resultsOf(result, { command, seed, commit, configuration, wallSeconds }, ids);
    if (flags.out !== undefined) writeResults(flags.out, results);
    view.done(results, flags.out);
    return results.reason === 'stuck' || results.diverged.length > 0 ? 1 : 0;
  } finally {
    removeHandlers();
    view.close();
    await opened?.host.close();
  }
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

interface SimView {
  begin(opened: OpenedSimulation, commit: string | null): void;
  /** now and then, with the virtual time */
  turn(virtualMs: number): void;
  round(row: RoundRow): void;
  done(results: Results, folder: string | undefined): void;
  close(): void;
}

function jsonView(): SimView {
  const print = (event: object): void => {
    process.stdout.write(`${JSON.stringify(event)}\n`);
  };
  return {
    begin: ({ seed, configuration }, commit) => print({ event: 'config', seed, commit, ...configuration }),
    turn: () => undefined,
    round: (row) => print({ event: 'round', ...row }),
    done: ({ reason, traceHash, virtualSeconds, wallSeconds, events, bytes }) =>
      print({ event: 'done', reason, traceHash, virtualSeconds, wallSeconds, events, bytes }),
    close: () => undefined,
  };
}

class SimScreen implements SimView {
  readonly #terminal: Terminal;
  readonly #startedMs: number;
  #rounds = 0;
  #round = 0;
  #statusMs = 0;

  constructor(terminal: Terminal, startedMs: number) {
    this.#terminal = terminal;
    this.#startedMs = startedMs;
  }

  begin({ genesis, signers, backend, seed, configuration }: OpenedSimulation, commit: string | null): void {
    const { innerSteps, codec, outer, title, rounds } = genesis;
    this.#rounds = rounds ?? 0;
    const { scenario } = configuration as { scenario: ScenarioText };
    const world = Object.entries(scenario).map(([key, value]) => `${key} ${typeof value === 'string' ? value : '…'}`);
    this.#terminal.line(`${this.#terminal.paint('bold', 'outerloop sim')}  ${title}, ${signers.length} peers`);
    this.#terminal.line(`  ${rounds} rounds of ${innerSteps} steps, ${codec.name}, ${outer.name}; ${backend}`);
    this.#terminal.line(`  ${world.join(', ')}`);
    this.#terminal.line(`  seed ${seed}, commit ${commit?.slice(0, 12) ?? 'unknown'}`);
    this.#terminal.line();
  }

  turn(virtualMs: number): void {
    const nowMs = performance.now();
    if (nowMs - this.#statusMs < STATUS_INTERVAL_MS) return;
    this.#statusMs = nowMs;
    const bar = `${formatBar(this.#round, this.#rounds)} ${this.#round}/${this.#rounds}`;
    const spentMs = nowMs - this.#startedMs;
    const left = this.#round > 0 ? formatDuration((spentMs / this.#round) * (this.#rounds - this.#round)) : '…';
    this.#terminal.status(`${bar} · ${formatDuration(virtualMs)} virtual · ${left} left`);
  }

  round({ round, virtualMs, contributors, trainLoss, valLoss, bytes, final }: RoundRow): void {
    this.#round = Math.max(this.#round, round);
    const parts = [
      this.#terminal.paint('bold', `round ${round}/${this.#rounds}`),
      `at ${formatDuration(virtualMs)}`,
      `${contributors} updates`,
      `train ${formatLoss(trainLoss)}`,
      valLoss === null ? undefined : this.#terminal.paint('green', `val ${formatLoss(valLoss)}`),
      `${formatBytes(bytes)} sent`,
      final ? undefined : this.#terminal.paint('yellow', 'unfinal'),
    ];
    this.#terminal.line(parts.filter((part) => part !== undefined).join('  '));
  }

  done(
    { reason, traceHash, virtualSeconds, wallSeconds, events, bytesByKind, warnings }: Results,
    folder?: string,
  ): void {
    const kinds = Object.entries(bytesByKind).filter(([, bytes]) => bytes > 0);
    const time = `${formatDuration(1000 * virtualSeconds)} virtual in ${formatDuration(1000 * wallSeconds)}`;
    this.#terminal.line();
    this.#terminal.line(`${ENDINGS[reason]}: ${time}, ${formatCount(events)} events`);
    this.#terminal.line(`  sent: ${kinds.map(([kind, bytes]) => `${kind} ${formatBytes(bytes)}`).join(', ')}`);
    const given = Object.entries(warnings).map(([code, times]) => `${code} x${times}`);
    if (given.length > 0) this.#terminal.line(`  warnings: ${given.join(', ')}`);
    this.#terminal.line(`  trace ${traceHash}`);
    if (folder !== undefined) this.#terminal.line(`  results in ${folder}`);
  }

  close(): void {
    this.#terminal.status('');
  }
}

const ENDINGS = {
  rounds: 'done',
  time: 'done',
  stopped: 'stopped, with the results so far',
  stuck: 'stuck: no new round in a long time; look at the scenario',
} as const satisfies Record<Results['reason'], string>;

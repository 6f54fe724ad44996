import { setImmediate as nextTurn } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import { tsImport } from 'tsx/esm/api';
import { CodedError } from '../../protocol/errors.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import { peerIdOf } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { compare, planSteps } from '../../sim/compare.ts';
import type { Compared, ComparisonInit } from '../../sim/comparison-runs.ts';
import { comparisonFiles } from '../../sim/report/files.ts';
import { comparedIn, comparisonBefore } from '../../sim/report/read.ts';
import { describeStrategies, makeReport, type Report, type ReportFacts } from '../../sim/report/report.ts';
import { checkStrategies, parseStrategies, STRATEGIES, type Strategy } from '../../sim/strategy.ts';
import { openComparison } from './compare-run.ts';
import { CompareScreen, type CompareView, jsonCompareView } from './compare-screen.ts';
import { shellWord } from './format.ts';
import {
  addDebugOption,
  addSimulatedMachineOptions,
  addTrainingOptions,
  asOptionError,
  choicesOf,
  decimal,
  folder,
  integer,
  oneOf,
  type RunFlags,
  type SimulatedBackend,
} from './options.ts';
import { ResultsFolder } from './results-folder.ts';
import { KILLED_EXIT_CODE, onStopRequest } from './signals.ts';
import { addWorldOptions, scenarioOf, type WorldFlags } from './sim.ts';
import { commitOf, TRAINERS, type TrainerName } from './sim-run.ts';
import { exitCodeOf, STATUS_INTERVAL_MS } from './sim-words.ts';
import { Terminal } from './terminal.ts';

interface CompareFlags
  extends WorldFlags,
    Pick<RunFlags, 'data' | 'model' | 'tokenizer' | 'batch' | 'seed' | 'innerSteps'> {
  strategies?: string;
  strategyFile?: string;
  peers: number;
  tokens: number;
  seeds: number;
  baselineRates: number[];
  target?: number;
  timeline?: string;
  points: number;
  trainer: TrainerName;
  workers?: number;
  backend?: SimulatedBackend;
  microBatch?: number;
  out: string;
  json?: boolean;
}

const STRATEGIES_DEFAULT = 'ddp,diloco,diloco-int8,sparseloco';
const PEERS = 4;
const POINTS = 20;
/** Of a genesis that is only looked at. */
const NO_FOUNDER = peerIdOf(new Uint8Array(32));

const EXAMPLES = `
Strategies: ${STRATEGIES.map(({ name }) => name).join(', ')}.
Parameters follow with colons: diloco:H=20, topk:k=128:bits=1, diloco-int8:outer=0.5:momentum=0.8, diloco:rate=2 (times the
inner learning rate).
Two baselines are always there: centralized (the batches of all peers in one step) and one-peer.

Examples:
  $ outerloop compare --strategies ddp,diloco:H=20,diloco:H=50,sparseloco --peers 4 --tokens 3M --seeds 3 --out out
  $ outerloop compare --strategies diloco,topk --tokens 500k --bandwidth 50mbit/20mbit --latency 80ms --out out
  $ outerloop compare --strategy-file docs/strategy-example.ts --strategies diloco,patient --tokens 500k --out out
`;

export function addCompare(program: Command, finish: (code: number) => void): void {
  const command = program.command('compare').description('strategies against centralized training, with a report');
  command
    .requiredOption(
      '--out <folder>',
      '(required) for results.json, results.csv, report.md and report.html',
      folder('--out'),
    )
    .option(
      '--strategies <names>',
      `by commas; see below (default: ${STRATEGIES_DEFAULT}, and those of --strategy-file)`,
    )
    .option(
      '--strategy-file <module>',
      'strategies of your own, as docs/simulator.md describes them: what the module exports by default',
    )
    .option('--peers <n>', 'in the swarm', integer('--peers', 1, LIMITS.rosterMax), PEERS)
    .option('--tokens <n>', 'of all peers, in each run, like 3M or 500k', tokens, 1_000_000)
    .option('--seeds <n>', 'runs of each strategy, from --seed on', integer('--seeds', 1, 1000), 1)
    .option('--inner-steps <H>', "where a strategy names none (default: the model's)", integer('--inner-steps', 1, 1e6))
    .option(
      '--baseline-rates <factors>',
      'of the inner learning rate, for centralized: the best with the first seed is kept',
      factors,
      [1],
    )
    .option('--target <loss>', 'to measure time to (default: 5% above centralized)', decimal('--target', 0, 1e6))
    .option('--timeline <strategy>', 'that is drawn peer by peer (default: the first with rounds)')
    .option('--points <n>', 'on a curve', integer('--points', 1, 10_000), POINTS)
    .option('--trainer <kind>', 'real, or synthetic: a noisy quadratic', oneOf('--trainer', TRAINERS), 'real');
  addWorldOptions(command);
  addTrainingOptions(command);
  addSimulatedMachineOptions(command);
  command
    .option(
      '--workers <n>',
      'runs at once (default: one a core); results do not depend on it',
      integer('--workers', 1, 256),
    )
    .option('--json', 'one JSON object a line instead of the screen');
  addDebugOption(command).addHelpText('after', EXAMPLES);
  command.action(async (flags: CompareFlags) => finish(await runCompare(flags)));
}

/** 3000000, 500k, 1.5M */
function tokens(text: string): number {
  const [, digits, unit = ''] = /^(\d+(?:\.\d+)?)([kMG]?)$/.exec(text) ?? [];
  const value = Math.round(Number(digits) * 1000 ** ['', 'k', 'M', 'G'].indexOf(unit));
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new CodedError('E_OPTION', `--tokens takes a number of tokens like 3000000, 500k or 3M, not "${text}"`);
}

/** 1,2,4 */
function factors(text: string): number[] {
  const values = text.split(',').map((part) => (/^\s*\d+(\.\d+)?\s*$/.test(part) ? Number(part) : Number.NaN));
  if (values.every((value) => value > 0 && value <= 1000) && new Set(values).size === values.length) return values;
  throw new CodedError('E_OPTION', `--baseline-rates takes different factors above 0 like 1,2,4, not "${text}"`);
}

/** @throws CodedError `E_OPTION` for names and parameters, `E_STRATEGY` for a file */
async function strategiesOf({ strategies, strategyFile }: CompareFlags): Promise<Strategy[]> {
  if (strategyFile === undefined) return named(strategies ?? STRATEGIES_DEFAULT);
  let module: { default?: unknown };
  try {
    // a folder without `"type": "module"` has modules of either kind
    module = await tsImport(pathToFileURL(strategyFile).href, import.meta.url);
  } catch (cause) {
    // Node's own errors end with which of this program's files asked for the module
    const why = (cause as Error).message.replace(/ imported from .*$/s, '');
    const message = `cannot load ${strategyFile} (${why}); give a module that exports a strategy`;
    throw new CodedError('E_STRATEGY', message, { cause });
  }
  // a CommonJS module's exports are the default, and what it exports by default is in them
  const exported = module.default as { default?: unknown } | undefined;
  const own = checkStrategies(exported?.default ?? exported, strategyFile);
  // one of the same name takes a known one's place
  const names = new Set([...STRATEGIES_DEFAULT.split(','), ...own.map(({ name }) => name)]);
  return named(strategies ?? [...names].join(), own);
}

function named(strategies: string, own: readonly Strategy[] = []): Strategy[] {
  try {
    return parseStrategies(strategies, own);
  } catch (error) {
    throw asOptionError(error, '--strategies: ');
  }
}

async function runCompare(flags: CompareFlags): Promise<number> {
  const abort = new AbortController();
  const removeHandlers = onStopRequest({ stop: () => abort.abort(), kill: () => process.exit(KILLED_EXIT_CODE) });
  const now = () => performance.now();
  const view = flags.json ? jsonCompareView() : new CompareScreen(new Terminal(process.stdout, process.env), now);
  let out: ResultsFolder | undefined;
  try {
    const asked = await askedOf(flags);
    out = new ResultsFolder(flags.out);
    return await runAsked(asked, { view, abort, out, startedMs: now() });
  } finally {
    removeHandlers();
    view.close();
    out?.close();
  }
}

/** What is to be compared, and what a report says of it before anything is computed. */
interface Asked {
  comparison: ComparisonInit;
  facts: Omit<ReportFacts, 'commit' | 'complete' | 'wallSeconds'> & { tokens: number };
  /** with the schedule of the planned steps */
  inner: Genesis['inner'];
}

/** @throws CodedError of what the flags cannot be */
async function askedOf(flags: CompareFlags): Promise<Asked> {
  const { peers, tokens: tokensAsked, target, points: evaluations, timeline, baselineRates } = flags;
  const strategies = await strategiesOf(flags);
  const { init, title, ...opened } = openComparison({ ...flags, run: choicesOf(flags), scenario: scenarioOf(flags) });
  const given = { tokens: tokensAsked, strategies, evaluations, baselineRates };
  const comparison = { ...init, ...given, ...(timeline === undefined ? {} : { timeline }) };
  const { steps, tokensAStep } = planSteps(comparison);
  const facts = {
    title,
    command: ['outerloop', ...process.argv.slice(2)].map(shellWord).join(' '),
    peers,
    seeds: [...init.seeds],
    tokens: steps * tokensAStep,
    tokensAsked,
    configuration: { ...opened.configuration, points: evaluations, baselineRates },
    strategies: describeStrategies(comparison, steps),
    ...(target === undefined ? {} : { target }),
  };
  const [seed = 0] = init.seeds;
  const { inner } = init.base({ seed, founder: NO_FOUNDER, steps, batches: 1 });
  return { comparison, facts, inner };
}

async function runAsked(
  { comparison, facts, inner }: Asked,
  { view, abort, out, startedMs }: { view: CompareView; abort: AbortController; out: ResultsFolder; startedMs: number },
): Promise<number> {
  const { title, peers, seeds, tokens, strategies, configuration } = facts;
  const identity = { title, peers, seeds, tokens, strategies, configuration };
  const before = comparisonBefore(out.read(), out.path, identity);
  const commit = [...new Set([before?.commit, commitOf()].flatMap((each) => each ?? []))].join(', ') || null;
  view.begin({ ...identity, commit }, inner);
  if (before) view.goOn(before, out.path);
  const reportOf = (compared: Compared, complete: boolean): Report => {
    const wallSeconds = (before?.wallSeconds ?? 0) + (performance.now() - startedMs) / 1000;
    return makeReport(compared, { ...facts, commit, complete, wallSeconds });
  };
  const failures: unknown[] = [];
  const running = compare(before ? { ...comparison, before: comparedIn(before) } : comparison, {
    signal: abort.signal,
    turn: () => nextTurn(),
    onProgress: (done, all) => view.progress(done, all),
    onRun(run, soFar) {
      view.run(run);
      // after every run, so that hours of work outlive whatever comes
      try {
        out.write(comparisonFiles(reportOf(soFar, false)));
      } catch (cause) {
        // what there is by now is shown before the reason is told
        failures.push(cause);
        abort.abort();
      }
    },
  });
  view.begun();
  const ticker = setInterval(() => view.tick(), STATUS_INTERVAL_MS);
  const compared = await running.finally(() => clearInterval(ticker));
  const report = reportOf(compared, !abort.signal.aborted);
  view.done(report);
  out.write(comparisonFiles(report));
  view.wrote(out.path);
  if (failures.length > 0) throw failures[0];
  return exitCodeOf(compared.runs);
}

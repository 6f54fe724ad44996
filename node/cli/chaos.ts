import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { CodedError, isCoded } from '../../protocol/errors.ts';
import { parseDuration } from '../../sim/distribution.ts';
import { parseBandwidth } from '../../sim/scenario.ts';
import { type CampaignInit, type CampaignResult, type CampaignView, runCampaign } from '../chaos/campaign.ts';
import { FAULTS, type FaultKind, type FaultReport } from '../chaos/faults.ts';
import type { LinkShape } from '../chaos/links.ts';
import { againInNamespaces, inNamespaces, NamespaceLinks } from '../chaos/namespace-links.ts';
import { ProxyLinks } from '../chaos/proxy-links.ts';
import { percent } from '../chaos/verdict.ts';
import { DEFAULT_SEED } from '../defaults.ts';
import { diskError, makeFolder } from '../store/atomic.ts';
import { checkEmpty } from '../store/directory.ts';
import { formatCount, formatDuration, printable, shellWord, shortPeer } from './format.ts';
import { printJson } from './json-lines.ts';
import {
  addDebugOption,
  addMachineOptions,
  addRoundOptions,
  addTrainingOptions,
  asInScenario,
  decimal,
  folder,
  integer,
  type MachineFlags,
  oneOf,
  type RunFlags,
} from './options.ts';
import { KILLED_EXIT_CODE, onStopRequest } from './signals.ts';
import { Terminal } from './terminal.ts';

interface ChaosFlags extends Omit<RunFlags, 'waitFor' | 'rounds'>, MachineFlags {
  peers: number;
  minutes?: number;
  faults?: number;
  /** milliseconds */
  every?: number;
  kinds?: FaultKind[];
  /** milliseconds */
  latency?: number | 'none';
  bandwidth?: ReturnType<typeof parseBandwidth> | 'none';
  namespaces?: boolean;
  /** false with --no-baseline */
  baseline: boolean;
  baselineRate?: number;
  least?: number;
  dir?: string;
  json?: boolean;
}

const PEERS = 4;
const MINUTES = 10;
const EVERY_MS = 30_000;
const EVERY_MS_MIN = 1000;
const EVERY_MS_MAX = 24 * 3600 * 1000;
const PEERS_MAX = 64;
/** Links as between two towns, at home: what passes is still the proxies' own affair, so that any Linux can do it. */
const LATENCY_MS = 20;
const MBIT = 100;
const BANDWIDTH = { downloadBits: MBIT * 1e6, uploadBits: MBIT * 1e6 };

const EXAMPLES = `
Starts real peers on this machine, each in a process of its own, and does something to one of them every so often:
  kill     kill -9, and started again
  stop     frozen for a while (SIGSTOP)
  restart  asked to leave (Ctrl+C), and started again
  cut      all its connections broken for a while (on Linux)
Before and after that it lets as many train without faults, half of the time each, to compare with. How fast the machine is
is measured all along and taken into account.

Examples:
  $ outerloop chaos --peers 8 --minutes 10 --every 30s
  $ outerloop chaos --peers 4 --minutes 1 --every 10s --model micro
  $ outerloop chaos --peers 4 --faults 3 --kinds kill --no-baseline --model micro
  $ outerloop chaos --peers 4 --minutes 2 --every 20s --kinds cut --namespaces

The exit status is 1 where peers ended a round with different roots, a killed peer's update was in neither of the two
rounds after it was ready (nor there within two seconds), a peer did not come back, work was given up, or fewer tokens than
--least asks were trained. The folders are kept then, for outerloop replay.
`;

export function addChaos(program: Command, finish: (code: number) => void): void {
  const command = program.command('chaos').description('real peers on this machine, and faults on purpose');
  command
    .option('--peers <n>', 'processes', integer('--peers', 2, PEERS_MAX), PEERS)
    .option('--minutes <n>', `of faults (default: ${MINUTES}, or until --faults)`, decimal('--minutes', 0.01, 10_000))
    .option('--faults <n>', 'stop after so many, once all have got over them', integer('--faults', 1, 1_000_000))
    .option('--every <time>', 'from one fault to the next (default: 30s)', asInScenario('--every', parseDuration))
    .option('--kinds <list>', `of faults, with commas (default: ${FAULTS.join(',')})`, faultKinds)
    .option(
      '--latency <time>',
      `of links, one-way, like 40ms, or none (default: ${LATENCY_MS}ms, with --namespaces none)`,
      orNone(asInScenario('--latency', parseDuration)),
    )
    .option(
      '--bandwidth <down/up>',
      `of a connection (with --namespaces: of a peer) each way, the slower of the two, like 50mbit, or none (default: ${MBIT}mbit, with --namespaces none)`,
      orNone(asInScenario('--bandwidth', parseBandwidth)),
    )
    .option('--namespaces', 'a network namespace for each peer (Linux): a cut makes packets vanish instead')
    .option(
      '--baseline-rate <n>',
      'tokens a second without faults, if known from before',
      decimal('--baseline-rate', 0.001, 2 ** 52),
    )
    .option('--no-baseline', 'do not compare with a run without faults')
    .option(
      '--least <percent>',
      'of the tokens without faults, else it has failed (default: any)',
      decimal('--least', 0, 100),
    )
    .option('--dir <path>', 'folder for the peers, kept (default: a temporary one)', folder('--dir'));
  addTrainingOptions(command);
  addRoundOptions(command);
  addMachineOptions(command);
  command.option('--json', 'one JSON object a line instead of the screen');
  addDebugOption(command).addHelpText('after', EXAMPLES);
  command.action(async (flags: ChaosFlags) => finish(await chaos(flags)));
}

function orNone<Value>(parse: (text: string) => Value): (text: string) => Value | 'none' {
  return (text) => (text === 'none' ? text : parse(text));
}

function faultKinds(text: string): FaultKind[] {
  return text.split(',').map(oneOf('--kinds', FAULTS));
}

async function chaos(flags: ChaosFlags): Promise<number> {
  if (process.platform === 'win32') {
    throw new CodedError('E_PLATFORM', 'chaos needs the signals of a POSIX system: run it in WSL or on Linux or macOS');
  }
  if (flags.namespaces && !inNamespaces()) {
    campaignOf(flags); // what is wrong with the options is said before
    return againInNamespaces();
  }
  const view = flags.json ? jsonView() : screenView(new Terminal(process.stdout, process.env));
  const asked = campaignOf(flags);
  const home = folderOf(flags.dir);
  const abort = new AbortController();
  const removeHandlers = onStopRequest({ stop: () => abort.abort(), kill: () => abort.abort() });
  let keep = true;
  try {
    const result = await runCampaign({ ...asked, dir: home.path }, view, abort.signal);
    keep = result.failures.length > 0 || flags.dir !== undefined;
    view.done(result, keep ? home.path : undefined);
    return result.failures.length === 0 ? 0 : 1;
  } catch (error) {
    if (abort.signal.aborted) {
      view.stopped(home.path);
      return KILLED_EXIT_CODE;
    }
    keep = flags.dir !== undefined || hasFiles(home.path);
    if (keep) console.error(`the folders of the peers are in ${home.path}`);
    throw error;
  } finally {
    removeHandlers();
    view.close();
    if (!keep) home.remove();
  }
}

/** @throws CodedError `E_DIR_NOT_EMPTY`, `E_DIR_UNWRITABLE`, `E_DISK_FULL` */
function folderOf(dir: string | undefined): { path: string; remove: () => void } {
  const path = dir === undefined ? join(tmpdir(), 'outerloop-chaos-') : resolve(dir);
  try {
    if (dir === undefined) {
      const made = mkdtempSync(path);
      return { path: made, remove: () => rmSync(made, { recursive: true, force: true }) };
    }
    checkEmpty(path, 'give a new folder, every run of chaos begins afresh');
    makeFolder(path);
  } catch (cause) {
    throw isCoded(cause) ? cause : diskError(cause, path);
  }
  return { path, remove: () => undefined };
}

/** Some peer has written something: not where all ended before they began. */
function hasFiles(path: string): boolean {
  return readdirSync(path, { recursive: true, withFileTypes: true }).some((each) => each.isFile());
}

/** @throws CodedError `E_OPTION` */
function campaignOf(flags: ChaosFlags): Omit<CampaignInit, 'dir'> {
  const { peers, minutes, faults, every: everyMs = EVERY_MS, seed = DEFAULT_SEED, baseline } = flags;
  const { baselineRate, least } = flags;
  if (least !== undefined && !baseline) {
    throw new CodedError('E_OPTION', '--least compares with a run without faults: leave out --no-baseline');
  }
  if (baselineRate !== undefined && !baseline) {
    throw new CodedError('E_OPTION', '--baseline-rate is to be compared with: leave it or --no-baseline out');
  }
  const linked = process.platform === 'linux';
  const kinds = flags.kinds ?? FAULTS.filter((kind) => linked || kind !== 'cut');
  const shape = shapeOf(flags);
  const isShaped = [flags.latency, flags.bandwidth].some((asked) => asked !== undefined && asked !== 'none');
  if (!linked && (kinds.includes('cut') || isShaped || flags.namespaces)) {
    throw new CodedError(
      'E_OPTION',
      'links can be cut and shaped on Linux alone: leave out cut, --latency, --bandwidth, --namespaces',
    );
  }
  if (everyMs < EVERY_MS_MIN || everyMs > EVERY_MS_MAX) {
    throw new CodedError('E_OPTION', '--every takes a second or more, and a day or less');
  }
  const durationMs =
    minutes === undefined && faults !== undefined ? Number.POSITIVE_INFINITY : 60_000 * (minutes ?? MINUTES);
  if (everyMs > durationMs) {
    throw new CodedError('E_OPTION', '--every is longer than --minutes, so that there would be no fault: change one');
  }
  return {
    peers,
    seed,
    kinds,
    everyMs,
    durationMs,
    links: linked ? () => (flags.namespaces ? new NamespaceLinks(shape) : new ProxyLinks(shape)) : null,
    runOptions: optionsOf(flags, RUN_OPTIONS),
    machineOptions: optionsOf(flags, MACHINE_OPTIONS),
    ...(faults === undefined ? {} : { faultsMax: faults }),
    ...(least === undefined ? {} : { least: least / 100 }),
    ...(baselineRate !== undefined ? { baselineRate } : baseline ? {} : { baselineRate: null }),
  };
}

function shapeOf({ namespaces, ...asked }: ChaosFlags): LinkShape {
  const { latency = namespaces ? 'none' : LATENCY_MS, bandwidth = namespaces ? 'none' : BANDWIDTH } = asked;
  const shape: LinkShape = {};
  if (latency !== 'none') shape.latencyMs = latency;
  if (bandwidth !== 'none') shape.bytesPerSecond = Math.min(bandwidth.downloadBits, bandwidth.uploadBits) / 8;
  return shape;
}

const RUN_OPTIONS = {
  data: '--data',
  model: '--model',
  tokenizer: '--tokenizer',
  batch: '--batch',
  seed: '--seed',
  innerSteps: '--inner-steps',
  codec: '--codec',
  outer: '--outer',
} as const satisfies Partial<Record<keyof ChaosFlags, string>>;

const MACHINE_OPTIONS = {
  backend: '--backend',
  deterministic: '--deterministic',
  microBatch: '--micro-batch',
} as const satisfies Partial<Record<keyof ChaosFlags, string>>;

/** What was said here, as it is said to `start`. */
function optionsOf(flags: ChaosFlags, options: Partial<Record<keyof ChaosFlags, string>>): string[] {
  return Object.entries(options).flatMap(([name, option]) => {
    const value = flags[name as keyof ChaosFlags];
    if (value === undefined) return [];
    return value === true ? [option] : [option, String(value)];
  });
}

interface View extends CampaignView {
  /** @param folder where the peers' folders were kept */
  done(result: CampaignResult, folder: string | undefined): void;
  /** before the end, by Ctrl+C */
  stopped(folder: string): void;
  close(): void;
}

function jsonView(): View {
  return {
    phase: () => undefined,
    fault: (report) => printJson({ event: 'fault', ...report }),
    done: (result, folder) => printJson({ event: 'chaos', passed: result.failures.length === 0, ...result, folder }),
    stopped: (folder) => printJson({ event: 'stopped', folder }),
    close: () => undefined,
  };
}

function screenView(terminal: Terminal): View {
  const field = (name: string, text: string): void => terminal.line(`${terminal.paint('dim', name.padEnd(8))} ${text}`);
  return {
    phase: (text) => terminal.line(terminal.paint('dim', text)),
    fault: (report) => terminal.line(faultLine(report, terminal)),
    done(result, folder) {
      const { rounds, peers, compared, diverged, failures } = result;
      terminal.line();
      const roots = diverged.length === 0 ? 'all equal' : terminal.paint('red', `${diverged.length} rounds differ`);
      field('rounds', `${rounds} final; ${compared} roots told by ${peers} peers: ${roots}`);
      field('tokens', tokensText(result));
      field('work', workText(result));
      for (const failure of failures) field('', terminal.paint('red', printable(failure)));
      field('verdict', failures.length === 0 ? terminal.paint('green', 'passed') : terminal.paint('red', 'failed'));
      if (folder !== undefined) field('folder', folder);
      if (folder !== undefined && failures.length > 0) {
        field('look', `npx outerloop replay ${shellWord(join(folder, 'chaos', 'peer-0'))}`);
      }
    },
    stopped: (folder) => terminal.line(`stopped; the folders of the peers are in ${folder}`),
    close: () => terminal.status(''),
  };
}

function faultLine(
  { kind, peer, id, atMs, forMs, readyMs, recoveredMs, rounds, roundsFromStart, error }: FaultReport,
  terminal: Terminal,
): string {
  const at = `${(atMs / 1000).toFixed(1)}s`.padStart(8);
  const what = `${at}  ${terminal.paint('bold', kind.padEnd(7))}  peer ${peer} ${shortPeer(id)}  for ${seconds(forMs)}`;
  if (error !== undefined) return `${what}: ${terminal.paint('red', printable(error))}`;
  const ready = readyMs === null ? '' : `ready in ${seconds(readyMs)}, `;
  if (recoveredMs === null) return `${what}: ${ready}${terminal.paint('red', 'did not contribute again')}`;
  const fromStart = roundsFromStart === null ? '' : `, ${roundsFromStart} from its start`;
  return `${what}: ${ready}contributes again in ${seconds(recoveredMs)}, round ${rounds} from there${fromStart}`;
}

function tokensText({ tokens, ms, rate, baselineRate, machineSpeed, share }: CampaignResult): string {
  const trained = `${formatCount(tokens)} in ${formatDuration(ms)}, ${rate.toFixed(0)} a second`;
  if (!baselineRate || share === null) return trained;
  const compared = `${percent(rate / baselineRate)} of the ${baselineRate.toFixed(0)} without faults`;
  if (machineSpeed === null) return `${trained}, ${compared}`;
  return `${trained}, ${compared}; ${percent(share)} at this machine's speed meanwhile, which was ${percent(machineSpeed)} of that`;
}

function workText({ work, faults }: CampaignResult): string {
  const { contributions, accepted, carried, open, refused, lost, stepsLost } = work;
  const kills = faults.filter(({ kind }) => kind === 'kill').length;
  const parts = [
    `${accepted} of ${contributions} contributions accepted in their round`,
    `${carried} with a later update`,
    `${open} not told of again`,
    ...(refused > 0 ? [`${refused} refused`] : []),
    ...(lost > 0 ? [`${lost} given up`] : []),
  ];
  const killed = kills === 0 ? '' : `; ${kills} kills cost at most ${stepsLost} inner steps of their peers`;
  return `${parts.join(', ')}${killed}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

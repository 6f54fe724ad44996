import { resolve } from 'node:path';
import type { Command } from 'commander';
import { CodedError } from '../../protocol/errors.ts';
import type { PeerEvent } from '../peer-events.ts';
import type { RunningPeer, StartOptions } from '../run.ts';
import { checkRunFolder } from '../store/directory.ts';
import { printJson } from './json-lines.ts';
import {
  ANY,
  addDebugOption,
  addMachineOptions,
  addRunOptions,
  addTrainingOptions,
  blockHash,
  checkIsHere,
  choicesOf,
  folder,
  ipAddress,
  type MachineFlags,
  machineOf,
  NONE,
  type RunFlags,
  repeated,
} from './options.ts';
import { Screen } from './screen.ts';
import { KILLED_EXIT_CODE, onStopRequest } from './signals.ts';
import { Terminal } from './terminal.ts';

interface StartFlags extends RunFlags, MachineFlags {
  bootstrap?: string[];
  dir?: string;
  listen?: string[];
  announce?: string[];
  dialFrom?: string;
  trustBlock?: string;
  /** false with --no-journal */
  journal?: boolean;
  json?: boolean;
  progress?: boolean;
}

/** The user was promised an end within 5 s of Ctrl+C, whatever a disk or a peer is doing. */
const LEAVE_MS_MAX = 4500;

const EXAMPLES = `
Without --bootstrap the newest run goes on that was begun here with these settings and that no other process of this machine is
in, or a new one begins (a run that was joined goes on with --bootstrap or --dir); with it, everything but the options of this machine comes from that run.

Examples:
  $ outerloop start
  $ outerloop start --data ./my-texts --model nano --rounds 40
  $ outerloop start --bootstrap /ip4/192.168.1.7/tcp/4001/p2p/12D3KooW...
  $ outerloop start --bootstrap /ip4/192.168.1.7/tcp/4001/p2p/12D3KooW... --trust-block 5f0c...   (64 digits, of a recent final round
                                                                         that somebody you trust has seen)
  $ outerloop start --dir ./my-run                                       (goes on with the run in that folder)
`;

export function addStart(program: Command, finish: (code: number) => void): void {
  const command = program.command('start').description('begin a run, join one, or go on with one');
  command
    .option('--bootstrap <multiaddr>', 'a peer of the run to join; can be given several times', repeated)
    .option('--dir <path>', 'folder of this peer (default: one a run in ~/.outerloop/runs)', folder('--dir'))
    .option(
      '--listen <multiaddr>',
      'address to listen on (default: as before, at first /ip4/0.0.0.0/tcp/0); can be given several times',
      repeated,
    )
    .option(
      '--announce <multiaddr>',
      'told to others instead of what it listens on: a forwarded port; or none (default: as before)',
      repeated,
    )
    .option(
      '--dial-from <ip>',
      'address of this machine to make connections from, or any (default: as before)',
      ipAddress,
    );
  command.option('--trust-block <hash>', 'follow no history without this block, known from elsewhere', blockHash);
  addTrainingOptions(command);
  addRunOptions(command);
  addMachineOptions(command);
  command.option('--no-journal', 'do not write down events for `outerloop replay`');
  command.option('--json', 'one JSON object a line instead of the screen');
  command.option('--progress', 'with --json: also what the peer is doing, step by step');
  addDebugOption(command).addHelpText('after', EXAMPLES);
  command.action(async (flags: StartFlags) => finish(await start(flags)));
}

/** @throws CodedError `E_OPTION`, `E_DIR_NOT_EMPTY`, `E_MULTIADDR` */
export async function startOptions(flags: StartFlags): Promise<StartOptions> {
  const { bootstrap = [], dir, listen, announce, dialFrom, trustBlock, journal } = flags;
  if (trustBlock !== undefined && bootstrap.length === 0) {
    throw new CodedError('E_OPTION', '--trust-block is for joining a run: give --bootstrap with it');
  }
  if (announce && announce.length > 1 && announce.includes(NONE)) {
    throw new CodedError('E_OPTION', `--announce ${NONE} is for no address: leave out it or the others`);
  }
  const announced = announce?.includes(NONE) ? null : announce;
  if (dir !== undefined) checkRunFolder(resolve(dir));
  if (dialFrom !== undefined && dialFrom !== ANY) await checkIsHere(dialFrom);
  if (bootstrap.length > 0 || listen || announce) {
    // loaded only when there is something to check: libp2p's modules take a while
    const { parseAddress, parseListenAddress } = await import('../net/addresses.ts');
    for (const address of [...bootstrap, ...(announced ?? [])]) parseAddress(address);
    for (const address of listen ?? []) parseListenAddress(address);
  }
  return {
    bootstrap,
    choices: choicesOf(flags),
    ...(journal === false ? { journal } : {}),
    ...machineOf(flags),
    ...(dir === undefined ? {} : { dir: resolve(dir) }),
    ...(listen === undefined ? {} : { listen }),
    ...(announced === undefined ? {} : { announce: announced }),
    ...(dialFrom === undefined ? {} : { dialFrom: dialFrom === ANY ? null : dialFrom }),
    ...(trustBlock === undefined ? {} : { trustBlock }),
  };
}

async function start(flags: StartFlags): Promise<number> {
  const options = await startOptions(flags);
  const view = flags.json ? jsonView(flags) : screenView();
  let peer: RunningPeer | undefined;
  let leaving: Promise<void> | undefined;
  const removeHandlers = onStopRequest({
    stop() {
      if (!peer) {
        // nothing was joined yet, and whatever is half written on disk is made to be found so
        view.show({ event: 'done', reason: 'stopped' });
        process.exit(0);
      }
      view.note('leaving… press Ctrl+C again to quit at once');
      const left = peer.leave();
      // awaited below; a failure before that must not look like one that nobody handles
      left.catch(() => undefined);
      leaving = left;
      setTimeout(() => process.exit(0), LEAVE_MS_MAX).unref();
    },
    kill() {
      view.close();
      // the folder bears it: what a killed process leaves behind is what it resumes from
      process.exit(KILLED_EXIT_CODE);
    },
  });
  try {
    view.show({ event: 'progress', phase: 'loading', round: 0, rounds: null, peers: 0 });
    const { openRun } = await import('../run.ts');
    peer = await openRun(options, view.show);
    await peer.run();
    await leaving;
    return 0;
  } finally {
    removeHandlers();
    view.close();
  }
}

/** Where events go. */
interface View {
  show(event: PeerEvent): void;
  note(text: string): void;
  close(): void;
}

function screenView(): View {
  const screen = new Screen(new Terminal(process.stdout, process.env), () => performance.now());
  const clock = setInterval(() => screen.tick(), 1000).unref();
  return {
    show: (event) => screen.show(event),
    note: (text) => screen.note(text),
    close() {
      clearInterval(clock);
      screen.close();
    },
  };
}

/** Standard output is for events alone, so that programs can read it. */
function jsonView({ progress = false }: Pick<StartFlags, 'progress'>): View {
  return {
    show(event) {
      if (progress || event.event !== 'progress') printJson(event);
    },
    note: (text) => process.stderr.write(`outerloop: ${text}\n`),
    close: () => undefined,
  };
}

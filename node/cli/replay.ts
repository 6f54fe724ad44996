import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { CodedError, isCoded } from '../../protocol/errors.ts';
import type { Report } from '../../protocol/events.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { type Facts, noFacts } from '../journal/facts.ts';
import { journalFiles } from '../journal/journal.ts';
import { type Replay, replay } from '../journal/replay.ts';
import { type Answer, whyNot } from '../journal/why.ts';
import { isCutOff, readFramed } from '../store/framed.ts';
import { formatBytes, formatLoss, printable, shortPeer } from './format.ts';
import { printJson } from './json-lines.ts';
import { addDebugOption, integer } from './options.ts';
import { Terminal } from './terminal.ts';

interface ReplayFlags {
  why?: number;
  peer?: string;
  json?: boolean;
}

const EXAMPLES = `
A peer writes down every event that its protocol machine is given (journal/ in its folder; start --no-journal does not).
This feeds them to another machine, without network, training or key, and checks that it does the same.

Examples:
  $ outerloop replay ~/.outerloop/runs/nano-on-moby-dick-69c4199c-1
  $ outerloop replay ./my-run --why 12                    why was this peer's update not in round 12?
  $ outerloop replay ./my-run --why 12 --peer rNRzvcgU    and another's, as this peer saw it?
  $ outerloop replay ./my-run/journal/000003.journal --json

The exit status is 1 where a machine did something else than at the time, or a file is damaged.
`;

export function addReplay(program: Command, finish: (code: number) => void): void {
  const command = program.command('replay').description('feed the journal of a peer to its protocol machine again');
  command
    .argument('<journal>', 'a journal file, or the folder of a peer')
    .option('--why <round>', 'why the update is not in this round', integer('--why', 1, 2 ** 40))
    .option('--peer <id>', 'whose update, the end of its id is enough (default: the peer of the journal)')
    .option('--json', 'one JSON object a line');
  addDebugOption(command).addHelpText('after', EXAMPLES);
  command.action((path: string, flags: ReplayFlags) => finish(replayAll(path, flags)));
}

function replayAll(path: string, { why, peer, json }: ReplayFlags): number {
  if (peer !== undefined && why === undefined) {
    throw new CodedError('E_OPTION', '--peer is whose update --why asks for: give --why with it, or leave it out');
  }
  const view = json ? jsonView() : screenView(new Terminal(process.stdout, process.env));
  const facts = noFacts();
  const shown = new Set<Report>();
  const files = filesOf(path);
  let self: PeerId | undefined;
  let code = 0;
  for (const file of files) {
    const bytes = reading(file, () => readFileSync(file));
    // a peer that was ended when it began a file has its other ones all the same
    if (files.length > 1 && hasNoHead(bytes)) {
      view.passedOver(file);
      continue;
    }
    const result = replayOf(file, bytes, { facts, self, isOnly: files.length === 1 });
    if (result instanceof CodedError) {
      view.unreadable(result);
      code = 1;
      continue;
    }
    self = result.self;
    if (why === undefined) view.rounds(facts, result.self, shown);
    view.file(file, result);
    if (result.difference || result.damaged) code = 1;
  }
  if (self === undefined) throw new CodedError('E_JOURNAL_FORMAT', `no file of the journal in ${path} can be read`);
  if (why !== undefined) view.answer(whyNot(facts, why, peerOf(peer, self, facts), self));
  return code;
}

/** Of several files the others are read all the same. @throws CodedError where it is the only one */
function replayOf(
  file: string,
  bytes: Uint8Array,
  { facts, self, isOnly }: { facts: Facts; self: PeerId | undefined; isOnly: boolean },
): Replay | CodedError {
  try {
    return replay(bytes, facts, self);
  } catch (cause) {
    const error = unreadable(file, cause);
    if (isOnly) throw error;
    return error;
  }
}

function unreadable(file: string, cause: unknown): CodedError {
  if (isCoded(cause)) return new CodedError(cause.code, `${file}: ${cause.message}`, { cause });
  // whole frames, so somebody has written them: their hashes stop damage, not authors
  const why = printable(cause instanceof Error ? cause.message : String(cause));
  return new CodedError('E_JOURNAL_FORMAT', `${file}: what is in it is not of a journal (${why})`, { cause });
}

/** Nothing of it was written but perhaps a part of its head. */
function hasNoHead(bytes: Uint8Array): boolean {
  return readFramed(bytes, 1).contents.length === 0 && isCutOff(bytes);
}

/** @throws CodedError `E_JOURNAL_NOT_FOUND` */
function filesOf(path: string): string[] {
  const files = reading(path, () => filesThere(path));
  if (files.length > 0) return files;
  const message = `no journal in ${path}: give the folder of a peer that was started without --no-journal`;
  throw new CodedError('E_JOURNAL_NOT_FOUND', message);
}

function filesThere(path: string): string[] {
  if (!existsSync(path)) return [];
  if (statSync(path).isFile()) return [path];
  const inside = join(path, 'journal');
  return journalFiles(existsSync(inside) ? inside : path);
}

function reading<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new CodedError('E_JOURNAL_NOT_FOUND', `cannot read the journal ${path} (${reason})`, { cause });
  }
}

/** @throws CodedError `E_PEER_UNKNOWN` unless exactly one peer of the journal is meant */
function peerOf(ending: string | undefined, self: PeerId, { rounds }: Facts): PeerId {
  if (ending === undefined) return self;
  const all = [...rounds.values()].flatMap(({ places, headers }) => [...(places ?? []), ...headers.keys()]);
  const meant = [...new Set(all)].filter((peer) => peer.endsWith(ending));
  const [only] = meant;
  if (only !== undefined && meant.length === 1) return only;
  const count = meant.length === 0 ? 'no peer' : `${meant.length} peers`;
  throw new CodedError('E_PEER_UNKNOWN', `${count} of this journal has an id that ends in "${printable(ending)}"`);
}

interface View {
  /** those that were not shown yet */
  rounds(facts: Facts, self: PeerId, shown: Set<Report>): void;
  file(path: string, result: Replay): void;
  /** it has no beginning */
  passedOver(path: string): void;
  unreadable(error: CodedError): void;
  answer(answer: Answer): void;
}

function newRounds({ rounds }: Facts, shown: Set<Report>) {
  const reports = [...rounds.values()].flatMap((each) => each.reports).filter((report) => !shown.has(report));
  for (const report of reports) shown.add(report);
  return reports.sort((a, b) => a.round - b.round);
}

function jsonView(): View {
  return {
    rounds(facts, _self, shown) {
      for (const { kind, ...report } of newRounds(facts, shown)) printJson({ event: kind, ...report });
    },
    file: (path, { self, run, ...result }) =>
      printJson({ event: 'replayed', file: path, peer: self, runId: run, ...result }),
    passedOver: (path) => console.error(passedOverWords(path)),
    unreadable: ({ message }) => console.error(printable(message)),
    answer: (answer) => printJson({ event: 'why', ...answer }),
  };
}

function passedOverWords(path: string): string {
  return `${path}: passed over, the peer was ended or its disk was full when it began this file`;
}

const FATES = { included: 'accepted', late: 'late', none: 'no update' } as const;

function screenView(terminal: Terminal): View {
  return {
    rounds(facts, self, shown) {
      for (const { round, root, final, contributors, trainLoss, own } of newRounds(facts, shown)) {
        const others = contributors.filter((peer) => peer !== self).map(shortPeer);
        const state = final ? terminal.paint('green', 'final') : terminal.paint('yellow', 'unfinal');
        const parts = [`root ${root.slice(0, 12)}`, `loss ${formatLoss(trainLoss)}`, state, `own ${FATES[own]}`];
        const of = others.length > 0 ? [`others ${others.join(' ')}`] : [];
        terminal.line([terminal.paint('bold', `round ${round}`), ...parts, ...of].join('  '));
      }
    },
    passedOver: (path) => terminal.line(terminal.paint('dim', passedOverWords(path))),
    unreadable: ({ message }) => terminal.line(terminal.paint('red', printable(message))),
    file(path, { events, difference, tornBytes, damaged, continued }) {
      const torn = tornBytes > 0 && !damaged ? `, ${formatBytes(tornBytes)} at the end are no whole event` : '';
      const lost = `the last ${formatBytes(tornBytes)} are damaged, what is in them is not known`;
      if (damaged) terminal.line(terminal.paint('red', `${path}: ${lost}`));
      const same = continued ? 'the same rounds' : 'the same effects';
      if (!difference) return terminal.line(terminal.paint('dim', `${path}: ${events} events, ${same}${torn}`));
      const { event, type, expected, got } = difference;
      terminal.line(terminal.paint('red', `${path}: differs at event ${event} (${printable(type)})`));
      if (continued) terminal.line('  the file goes on in mid-life: what it does not hold may be the cause');
      terminal.line(`  expected  ${printable(expected) || 'nothing'}`);
      terminal.line(`  got       ${printable(got) || 'nothing'}`);
    },
    answer: ({ round, peer, reason, text }) =>
      terminal.line(`round ${round}, peer ${shortPeer(peer)}: ${text} [${reason}]`),
  };
}

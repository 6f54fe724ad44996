import type { Effect, Report } from '../../protocol/events.ts';
import { hashOf } from '../../protocol/hash.ts';
import type { Message } from '../../protocol/messages.ts';
import { encodeRecord, type PeerRecord } from '../../protocol/record.ts';
import { blockHash } from '../../protocol/signing.ts';
import type { Block, Entry } from '../../protocol/wire.ts';

/** What the machine wanted done, in a line each: equal lines mean equal effects, but for payloads inside headers. */
export function describeEffect(effect: Effect): string {
  switch (effect.type) {
    case 'append':
      return `append ${describeEntry(effect.entry)}${effect.segment ? ' in a new segment' : ''}`;
    case 'broadcast':
      return `broadcast ${describeMessage(effect.message)}`;
    case 'send':
      return `send ${short(effect.peer)} ${describeMessage(effect.message)}`;
    case 'restore':
      return describeRestore(effect);
    case 'train':
    case 'train-on': {
      const { round, base, firstPosition, steps, firstStep } = effect;
      return `${effect.type} ${round} ${short(base)} ${firstPosition} ${firstStep}+${steps}`;
    }
    case 'fetch':
      return `fetch ${short(effect.update.payload)} ${effect.update.size} from ${effect.holders.map(short)}`;
    case 'take':
      return `take ${effect.headers.map(({ update }) => short(update.payload))}`;
    case 'apply':
      return `apply ${describeBlock(effect.entry.block)} ${effect.final ? 'final' : 'unfinal'}`;
    case 'request-history':
      return describeQuestion(effect);
    case 'wake':
      return `wake ${effect.atMs}`;
    case 'report':
      return describeReport(effect.report);
    case 'persist':
      return `persist ${describeRecord(effect.record)}`;
    case 'initialize':
    case 'abandon':
    case 'finish':
      return effect.type;
    default:
      return effect satisfies never;
  }
}

function describeEntry({ block, certificate: { signatures } }: Entry): string {
  return `${describeBlock(block)} by ${signatures.map(([place]) => place)}`;
}

/** What must not be forgotten, but for the payloads in headers, which a journal leaves out. */
function describeRecord({ headers, ...record }: PeerRecord): string {
  const bare = headers.map((header) => ({ ...header, inline: null }));
  return short(hashOf(encodeRecord({ ...record, headers: bare })));
}

function describeQuestion({ peer, request }: Effect & { type: 'request-history' }): string {
  const { fromHeight, skip, anchors } = request;
  return `ask ${short(peer)} ${fromHeight}+${skip}${anchors > 0 ? ` after ${anchors} anchors` : ''}`;
}

function describeRestore({ state, holders, own: { included } }: Effect & { type: 'restore' }): string {
  const own = included.map(({ payload, final }) => `${short(payload)} ${final ? 'final' : 'unfinal'}`);
  return `restore ${state.round} ${short(state.snapshot)} from ${holders.map(short)} with ${own}`;
}

/** Of a step in which the machine failed. */
export function describeFailure(error: Error): string {
  return `${FAILURE}${error.message}`;
}

/** The lines that say what the peers agreed on, or that the machine failed. */
export function isOutcome(line: string): boolean {
  return line.startsWith(ROUND) || line.startsWith(FAILURE);
}

const ROUND = 'round ';
const FAILURE = 'throws ';

function describeReport(report: Report): string {
  switch (report.kind) {
    case 'round': {
      const { round, root, final, own, contributors } = report;
      return `${ROUND}${round} root ${root} ${final ? 'final' : 'unfinal'} own ${own} of ${contributors.map(short)}`;
    }
    case 'synced':
      return `synced ${report.round} root ${report.root}`;
    case 'peer':
      return `peer ${short(report.peer)} ${report.change}`;
    case 'warning':
      return `warning ${report.code} ${report.message}`;
    case 'done':
      return `done ${report.reason}`;
    default:
      return report satisfies never;
  }
}

function describeMessage(message: Message): string {
  switch (message.type) {
    case 'header':
      return `header ${message.round} ${short(message.base)} ${short(message.update.payload)}`;
    case 'join':
      return `join ${short(message.join.author)} ${message.join.height}`;
    case 'leave':
      return `leave ${short(message.leave.author)} ${message.leave.height}`;
    case 'proposal':
      return `proposal ${message.view}<${message.parentView} ${describeBlock(message.block)}`;
    case 'vote':
      return `vote ${message.kind} ${message.height}/${message.view} ${short(message.block ?? '-')}`;
    case 'certificate': {
      const { kind, height, view, block, signatures } = message.certificate;
      return `certificate ${kind} ${height}/${view} ${short(block ?? '-')} by ${signatures.map(([place]) => place)}`;
    }
    case 'status':
      return `status ${message.height} ${message.unfinalTokens} ${message.round} ${short(message.tip)}`;
    default:
      return message satisfies never;
  }
}

function describeBlock(block: Block): string {
  return `${block.kind} ${block.height} ${short(blockHash(block))}`;
}

/** Hashes differ from the first digit on, peers' ids only at the end. */
function short(id: string): string {
  return id.startsWith('12D3') ? id.slice(-8) : id.slice(0, 12);
}

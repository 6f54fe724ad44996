import type { Effect, Event, Report } from '../../protocol/events.ts';
import type { History, Message } from '../../protocol/messages.ts';

/** Lines kept. */
const KEPT = 4000;

/** The last things that happened in a swarm, as lines for a person; written out only when they are asked for. */
export class Diary {
  readonly #lines: (() => string)[] = [];
  #next = 0;

  note(nowMs: number, peer: number, text: string): void {
    this.#add(() => line(nowMs, peer, text));
  }

  onStep(nowMs: number, peer: number, event: Event, effects: readonly Effect[]): void {
    this.#add(() => {
      const did = effects.flatMap((effect) => (QUIET.has(effect.type) ? [] : [describeEffect(effect)]));
      return line(nowMs, peer, `${describeEvent(event)}${did.length > 0 ? ` -> ${did.join('; ')}` : ''}`);
    });
  }

  onReport(nowMs: number, peer: number, report: Report): void {
    if (report.kind !== 'warning') return;
    this.#add(() => line(nowMs, peer, `${report.code} ${report.message}`));
  }

  /** Oldest first. */
  lines(): string[] {
    const ordered = [...this.#lines.slice(this.#next), ...this.#lines.slice(0, this.#next)];
    return ordered.map((write) => write());
  }

  #add(write: () => string): void {
    this.#lines[this.#next] = write;
    this.#next = (this.#next + 1) % KEPT;
  }
}

const QUIET = new Set<Effect['type']>(['persist', 'wake', 'report']);

function line(nowMs: number, peer: number, text: string): string {
  const who = peer < 0 ? '       ' : `peer ${String(peer).padEnd(2)}`;
  return `${nowMs.toFixed(1).padStart(9)} ${who} ${text}`;
}

function describeEvent(event: Event): string {
  switch (event.type) {
    case 'messages':
      return `heard ${event.messages.map(describeMessage).join('; ')}`;
    case 'peer':
      return `${event.up ? 'up' : 'down'} ${short(event.peer)}`;
    case 'trained':
      return `trained ${short(event.update.payload)} on ${short(event.base)}`;
    case 'trained-on':
      return `trained on from ${short(event.base)}`;
    case 'broken':
      return `trained in vain on ${short(event.base)}`;
    case 'payload':
      return `payload ${short(event.update.payload)} ${event.error ?? 'here'}`;
    case 'taken':
      return `took ${event.headers.length} payloads, refused ${event.refused.size}`;
    case 'applied':
      return `applied ${short(event.block)}: ${short(event.snapshot)}`;
    case 'restored':
      return `restored ${short(event.snapshot)} ${event.error ?? ''}`;
    case 'history':
      return `history from ${short(event.peer)}: ${event.history ? describeHistory(event.history) : 'none'}`;
    default:
      return event.type;
  }
}

function describeEffect(effect: Effect): string {
  switch (effect.type) {
    case 'broadcast':
      return `say ${describeMessage(effect.message)}`;
    case 'send':
      return `tell ${short(effect.peer)} ${describeMessage(effect.message)}`;
    case 'append': {
      const { height, kind, round, members, previous, joins, leaves, evictions } = effect.entry.block;
      const came = joins.map(({ author }) => `, in ${short(author)}`);
      const went = leaves.map(({ author }) => `, out ${short(author)}`);
      const evicted = evictions.map(({ author }) => `, evicts ${short(author)}`);
      const begins = effect.segment ? [`, begins a segment, ${effect.segment.keep} kept`] : [];
      const changes = [...came, ...went, ...evicted, ...begins].join('');
      return `append ${kind} ${height}, round ${round}${members ? ' unfinal' : ''}, after ${short(previous)}${changes}`;
    }
    case 'restore':
      return `restore round ${effect.state.round} ${short(effect.state.snapshot)}`;
    case 'train':
    case 'train-on':
      return `${effect.type} round ${effect.round} on ${short(effect.base)}`;
    case 'fetch':
      return `fetch ${short(effect.update.payload)}`;
    case 'apply':
      return `apply ${short(effect.block)}`;
    case 'request-history':
      return `ask ${short(effect.peer)} from ${effect.request.fromHeight}`;
    default:
      return effect.type;
  }
}

function describeHistory({ anchors, entries }: History): string {
  return `${anchors.length} anchors, ${entries.length} entries`;
}

function describeMessage(message: Message): string {
  switch (message.type) {
    case 'header':
      return `header of ${short(message.update.author)} round ${message.round} ${short(message.update.payload)}`;
    case 'proposal':
      return `proposal of ${short(message.author)} ${message.height}/${message.view}, parent ${message.parentView}`;
    case 'vote':
      return `${message.kind} of ${short(message.author)} ${message.height}/${message.view} ${short(message.block)}`;
    case 'certificate': {
      const { kind, height, view, block } = message.certificate;
      return `certificate ${kind} ${height}/${view} ${short(block)}`;
    }
    case 'status':
      return `status of ${short(message.author)} height ${message.height} round ${message.round} ${short(message.tip)}`;
    default:
      return message.type;
  }
}

/** Enough of a hash or a peer's id to tell it from others. */
function short(name: string | null): string {
  if (name === null) return '-';
  return name.startsWith('12D3KooW') ? name.slice(8, 13) : name.slice(0, 6);
}

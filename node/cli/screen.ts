import { COMMITTEE } from '../../protocol/genesis.ts';
import { faultsTolerated } from '../../protocol/roster.ts';
import type { PeerEvent } from '../peer-events.ts';
import {
  formatBar,
  formatBytes,
  formatCount,
  formatDuration,
  formatLoss,
  printable,
  shellWord,
  shortPeer,
} from './format.ts';
import { joinAddresses, joinLine } from './join-line.ts';
import type { Style, Terminal } from './terminal.ts';

type EventOf<Name extends PeerEvent['event']> = Extract<PeerEvent, { event: Name }>;

/** The status line is written over at most so often; more is not seen, and costs where the terminal is far away. */
const STATUS_INTERVAL_MS = 100;

/** A wait as long as this is told with its time. */
const WAIT_TOLD_MS = 2000;

/** Weight of the last round in the running mean that the time left is told from. */
const ROUND_TIME_WEIGHT = 0.3;

/** Width of the names in front of the values. */
const FIELD_COLUMNS = 6;

/** Phases that go before training; each is worth a line where there is no status line. */
const PHASES_BEFORE = ['loading', 'fetching', 'waiting'];

/**
 * What a person sees of a running peer: how others join, a line a round, and a status line with what is going on now.
 */
export class Screen {
  readonly #terminal: Terminal;
  readonly #now: () => number;
  #directory = '';
  #isDone = false;
  #rounds: number | null = null;
  #phase = '';
  #phaseSinceMs = 0;
  /** what the status line is of */
  #progress: EventOf<'progress'> | undefined;
  /** most others at a time so far */
  #peersMax = 0;
  /** own contributions since the last round's line */
  readonly #accepted: number[] = [];
  #statusMs = Number.NEGATIVE_INFINITY;
  /** when the round under way began, unless it was spent on fetching or waiting */
  #roundSinceMs: number | undefined;
  /** running mean */
  #roundMs: number | undefined;
  /** an earlier process has done a part of the round under way, so that this one's time says nothing of its speed */
  #isShared = false;

  /** @param now milliseconds of any clock that does not go back */
  constructor(terminal: Terminal, now: () => number) {
    this.#terminal = terminal;
    this.#now = now;
  }

  show(event: PeerEvent): void {
    switch (event.event) {
      case 'ready':
        this.#showReady(event);
        break;
      case 'synced':
        this.#showSynced(event);
        break;
      case 'round':
        this.#showRound(event);
        break;
      case 'receipt':
        this.#showReceipt(event);
        break;
      case 'peer':
        this.note(
          `peer ${shortPeer(printable(event.id))} ${event.change}${'members' in event ? votersOf(event.members) : ''}`,
        );
        break;
      case 'warning':
        this.warn(event.code, event.message);
        break;
      case 'done':
        this.#showDone(event);
        break;
      case 'progress':
        this.#showProgress(event);
        break;
      default:
        event satisfies never;
    }
  }

  /** Something that the program itself has to say. */
  note(text: string): void {
    this.#terminal.line(this.#paint('dim', text));
  }

  warn(code: string, message: string): void {
    this.#terminal.line(`${this.#paint('yellow', 'warning:')} ${printable(message)} [${printable(code)}]`);
  }

  /** Time has passed: a wait that says nothing for long must not look as if all had come to a stop. */
  tick(): void {
    if (this.#progress) this.#terminal.status(...this.#statusOf(this.#progress));
  }

  /** Takes the status line away. */
  close(): void {
    this.#progress = undefined;
    this.#terminal.status('');
  }

  #showReady({ runId, peerId, addresses, backend, parameters, directory, title, resumed }: EventOf<'ready'>): void {
    this.#directory = directory;
    this.#isShared = resumed;
    const { network, loopback } = joinAddresses(addresses.map(printable), peerId);
    this.#terminal.line(
      `${this.#paint('bold', 'outerloop')}  ${printable(title)}  run ${runId.slice(0, 8)}${resumed ? ', resumed' : ''}`,
    );
    this.#field('peer', peerId);
    this.#field('model', `${formatCount(parameters)} parameters, ${backend}`);
    this.#field('folder', directory);
    if (network) this.#lineToCopy('join from another machine', joinLine(network));
    if (loopback) this.#lineToCopy('join from this machine', joinLine(loopback));
    this.#terminal.line();
  }

  #lineToCopy(name: string, command: string): void {
    this.#terminal.line(`  ${this.#paint('dim', `${name}:`)}`);
    this.#terminal.line(`    ${this.#paint('cyan', command)}`);
  }

  #field(name: string, value: string): void {
    this.#terminal.line(`  ${this.#paint('dim', name.padEnd(FIELD_COLUMNS))} ${value}`);
  }

  #showSynced({ round, root, bytes, ms }: EventOf<'synced'>): void {
    // who begins a run or goes on alone has fetched nothing
    if (bytes === 0) return;
    const what = `${formatBytes(bytes)} in ${formatDuration(ms)}`;
    this.#terminal.line(`synced to round ${round}: ${what}, root ${root.slice(0, 8)}`);
  }

  #showRound(event: EventOf<'round'>): void {
    // a round that was caught up with took others longer
    const tookMs = this.#timeRound(event.computeFraction > 0);
    const { round, trainLoss, valLoss, contributors, final } = event;
    const left = this.#rounds === null || this.#roundMs === undefined ? 0 : this.#roundMs * (this.#rounds - round);
    const parts = [
      this.#paint('bold', `round ${this.#ofRounds(round)}`),
      `loss ${formatLoss(trainLoss)}`,
      valLoss === null ? undefined : this.#paint('green', `val ${formatLoss(valLoss)}`),
      tookMs ? `${formatCount((1000 * event.tokens) / tookMs)} tok/s` : undefined,
      contributors.length === 1 ? '1 peer' : `${contributors.length} peers`,
      `↑ ${formatBytes(event.bytesSent)} ↓ ${formatBytes(event.bytesReceived)}`,
      `compute ${Math.round(100 * event.computeFraction)}%`,
      final ? this.#paint('green', 'final') : this.#paint('yellow', 'unfinal'),
      this.#takeAccepted(round),
      left > 0 ? this.#paint('dim', `${formatDuration(left)} left`) : undefined,
    ];
    this.#terminal.line(parts.filter((part) => part !== undefined).join('  '));
  }

  /** Comes before the round that it came of. */
  #showReceipt({ status, round, code, acceptedIn }: EventOf<'receipt'>): void {
    switch (status) {
      case 'accepted':
        this.#accepted.push(acceptedIn ?? round);
        return;
      case 'late': {
        if (code === 'beyond')
          return this.note(`what was learned after the update for round ${round} goes into the next one`);
        const how = code === 'training' ? 'before this peer had an update for it' : 'without the update of this peer';
        return this.note(`round ${round} ended ${how}: its work goes into the next one`);
      }
      case 'returned':
        return this.note(`the update for round ${round} was given back: its work goes into the next one`);
      case 'unknown':
        return this.note(`whether the update for round ${round} counted is not known any more: its work is given up`);
      case 'refused':
        return this.note(`no update for round ${round}${code === undefined ? '' : ` (${code})`}`);
      default:
        status satisfies never;
    }
  }

  /** Also those that earlier rounds took in, of which nobody could tell before that they would stay. */
  #takeAccepted(round: number): string | undefined {
    const accepted = this.#accepted.splice(0);
    const isIn = accepted.includes(round);
    const before = accepted.length - Number(isIn);
    if (isIn) return before === 0 ? 'own accepted' : `own accepted, with ${before} from before`;
    return before === 0 ? undefined : `${before} from before accepted`;
  }

  /** @returns how long the round took in ms, if that is known */
  #timeRound(isOwn: boolean): number | undefined {
    const now = this.#now();
    const sinceMs = this.#isShared || !isOwn ? undefined : this.#roundSinceMs;
    const tookMs = sinceMs === undefined ? undefined : now - sinceMs;
    this.#roundSinceMs = now;
    this.#isShared = false;
    if (tookMs === undefined) return undefined;
    const before = this.#roundMs ?? tookMs;
    this.#roundMs = before + ROUND_TIME_WEIGHT * (tookMs - before);
    return tookMs;
  }

  #showProgress(event: EventOf<'progress'>): void {
    const { phase, detail, rounds } = event;
    const changed = phase !== this.#phase;
    // what was under way when the run ended for this peer
    if (this.#isDone) return;
    if (changed) this.#phaseSinceMs = this.#now();
    this.#phase = phase;
    this.#rounds = rounds;
    this.#peersMax = Math.max(this.#peersMax, event.peers);
    if (PHASES_BEFORE.includes(phase)) this.#roundSinceMs = undefined;
    else this.#roundSinceMs ??= this.#now();
    if (!this.#terminal.live) {
      if (changed && PHASES_BEFORE.includes(phase)) this.note(detail ? `${phase}: ${printable(detail)}` : phase);
      return;
    }
    this.#progress = event;
    if (!changed && this.#now() - this.#statusMs < STATUS_INTERVAL_MS) return;
    this.#statusMs = this.#now();
    this.#terminal.status(...this.#statusOf(event));
  }

  /** What matters most comes first; what matters least is left out where the line is too narrow. */
  #statusOf(event: EventOf<'progress'>) {
    const { phase, round, step, steps, loss, tokensPerSecond, peers, detail } = event;
    // until it is applied, the round under way is the one after those that the state has behind it
    const shownRound = phase === 'training' || phase === 'gathering' ? round + 1 : round;
    const what = PHASES_BEFORE.includes(phase) ? phase : `round ${this.#ofRounds(shownRound)} ${doingOf(event)}`;
    const phaseMs = this.#now() - this.#phaseSinceMs;
    const rest = [
      detail && printable(detail),
      phase !== 'training' && phaseMs >= WAIT_TOLD_MS ? formatDuration(phaseMs) : undefined,
      loss === undefined ? undefined : `loss ${formatLoss(loss)}`,
      phase === 'loading' ? undefined : connectedTo(peers, this.#peersMax),
      tokensPerSecond === undefined ? undefined : `${formatCount(tokensPerSecond)} tok/s`,
    ].filter(Boolean);
    const line = (cells: number, parts: number): string => {
      const bar = cells > 0 ? ` ${formatBar(step ?? 0, steps ?? 0, cells)}` : '';
      const whole = steps === undefined ? what : `${what}${bar} ${step ?? 0}/${steps}`;
      return [whole, ...rest.slice(0, parts)].join(' · ');
    };
    const shorter = rest.map((_, i) => line(0, rest.length - 1 - i));
    return [line(20, rest.length), line(10, rest.length), line(0, rest.length), ...shorter] as const;
  }

  #showDone({ reason }: EventOf<'done'>): void {
    this.close();
    this.#isDone = true;
    const why = { rounds: 'all rounds are done', left: 'left the run', stopped: 'stopped' }[reason];
    this.#terminal.line(this.#paint('bold', why));
    if (this.#directory === '') return;
    const folder = shellWord(this.#directory);
    this.#field('model', `in ${this.#directory}`);
    this.#field('try it', `npx outerloop generate --dir ${folder}`);
    if (reason !== 'rounds') this.#field('go on', `node start --dir ${folder}`);
  }

  #ofRounds(round: number): string {
    return this.#rounds === null ? String(round) : `${round}/${this.#rounds}`;
  }

  #paint(style: Style, text: string): string {
    return this.#terminal.paint(style, text);
  }
}

/** Done with its own part, a peer stands still until the others are: that is to be seen. */
function doingOf({ phase, updates }: EventOf<'progress'>): string {
  if (phase !== 'gathering' || !updates || updates.of < 2) return phase;
  const { here, of } = updates;
  return here < of ? `waiting for ${of - here} of ${of} updates` : 'waiting for votes';
}

function connectedTo(peers: number, before: number): string {
  if (peers === 0) return before === 0 ? 'no other peer yet' : `no other peer (${before} before)`;
  return peers === 1 ? '1 other peer' : `${peers} other peers`;
}

/** How many there are, and what that means for votes. In a large run a committee votes: the numbers are others then. */
function votersOf(members: number): string {
  if (members > COMMITTEE.size) return `: ${members} members`;
  const faulty = faultsTolerated(members);
  if (faulty > 0) return `: ${members} members, ${faulty} of them may fail`;
  return members === 1 ? ': 1 member' : `: ${members} members, all of them must vote (from four on, one may fail)`;
}

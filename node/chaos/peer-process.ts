import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { CodedError } from '../../protocol/errors.ts';
import type { PeerEvent } from '../peer-events.ts';

export type Line<Name extends PeerEvent['event'] = PeerEvent['event']> = Extract<PeerEvent, { event: Name }>;
export type RoundLine = Line<'round'>;

const program = fileURLToPath(new URL('../../start.js', import.meta.url));

/** What is kept of a peer's standard error. Characters. */
const STDERR_MAX = 10_000;

/** A real `start --json` in a process of its own, watched through what it prints. */
export class PeerProcess {
  /** all but progress, of which there is a lot */
  readonly lines: Line[] = [];
  readonly dir: string;
  stderr = '';
  /** with the exit code; null when a signal ended it */
  readonly exited: Promise<number | null>;
  ended = false;
  readonly #child: ChildProcess;
  readonly #watchers = new Set<(line: Line | undefined) => void>();

  /** @param command that begins it somewhere else, such as in another network: what comes before its own command line */
  constructor(dir: string, options: readonly string[], command: readonly string[] = []) {
    this.dir = dir;
    const [file = process.execPath, ...argv] = [
      ...command,
      process.execPath,
      ...[program, 'start', '--json', '--progress', '--dir', dir, ...options],
    ];
    // a group of its own: Ctrl+C in the terminal is for who started it to deal with
    this.#child = spawn(file, argv, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const { stdout, stderr } = this.#child;
    if (stdout) createInterface({ input: stdout }).on('line', (line) => this.#read(line));
    stderr?.on('data', (chunk) => this.#hear(chunk));
    this.exited = new Promise((resolve) => {
      const end = (code: number | null): void => {
        if (this.ended) return;
        this.ended = true;
        this.#notify(undefined);
        resolve(code);
      };
      this.#child.on('close', end);
      this.#child.on('error', (error) => {
        this.#hear(error.message);
        // one that could not be begun; a signal that could not be sent is told here too, and ends nothing
        if (this.#child.pid === undefined) end(null);
      });
    });
  }

  get rounds(): RoundLine[] {
    return this.lines.filter((line) => line.event === 'round');
  }

  get last(): RoundLine | undefined {
    return this.lines.findLast((line) => line.event === 'round');
  }

  get #ready(): Line<'ready'> | undefined {
    return this.lines.find((line) => line.event === 'ready');
  }

  get id(): string {
    return this.#ready?.peerId ?? '';
  }

  get address(): string {
    return this.#ready?.addresses[0] ?? '';
  }

  /** Calls back with every line to come, and with nothing when the process has ended. @returns an end to that */
  watch(watcher: (line: Line | undefined) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /**
   * Resolves once the condition holds; looks again at every line.
   * @throws CodedError `E_PEER_ENDED` when the process ends before
   */
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!condition() && !this.ended) return;
        stop();
        if (condition()) resolve();
        else reject(new CodedError('E_PEER_ENDED', this.#lastWords()));
      };
      const stop = this.watch(look);
      look();
    });
  }

  ready(): Promise<void> {
    return this.until(() => this.#ready !== undefined);
  }

  reached(round: number): Promise<void> {
    return this.until(() => (this.last?.round ?? 0) >= round);
  }

  /** A round after `after` with an update of this peer in it. */
  contribution(of: string, after: number): RoundLine | undefined {
    return this.rounds.find((line) => line.round > after && line.contributors.includes(of));
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** For signals that end it. */
  kill(signal: NodeJS.Signals): Promise<number | null> {
    this.signal(signal);
    return this.exited;
  }

  /** A line that is no event, such as one that a kill cut short, is kept with what else it said. */
  #read(text: string): void {
    let line: Line | null;
    try {
      line = JSON.parse(text);
    } catch {
      line = null;
    }
    if (typeof line?.event === 'string') this.#take(line);
    else this.#hear(`${text}\n`);
  }

  #hear(text: unknown): void {
    this.stderr = `${this.stderr}${text}`.slice(-STDERR_MAX);
  }

  #take(line: Line): void {
    if (line.event !== 'progress') this.lines.push(line);
    this.#notify(line);
  }

  #notify(line: Line | undefined): void {
    for (const watcher of [...this.#watchers]) watcher(line);
  }

  #lastWords(): string {
    const last = this.lines.slice(-5).map((line) => JSON.stringify(line));
    return `the peer in ${this.dir} ended: ${[this.stderr.trim(), ...last].join('\n')}`;
  }
}

/** Final roots by round, over all lives of all peers: a round with two of them would be a divergence. */
export function finalRoots(peers: readonly Pick<PeerProcess, 'rounds'>[]): Map<number, Set<string>> {
  const roots = new Map<number, Set<string>>();
  for (const peer of peers) {
    for (const { round, root, final } of peer.rounds) {
      if (final) roots.set(round, (roots.get(round) ?? new Set()).add(root));
    }
  }
  return roots;
}

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** One line of `--json` output. */
export interface Line {
  event: string;
  [field: string]: unknown;
}

export interface RoundLine extends Line {
  round: number;
  root: string;
  final: boolean;
  contributors: string[];
  bytesSent: number;
  bytesReceived: number;
}

const program = fileURLToPath(new URL('../../start.js', import.meta.url));

/** A real `node start` in a process of its own, watched through its `--json` output. */
export class PeerProcess {
  readonly lines: Line[] = [];
  readonly dir: string;
  stderr = '';
  readonly exited: Promise<number | null>;
  readonly #child: ChildProcess;
  readonly #watchers = new Set<() => void>();
  #ended = false;

  constructor(dir: string, options: string[]) {
    this.dir = dir;
    const fixed = ['start', '--json', '--dir', dir, '--listen', '/ip4/127.0.0.1/tcp/0'];
    this.#child = spawn(process.execPath, [program, ...fixed, ...options], { stdio: ['ignore', 'pipe', 'pipe'] });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      this.lines.push(JSON.parse(line));
      for (const watch of this.#watchers) watch();
    });
    this.#child.stderr!.on('data', (chunk) => {
      this.stderr += chunk;
    });
    this.exited = new Promise((resolve) => {
      this.#child.on('close', (code) => {
        this.#ended = true;
        for (const watch of this.#watchers) watch();
        resolve(code);
      });
    });
  }

  get rounds(): RoundLine[] {
    return this.lines.filter((line) => line.event === 'round') as RoundLine[];
  }

  get last(): RoundLine | undefined {
    return this.rounds.at(-1);
  }

  get id(): string {
    return this.lines.find((line) => line.event === 'ready')?.peerId as string;
  }

  get address(): string {
    const ready = this.lines.find((line) => line.event === 'ready');
    return (ready?.addresses as string[] | undefined)?.[0] ?? '';
  }

  /** Resolves once the condition holds; looks again at every line. Rejects when the process ends before. */
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const watch = (): void => {
        if (condition()) {
          this.#watchers.delete(watch);
          resolve();
        } else if (this.#ended) {
          this.#watchers.delete(watch);
          reject(
            new Error(
              `peer ended: ${this.stderr}\n${this.lines
                .slice(-5)
                .map((l) => JSON.stringify(l))
                .join('\n')}`,
            ),
          );
        }
      };
      this.#watchers.add(watch);
      watch();
    });
  }

  ready(): Promise<void> {
    return this.until(() => this.lines.some((line) => line.event === 'ready'));
  }

  reached(round: number): Promise<void> {
    return this.until(() => (this.last?.round ?? 0) >= round);
  }

  /** A round after `after` with an update of this peer in it. */
  contribution(of: string, after: number): RoundLine | undefined {
    return this.rounds.find((line) => line.round > after && line.contributors.includes(of));
  }

  kill(signal: NodeJS.Signals): Promise<number | null> {
    this.#child.kill(signal);
    return this.exited;
  }
}

/** Roots by round, over all lives of all peers: a round with two final roots would be a divergence. */
export function finalRoots(peers: readonly PeerProcess[]): Map<number, Set<string>> {
  const roots = new Map<number, Set<string>>();
  for (const peer of peers) {
    for (const { round, root, final } of peer.rounds) {
      if (final) roots.set(round, (roots.get(round) ?? new Set()).add(root));
    }
  }
  return roots;
}

import { faultsTolerated } from '../../protocol/roster.ts';
import type { Line } from './peer-process.ts';

/** A round that certified blocks of different peers gave different roots. */
export interface Divergence {
  round: number;
  /** peers by root */
  roots: Record<string, number[]>;
}

/** What became of the work that peers told of in receipts. */
export interface Work {
  contributions: number;
  /** in the round that they were made for */
  accepted: number;
  /** late or returned, and accepted with a later update */
  carried: number;
  /** late or returned and not told of again: in a residual at the end */
  open: number;
  refused: number;
  /** given up: the history that the others still have begins after it */
  lost: number;
  /**
   * inner steps that killed peers had taken and, started again, did not go on from: at most so many, for where the round was
   * over by then it is not known how much of them the disk had
   */
  stepsLost: number;
}

type Became = 'accepted' | 'carried' | 'open' | 'refused' | 'lost';

const BECAME = { late: 'open', returned: 'open', refused: 'refused', unknown: 'lost' } as const;

interface Steps {
  round: number;
  done: number;
}

/** What all peers of a swarm have said, over all of their lives. */
export class Observed {
  lastRound = 0;
  /** by the clock, when the first peer told of that round's end; before the first, when this began */
  lastRoundAtMs: number;
  readonly #now: () => number;
  readonly #rounds = new Map<number, { tokens: number; final: boolean; contributors: Set<string> }>();
  readonly #peers = new Set<number>();
  /** peers that have told of an unfinal round */
  readonly #unfinal = new Map<number, Set<number>>();
  /** final roots by round, then the peers that told them */
  readonly #roots = new Map<number, Map<string, Set<number>>>();
  readonly #work = new Map<string, Set<Became>>();
  /** by peer: the steps of the training under way, and of one that was ended by kill -9 until it is known what is left of it */
  readonly #training = new Map<number, Steps>();
  readonly #cutShort = new Map<number, Steps>();
  /** how long each round was, the first with all that came before it */
  readonly #roundsMs: number[] = [];
  /** by peer: the last round for which it has made its update */
  readonly #updates = new Map<number, number>();
  #stepsLost = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.lastRoundAtMs = now();
  }

  /** @param peer its place */
  take(peer: number, line: Line): void {
    this.#peers.add(peer);
    if (line.event === 'round') this.#takeRound(peer, line);
    if (line.event === 'receipt') this.#takeReceipt(peer, line);
    if (line.event === 'progress') this.#takeProgress(peer, line);
  }

  /** Its process is gone, and what it was training ends with it. */
  killed(peer: number): void {
    const steps = this.#training.get(peer);
    if (steps) this.#cutShort.set(peer, steps);
    this.#training.delete(peer);
  }

  /** Trained on, each round counted once. */
  get tokens(): number {
    let sum = 0;
    for (const { tokens } of this.#rounds.values()) sum += tokens;
    return sum;
  }

  /** How long a round is: the median, for one that waited for somebody says little; 0 before the first is over. */
  usualRoundMs(): number {
    return this.#roundsMs.toSorted((a, b) => a - b)[this.#roundsMs.length >> 1] ?? 0;
  }

  /** The last round for which this peer has made its update, 0 where there is none. */
  updateOf(peer: number): number {
    return this.#updates.get(peer) ?? 0;
  }

  /** @returns the first final round after `after` with an update of this peer in it */
  contribution(id: string, after: number): number | undefined {
    const rounds = [...this.#rounds].filter(
      ([round, { final, contributors }]) => final && round > after && contributors.has(id),
    );
    return rounds.length === 0 ? undefined : Math.min(...rounds.map(([round]) => round));
  }

  /** @returns `compared`: how many roots were told, by all peers together */
  compareRoots(): { rounds: number; compared: number; diverged: Divergence[] } {
    let compared = 0;
    const diverged: Divergence[] = [];
    for (const [round, roots] of this.#roots) {
      for (const peers of roots.values()) compared += peers.size;
      if (roots.size < 2) continue;
      diverged.push({ round, roots: Object.fromEntries([...roots].map(([root, peers]) => [root, [...peers]])) });
    }
    return { rounds: this.#roots.size, compared, diverged };
  }

  work(): Work {
    const all = [...this.#work.values()];
    const count = (which: (states: ReadonlySet<Became>) => boolean): number => all.filter(which).length;
    const isIn = (states: ReadonlySet<Became>): boolean => states.has('accepted') || states.has('carried');
    return {
      contributions: all.length,
      accepted: count((states) => states.has('accepted')),
      carried: count((states) => states.has('carried') && !states.has('accepted')),
      open: count((states) => states.has('open') && !states.has('lost') && !isIn(states)),
      refused: count((states) => states.has('refused') && states.size === 1),
      lost: count((states) => states.has('lost') && !isIn(states)),
      stepsLost: this.#stepsLost + [...this.#cutShort.values()].reduce((sum, { done }) => sum + done, 0),
    };
  }

  #takeRound(peer: number, { round, root, final, tokens, contributors }: Line<'round'>): void {
    if (round > this.lastRound && (final || this.#isShared(peer, round))) {
      const atMs = this.#now();
      this.#roundsMs.push(atMs - this.lastRoundAtMs);
      this.lastRound = round;
      this.lastRoundAtMs = atMs;
    }
    const known = this.#rounds.get(round);
    if (!known || (final && !known.final)) {
      this.#rounds.set(round, {
        tokens,
        final,
        contributors: new Set(contributors),
      });
    }
    if (!final) return;
    const roots = this.#roots.get(round) ?? new Map<string, Set<number>>();
    this.#roots.set(round, roots.set(root, (roots.get(root) ?? new Set()).add(peer)));
  }

  /** One that was cut off may have gone on alone, in rounds that the others never come to believe in. */
  #isShared(peer: number, round: number): boolean {
    const told = this.#unfinal.get(round) ?? new Set<number>();
    this.#unfinal.set(round, told.add(peer));
    return told.size > faultsTolerated(this.#peers.size);
  }

  #takeProgress(peer: number, { phase, round, step }: Line<'progress'>): void {
    // its update is made, and on the disk; or what it had is in the residual
    if (phase === 'gathering' || phase === 'applying') this.#training.delete(peer);
    if (phase === 'gathering') this.#updates.set(peer, round + 1);
    if (phase !== 'training' || step === undefined) return;
    this.#training.set(peer, { round, done: step });
    const before = this.#cutShort.get(peer);
    if (!before) return;
    this.#cutShort.delete(peer);
    this.#stepsLost += before.round === round ? Math.max(0, before.done - (step - 1)) : before.done;
  }

  #takeReceipt(peer: number, { round, status, acceptedIn }: Line<'receipt'>): void {
    const name = `${peer}/${round}`;
    const states = this.#work.get(name) ?? new Set<Became>();
    this.#work.set(name, states);
    if (status === 'accepted') states.add(acceptedIn === round ? 'accepted' : 'carried');
    else states.add(BECAME[status]);
  }
}

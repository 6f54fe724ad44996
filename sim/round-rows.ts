import type { Hash } from '../protocol/hash.ts';

/** One round as the swarm saw it: taken when the first peer has applied it, and again when a certified one replaces it. */
export interface RoundRow {
  round: number;
  virtualMs: number;
  root: Hash;
  final: boolean;
  /** updates in it */
  contributors: number;
  /** nats */
  trainLoss: number;
  /** nats, over a sample of the validation split, and after the last round over all of it; null when not evaluated */
  valLoss: number | null;
  /** nats, over the same sample in every round; null when not evaluated */
  sampleLoss: number | null;
  /** trained on in this round, by all contributors */
  tokens: number;
  /** sent by all peers since the beginning */
  bytes: number;
}

interface Candidate {
  row: RoundRow;
  /** the state that the round began from; undefined where nobody can tell */
  base: Hash | undefined;
}

/** `first` of its round; `certified`, in place of unfinal ones; `other`: unfinal, beside one of another history. */
export type RowNews = 'first' | 'certified' | 'other';

/**
 * The rounds of a run, as peers report them. Parts of a swarm that are cut off from each other make several histories, of
 * which one is left: its rounds are those of the run.
 */
export class RoundRows {
  readonly #candidates = new Map<number, Candidate[]>();
  /** by peer: the state that it has */
  readonly #states: (Hash | undefined)[] = [];

  /** What the run has of a round so far: certified, or the first that was heard of. */
  get(round: number): RoundRow | undefined {
    return this.#candidates.get(round)?.[0]?.row;
  }

  /** A peer came to a state otherwise than by a round. */
  synced(peer: number, root: Hash): void {
    this.#states[peer] = root;
  }

  /**
   * A peer came to a state by a round.
   * @param make the row, where it is not known yet
   * @returns nothing where it is
   */
  add(
    peer: number,
    { round, root, final }: Pick<RoundRow, 'round' | 'root' | 'final'>,
    make: () => RoundRow,
  ): { row: RoundRow; news: RowNews } | undefined {
    const base = this.#states[peer];
    this.#states[peer] = root;
    const there = this.#candidates.get(round);
    if (there?.[0]?.row.final) return undefined;
    const isOther = there !== undefined && !final;
    if (isOther && there.some((each) => each.row.root === root)) return undefined;
    const row = make();
    if (isOther) there.push({ row, base });
    else this.#candidates.set(round, [{ row, base }]);
    return { row, news: isOther ? 'other' : there ? 'certified' : 'first' };
  }

  /** The rounds that led to the last, in order. Where that cannot be told of one, it is the first that was heard of. */
  leadingToTheLast(): RoundRow[] {
    const rounds = [...this.#candidates.keys()].sort((a, b) => b - a);
    const rows: RoundRow[] = [];
    let after: Candidate | undefined;
    for (const round of rounds) {
      const there = this.#candidates.get(round)!;
      const base = after?.base;
      after = there.find(({ row }) => row.root === base) ?? there[0]!;
      rows.push(after.row);
    }
    return rows.reverse();
  }
}

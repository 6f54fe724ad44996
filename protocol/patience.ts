/** What was needed once is forgotten by this factor a time, so that one bad round does not slow down many. */
const MEMORY = 0.75;

export interface PatienceInit {
  /** how many times as long as most needed the others are waited for */
  margin: number;
  /** the wait is never longer than so many times what is planned */
  stretchMax: number;
}

/** How something that peers wait for went, as one peer saw it. */
export interface Outcome {
  /** the wait by genesis, ms */
  plannedMs: number;
  /** how long it took until a quorum had done its part, ms; undefined where it never did */
  tookMs: number | undefined;
  /** a quorum had begun: with more time it would have come to an end */
  begun: boolean;
}

/**
 * How long to wait, where nobody can say beforehand what the links of those who will join carry: what genesis plans, and
 * longer where a quorum has been seen to need longer. Of a quorum, since liars are a minority: those who hold back make the
 * others wait at worst `margin` times as long as these need themselves, while there is a quorum without them; and never
 * longer than `stretchMax` allows. It is a peer's own measure and not agreed on.
 */
export class Patience {
  readonly #init: PatienceInit;
  #needMs = 0;

  constructor(init: PatienceInit) {
    this.#init = init;
  }

  /** @param plannedMs as in `Outcome` */
  waitMs(plannedMs: number): number {
    const { margin, stretchMax } = this.#init;
    return Math.max(plannedMs, Math.min(margin * this.#needMs, stretchMax * plannedMs));
  }

  /** Where not even a quorum got through, the next wait is twice as long. @param outcome undefined: nothing to learn */
  learn(outcome: Outcome | undefined): void {
    if (!outcome) return;
    const { plannedMs, tookMs, begun } = outcome;
    if (tookMs !== undefined) this.#needMs = Math.max(tookMs, MEMORY * this.#needMs);
    else if (begun) this.#needMs = (2 * this.waitMs(plannedMs)) / this.#init.margin;
  }
}

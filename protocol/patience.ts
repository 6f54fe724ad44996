/** How many times as long as a quorum's updates needed the others' are waited for, though not much longer than planned. */
const MARGIN = 3;
/** What was needed once is forgotten by this factor a round, so that one bad round does not slow down many. */
const MEMORY = 0.75;
/** Where not even a quorum got through, the next round waits twice as long, up to so many times what is planned. */
const STRETCH_MAX = 32;

/** How the updates of a round came in, as one peer saw it. */
export interface Delivery {
  /** how long after the first update the round was to wait at least, by genesis and by how long training took, ms */
  plannedMs: number;
  /** how long after the first update a quorum of the members' payloads were here, ms; undefined where they never were */
  quorumMs: number | undefined;
  /** enough members have announced updates, though their payloads may not be here yet */
  announced: boolean;
}

/**
 * How long a round waits for payloads after the first update, learned from the rounds before: nobody can say beforehand
 * what the links of those who will join carry, and where an upload takes longer than the wait, most of the work comes too
 * late. Only what a quorum needs counts, so that liars, of whom it has at most a minority, cannot stretch rounds by
 * holding back what they announced: at worst the others wait `MARGIN` times as long as they need themselves. It is this
 * peer's own measure, not agreed on: only the leader of a view judges by it, and each gets its turn.
 */
export class Patience {
  #needMs = 0;

  /** @param plannedMs as in `Delivery` @returns how long the round waits after the first update, ms */
  waitMs(plannedMs: number): number {
    return Math.max(plannedMs, Math.min(MARGIN * this.#needMs, STRETCH_MAX * plannedMs));
  }

  /** @param delivery of a round that is over; undefined where nothing came in */
  learn(delivery: Delivery | undefined): void {
    if (!delivery) return;
    const { plannedMs, quorumMs, announced } = delivery;
    if (quorumMs !== undefined) this.#needMs = Math.max(quorumMs, MEMORY * this.#needMs);
    else if (announced) this.#needMs = (2 * this.waitMs(plannedMs)) / MARGIN;
  }
}

import type { PeerId } from '../protocol/identity.ts';

type Rates = Readonly<Record<'member' | 'stranger' | 'strangers' | 'onward', Rate>>;

/**
 * What one peer may have this one take in. A unit is a message, and one more for each 32 KiB of it. Per second what comes on
 * and on, and beside that how much at once, for what comes in bursts: a round's messages of a thousand peers.
 */
export const MESSAGE_RATES = {
  /** Handed over by a peer in the roster, its own words and others': more is passed over. */
  member: { perSecond: 512, atOnce: 8192 },
  /** By a stranger, whose name cost nothing: who says so little is heard, whatever others do. */
  stranger: { perSecond: 16, atOnce: 1024 },
  /** By all strangers together, who hand on what members say: with this much left, each may say more. */
  strangers: { perSecond: 256, atOnce: 8192 },
  /** What is handed on of that: else each of us would have to take in what all the others are told. */
  onward: { perSecond: 32, atOnce: 4096 },
} as const satisfies Rates;

/** And what it may be answered of the history, in the same units: to write down half a megabyte takes some hundredths of a second. */
export const ANSWER_RATES = {
  /** two megabytes a second, after sixty */
  member: { perSecond: 64, atOnce: 2048 },
  stranger: { perSecond: 8, atOnce: 1024 },
  strangers: { perSecond: 64, atOnce: 4096 },
  onward: { perSecond: 0, atOnce: 0 },
} as const satisfies Rates;

const UNIT_BYTES = 32 * 1024;
/** Of those who are connected now, and some who were. */
const PEERS_MAX = 1024;

/** `keep`: taken in, and not handed on; `pass over`: too much; `cut off`: too much, on and on, and nobody is to wait for more. */
export type Passage = 'hand on' | 'keep' | 'pass over' | 'cut off';

interface Rate {
  perSecond: number;
  atOnce: number;
}

/** A token bucket that may be in debt, by as much as it holds: who goes on and on after it was empty is told from who had a lot. */
class Bucket {
  readonly #rate: Rate;
  #left: number;
  #atMs: number;

  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate;
    this.#left = rate.atOnce;
    this.#atMs = nowMs;
  }

  /** @returns what is left then: below zero there was too little */
  pay(units: number, nowMs: number): number {
    this.#left = Math.max(-this.#rate.atOnce, this.#refilled(nowMs) - units);
    this.#atMs = nowMs;
    return this.#left;
  }

  holds(units: number, nowMs: number): boolean {
    return this.#refilled(nowMs) >= units;
  }

  #refilled(nowMs: number): number {
    const { perSecond, atOnce } = this.#rate;
    return Math.min(atOnce, this.#left + (perSecond * (nowMs - this.#atMs)) / 1000);
  }
}

function unitsOf(bytes: number): number {
  return 1 + Math.floor(bytes / UNIT_BYTES);
}

/**
 * How much of what neighbours hand over is taken in. Each message costs a signature to check, and a stranger can make up as
 * many as its link carries; without bounds one of them could keep a whole run from hearing its votes.
 */
export class MessageRates {
  readonly #isMember: (peer: PeerId) => boolean | undefined;
  readonly #now: () => number;
  readonly #rates: Rates;
  readonly #buckets = new Map<PeerId, { bucket: Bucket; isMember: boolean }>();
  readonly #strangers: Bucket;
  readonly #onward: Bucket;

  /**
   * @param isMember of the roster; undefined as long as this peer knows none
   * @param now milliseconds of any clock that does not go back
   */
  constructor(
    isMember: (peer: PeerId) => boolean | undefined,
    { now = () => performance.now(), rates = MESSAGE_RATES }: { now?: () => number; rates?: Rates } = {},
  ) {
    this.#isMember = isMember;
    this.#now = now;
    this.#rates = rates;
    this.#strangers = new Bucket(rates.strangers, now());
    this.#onward = new Bucket(rates.onward, now());
  }

  /**
   * Whether anything of theirs would be taken in: what is passed over before it is looked at can still come from somebody else.
   * @param bytes as much as it may have
   */
  accepts(from: PeerId, bytes = 0): boolean {
    const isMember = this.#isMember(from);
    if (isMember === undefined) return true;
    const [nowMs, units] = [this.#now(), unitsOf(bytes)];
    const holds = this.#bucketOf(from, isMember, nowMs).holds(units, nowMs);
    return holds || (!isMember && this.#strangers.holds(units, nowMs));
  }

  /** @param from who hands it over */
  take(from: PeerId, bytes: number): Passage {
    const isMember = this.#isMember(from);
    if (isMember === undefined) return 'hand on';
    const nowMs = this.#now();
    const units = unitsOf(bytes);
    const left = this.#bucketOf(from, isMember, nowMs).pay(units, nowMs);
    if (isMember) return left >= 0 ? 'hand on' : 'pass over';
    if (left < 0 && !this.#strangers.holds(units, nowMs)) {
      return left > -this.#rates.stranger.atOnce ? 'pass over' : 'cut off';
    }
    this.#strangers.pay(units, nowMs);
    return this.#onward.pay(units, nowMs) >= 0 ? 'hand on' : 'keep';
  }

  #bucketOf(peer: PeerId, isMember: boolean, nowMs: number): Bucket {
    const known = this.#buckets.get(peer);
    if (known?.isMember === isMember) return known.bucket;
    const [oldest] = this.#buckets.keys();
    if (oldest !== undefined && this.#buckets.size >= PEERS_MAX) this.#buckets.delete(oldest);
    const bucket = new Bucket(isMember ? this.#rates.member : this.#rates.stranger, nowMs);
    this.#buckets.set(peer, { bucket, isMember });
    return bucket;
  }
}

import { expect, test } from 'vitest';
import { Credit } from '../../../node/net/credit.ts';
import { NET_LIMITS } from '../../../node/net/limits.ts';

/** Providers of one asker, behind the same link: each piece takes its time on it, and the way there and back. */
class Link {
  readonly credits: Credit[];
  readonly pieceMs: number;
  roundTripMs: number;
  nowMs = 0;
  #freeMs = 0;
  readonly #underWay: { credit: Credit; askedMs: number; atMs: number }[] = [];

  constructor(providers: number, pieceMs: number, roundTripMs: number) {
    const all = new Set<Credit>();
    this.credits = Array.from({ length: providers }, () => new Credit(all));
    for (const credit of this.credits) all.add(credit);
    this.pieceMs = pieceMs;
    this.roundTripMs = roundTripMs;
  }

  /** @returns what passed in this time, as a share of what could have, and what waited for the link on average, ms */
  run(forMs: number): { used: number; waitedMs: number } {
    const untilMs = this.nowMs + forMs;
    let [pieces, waitedMs] = [0, 0];
    for (;;) {
      for (const credit of this.credits) {
        const asked = this.#underWay.filter((each) => each.credit === credit).length;
        for (let more = asked; more < credit.pieces; more++) {
          const hereMs = this.nowMs + this.roundTripMs;
          waitedMs += Math.max(0, this.#freeMs - hereMs);
          this.#freeMs = Math.max(this.#freeMs, hereMs) + this.pieceMs;
          this.#underWay.push({ credit, askedMs: this.nowMs, atMs: this.#freeMs });
        }
      }
      const [next] = this.#underWay.sort((a, b) => a.atMs - b.atMs);
      if (!next || next.atMs > untilMs) break;
      const isFull = this.#underWay.filter(({ credit }) => credit === next.credit).length >= next.credit.pieces;
      this.#underWay.shift();
      this.nowMs = next.atMs;
      next.credit.onPiece(next.askedMs, this.nowMs, isFull);
      pieces++;
    }
    this.nowMs = untilMs;
    return { used: (pieces * this.pieceMs) / forMs, waitedMs: waitedMs / pieces };
  }
}

// 32 KiB at 1 Gbit/s, 100, 10 and 1 Mbit/s
test.each([
  [1, 0.26, 10],
  [3, 0.26, 10],
  [1, 2.6, 40],
  [3, 2.6, 40],
  [8, 2.6, 160],
  [1, 26, 40],
  [3, 26, 40],
  [1, 262, 40],
])(
  '%i providers, %d ms a piece, %d ms there and back: the link is busy, and little waits',
  (...[providers, pieceMs, rttMs]) => {
    const link = new Link(providers, pieceMs, rttMs);
    link.run(5000);
    const { used, waitedMs } = link.run(20_000);
    expect(used).toBeGreaterThan(pieceMs > 100 ? 0.85 : 0.95);
    expect(waitedMs).toBeLessThan(70 + providers * pieceMs);
  },
);

test('little at a time tells nothing of more, and after a while nothing of anything', () => {
  const credit = new Credit(new Set());
  for (let piece = 0; piece < 100; piece++) credit.onPiece(100 * piece, 100 * piece + 40, false);
  expect(credit.pieces).toBe(2);
  for (let piece = 0; piece < 100; piece++) credit.onPiece(100 * piece, 100 * piece + 40, true);
  expect(credit.pieces).toBe(NET_LIMITS.piecesAskedPerProvider);
  credit.begin(10_500);
  expect(credit.pieces).toBe(NET_LIMITS.piecesAskedPerProvider);
  credit.begin(60_000);
  expect(credit.pieces).toBe(2);
});

test('of a provider no more is asked for than is allowed, however far it is', () => {
  const link = new Link(1, 0.01, 500);
  link.run(60_000);
  expect(link.credits[0]!.pieces).toBe(NET_LIMITS.piecesAskedPerProvider);
});

test.each([1, 3])('where the way to %i becomes longer, that is not taken for waiting for good', (providers) => {
  const link = new Link(providers, 2.6, 20);
  link.run(5000);
  link.roundTripMs = 150;
  link.run(20_000);
  expect(link.run(10_000).used).toBeGreaterThan(0.9);
});

test('what one provider leaves of the link the others take', () => {
  const link = new Link(3, 2.6, 40);
  link.run(5000);
  link.credits.splice(0, 2);
  link.run(1000);
  expect(link.run(5000).used).toBeGreaterThan(0.95);
});

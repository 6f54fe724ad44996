import { describe, expect, it } from 'vitest';
import { drawPlan } from '../../sim/swarm/plan.ts';
import { type Seen, Swarm } from '../../sim/swarm/swarm.ts';

/** Swarms of up to 12 peers for up to 45 virtual seconds of faults. */
const SEEDS = Array.from({ length: 11 }, (_, i) => 1 + i);

describe('hostile swarms', () => {
  const seen: Seen[] = [];

  it.each(SEEDS)('keep every invariant and come to more rounds once healed, seed %i', async (seed) => {
    const outcome = await new Swarm(drawPlan(seed)).run();
    expect(outcome.failure, outcome.diary.slice(-20).join('\n')).toBeUndefined();
    seen.push(outcome.seen);
  });

  it('go through what they are for', () => {
    const sum = (of: (each: Seen) => number) => seen.reduce((total, each) => total + of(each), 0);
    expect(seen).toHaveLength(SEEDS.length);
    expect(sum(({ finalRounds }) => finalRounds)).toBeGreaterThan(100);
    for (const kind of ['unfinalRounds', 'membershipBlocks', 'laterViews', 'restored', 'crashes', 'lies'] as const) {
      expect(
        sum((each) => each[kind]),
        kind,
      ).toBeGreaterThan(0);
    }
    expect(sum(({ refusedMessages }) => refusedMessages)).toBeGreaterThan(0);
  });

  it('are the same for the same seed', async () => {
    const [a, b] = [await new Swarm(drawPlan(3)).run(), await new Swarm(drawPlan(3)).run()];
    expect(b.traceHash).toBe(a.traceHash);
    expect((await new Swarm(drawPlan(4)).run()).traceHash).not.toBe(a.traceHash);
  });
});

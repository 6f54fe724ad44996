import { describe, expect, it } from 'vitest';
import { ANSWER_RATES, MESSAGE_RATES, MessageRates, type Passage } from '../../node/message-rates.ts';

const { member, stranger, strangers, onward } = MESSAGE_RATES;

/** Rates of a peer that knows "m..." for members, on a clock that is set by hand. */
class Bench {
  nowMs = 0;
  knows: boolean;
  readonly #rates: MessageRates;

  constructor(knows = true) {
    this.knows = knows;
    this.#rates = new MessageRates((peer) => (this.knows ? peer.startsWith('m') : undefined), {
      now: () => this.nowMs,
    });
  }

  take(from: string, bytes = 200): Passage {
    return this.#rates.take(from, bytes);
  }

  accepts(from: string): boolean {
    return this.#rates.accepts(from);
  }

  /** How often each passage is given to so many messages. */
  count(from: string, messages: number): Partial<Record<Passage, number>> {
    const counts: Partial<Record<Passage, number>> = {};
    for (let i = 0; i < messages; i++) {
      const passage = this.take(from);
      counts[passage] = (counts[passage] ?? 0) + 1;
    }
    return counts;
  }

  /** Strangers have said all that they may together. */
  crowded(): this {
    const each = stranger.atOnce / 2;
    for (let i = 0; i < strangers.atOnce / each; i++) this.count(`s${i} of a crowd`, each);
    return this;
  }
}

describe('a member', () => {
  it('hands over all that a large run says, and what is too much is passed over', () => {
    const bench = new Bench();
    expect(bench.count('m', member.atOnce + 10)).toEqual({ 'hand on': member.atOnce, 'pass over': 10 });
    expect(bench.count('m2', 10)).toEqual({ 'hand on': 10 });
  });

  it('is not cut off, however much it says, and pays back what was too much', () => {
    const bench = new Bench();
    bench.count('m', 3 * member.atOnce);
    expect(bench.count('m', 1)).toEqual({ 'pass over': 1 });
    bench.nowMs = (1000 * member.atOnce) / member.perSecond;
    expect(bench.count('m', 1)).toEqual({ 'pass over': 1 });
    bench.nowMs += 2000;
    expect(bench.count('m', 10)).toEqual({ 'hand on': 10 });
  });

  it('pays more for what is large', () => {
    const bench = new Bench();
    for (let i = 0; i < member.atOnce / 8; i++) expect(bench.take('m', 7 * 32 * 1024)).toBe('hand on');
    expect(bench.take('m')).toBe('pass over');
  });
});

describe('a stranger', () => {
  it('may say much where others say little, of which some is handed on', () => {
    const counts = new Bench().count('s', strangers.atOnce);
    expect(counts).toEqual({ 'hand on': onward.atOnce, keep: strangers.atOnce - onward.atOnce });
  });

  it('is heard in a crowd as long as it says little', () => {
    const bench = new Bench().crowded();
    expect(bench.count('s', 100)).toEqual({ keep: 100 });
    const second = { keep: stranger.perSecond };
    for (bench.nowMs = 1000; bench.nowMs < 20_000; bench.nowMs += 1000) {
      bench.count('s of a crowd', strangers.perSecond);
      const { keep = 0, 'hand on': on = 0 } = bench.count('s', stranger.perSecond);
      expect({ keep: keep + on }).toEqual(second);
    }
  });

  it('is passed over in a crowd where it says much, and cut off where it goes on', () => {
    const bench = new Bench().crowded();
    const { atOnce } = stranger;
    expect(bench.count('s', atOnce)).toEqual({ keep: atOnce });
    expect(bench.count('s', atOnce)).toEqual({ 'pass over': atOnce - 1, 'cut off': 1 });
    expect(bench.count('s', 100)).toEqual({ 'cut off': 100 });
    // nobody else pays for it
    expect(bench.count('m', 10)).toEqual({ 'hand on': 10 });
    expect(bench.count('s2', 10)).toEqual({ keep: 10 });
  });

  it('has what a member has once it is let in', () => {
    const bench = new Bench().crowded();
    bench.count('s', 3 * stranger.atOnce);
    expect(bench.take('s')).toBe('cut off');
    const rates = new MessageRates(() => isMember, { now: () => 0 });
    let isMember = false;
    for (let i = 0; i < 3 * strangers.atOnce; i++) rates.take('p', 200);
    expect(rates.take('p', 200)).toBe('cut off');
    isMember = true;
    expect(rates.take('p', 200)).toBe('hand on');
  });
});

it('says beforehand of whom nothing would be taken in', () => {
  const bench = new Bench();
  expect([bench.accepts('m'), bench.accepts('s')]).toEqual([true, true]);
  bench.count('m', member.atOnce);
  expect(bench.accepts('m')).toBe(false);
  bench.crowded().count('s', stranger.atOnce);
  expect([bench.accepts('m2'), bench.accepts('s'), bench.accepts('s2')]).toEqual([true, false, true]);
  bench.nowMs = 1000;
  expect([bench.accepts('m'), bench.accepts('s')]).toEqual([true, true]);
});

it('takes all in as long as nobody can be told from others', () => {
  const bench = new Bench(false);
  expect(bench.count('s', 10_000)).toEqual({ 'hand on': 10_000 });
  bench.knows = true;
  expect(bench.count('s', 1)).toEqual({ 'hand on': 1 });
});

it('answers a stranger thirty megabytes at once, and then a quarter of one a second in a crowd', () => {
  let nowMs = 0;
  const rates = new MessageRates(() => false, { now: () => nowMs, rates: ANSWER_RATES });
  const page = 512 * 1024;
  const pagesFor = (peer: string): number => {
    let pages = 0;
    for (; rates.accepts(peer, page); pages++) rates.take(peer, page);
    return pages;
  };
  // the first has what is there for all, too
  const all = ANSWER_RATES.strangers.atOnce / 17;
  expect(pagesFor('one')).toBeGreaterThan(all - 1);
  expect(pagesFor('another')).toBe(Math.floor(ANSWER_RATES.stranger.atOnce / 17));
  expect(pagesFor('one')).toBe(0);
  nowMs += 60_000;
  const [own, common] = [ANSWER_RATES.stranger, ANSWER_RATES.strangers].map(({ perSecond }) => (60 * perSecond) / 17);
  const pages = pagesFor('another');
  expect(pages).toBeGreaterThanOrEqual(Math.floor(own!));
  expect(pages).toBeLessThanOrEqual(own! + common! + 2);
});

it('keeps count of so many peers and no more', () => {
  const bench = new Bench().crowded();
  expect(bench.count('s', 2 * stranger.atOnce + 1)['cut off']).toBe(2);
  for (let i = 0; i < 1024; i++) bench.take(`s${i} of many`);
  expect(bench.count('s', 1)).toEqual({ keep: 1 });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dataOrder } from '../../protocol/data-order.ts';

/** Every peer of every version must get this; a change of it is a change of protocol. */
const GOLDEN = [923_035, 526_043, 19_419, 626_106, 861_947];

/** What node/data lets in: two sequences and a target. */
const sizes = fc
  .record({ context: fc.integer({ min: 1, max: 64 }), sequences: fc.integer({ min: 2, max: 300 }), rest: fc.nat(63) })
  .map(({ context, sequences, rest }) => ({ context, tokens: context * sequences + 1 + (rest % context) }));

const offsetsOf = (order: ReturnType<typeof dataOrder>, epoch: number) =>
  Array.from({ length: order.epochLength }, (_, i) => order.tokenOffset(epoch * order.epochLength + i));

describe('dataOrder', () => {
  it('visits every sequence of an epoch exactly once, each with its last target inside the text', () => {
    fc.assert(
      fc.property(fc.nat(), sizes, fc.nat(1000), (seed, { tokens, context }, epoch) => {
        const offsets = offsetsOf(dataOrder(seed, tokens, context), epoch).toSorted((a, b) => a - b);
        const shift = offsets[0]!;
        expect(shift).toBeGreaterThanOrEqual(0);
        expect(offsets).toEqual(offsets.map((_, i) => shift + i * context));
        expect(offsets.at(-1)! + context).toBeLessThan(tokens);
      }),
    );
  });

  it('leaves out less than two sequences of an epoch', () => {
    fc.assert(
      fc.property(fc.nat(), sizes, (seed, { tokens, context }) => {
        const { epochLength } = dataOrder(seed, tokens, context);
        expect(tokens - 1 - epochLength * context).toBeLessThan(2 * context);
      }),
    );
  });

  it('gives no token twice in an epoch, to whichever peers in whichever rounds', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        sizes,
        fc.array(fc.record({ peers: fc.integer({ min: 1, max: 5 }), steps: fc.integer({ min: 1, max: 7 }) })),
        (seed, { tokens, context }, rounds) => {
          const order = dataOrder(seed, tokens, context);
          const seen = new Set<string>();
          let cursor = 0;
          for (const { peers, steps } of rounds) {
            for (let place = 0; place < peers; place++) {
              for (let i = 0; i < steps; i++) {
                const position = cursor + place * steps + i;
                seen.add(`${Math.floor(position / order.epochLength)}/${order.tokenOffset(position)}`);
              }
            }
            cursor += peers * steps;
          }
          expect(seen.size).toBe(cursor);
        },
      ),
    );
  });

  it('differs between epochs and seeds, also in where it cuts', () => {
    const order = dataOrder(1, 6400, 32);
    expect(offsetsOf(order, 0)).not.toEqual(offsetsOf(order, 1));
    expect(offsetsOf(order, 0)).not.toEqual(offsetsOf(dataOrder(2, 6400, 32), 0));
    const shifts = Array.from({ length: 200 }, (_, epoch) => offsetsOf(order, epoch)[0]! % 32);
    expect(new Set(shifts).size).toBe(32);
  });

  it('does not go through the text in order', () => {
    const offsets = offsetsOf(dataOrder(5, 64 * 1000, 64), 0);
    const ascents = offsets.filter((offset, i) => i > 0 && offset > offsets[i - 1]!).length;
    // a random order ascends half the time, with a standard deviation of 9
    expect(Math.abs(ascents - 499)).toBeLessThan(60);
  });

  it('needs no memory of earlier positions', () => {
    const order = dataOrder(9, 10_000, 16);
    const positions = [0, 5000, 17, 123_456, 17, 0];
    expect(positions.map(order.tokenOffset)).toEqual(positions.map((at) => dataOrder(9, 10_000, 16).tokenOffset(at)));
  });

  it('never changes', () => {
    const { tokenOffset } = dataOrder(1337, 1_003_854, 64);
    expect([0, 1, 2, 15_684, 1_000_000].map(tokenOffset)).toEqual(GOLDEN);
  });

  it('reaches into the largest text', () => {
    const order = dataOrder(1, 2_000_000_000, 1);
    const offsets = Array.from({ length: 1000 }, (_, i) => order.tokenOffset(i * 1_999_999));
    expect(Math.max(...offsets)).toBeGreaterThan(1_900_000_000);
    expect(offsets.every((offset) => Number.isInteger(offset) && offset >= 0 && offset < 1_999_999_999)).toBe(true);
  });
});

import { describe, expect, test } from 'vitest';
import { OwnUpdates } from '../../protocol/own-updates.ts';

const update = (round: number) => ({ id: `payload ${round}`, size: 8, round, tokens: 8 });

describe('own updates on the books', () => {
  test('one in a final round is done with', () => {
    const own = new OwnUpdates();
    own.made(update(0));
    expect(own.kindOf('payload 0')).toBe('pending');
    own.applied({ own: 'payload 0', round: 0, final: true });
    expect(own.kindOf('payload 0')).toBeUndefined();
    const nothing = { final: [], unfinal: [] };
    expect(own.restored({ included: [{ payload: 'payload 0', final: true }], begins: 0 })).toEqual(nothing);
  });

  test('one that an unfinal round passed over counts when a certified block takes it up after all', () => {
    const own = new OwnUpdates();
    own.made(update(0));
    own.applied({ own: undefined, round: 0, final: false });
    own.restored({ included: [], begins: 0 });
    expect(own.kindOf('payload 0')).toBe('returned');
    own.applied({ own: 'payload 0', round: 0, final: true });
    expect(own.open).toEqual([]);
  });

  test('one in an unfinal round is given back when that is undone, and not when the new history has it too', () => {
    const own = new OwnUpdates();
    for (const round of [0, 1]) {
      own.made(update(round));
      own.applied({ own: `payload ${round}`, round, final: false });
      expect(own.kindOf(`payload ${round}`)).toBeUndefined();
    }
    const { final, unfinal } = own.restored({ included: [{ payload: 'payload 0', final: true }], begins: 0 })!;
    expect([final.map(({ id }) => id), unfinal]).toEqual([['payload 0'], []]);
    expect(own.kindOf('payload 1')).toBe('returned');
  });

  test('one for a later round than the final one stays open: the same state may come again', () => {
    const own = new OwnUpdates();
    own.made(update(0));
    own.applied({ own: 'payload 0', round: 0, final: false });
    own.made(update(1));
    own.restored({ included: [], begins: 0 });
    own.applied({ own: 'payload 0', round: 0, final: true });
    expect(own.kindOf('payload 1')).toBe('returned');
    own.applied({ own: undefined, round: 1, final: true });
    expect(own.kindOf('payload 1')).toBeUndefined();
  });

  test('the books are closed where a history begins too late to tell of one', () => {
    const [early, late] = [1, 2].map((begins) => {
      const own = new OwnUpdates();
      own.made(update(0));
      own.applied({ own: undefined, round: 0, final: false });
      own.made(update(1));
      const included = [{ payload: 'payload 0', final: true }];
      return { told: own.restored({ included, begins }), open: own.open.map(({ id }) => id) };
    });
    expect(early).toEqual({ told: { final: [expect.objectContaining(update(0))], unfinal: [] }, open: ['payload 1'] });
    expect(late).toEqual({ told: null, open: [] });
  });

  describe('where nothing is decided on for very long', () => {
    const alone = () => {
      const own = new OwnUpdates();
      for (let round = 0; round < 3000; round++) {
        own.made(update(round));
        own.applied({ own: `payload ${round}`, round, final: false });
      }
      expect(own.open.map(({ round }) => round)).toEqual(Array.from({ length: 1024 }, (_, i) => 1976 + i));
      // a restart changes nothing
      const again = new OwnUpdates();
      again.import(structuredClone(own.export()));
      return again;
    };

    test('a final round decides on all, those that were too many included', () => {
      const own = alone();
      own.made(update(3000));
      own.applied({ own: 'payload 3000', round: 3000, final: true });
      expect(own.open).toEqual([]);
      expect(own.restored({ included: [], begins: 0 })).toEqual({ final: [], unfinal: [] });
    });

    test('the books are closed where another history wins', () => {
      const own = alone();
      const included = [{ payload: 'payload 5', final: true }];
      expect(own.restored({ included, begins: 0 })).toBeNull();
      expect(own.export()).toEqual({ pending: null, open: [] });
      expect(own.restored({ included, begins: 0 })).toEqual({ final: [], unfinal: [] });
    });
  });

  test('what the disk has is what there was', () => {
    const own = new OwnUpdates();
    own.made(update(0));
    own.applied({ own: undefined, round: 0, final: false });
    own.made(update(1));
    const again = new OwnUpdates();
    again.import(structuredClone(own.export()));
    expect(again.export()).toEqual(own.export());
    expect(again.kindOf('payload 0')).toBe('returned');
  });
});

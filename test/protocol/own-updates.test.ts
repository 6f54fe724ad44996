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
    expect(own.restored([{ payload: 'payload 0', final: true }])).toEqual({ final: [], unfinal: [] });
  });

  test('one that an unfinal round passed over counts when a certified block takes it up after all', () => {
    const own = new OwnUpdates();
    own.made(update(0));
    own.applied({ own: undefined, round: 0, final: false });
    own.restored([]);
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
    const { final, unfinal } = own.restored([{ payload: 'payload 0', final: true }]);
    expect([final.map(({ id }) => id), unfinal]).toEqual([['payload 0'], []]);
    expect(own.kindOf('payload 1')).toBe('returned');
  });

  test('one for a later round than the final one stays open: the same state may come again', () => {
    const own = new OwnUpdates();
    own.made(update(0));
    own.applied({ own: 'payload 0', round: 0, final: false });
    own.made(update(1));
    own.restored([]);
    own.applied({ own: 'payload 0', round: 0, final: true });
    expect(own.kindOf('payload 1')).toBe('returned');
    own.applied({ own: undefined, round: 1, final: true });
    expect(own.kindOf('payload 1')).toBeUndefined();
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

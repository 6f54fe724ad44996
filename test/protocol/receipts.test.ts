import { beforeEach, expect, test } from 'vitest';
import type { Report } from '../../protocol/events.ts';
import { type Receipt, Receipts } from '../../protocol/receipts.ts';

let told: Receipt[];
let receipts: Receipts;

beforeEach(() => {
  told = [];
  receipts = new Receipts((receipt) => told.push(receipt));
});

/** What was told since the last time. */
function take(): Receipt[] {
  return told.splice(0);
}

function end(round: number, own: 'included' | 'late' | 'none', ownPayload: string | null, final = true): void {
  const rest = { root: 'root', block: 'block', contributors: ['a'], trainLoss: 1, tokens: 1 };
  receipts.ended({ kind: 'round', round, own, ownPayload, final, ...rest } satisfies Report);
}

test('an update in a certified round is accepted, one that is not is late, and in with the next', () => {
  receipts.made(1, 'p1');
  expect(take()).toEqual([]);
  end(1, 'included', 'p1');
  expect(take()).toEqual([{ round: 1, payload: 'p1', status: 'accepted', acceptedIn: 1 }]);
  receipts.made(2, 'p2');
  end(2, 'late', 'p2');
  expect(take()).toEqual([{ round: 2, payload: 'p2', status: 'late', code: 'not-listed' }]);
  receipts.made(3, 'p3');
  end(3, 'late', 'p3');
  expect(take()).toEqual([{ round: 3, payload: 'p3', status: 'late', code: 'not-listed' }]);
  receipts.made(4, 'p4');
  end(4, 'included', 'p4');
  expect(take()).toEqual([
    { round: 2, payload: 'p2', status: 'accepted', acceptedIn: 4 },
    { round: 3, payload: 'p3', status: 'accepted', acceptedIn: 4 },
    { round: 4, payload: 'p4', status: 'accepted', acceptedIn: 4 },
  ]);
});

test('training that got no update made in time is late without a payload', () => {
  receipts.begun(5);
  end(5, 'late', null);
  expect(take()).toEqual([{ round: 5, payload: null, status: 'late', code: 'training' }]);
  // come to again without having trained for it again
  end(5, 'late', null);
  expect(take()).toEqual([]);
  receipts.made(6, 'p6');
  end(6, 'included', 'p6');
  expect(take().map(({ round, acceptedIn }) => [round, acceptedIn])).toEqual([
    [5, 6],
    [6, 6],
  ]);
});

test('what was trained beyond an update is late when the round ends, and in with the next one', () => {
  receipts.begun(5);
  receipts.made(5, 'p5');
  receipts.trainedOn(5);
  receipts.trainedOn(5);
  expect(take()).toEqual([]);
  end(5, 'included', 'p5');
  expect(take()).toEqual([
    { round: 5, payload: null, status: 'late', code: 'beyond' },
    { round: 5, payload: 'p5', status: 'accepted', acceptedIn: 5 },
  ]);
  receipts.made(6, 'p6');
  end(6, 'included', 'p6');
  expect(take()).toEqual([
    { round: 5, payload: null, status: 'accepted', acceptedIn: 6 },
    { round: 6, payload: 'p6', status: 'accepted', acceptedIn: 6 },
  ]);
});

test('what was trained beyond an update is answered by the next process, and where another history comes', () => {
  receipts.made(5, 'p5');
  receipts.trainedOn(5);
  const { saved } = receipts;
  receipts.restored({ included: [], begins: 0 }, false);
  expect(take().map(({ payload, status }) => [payload, status])).toEqual([
    ['p5', 'returned'],
    [null, 'returned'],
  ]);
  receipts = new Receipts((receipt) => told.push(receipt), saved);
  receipts.gaveUp();
  expect(take().map(({ payload, status }) => [payload, status])).toEqual([
    ['p5', 'unknown'],
    [null, 'unknown'],
  ]);
  receipts = new Receipts((receipt) => told.push(receipt), saved);
  receipts.resumed({ included: [{ payload: 'p5', final: true }], begins: 0 }, 5);
  expect(take().map(({ payload, status }) => [payload, status])).toEqual([
    ['p5', 'accepted'],
    [null, 'late'],
  ]);
  receipts.made(6, 'p6');
  end(6, 'included', 'p6');
  expect(take().map(({ payload, acceptedIn }) => [payload, acceptedIn])).toEqual([
    [null, 6],
    ['p6', 6],
  ]);
});

test('training that a process was ended in is answered by the next one, where the round is over', () => {
  receipts.begun(5);
  const { saved } = receipts;
  receipts = new Receipts((receipt) => told.push(receipt), saved);
  receipts.resumed({ included: [], begins: 0 }, 4);
  expect(take()).toEqual([]);
  // caught up by payloads
  end(5, 'none', null);
  expect(take()).toEqual([{ round: 5, payload: null, status: 'late', code: 'training' }]);
  end(5, 'none', null);
  expect(take()).toEqual([]);

  receipts = new Receipts((receipt) => told.push(receipt), saved);
  receipts.resumed({ included: [], begins: 0 }, 5);
  expect(take()).toEqual([{ round: 5, payload: null, status: 'late', code: 'training' }]);
  // it may be lost in part, or altogether: nobody says that it counts
  receipts.begun(6);
  receipts.made(6, 'p6');
  end(6, 'included', 'p6');
  expect(take().map(({ round, acceptedIn }) => [round, acceptedIn])).toEqual([[6, 6]]);
});

test('own work that is given up while a training begins takes that with it no more than its answer', () => {
  receipts.made(1, 'p1');
  end(1, 'late', 'p1');
  receipts.begun(2);
  take();
  receipts.gaveUp();
  expect(take()).toEqual([{ round: 1, payload: 'p1', status: 'unknown' }]);
  end(2, 'late', null);
  expect(take()).toEqual([{ round: 2, payload: null, status: 'late', code: 'training' }]);
});

test('training that another history takes the place of is returned, or given up', () => {
  receipts.begun(5);
  receipts.restored({ included: [], begins: 0 }, false);
  expect(take()).toEqual([{ round: 5, payload: null, status: 'returned' }]);
  receipts.begun(7);
  receipts.restored({ included: [], begins: 6 }, true);
  expect(take()).toEqual([
    { round: 7, payload: null, status: 'unknown' },
    { round: 5, payload: null, status: 'unknown' },
  ]);
  expect(receipts.saved.training).toBeNull();
});

test('unfinal rounds wait for a certified one, and what they had is returned where they are overruled', () => {
  for (const round of [1, 2]) {
    receipts.made(round, `p${round}`);
    end(round, 'included', `p${round}`, false);
  }
  expect(take()).toEqual([]);
  end(3, 'none', null);
  expect(take().map(({ round, status }) => [round, status])).toEqual([
    [1, 'accepted'],
    [2, 'accepted'],
  ]);
  for (const round of [4, 5]) {
    receipts.made(round, `p${round}`);
    end(round, 'included', `p${round}`, false);
  }
  receipts.made(6, 'p6');
  receipts.restored({ included: [{ payload: 'p5', final: true }], begins: 0 }, false);
  expect(take()).toEqual([
    { round: 4, payload: 'p4', status: 'returned' },
    { round: 5, payload: 'p5', status: 'accepted', acceptedIn: 5 },
    { round: 6, payload: 'p6', status: 'returned' },
  ]);
  receipts.made(9, 'p9');
  end(9, 'included', 'p9');
  expect(take().map(({ round, acceptedIn }) => [round, acceptedIn])).toEqual([
    [4, 9],
    [6, 9],
    [9, 9],
  ]);
});

test('what another history has in an unfinal round counts once that is certified, and is returned if it never is', () => {
  for (const round of [1, 2]) {
    receipts.made(round, `p${round}`);
    end(round, 'included', `p${round}`, false);
  }
  const included = [
    { payload: 'p1', final: true },
    { payload: 'p2', final: false },
  ];
  receipts.restored({ included, begins: 0 }, false);
  expect(take()).toEqual([{ round: 1, payload: 'p1', status: 'accepted', acceptedIn: 1 }]);
  end(3, 'none', null);
  expect(take()).toEqual([{ round: 2, payload: 'p2', status: 'accepted', acceptedIn: 2 }]);
  receipts.made(4, 'p4');
  receipts.restored({ included: [{ payload: 'p4', final: false }], begins: 0 }, false);
  expect(take()).toEqual([]);
  receipts.restored({ included: [], begins: 0 }, false);
  expect(take()).toEqual([{ round: 4, payload: 'p4', status: 'returned' }]);
});

test('an update that was given back is accepted when a round takes it up after all, not the one made since', () => {
  receipts.made(1, 'p1');
  receipts.restored({ included: [], begins: 0 }, false);
  expect(take()).toEqual([{ round: 1, payload: 'p1', status: 'returned' }]);
  receipts.restored({ included: [{ payload: 'p1', final: true }], begins: 0 }, false);
  expect(take()).toEqual([{ round: 1, payload: 'p1', status: 'accepted', acceptedIn: 1 }]);
  receipts.made(2, 'p2');
  end(2, 'late', 'p2');
  expect(take()).toEqual([{ round: 2, payload: 'p2', status: 'late', code: 'not-listed' }]);
  end(2, 'included', 'p2');
  expect(take()).toEqual([{ round: 2, payload: 'p2', status: 'accepted', acceptedIn: 2 }]);
});

test('after a restart an update is known from its block or its header', () => {
  end(7, 'included', 'p7');
  end(8, 'late', 'p8');
  expect(take()).toEqual([
    { round: 7, payload: 'p7', status: 'accepted', acceptedIn: 7 },
    { round: 8, payload: 'p8', status: 'late', code: 'not-listed' },
  ]);
});

test('training that broke down is refused, with the code, and that is its last answer', () => {
  receipts.begun(3);
  receipts.refused(3, 'W_DIVERGED_HERE');
  expect(take()).toEqual([{ round: 3, payload: null, status: 'refused', code: 'W_DIVERGED_HERE' }]);
  end(3, 'late', null);
  receipts.begun(4);
  receipts.made(4, 'p4');
  end(4, 'included', 'p4');
  expect(take()).toEqual([{ round: 4, payload: 'p4', status: 'accepted', acceptedIn: 4 }]);
});

test('a round that was not trained for, since the peer is leaving, has no answer', () => {
  receipts.begun(3);
  receipts.made(3, 'p3');
  end(3, 'included', 'p3');
  take();
  end(4, 'late', null);
  expect(take()).toEqual([]);
});

test.each([false, true])(
  'what another history has by itself is not answered for with the update that carries it (given up: %s)',
  (forgot) => {
    receipts.made(1, 'p1');
    end(1, 'late', 'p1');
    receipts.made(2, 'p2');
    take();
    receipts.restored({ included: [{ payload: 'p1', final: true }], begins: 0 }, forgot);
    expect(take()).toEqual([
      { round: 1, payload: 'p1', status: 'accepted', acceptedIn: 1 },
      { round: 2, payload: 'p2', status: forgot ? 'unknown' : 'returned' },
    ]);
    receipts.made(3, 'p3');
    end(3, 'included', 'p3');
    expect(take().map(({ payload }) => payload)).toEqual(forgot ? ['p3'] : ['p2', 'p3']);
  },
);

test('what an unfinal round of another history has by itself is taken out of the update that carries it', () => {
  receipts.made(1, 'p1');
  end(1, 'late', 'p1');
  receipts.made(2, 'p2');
  take();
  receipts.restored({ included: [{ payload: 'p1', final: false }], begins: 0 }, false);
  receipts.restored({ included: [], begins: 0 }, false);
  expect(take()).toEqual([
    { round: 2, payload: 'p2', status: 'returned' },
    { round: 1, payload: 'p1', status: 'returned' },
  ]);
});

test('a round that is come to a second time, on the way back from another history, is told of once', () => {
  receipts.made(6, 'p6');
  receipts.restored({ included: [{ payload: 'p6', final: true }], begins: 0 }, false);
  expect(take()).toEqual([{ round: 6, payload: 'p6', status: 'accepted', acceptedIn: 6 }]);
  receipts.restored({ included: [], begins: 0 }, false);
  end(6, 'included', 'p6');
  expect(take()).toEqual([]);
});

test('an update that was late, and is in with another, is told of once where both rounds are come to again', () => {
  receipts.made(1, 'p1');
  end(1, 'late', 'p1');
  receipts.made(2, 'p2');
  end(2, 'included', 'p2');
  expect(take().map(({ round, status }) => [round, status])).toEqual([
    [1, 'late'],
    [1, 'accepted'],
    [2, 'accepted'],
  ]);
  receipts.restored({ included: [], begins: 0 }, false);
  end(1, 'late', 'p1');
  end(2, 'included', 'p2');
  receipts.made(3, 'p3');
  end(3, 'included', 'p3');
  expect(take()).toEqual([{ round: 3, payload: 'p3', status: 'accepted', acceptedIn: 3 }]);
});

test('what was given up and counts in an unfinal round is not said to come back when that is overruled', () => {
  receipts.made(4, 'p4');
  receipts.restored({ included: [{ payload: 'p4', final: false }], begins: 3 }, true);
  expect(take()).toEqual([]);
  receipts.restored({ included: [], begins: 3 }, false);
  expect(take()).toEqual([{ round: 4, payload: 'p4', status: 'unknown' }]);
});

test('an update that was given back, and is in the next one already, is not late as well', () => {
  receipts.made(1, 'p1');
  end(1, 'included', 'p1', false);
  receipts.restored({ included: [], begins: 0 }, false);
  expect(take()).toEqual([{ round: 1, payload: 'p1', status: 'returned' }]);
  receipts.made(2, 'p2');
  end(1, 'late', 'p1');
  expect(take()).toEqual([]);
  end(2, 'included', 'p2');
  expect(take().map(({ payload, status }) => [payload, status])).toEqual([
    ['p1', 'accepted'],
    ['p2', 'accepted'],
  ]);
});

test('what one process has not answered the next one does, and nothing twice', () => {
  const restart = (): void => {
    receipts = new Receipts((receipt) => told.push(receipt), JSON.parse(JSON.stringify(receipts.saved)));
  };
  receipts.made(1, 'p1');
  restart();
  end(1, 'late', 'p1');
  receipts.made(2, 'p2');
  restart();
  end(2, 'included', 'p2', false);
  take();
  restart();
  // from an earlier state: the same rounds again
  end(2, 'included', 'p2', false);
  receipts.made(3, 'p3');
  restart();
  receipts.resumed({ included: [{ payload: 'p2', final: false }], begins: 0 }, 2);
  end(3, 'included', 'p3');
  expect(take()).toEqual([
    { round: 1, payload: 'p1', status: 'accepted', acceptedIn: 2 },
    { round: 2, payload: 'p2', status: 'accepted', acceptedIn: 2 },
    { round: 3, payload: 'p3', status: 'accepted', acceptedIn: 3 },
  ]);
  restart();
  end(3, 'included', 'p3');
  expect(take()).toEqual([]);
});

test('an update that was made and not announced is late when its round ends without this peer', () => {
  receipts.made(4, 'p4');
  receipts = new Receipts((receipt) => told.push(receipt), receipts.saved);
  end(3, 'none', null);
  expect(take()).toEqual([]);
  end(4, 'none', null);
  expect(take()).toEqual([{ round: 4, payload: 'p4', status: 'late', code: 'not-listed' }]);
});

test('an update that was announced and is made anew by the next process is returned', () => {
  receipts.made(4, 'p4');
  receipts = new Receipts((receipt) => told.push(receipt), receipts.saved);
  receipts.made(4, 'p4 anew');
  expect(take()).toEqual([{ round: 4, payload: 'p4', status: 'returned' }]);
});

test('what a process came to without hearing of it, the next one answers', () => {
  receipts.made(1, 'p1');
  end(1, 'included', 'p1', false);
  receipts.made(2, 'p2');
  const { saved } = receipts;
  receipts.resumed({ included: [{ payload: 'p1', final: true }], begins: 0 }, 1);
  expect(take()).toEqual([{ round: 1, payload: 'p1', status: 'accepted', acceptedIn: 1 }]);
  receipts.resumed({ included: [], begins: 0 }, 2);
  expect(take()).toEqual([{ round: 2, payload: 'p2', status: 'late', code: 'not-listed' }]);

  receipts = new Receipts((receipt) => told.push(receipt), saved);
  receipts.resumed({ included: [1, 2].map((n) => ({ payload: `p${n}`, final: n === 1 })), begins: 0 }, 2);
  expect(take().map(({ payload }) => payload)).toEqual(['p1']);
  end(3, 'none', null);
  expect(take()).toEqual([{ round: 2, payload: 'p2', status: 'accepted', acceptedIn: 2 }]);
});

test('a process that begins at an earlier state may go another way: what that does not have is not accepted', () => {
  for (const round of [1, 2, 3]) {
    receipts.made(round, `p${round}`);
    end(round, 'included', `p${round}`, round === 1);
  }
  take();
  receipts = new Receipts((receipt) => told.push(receipt), receipts.saved);
  receipts.resumed({ included: [{ payload: 'p1', final: true }], begins: 0 }, 1);
  expect(take()).toEqual([]);
  // the others' second round, in which this peer's announced update is not
  end(2, 'late', 'p2');
  expect(take()).toEqual([{ round: 2, payload: 'p2', status: 'late', code: 'not-listed' }]);
  end(3, 'none', null);
  expect(take()).toEqual([{ round: 3, payload: 'p3', status: 'returned' }]);
  receipts.made(4, 'p4');
  end(4, 'included', 'p4');
  expect(take().map(({ payload, acceptedIn }) => [payload, acceptedIn])).toEqual([
    ['p2', 4],
    ['p3', 4],
    ['p4', 4],
  ]);
});

test('where all own work is given up nothing of it is accepted later', () => {
  receipts.made(1, 'p1');
  end(1, 'late', 'p1');
  receipts.made(2, 'p2');
  end(2, 'included', 'p2', false);
  receipts.made(3, 'p3');
  take();
  receipts.gaveUp();
  expect(take().map(({ payload, status }) => [payload, status])).toEqual([
    ['p1', 'unknown'],
    ['p2', 'unknown'],
    ['p3', 'unknown'],
  ]);
  receipts.made(4, 'p4');
  end(4, 'included', 'p4');
  expect(take()).toEqual([{ round: 4, payload: 'p4', status: 'accepted', acceptedIn: 4 }]);
});

test('what was given up is answered for good, whoever takes it up afterwards', () => {
  receipts.made(1, 'p1');
  receipts.gaveUp();
  expect(take()).toEqual([{ round: 1, payload: 'p1', status: 'unknown' }]);
  end(1, 'included', 'p1');
  receipts.made(2, 'p2');
  end(2, 'late', 'p2');
  expect(take().map(({ payload, status }) => [payload, status])).toEqual([['p2', 'late']]);
});

test('what the process before heard to be in is not given up afterwards', () => {
  receipts.made(1, 'p1');
  end(1, 'included', 'p1');
  receipts = new Receipts((receipt) => told.push(receipt), receipts.saved);
  take();
  // from an earlier state
  end(1, 'included', 'p1', false);
  receipts.restored({ included: [], begins: 5 }, true);
  expect(take()).toEqual([]);
});

import { expect, test } from 'vitest';
import { Announced } from '../../protocol/announced.ts';
import type { MessageOf } from '../../protocol/messages.ts';

const NONE: ReadonlySet<string> = new Set();

function header(round: number): MessageOf<'header'> {
  const run = 'ab'.repeat(32);
  const update = { payload: `payload ${round}`, size: 8, tokens: 8, steps: 1, loss: 1 };
  const signed = { author: 'author', ...update, signature: new Uint8Array(64) };
  return { type: 'header', run, round, base: `state ${round}`, update: signed, inline: new Uint8Array(8) };
}

const roundsIn = (announced: Announced) => announced.all().map(({ round }) => round);

test('of a long stretch without a certified round the first and the newest stay: any of them may open again', () => {
  const announced = new Announced();
  for (let round = 17; round < 220; round++) announced.note(header(round), { held: NONE, decided: 20 });
  const first = [20, 21, 22, 23, 24, 25, 26, 27];
  const newest = Array.from({ length: 56 }, (_, i) => 164 + i);
  expect(roundsIn(announced)).toEqual([...first, ...newest]);
  expect(announced.on('state 21')?.update.payload).toBe('payload 21');
  // the payload rides in the newest alone
  expect(announced.all().filter(({ inline }) => inline !== null)).toEqual([header(219)]);
  // certified rounds go first
  for (let round = 220; round < 228; round++) announced.note(header(round), { held: NONE, decided: 219 });
  expect(roundsIn(announced)).toEqual(Array.from({ length: 64 }, (_, i) => 164 + i));
});

test('what leads on from a state that is still here stays, however old', () => {
  const announced = new Announced();
  for (let round = 0; round < 200; round++)
    announced.note(header(round), { held: new Set(['state 3']), decided: round });
  expect(roundsIn(announced)[0]).toBe(3);
  expect(roundsIn(announced)).toHaveLength(64);
});

import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { NET_LIMITS } from '../../../node/net/index.ts';
import { Turns } from '../../../node/net/turns.ts';

const { strangersServedMax: MOST, strangersServedBesides: BESIDES, blobTurnMs: TURN_MS } = NET_LIMITS;

beforeEach(() => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
});

/** Asks for so many turns, and notes in which order they are given. */
function strangers(turns: Turns, count: number) {
  const given: { place: number; done: () => void }[] = [];
  for (let place = 0; place < count; place++) void turns.take(false).then((done) => given.push({ place, done }));
  const places = async (): Promise<number[]> => {
    await vi.advanceTimersByTimeAsync(0);
    return given.map(({ place }) => place);
  };
  return { given, places };
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

test('some strangers at a time, in the order in which they came', async () => {
  const { given, places } = strangers(new Turns(), MOST + 3);
  expect(await places()).toEqual(upTo(MOST));
  given[2]!.done();
  given[2]!.done(); // once more changes nothing
  expect(await places()).toEqual(upTo(MOST + 1));
});

test('who is in the roster never waits, and strangers hardly get in its way', async () => {
  const turns = new Turns();
  const done = await Promise.all(Array.from({ length: 2 * MOST }, () => turns.take(true)));
  const { given, places } = strangers(turns, MOST + 1);
  expect(await places()).toEqual(upTo(BESIDES));
  for (const each of done.slice(1)) each();
  given[0]!.done();
  expect(await places()).toEqual(upTo(BESIDES + 1));
  done[0]!();
  expect(await places()).toEqual(upTo(MOST + 1));
});

test('who does not read what it asked for keeps nobody waiting for long', async () => {
  const turns = new Turns();
  await turns.take(true);
  const { given, places } = strangers(turns, 3 * MOST);
  await vi.advanceTimersByTimeAsync(TURN_MS);
  expect(await places()).toEqual(upTo(MOST + BESIDES));
  given.at(-1)!.done();
  expect(await places()).toEqual(upTo(MOST + BESIDES + 1));
});

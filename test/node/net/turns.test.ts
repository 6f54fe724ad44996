import { setMaxListeners } from 'node:events';
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { NET_LIMITS } from '../../../node/net/index.ts';
import { Turns } from '../../../node/net/turns.ts';

const { strangersServedMax: MOST, strangersServedBesides: BESIDES, blobTurnMs: TURN_MS, blobStallMs } = NET_LIMITS;

beforeEach(() => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
});

/** So many ask for a turn; notes in which order they are given. @param name of each */
function strangers(
  turns: Turns,
  count: number,
  { name = (place: number) => `stranger ${place}`, signal = undefined as AbortSignal | undefined } = {},
) {
  const given: { place: number; done: () => void }[] = [];
  let left = 0;
  for (let place = 0; place < count; place++) {
    turns.take(name(place), false, signal ?? new AbortController().signal).then(
      (done) => given.push({ place, done }),
      () => left++,
    );
  }
  const places = async (): Promise<number[]> => {
    await vi.advanceTimersByTimeAsync(0);
    return given.map(({ place }) => place);
  };
  return { given, places, gone: () => left };
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
  const done = await Promise.all(
    Array.from({ length: 2 * MOST }, () => turns.take('member', true, new AbortController().signal)),
  );
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
  await turns.take('member', true, new AbortController().signal);
  const { given, places } = strangers(turns, 3 * MOST);
  await vi.advanceTimersByTimeAsync(TURN_MS);
  expect(await places()).toEqual(upTo(MOST + BESIDES));
  given.at(-1)!.done();
  expect(await places()).toEqual(upTo(MOST + BESIDES + 1));
});

test('one name has one turn at a time, however often it asks', async () => {
  const turns = new Turns();
  const greedy = strangers(turns, 2 * MOST, { name: () => 'greedy' });
  const { places } = strangers(turns, 1);
  expect(await greedy.places()).toEqual([0]);
  expect(await places()).toEqual([0]);
  greedy.given[0]!.done();
  expect(await greedy.places()).toEqual([0, 1]);
});

test('who waits for nothing any more takes no place, and who has waited long goes anyway', async () => {
  const turns = new Turns();
  const leaving = new AbortController();
  setMaxListeners(0, leaving.signal);
  const first = strangers(turns, MOST);
  const second = strangers(turns, 1000, { name: (place) => `crowd ${place}`, signal: leaving.signal });
  const third = strangers(turns, 1, { name: () => 'joiner' });
  expect(await second.places()).toEqual([]);
  leaving.abort();
  first.given[0]!.done();
  expect(await third.places()).toEqual([0]);
  expect(second.gone()).toBe(1000);
  // turns of who does not read end by and by, and all the others are as many again
  strangers(turns, 1000, { name: (place) => `another ${place}` });
  const late = strangers(turns, 1, { name: () => 'late' });
  await vi.advanceTimersByTimeAsync(blobStallMs / 2 - 1);
  expect(await late.places()).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(await late.places()).toEqual([0]);
});

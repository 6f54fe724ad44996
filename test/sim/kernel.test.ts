import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Kernel, type Planned } from '../../sim/kernel.ts';

const toTheEnd = { until: () => false };

test('events run in order of time, those of one time in the order in which they were planned', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 60 }), async (times) => {
      const kernel = new Kernel();
      const ran: number[] = [];
      for (const [i, atMs] of times.entries()) kernel.at(atMs, () => ran.push(i));
      await kernel.run(toTheEnd);
      const expected = times.map((_, i) => i).sort((a, b) => times[a]! - times[b]! || a - b);
      expect(ran).toEqual(expected);
      expect(kernel.events).toBe(times.length);
    }),
  );
});

test('what is cancelled does not run, also when many are and the heap is cleared out', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 30 }), async (salt) => {
      const kernel = new Kernel();
      const ran: number[] = [];
      const planned: Planned[] = [];
      for (let i = 0; i < 4000; i++) planned.push(kernel.at((i * 7919 + salt) % 997, () => ran.push(i)));
      const kept = planned.filter((_, i) => (i ^ salt) % 5 === 0);
      for (const event of planned) if (!kept.includes(event)) kernel.cancel(event);
      expect(kernel.pending).toBe(kept.length);
      const times = kept.map(({ atMs }) => atMs).sort((a, b) => a - b);
      const seen: number[] = [];
      const until = (): boolean => {
        seen.push(kernel.nowMs);
        return false;
      };
      await kernel.run({ until });
      expect(ran).toHaveLength(kept.length);
      expect(seen.slice(1)).toEqual(times);
    }),
    { numRuns: 5 },
  );
});

test('a time that has passed means now, and the clock never runs backwards', async () => {
  const kernel = new Kernel();
  const times: number[] = [];
  kernel.at(10, () => {
    kernel.at(3, () => times.push(kernel.nowMs));
    kernel.after(0, () => times.push(kernel.nowMs));
  });
  await kernel.run(toTheEnd);
  expect(times).toEqual([10, 10]);
});

test('a value that is late in real time comes in at its virtual time, before everything later', async () => {
  const kernel = new Kernel();
  const order: string[] = [];
  let answer: (value: string) => void = () => undefined;
  kernel.whenReady(5, new Promise<string>((resolve) => (answer = resolve)), (value) => order.push(value));
  kernel.at(4, () => order.push('before'));
  kernel.at(6, () => order.push('after'));
  const done = kernel.run(toTheEnd);
  await new Promise((resolve) => setImmediate(resolve));
  expect(order).toEqual(['before']);
  answer('the value');
  await done;
  expect(order).toEqual(['before', 'the value', 'after']);
  expect(kernel.nowMs).toBe(6);
});

test('work that failed fails the run, when its time comes', async () => {
  const kernel = new Kernel();
  kernel.whenReady(5, Promise.reject(new Error('worker died')), () => undefined);
  await expect(kernel.run(toTheEnd)).rejects.toThrow('worker died');
});

test('a signal ends the run at once while work is waited for, whatever becomes of that', async () => {
  const kernel = new Kernel();
  const abort = new AbortController();
  let fail: (reason: Error) => void = () => undefined;
  kernel.whenReady(5, new Promise((_, reject) => (fail = reject)), () => expect.unreachable('it never comes'));
  kernel.at(6, () => expect.unreachable('it comes after'));
  const done = kernel.run({ until: () => abort.signal.aborted, signal: abort.signal });
  abort.abort();
  expect(await done).toBe(true);
  expect(kernel.nowMs).toBe(0);
  fail(new Error('its worker was ended'));
});

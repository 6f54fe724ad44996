import { streamPair } from '@libp2p/utils';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Frames, type FramesInit } from '../../../node/net/frames.ts';
import { codeOf, eventually } from './swarm.ts';

async function pair(init: FramesInit): Promise<[Frames, Frames]> {
  const [a, b] = await streamPair();
  return [new Frames(a, { frameBytesMax: 1_000_000, queueMax: 100 }), new Frames(b, init)];
}

describe('Frames', () => {
  it('brings frames whole, in order, in both directions', async () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(sizes, async (lengths) => {
        const [near, far] = await pair({ frameBytesMax: 70_000, unreadBytesMax: 1_000_000, queueMax: 10 });
        const sent = lengths.map((length, i) => new Uint8Array(length).fill(i + 1));
        const writing = Promise.all(sent.map((bytes) => near.write(bytes)));
        for (const bytes of sent) expect(await far.read()).toEqual(bytes);
        await writing;
        await far.write(Uint8Array.of(9));
        expect(await near.read()).toEqual(Uint8Array.of(9));
        near.close();
        expect(await far.read()).toBeUndefined();
      }),
      { numRuns: 10 },
    );
  });

  it('resets the stream for a frame over the limit', async () => {
    const [near, far] = await pair({ frameBytesMax: 100, unreadBytesMax: 10_000 });
    near.write(new Uint8Array(101)).catch(() => undefined);
    expect(await codeOf(far.read())).toBe('E_TOO_LARGE');
    await eventually(() => !near.open, 'the sender sees the reset');
    expect(await codeOf(near.write(Uint8Array.of(1)))).toBe('E_STREAM_CLOSED');
  });

  it('cuts off who sends more than is read', async () => {
    const [near, far] = await pair({ frameBytesMax: 1_000, unreadBytesMax: 2_100 });
    for (let i = 0; i < 2; i++) await near.write(new Uint8Array(1_000));
    expect((await far.read())?.length).toBe(1_000);
    await near.write(new Uint8Array(1_000)); // one was read, so there is room for it
    near.write(new Uint8Array(1_000)).catch(() => undefined);
    await eventually(() => !far.open, 'the stream cut off');
    await eventually(() => !near.open, 'the sender sees it');
  });

  it('bounds what waits to be sent, and fails it when the stream goes', async () => {
    const [a] = await streamPair({ capacity: 1 });
    const frames = new Frames(a, { frameBytesMax: 100, queueMax: 3 });
    const writes = [1, 2, 3].map(() => frames.write(new Uint8Array(5_000_000)));
    const outcomes = Promise.allSettled(writes);
    expect(await codeOf(frames.write(Uint8Array.of(1)))).toBe('E_BUSY');
    frames.abort(new Error('gone'));
    expect((await outcomes).some(({ status }) => status === 'rejected')).toBe(true);
    expect(await codeOf(frames.write(Uint8Array.of(1)))).toBe('E_STREAM_CLOSED');
  });
});

import { expect, it, onTestFinished } from 'vitest';
import { ignoreBrokenPipes, onStopRequest } from '../../../node/cli/signals.ts';

it.each(['EPIPE', 'EIO'])(
  'takes output that nobody reads any more (%s), or that has no room, for a request to stop where one can be made',
  (code) => {
    const before = [process.stdout, process.stderr].map((stream) => stream.listeners('error'));
    ignoreBrokenPipes();
    const emit = (named: string) => process.stdout.emit('error', Object.assign(new Error(named), { code: named }));
    expect(() => emit(code)).not.toThrow();
    expect(() => emit('ENOSPC')).toThrow('ENOSPC');
    let stops = 0;
    const remove = onStopRequest({ stop: () => stops++, kill: () => undefined });
    onTestFinished(() => {
      remove();
      for (const [i, stream] of [process.stdout, process.stderr].entries()) {
        for (const each of stream.listeners('error')) {
          if (!before[i]?.includes(each)) stream.off('error', each as () => void);
        }
      }
    });
    expect(() => emit(code)).not.toThrow();
    expect(() => emit('ENOSPC')).not.toThrow();
    expect(stops).toBe(1);
  },
);

import { expect, it, onTestFinished, vi } from 'vitest';
import { ignoreBrokenPipes, onStopRequest } from '../../../node/cli/signals.ts';

it.each(['EPIPE', 'EIO'])(
  'takes output that nobody reads any more (%s), or that has no room, for a request to stop where one can be made',
  (code) => {
    const before = [process.stdout, process.stderr].map((stream) => stream.listeners('error'));
    const exitsBefore = process.listeners('exit');
    ignoreBrokenPipes();
    const emit = (named: string) => process.stdout.emit('error', Object.assign(new Error(named), { code: named }));
    expect(() => emit(code)).not.toThrow();
    expect(() => emit('ENOSPC')).toThrow(expect.objectContaining({ code: 'E_OUTPUT' }));
    let stops = 0;
    const remove = onStopRequest({ stop: () => stops++, kill: () => undefined });
    onTestFinished(() => {
      remove();
      // it would be this process that fails
      for (const each of process.listeners('exit')) if (!exitsBefore.includes(each)) process.off('exit', each);
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

it('ends at once at a second Ctrl+C, not at the echo of the first, nor at a terminal that is closed as well', () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const asked: string[] = [];
  onTestFinished(onStopRequest({ stop: () => asked.push('stop'), kill: () => asked.push('kill') }));
  const emit = (signal: NodeJS.Signals) => process.emit(signal, signal);
  emit('SIGHUP');
  vi.advanceTimersByTime(1000);
  emit('SIGHUP');
  emit('SIGINT');
  emit('SIGINT');
  expect(asked).toEqual(['stop']);
  vi.advanceTimersByTime(1000);
  emit('SIGINT');
  expect(asked).toEqual(['stop', 'kill']);
});

import { MessageChannel, type Worker } from 'node:worker_threads';
import { expect, it, onTestFinished } from 'vitest';
import { connect, serve } from '../../../node/train/rpc.ts';
import { CodedError, isCoded } from '../../../protocol/errors.ts';

class Failing {
  coded(): void {
    throw new CodedError('E_DISK_FULL', 'free some');
  }

  bug(): void {
    throw new TypeError('undefined is not a function');
  }

  machine(): void {
    throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
  }
}

/** What a call to the other side is rejected with. */
async function failureOf(method: 'coded' | 'bug' | 'machine'): Promise<Error> {
  const { port1, port2 } = new MessageChannel();
  onTestFinished(() => port1.close());
  serve(port1, new Failing());
  const remote = connect<Failing>(
    port2 as unknown as Worker,
    () => undefined,
    () => undefined,
  );
  return remote[method]().then(
    () => new Error('it did not fail'),
    (error: Error) => error,
  );
}

it('brings a coded error with its code, and the stack of where it was made', async () => {
  const error = await failureOf('coded');
  expect(isCoded(error)).toBe(true);
  expect(error).toMatchObject({ code: 'E_DISK_FULL', message: 'free some' });
  expect(error.stack).toContain('Failing.coded');
});

it.each(['bug', 'machine'] as const)('does not make a coded error of a %s', async (method) => {
  const error = await failureOf(method);
  expect(isCoded(error)).toBe(false);
  expect(error.stack).toContain(`Failing.${method}`);
});

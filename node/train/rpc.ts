import type { MessagePort, Worker } from 'node:worker_threads';
import { CodedError, isCoded } from '../../protocol/errors.ts';

/** Calls between threads: one question, one answer, errors keep code and stack. Notices go the other way unasked. */

interface Call {
  id: number;
  method: string;
  args: unknown[];
}
type Answer = { id: number; value: unknown } | { id: number; error: SentError };
interface SentError {
  /** of a `CodedError`; any other is a bug, or a fault of the machine that nobody foresaw */
  code?: string;
  message: string;
  stack: string | undefined;
}
type Notice = { notice: unknown };

/** Methods of an object in another thread; all answer with a promise. */
export type Remote<T> = {
  [K in keyof T as T[K] extends (...args: never[]) => unknown ? K : never]: T[K] extends (...args: infer A) => infer R
    ? (...args: A) => Promise<Awaited<R>>
    : never;
};

/** Answers calls on a port by the methods of an object. A call may begin while another is under way. */
export function serve(port: MessagePort, object: object): void {
  port.on('message', async ({ id, method, args }: Call) => {
    try {
      const value = await (object as Record<string, (...args: unknown[]) => unknown>)[method]!(...args);
      port.postMessage({ id, value } satisfies Answer);
    } catch (cause) {
      const { message, stack } = cause as Error;
      const error = { message, stack, ...(isCoded(cause) ? { code: cause.code } : {}) };
      port.postMessage({ id, error } satisfies Answer);
    }
  });
}

export function notify(port: MessagePort, notice: unknown): void {
  port.postMessage({ notice } satisfies Notice);
}

/**
 * The other side of `serve`. When the thread dies, all calls under way and to come fail with `E_WORKER`.
 * @param onDeath told once, however the thread ends: also by `worker.terminate`, of a caller that closes
 */
export function connect<T>(
  worker: Worker,
  onNotice: (notice: unknown) => void,
  onDeath: (error: CodedError) => void,
): Remote<T> {
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let next = 0;
  let dead: CodedError | undefined;
  const die = (reason: string): void => {
    if (dead) return;
    const fix = 'where memory ran out, a smaller --micro-batch takes less';
    dead = new CodedError('E_WORKER', `the training thread stopped (${reason}); ${fix}`);
    for (const { reject } of waiting.values()) reject(dead);
    waiting.clear();
    onDeath(dead);
  };
  worker.on('message', (message: Answer | Notice) => {
    if ('notice' in message) return onNotice(message.notice);
    const call = waiting.get(message.id);
    waiting.delete(message.id);
    if (!call) return;
    if ('value' in message) call.resolve(message.value);
    else call.reject(rebuilt(message.error));
  });
  worker.on('error', (error) => die(error.message));
  worker.on('exit', (code) => die(`exit code ${code}`));
  const call = (method: string, args: unknown[]): Promise<unknown> => {
    if (dead) return Promise.reject(dead);
    const id = next++;
    worker.postMessage({ id, method, args } satisfies Call);
    return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  };
  const methods = {
    get:
      (_: object, method: string) =>
      (...args: unknown[]) =>
        call(method, args),
  };
  return new Proxy({}, methods) as Remote<T>;
}

/** With the stack of the other thread, where it happened. */
function rebuilt({ code, message, stack }: SentError): Error {
  const error = code === undefined ? new Error(message) : new CodedError(code, message);
  if (stack !== undefined) error.stack = stack;
  return error;
}

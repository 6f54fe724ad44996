import { CodedError } from '../../protocol/errors.ts';
import { networkError } from './errors.ts';

export interface Deadline {
  ms: number;
  /** what was waited for, as in "no <what> within 10 s" */
  what: string;
  signal?: AbortSignal | undefined;
}

/**
 * The outcome of some work, if it comes in time. The work itself is not stopped: whoever calls closes its stream.
 * @throws CodedError `E_TIMEOUT`, or `E_ABORTED` on the signal, or whatever the work throws
 */
export async function within<T>(work: Promise<T>, { ms, what, signal }: Deadline): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  const cut = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(networkError('E_TIMEOUT', `no ${what} within ${ms / 1000} s`)), ms);
    onAbort = () => reject(abortedBy(signal));
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, cut]);
  } finally {
    clearTimeout(timer);
    if (onAbort) signal?.removeEventListener('abort', onAbort);
  }
}

/** The reason of an aborted signal where it is one of ours, else `E_ABORTED`. */
export function abortedBy(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof CodedError ? reason : networkError('E_ABORTED', 'stopped by the caller', reason);
}

import { CodedError } from '../../protocol/errors.ts';

export type OutputErrorCode = 'E_OUTPUT'; // standard output cannot be written: a full disk

/** Asked for by Ctrl+C, `kill`, a closed terminal, or output that nobody takes: `| head`, or a file on a full disk. */
export interface StopHandlers {
  /** the first time: end in good order */
  stop(): void;
  /** a signal after that: end at once */
  kill(): void;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Exit code of a process that was stopped for good by Ctrl+C: 128 + SIGINT. */
export const KILLED_EXIT_CODE = 130;

/** @returns a function that takes the handlers away again */
export function onStopRequest({ stop, kill }: StopHandlers): () => void {
  let stopping = false;
  const stopOnce = (): void => {
    if (stopping) return;
    stopping = true;
    stop();
  };
  let askedMs: number | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    const nowMs = performance.now();
    // a shell and the system both tell of a terminal that is closed, npm and the terminal both of one Ctrl+C
    const again = signal !== 'SIGHUP' && askedMs !== undefined && nowMs >= askedMs + ECHO_MS;
    if (signal !== 'SIGHUP') askedMs ??= nowMs;
    if (again) kill();
    else stopOnce();
  };
  // every line that is still written earns another error: that must not count as a second request
  let lost = false;
  const onOutputError = (error: NodeJS.ErrnoException): void => {
    if (!isGone(error) && !lost) {
      lost = true;
      tellOutputLost(error);
    }
    stopOnce();
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  process.stdout.on('error', onOutputError);
  return () => {
    for (const signal of SIGNALS) process.off(signal, onSignal);
    process.stdout.off('error', onOutputError);
  };
}

/** Signals that follow each other so soon are the same wish. */
const ECHO_MS = 300;

/** A pipe that nobody reads any more, and a terminal that was closed. */
const GONE = ['EPIPE', 'EIO'];

function isGone({ code }: NodeJS.ErrnoException): boolean {
  return GONE.includes(code ?? '');
}

function outputError(cause: NodeJS.ErrnoException): CodedError<OutputErrorCode> {
  return new CodedError('E_OUTPUT', `cannot write its output (${cause.code}): stopping`, { cause });
}

function tellOutputLost(cause: NodeJS.ErrnoException): void {
  const { message, code } = outputError(cause);
  console.error(`outerloop: ${message} [${code}]`);
  // however the command ends now, and in whatever good order: a part of what it had to say is missing
  process.once('exit', () => {
    process.exitCode ||= 1;
  });
}

/** Writing where nobody reads any more is not an error; other errors are left to stop requests, where one can be made. */
export function ignoreBrokenPipes(): void {
  let told = false;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    told ||= process.stdout.listenerCount('error') > 1;
    if (!isGone(error) && !told) throw outputError(error);
  });
  // there is nothing left to say it on
  process.stderr.on('error', () => undefined);
}

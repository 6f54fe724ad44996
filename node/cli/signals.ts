/** Asked for by Ctrl+C, `kill`, a closed terminal, or a reader of our output that went away (`| head`). */
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
  const onSignal = (): void => (stopping ? kill() : stopOnce());
  // every line that is still written earns another error: that must not count as a second request
  const onOutputError = (): void => stopOnce();
  for (const signal of SIGNALS) process.on(signal, onSignal);
  process.stdout.on('error', onOutputError);
  return () => {
    for (const signal of SIGNALS) process.off(signal, onSignal);
    process.stdout.off('error', onOutputError);
  };
}

/** A pipe that nobody reads any more, and a terminal that was closed. */
const GONE = ['EPIPE', 'EIO'];

/** Writing where nobody reads any more is no reason to end before things are in good order. */
export function ignoreBrokenPipes(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (!GONE.includes(error.code ?? '')) throw error;
    });
  }
}

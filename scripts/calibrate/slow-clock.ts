/**
 * Lets time pass slower for a process, by `SLOW_CLOCK`: clocks and timers run at one part in so many, and everything that
 * waits waits in that time. The machine is then as many times faster than the network around it, so that a network can be
 * measured on a machine that has other things to do (time dilation: Gupta et al., "To infinity and beyond: time-warped
 * network emulation", NSDI 2006). Loaded with `--import` before anything that looks at a clock.
 */
const factor = Number(process.env.SLOW_CLOCK ?? '1');
/** common to all processes of a measurement, milliseconds since 1970 */
const epochMs = Number(process.env.SLOW_CLOCK_EPOCH ?? Date.now());

const real = {
  setTimeout: globalThis.setTimeout,
  setInterval: globalThis.setInterval,
  now: performance.now.bind(performance),
  date: Date.now,
  timeout: AbortSignal.timeout.bind(AbortSignal),
};

if (factor !== 1) {
  const slowed = <T extends typeof setTimeout | typeof setInterval>(timer: T): T => {
    const slow = (run: () => void, ms = 0, ...rest: []) => timer(run, ms * factor, ...rest);
    return Object.defineProperties(slow, Object.getOwnPropertyDescriptors(timer)) as unknown as T;
  };
  globalThis.setTimeout = slowed(real.setTimeout);
  globalThis.setInterval = slowed(real.setInterval);
  performance.now = () => real.now() / factor;
  Date.now = () => Math.floor(epochMs + (real.date() - epochMs) / factor);
  AbortSignal.timeout = (ms) => real.timeout(ms * factor);
}

import { setTimeout as delay } from 'node:timers/promises';

/** Who cannot go on without something asks for it every half second. */
const QUIET_MS = 2_000;
/** Less than any payload that does not ride in its header: what is said to who asks in vain keeps nobody. */
const QUIET_BYTES = 4096;
/**
 * Who has fetched the state of a large model reads it, writes it, and only then asks for the updates after it. So much was sent
 * then at least, and so long it may take.
 */
const STATE_BYTES = 64 * 1024 * 1024;
const STATE_QUIET_MS = 30_000;
/** Others may want more of a peer than it has time for. */
const LONGEST_MS = 600_000;

export interface Serving {
  /** to others so far */
  bytesSent: () => number;
  /** as much as it was when the last round began */
  sentBefore: number;
  /** something is on its way, which on a slow link takes minutes, or somebody has come who may want something */
  isBusy: () => boolean;
  /** asked first after each wait: nobody is served any more */
  isClosed: () => boolean;
}

/**
 * A run may be over for one peer while another still fetches the updates of its last round, and from the moment at which all
 * others are gone it could not end. Settles when this peer has sent next to nothing for a while.
 * @param wait so many milliseconds
 */
export async function untilNobodyFetches(
  { bytesSent, sentBefore, isBusy, isClosed }: Serving,
  wait: (ms: number) => Promise<unknown> = delay,
): Promise<void> {
  let before = bytesSent();
  let quietMs = 0;
  for (let waitedMs = 0; waitedMs < LONGEST_MS; waitedMs += QUIET_MS) {
    await wait(QUIET_MS);
    if (isClosed()) return;
    const now = bytesSent();
    quietMs = now - before < QUIET_BYTES && !isBusy() ? quietMs + QUIET_MS : 0;
    if (quietMs >= (now - sentBefore < STATE_BYTES ? QUIET_MS : STATE_QUIET_MS)) return;
    before = now;
  }
}

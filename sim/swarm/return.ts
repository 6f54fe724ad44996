import { randomStream } from '../../protocol/random.ts';
import { isIn, type ProgressChecker } from '../checkers/progress.ts';
import type { Kernel } from '../kernel.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import { LEAVE_MS, type Mischief } from './mischief.ts';
import { pick } from './plan.ts';

/**
 * Final rounds that the others may get through until it is a member, where nobody lies, from when it is where they were when it
 * began to listen: what it missed it computes at its own pace, however short their rounds are. A liar that boasts of a longer
 * history is asked for it, and may keep the answer back for a quarter of a minute.
 */
const ROUNDS_MAX = 6;

export interface ReturnComponents {
  kernel: Kernel;
  mischief: Mischief;
  progress: ProgressChecker;
}

/**
 * One of the peers of a healed swarm leaves and is started again at once, as for a new version: it is to be let in when it
 * listens, however little has changed meanwhile.
 *
 * @param peers correct ones, all members
 * @returns what is wrong, if anything
 */
export async function seeOneReturn(
  { kernel, mischief, progress }: ReturnComponents,
  peers: readonly VirtualPeer[],
  { seed, liars, patienceMs }: { seed: number; liars: number; patienceMs: number },
): Promise<string | undefined> {
  const peer = pick(randomStream(seed, 'return'), peers);
  peer.leave();
  await kernel.runFor(LEAVE_MS, () => !peer.isUp);
  peer.crash();
  mischief.wantUp(peer.index);
  await kernel.runFor(patienceMs, () => peer.machine !== undefined);
  const { newest } = progress;
  await kernel.runFor(patienceMs, () => (peer.machine?.standing.round ?? 0) >= newest);
  const before = progress.newest;
  // what its own disk says may be of before the others let it go
  const isBack = (): boolean =>
    isIn(peer) && peers.every(({ machine }) => machine?.standing.roster.includes(peer.id) ?? false);
  await kernel.runFor(patienceMs, isBack);
  const rounds = progress.newest - before;
  if (isBack() && (liars > 0 || rounds <= ROUNDS_MAX)) return undefined;
  return `peer ${peer.index} left and came back, and was ${isBack() ? '' : 'not '}let in after ${rounds} rounds`;
}

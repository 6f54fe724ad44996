import { isCoded } from '../protocol/errors.ts';
import { identityFromBytes } from './net/index.ts';
import { defaultBase, resumableDirectories, runPaths } from './store/directory.ts';
import { loadIdentity } from './store/identity.ts';
import { isLocked } from './store/lock.ts';
import { loadWhereabouts } from './store/whereabouts.ts';

/** A peer that another process of this machine is. */
export interface Neighbour {
  path: string;
  /** to join by; absent while it is still starting */
  address?: string;
}

/** The newest of those whose folders no `--dir` named. */
export function neighbour(base: string = defaultBase()): Neighbour | undefined {
  const path = resumableDirectories(base).find(isLocked);
  if (path === undefined) return undefined;
  const { identity, whereabouts } = runPaths(path);
  const seed = ifReadable(() => loadIdentity(identity));
  const { listen } = loadWhereabouts(whereabouts);
  // what this machine can surely reach comes first
  const address = listen.find((each) => each.startsWith('/ip4/127.')) ?? listen[0];
  return seed && address ? { path, address: `${address}/p2p/${identityFromBytes(seed).self}` } : { path };
}

/** What is damaged in one folder keeps nobody from beginning a run elsewhere. */
export function ifReadable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isCoded(error)) return undefined;
    throw error;
  }
}

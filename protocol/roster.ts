import { comparePeers, type PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import { randomStream } from './random.ts';
import type { Block, Member } from './wire.ts';

/** Faulty voters that a roster of n tolerates: f < n / 3. */
export function faultsTolerated(voters: number): number {
  return Math.floor((voters - 1) / 3);
}

/** Votes that decide: n - f, so that two quorums share a correct voter. 1 of 1, 2 of 2, 3 of 3, 3 of 4, 5 of 7. */
export function quorumOf(voters: number): number {
  return voters - faultsTolerated(voters);
}

/** Who proposes in a view: a rotation that begins at a place drawn from the run's seed for every height. */
export function leaderOf(seed: number, height: number, view: number, leaders: readonly PeerId[]): PeerId {
  return leaders[(firstLeader(seed, height, leaders.length) + view) % leaders.length]!;
}

/** The place of the leader of the first view, among so many who lead. */
export function firstLeader(seed: number, height: number, leaders: number): number {
  return randomStream(seed, 'leader', height).below(leaders);
}

/** The place of each peer in a list that never changes: made once, asked at every message. */
export function placesIn(peers: readonly PeerId[]): ReadonlyMap<PeerId, number> {
  let places = placesOf.get(peers);
  if (!places) {
    places = new Map(peers.map((peer, place) => [peer, place]));
    placesOf.set(peers, places);
  }
  return places;
}
const placesOf = new WeakMap<readonly PeerId[], ReadonlyMap<PeerId, number>>();

/** A roster never changes, so its peers are listed once. */
export function peersOf(roster: readonly Member[]): readonly PeerId[] {
  let peers = listed.get(roster);
  if (!peers) {
    peers = roster.map((member) => member.peer);
    listed.set(roster, peers);
  }
  return peers;
}
const listed = new WeakMap<readonly Member[], readonly PeerId[]>();

/**
 * The roster after a block: contributors are marked, leavers and those who contradicted themselves go, joiners come, and who has had no update in a round for
 * `evictAfterRounds` is evicted. Nobody is evicted while rounds are unfinal, and the certificate that ends such a
 * stretch gives everybody a fresh start: they may have been cut off, not dead.
 */
export function rosterAfter(roster: readonly Member[], block: Block, afterUnfinal: boolean): Member[] {
  const contributors = new Set(block.updates.map((update) => update.author));
  const leavers = new Set([...block.leaves, ...block.evictions].map(({ author }) => author));
  const next: Member[] = [];
  const silent: Member[] = [];
  for (const member of roster) {
    if (leavers.has(member.peer)) continue;
    const fresh = contributors.has(member.peer) || (block.members === null && afterUnfinal);
    const lastRound = fresh ? block.round : member.lastRound;
    const isSilent = block.members === null && block.round - lastRound > LIMITS.evictAfterRounds;
    (isSilent ? silent : next).push({ peer: member.peer, lastRound });
  }
  // where all others go in this very block somebody has to stay
  if (next.length === 0 && block.joins.length === 0) next.push(...silent);
  const staying = new Set(next.map((member) => member.peer));
  for (const { author } of block.joins) if (!staying.has(author)) next.push({ peer: author, lastRound: block.round });
  next.sort((a, b) => comparePeers(a.peer, b.peer));
  // the same peers in the same list: what is known by their places in it stays known
  const before = peersOf(roster);
  if (next.length === before.length && next.every(({ peer }, i) => peer === before[i])) listed.set(next, before);
  return next;
}

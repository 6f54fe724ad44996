import * as z from 'zod';
import { encodeCanonical } from './encoding.ts';
import { CodedError } from './errors.ts';
import { evidenceHolds } from './evidence.ts';
import { type Genesis, roundTokens } from './genesis.ts';
import { type Hash, hashOf } from './hash.ts';
import { comparePeers, type PeerId, type Signer } from './identity.ts';
import { LIMITS } from './limits.ts';
import { randomStream } from './random.ts';
import { faultsTolerated, peersOf, placesIn, rosterAfter } from './roster.ts';
import { blockHash, certificateHolds, joinBytes, leaveBytes, signedBy, updateBytes } from './signing.ts';
import {
  type AgreedState,
  type Block,
  type Certificate,
  type Entry,
  type HeadFacts,
  type Member,
  type Update,
  wireHead,
  wireState,
} from './wire.ts';

/** Where a branch of the history stands after its last block; everything here follows from genesis and the blocks. */
export interface Head {
  /** certified blocks so far; the next decision has this height plus one */
  height: number;
  /** hash of the last block, certified or not; the run id before the first */
  tip: Hash;
  round: number;
  roster: readonly Member[];
  /** who votes on the next height: drawn from the roster at the last certified block */
  committee: readonly PeerId[];
  /** who trains in this round, in order; empty until `waitFor` peers are there */
  places: readonly PeerId[];
  cursor: number;
  tokens: number;
  /** tokens in unfinal rounds since the last certified block, without late work: what decides between unfinal branches */
  unfinalTokens: number;
  /** since the last certified block, with the places in the rosters after each: a history has room for so many */
  unfinal: { rounds: number; places: number };
  /** heights of the blocks at which peers came or went, as far back as a request may be: older ones are done with */
  changes: ReadonlyMap<PeerId, number>;
}

/**
 * In a roster of up to `committee.size` peers all vote. In a larger one each peer draws its lot, so that one that comes or
 * goes makes a difference of one voter at most.
 */
function committeeOf(genesis: Genesis, height: number, roster: readonly Member[]): readonly PeerId[] {
  const { seed, committee: kind } = genesis;
  const peers = peersOf(roster);
  if (peers.length <= kind.size) return peers;
  const epoch = Math.floor(height / kind.heights);
  const last = committees.get(peers);
  if (last?.genesis === genesis && last.epoch === epoch) return last.committee;
  const drawn = peers
    .map((peer) => ({ peer, lot: randomStream(seed, 'committee', epoch, peer).uint32() }))
    .sort((a, b) => a.lot - b.lot)
    .slice(0, kind.size);
  const committee = drawn.map(({ peer }) => peer).sort(comparePeers);
  committees.set(peers, { genesis, epoch, committee });
  return committee;
}
const committees = new WeakMap<readonly PeerId[], { genesis: Genesis; epoch: number; committee: readonly PeerId[] }>();

/** The same object for the same genesis, so that what follows from a head is worked out once (`headAfter`). */
export function firstHead(genesis: Genesis, run: Hash): Head {
  let head = firstHeads.get(genesis);
  if (head?.tip !== run) {
    head = makeFirstHead(genesis, run);
    firstHeads.set(genesis, head);
  }
  return head;
}
const firstHeads = new WeakMap<Genesis, Head>();

function makeFirstHead(genesis: Genesis, run: Hash): Head {
  const roster = [{ peer: genesis.founder, lastRound: 0 }];
  return {
    height: 0,
    tip: run,
    round: 0,
    roster,
    committee: [genesis.founder],
    places: genesis.waitFor <= 1 ? [genesis.founder] : [],
    cursor: 0,
    tokens: 0,
    unfinalTokens: 0,
    unfinal: NO_UNFINAL,
    changes: new Map(),
  };
}

const NO_UNFINAL = { rounds: 0, places: 0 };

/** Whether an unfinal round may follow. */
export function hasRoomForUnfinal({ unfinal: { rounds, places } }: Head): boolean {
  return rounds < LIMITS.unfinalRoundsMax && places < LIMITS.unfinalPlacesMax;
}

/** Where a branch stands before a certified block, from what the block names: the same as on a branch that led there. */
export function headBefore(genesis: Genesis, facts: HeadFacts, block: Block): Head {
  const { roster, places, committee, cursor, tokens, unfinalTokens, changes } = facts;
  const height = block.height - 1;
  const head: Head = {
    height,
    tip: block.previous,
    round: block.round,
    roster,
    committee: committee ?? committeeOf(genesis, height, roster),
    places: places ?? peersOf(roster),
    cursor,
    tokens,
    unfinalTokens,
    unfinal: NO_UNFINAL,
    changes: new Map(changes),
  };
  toldFacts.set(head, facts);
  return head;
}
/** As they were told: the same said in other words has another hash, and is not to be told on. */
const toldFacts = new WeakMap<Head, HeadFacts>();

/** What a block that follows a head names by its hash. */
export function headFacts(head: Head): HeadFacts {
  return toldFacts.get(head) ?? makeHeadFacts(head);
}

function makeHeadFacts({ roster, places, committee, cursor, tokens, unfinalTokens, changes }: Head): HeadFacts {
  const all = peersOf(roster);
  const isAll = places === all || (places.length === all.length && places.every((peer, i) => peer === all[i]));
  return {
    roster: [...roster],
    places: isAll ? null : [...places],
    committee: unfinalTokens > 0 ? [...committee] : null,
    cursor,
    tokens,
    unfinalTokens,
    changes: [...changes].sort(([a], [b]) => comparePeers(a, b)),
  };
}

/** What a block that follows a head names it by. */
export function headHash(head: Head): Hash {
  let hash = headHashes.get(head);
  if (!hash) {
    hash = hashOfFacts(headFacts(head));
    headHashes.set(head, hash);
  }
  return hash;
}
const headHashes = new WeakMap<Head, Hash>();

/** `sha256(canonical CBOR(head facts))` */
export function hashOfFacts(facts: HeadFacts): Hash {
  return hashOf(encodeCanonical(z.encode(wireHead, facts)));
}

/** Where the branch stands after a block: worked out once for a head and a block, however many ask. */
export function headAfter(genesis: Genesis, head: Head, block: Block): Head {
  let known = following.get(head);
  if (!known) {
    known = new Map();
    following.set(head, known);
  }
  const hash = blockHash(block);
  let after = known.get(hash)?.deref();
  if (!after) {
    after = makeHeadAfter(genesis, head, block);
    // anybody can make up one block after another that may follow
    if (known.size >= FOLLOWING_MAX) known.clear();
    known.set(hash, new WeakRef(after));
  }
  return after;
}
/** Held weakly: one head must not keep all alive that ever followed it. */
const following = new WeakMap<Head, Map<Hash, WeakRef<Head>>>();
const FOLLOWING_MAX = 64;

function makeHeadAfter(genesis: Genesis, head: Head, block: Block): Head {
  const final = block.members === null;
  const roster = rosterAfter(head.roster, block, head.unfinalTokens > 0);
  const height = final ? head.height + 1 : head.height;
  const { rounds, places: placesSoFar } = head.unfinal;
  const common = {
    height,
    unfinal: final ? NO_UNFINAL : { rounds: rounds + 1, places: placesSoFar + roster.length },
    tip: blockHash(block),
    roster,
    committee: final ? committeeOf(genesis, height, roster) : head.committee,
    changes: changesAfter(head, block.height, roster),
  };
  if (block.kind === 'membership') {
    const started = head.places.length > 0;
    const places = started || roster.length < genesis.waitFor ? head.places : peersOf(roster);
    return { ...head, ...common, places };
  }
  const tokens = block.updates.reduce((sum, update) => sum + update.tokens, 0);
  // late work does not make a branch the better one: it may be claimed by anybody, in any round
  const ofRound = roundTokens(genesis);
  const inTime = block.updates.reduce((sum, update) => sum + Math.min(update.tokens, ofRound), 0);
  return {
    ...common,
    round: head.round + 1,
    places: peersOf(roster),
    cursor: head.cursor + head.places.length * genesis.innerSteps * genesis.batch,
    tokens: head.tokens + tokens,
    unfinalTokens: final ? 0 : head.unfinalTokens + inTime,
  };
}

/**
 * Voters who may lead at the height after a certified head: those who have not come just now. Their ids were not chosen for
 * the place that the seed gives the lead to, as anybody could who knows the seed and comes for that height. Where they are
 * not most, all may.
 */
export function leadersOf(head: Head): readonly PeerId[] {
  let leaders = leadersAt.get(head);
  if (!leaders) {
    const { committee, changes } = head;
    const old = changes.size === 0 ? committee : committee.filter((peer) => !changes.has(peer));
    leaders = 2 * old.length > committee.length ? old : committee;
    leadersAt.set(head, leaders);
  }
  return leaders;
}
const leadersAt = new WeakMap<Head, readonly PeerId[]>();

function changesAfter({ roster: before, changes }: Head, height: number, after: readonly Member[]): Head['changes'] {
  const [old, now] = [peersOf(before), peersOf(after)];
  if (changes.size === 0 && old === now) return changes;
  const [were, are] = [placesIn(old), placesIn(now)];
  const changed = [...old.filter((peer) => !are.has(peer)), ...now.filter((peer) => !were.has(peer))];
  const kept = [...changes].filter(([, at]) => at + REQUEST_AGE_MAX >= height);
  if (changed.length === 0 && kept.length === changes.size) return changes;
  return new Map([...kept, ...changed.map((peer): [PeerId, number] => [peer, height])]);
}

/** What a head says of the agreed state there: all but its snapshot. */
export function factsAt({ round, roster, cursor, tokens }: Head): Omit<AgreedState, 'snapshot' | 'snapshotBytes'> {
  return { round, roster: [...roster], cursor, tokens };
}

/** The agreed state that a round's start names by its root. The same object for the same head and snapshot. */
export function stateAt(head: Head, snapshot: { id: Hash; bytes: number }): AgreedState {
  const last = statesAt.get(head);
  if (last?.snapshot === snapshot.id && last.snapshotBytes === snapshot.bytes) return last;
  const state = { ...factsAt(head), snapshot: snapshot.id, snapshotBytes: snapshot.bytes };
  statesAt.set(head, state);
  return state;
}
const statesAt = new WeakMap<Head, AgreedState>();

/** `root = sha256(canonical CBOR(agreed state))` */
export function rootOf(state: AgreedState): Hash {
  let root = roots.get(state);
  if (!root) {
    root = hashOf(encodeCanonical(z.encode(wireState, state)));
    roots.set(state, root);
  }
  return root;
}
const roots = new WeakMap<AgreedState, Hash>();

/**
 * Whether an entry may follow a head: it names it, its certificate holds, and all that is signed in it is.
 * @param base root of the agreed state at the head, when known
 * @throws CodedError `E_HISTORY` naming what is wrong, `E_ENDLESS`
 */
export function checkEntry(context: ChainContext, head: Head, entry: Entry, base: Hash | undefined): void {
  const { block, certificate } = entry;
  checkBlock(context, head, block, base);
  const committee = block.members ?? head.committee;
  if (!isCertificateOf(certificate, block)) throw fault('the certificate is for something else');
  if (!certificateHolds(context.signer, context.run, committee, certificate)) {
    throw fault('the certificate lacks valid signatures');
  }
}

/** Whether a certificate says that a block comes next; not whether it holds. */
export function isCertificateOf({ kind, height, view, block: hash }: Certificate, block: Block): boolean {
  const isItsKind = block.members === null ? kind === 'finalize' : kind === 'endorse' && view === 0;
  return isItsKind && height === block.height && hash === blockHash(block);
}

export interface ChainContext {
  genesis: Genesis;
  run: Hash;
  signer: Signer;
}

/**
 * The deterministic checks of a block that a leader proposes on top of a head. Whether its payloads are here and sound
 * is the machine's to say.
 * @throws CodedError `E_HISTORY`, `E_ENDLESS` where too many unfinal rounds came before
 */
export function checkBlock(context: ChainContext, head: Head, block: Block, base: Hash | undefined): void {
  if (base !== undefined && block.base !== base) throw fault('it builds on another root');
  let checked = checkedOn.get(block);
  if (checked?.head !== head) {
    checked = { head, refusal: refusalOf(context, head, block) };
    checkedOn.set(block, checked);
  }
  if (checked.refusal) throw checked.refusal;
}

/**
 * The head that a block was looked at for, and what is wrong with it there: it is asked again at every event until it is voted
 * on or its view is over, and what is void is refused last of all that there is to check.
 */
const checkedOn = new WeakMap<Block, { head: Head; refusal: CodedError | undefined }>();

function refusalOf(context: ChainContext, head: Head, block: Block): CodedError | undefined {
  try {
    checkFollows(context, head, block);
    return undefined;
  } catch (error) {
    if (error instanceof CodedError) return error;
    throw error;
  }
}

function checkFollows(context: ChainContext, head: Head, block: Block): void {
  if (block.previous !== head.tip) throw fault('it follows another block');
  if (block.height !== head.height + 1) throw fault(`height ${block.height}, expected ${head.height + 1}`);
  if (block.round !== head.round) throw fault(`round ${block.round}, expected ${head.round}`);
  if (block.head !== headHash(head)) throw fault('it has another account of what came before');
  checkMembers(context.genesis, head, block);
  checkUpdates(context, head, block);
  checkRequests(context, head, block);
  checkOutcome(headAfter(context.genesis, head, block));
}

function checkMembers({ timing }: Genesis, head: Head, block: Block): void {
  const { members, kind, updates, joins, leaves, evictions } = block;
  if (kind === 'membership' && updates.length > 0) throw fault('a membership block lists updates');
  const changes = joins.length + leaves.length + evictions.length;
  if (kind === 'membership' && changes === 0) throw fault('a membership block changes nothing');
  // one after the other would keep the round from its end
  if (kind === 'membership' && head.places.length > 0 && joins.length > 0)
    throw fault('a joiner comes in before the round ends');
  if (kind === 'round' && updates.length === 0) throw fault('a round without updates');
  if (kind === 'round' && head.places.length === 0) throw fault('the first round has not begun');
  if (members === null) return;
  if (timing.quorumWaitMs === null) throw fault('genesis forbids unfinal rounds');
  if (kind !== 'round') throw fault('an unfinal membership block');
  if (!hasRoomForUnfinal(head)) throw new CodedError('E_ENDLESS', 'more unfinal rounds in a row than anybody makes');
  // until a certified block comes all have one height, and who has gone at it could not come back
  if (leaves.length > 0) throw fault('somebody leaves without a quorum');
  const roster = new Set(peersOf(head.roster));
  if (!ascending(members) || members.some((peer) => !roster.has(peer))) throw fault('members outside the roster');
}

function checkUpdates({ genesis, run, signer }: ChainContext, head: Head, block: Block): void {
  const places = placesIn(head.places);
  if (!ascending(block.updates.map((update) => update.author))) throw fault('updates out of order or repeated');
  for (const update of block.updates) {
    if (!places.has(update.author)) throw fault('an update from outside the round');
    if (!isPossible(genesis, update)) throw fault('an update with more work in it than a round has');
    const bytes = updateBytes(run, block.round, block.base, update);
    if (!signedBy(signer, update.author, bytes, update.signature)) throw fault('an update not signed by its author');
  }
}

/**
 * Tokens weigh an update and divide the mean: nobody may claim more than its own round and the late ones that it may carry
 * can have seen.
 */
export function isPossible(genesis: Genesis, { steps, tokens }: Update): boolean {
  return steps <= genesis.innerSteps && tokens <= (1 + LIMITS.lateRoundsMax) * roundTokens(genesis);
}

/**
 * Whether a branch that others went on with unfinally may be followed. One correct voter among the signers of its last
 * round has seen the quorum fail, and a correct one there is among f + 1; fewer are believed only by a peer that sees no
 * quorum itself. Else a single liar could put its own round in place of everybody's.
 * @param quorumInSight enough of the committee can be reached by this peer
 */
export function isCredible(head: Head, members: readonly PeerId[] | null, quorumInSight: boolean): boolean {
  if (members === null || !quorumInSight) return true;
  const voters = members.filter((peer) => head.committee.includes(peer));
  return voters.length > faultsTolerated(head.committee.length);
}

/** A join or leave request older than this many heights may be a replay. */
const REQUEST_AGE_MAX = 64;

/**
 * Whether a request to come or go, or the proof of a contradiction, may take effect after a head: it is new, and newer than
 * its author's last change.
 */
export function isTimely(head: Head, { author, height }: { author: PeerId; height: number }): boolean {
  const next = head.height + 1;
  return height <= next && height + REQUEST_AGE_MAX >= next && height > (head.changes.get(author) ?? 0);
}

function checkRequests({ run, signer }: ChainContext, head: Head, block: Block): void {
  const roster = new Set(peersOf(head.roster));
  if (!ascending(block.joins.map((join) => join.author))) throw fault('joins out of order or repeated');
  for (const join of block.joins) {
    const fresh = isTimely(head, join) && !roster.has(join.author);
    if (!fresh || !signedBy(signer, join.author, joinBytes(run, join), join.signature)) throw fault('a void join');
  }
  if (!ascending(block.leaves.map((leave) => leave.author))) throw fault('leaves out of order or repeated');
  for (const leave of block.leaves) {
    const fresh = isTimely(head, leave) && roster.has(leave.author);
    if (!fresh || !signedBy(signer, leave.author, leaveBytes(run, leave), leave.signature)) throw fault('a void leave');
  }
  if (!ascending(block.evictions.map(({ author }) => author))) throw fault('evictions out of order or repeated');
  for (const evidence of block.evictions) {
    const fresh = isTimely(head, evidence) && roster.has(evidence.author);
    if (!fresh || !evidenceHolds(signer, run, evidence)) throw fault('a void eviction');
  }
  const gone = new Set([...block.leaves, ...block.evictions].map(({ author }) => author));
  if (gone.size >= roster.size + block.joins.length) throw fault('nobody would be left');
}

/** What comes of a block, and of all unfinal ones before it, can be told to others: the next block has to name it. */
function checkOutcome({ roster, changes, cursor, tokens, unfinalTokens }: Head): void {
  const counts = [cursor, tokens, unfinalTokens];
  const fits = roster.length <= LIMITS.rosterMax && peersRemembered({ roster, changes }) <= LIMITS.changesMax;
  if (!fits || !counts.every(Number.isSafeInteger)) throw fault('it lets in more than a run can hold');
}

/** Peers in `changes` when all who are in the roster have gone: so many there may be, so that everybody can leave. */
export function peersRemembered({ roster, changes }: Pick<Head, 'roster' | 'changes'>): number {
  return roster.reduce((count, { peer }) => count + (changes.has(peer) ? 0 : 1), changes.size);
}

function ascending(peers: readonly PeerId[]): boolean {
  return peers.every((peer, i) => i === 0 || comparePeers(peers[i - 1]!, peer) < 0);
}

function fault(reason: string): CodedError<'E_HISTORY'> {
  return new CodedError('E_HISTORY', `block refused: ${reason}`);
}

import { allVouch, type Committee, isVouchedFor, summary } from './anchors.ts';
import {
  type ChainContext,
  checkEntry,
  firstHead,
  type Head,
  headAfter,
  headBefore,
  headFacts,
  isCredible,
} from './chain.ts';
import { assert } from './errors.ts';
import type { Hash } from './hash.ts';
import { LIMITS } from './limits.ts';
import { type Beginning, encodeAnchor, encodeEntry, type PageRequest } from './messages.ts';
import type { Anchor, Entry } from './wire.ts';

/** Entries of one certified stretch of a history, which is kept or forgotten as a whole. */
export interface Segment extends Beginning {
  entries: readonly Entry[];
}

/** What a log takes in. */
export interface Append {
  entry: Entry;
  /** a new segment begins with the entry, and of all that there are then only the newest `keep` stay */
  segment: (Beginning & { keep: number }) | null;
}

export const GENESIS: Beginning = { anchors: [], passed: null, pinned: null };

/** How long segments are. */
export interface SegmentSize {
  /** certified blocks that one has at least: requests to come and go are looked for so far back */
  blocksMin: number;
  /** and at most, if they can be vouched for */
  blocksMax: number;
  /** bytes, about, beyond which it ends when it has `blocksMin` */
  bytesMax: number;
}

/** A run of a few peers keeps 512 blocks in a segment, one of a thousand about 64. */
export const SEGMENT_SIZE: SegmentSize = { blocksMin: 64, blocksMax: 512, bytesMax: 8 * 1024 * 1024 };
/** Whole segments that stay when the next begins: the history that a peer has is one to two segments long. */
export const SEGMENTS_KEPT = 2;

/**
 * One branch of the run's history: certified blocks and, between or after them, unfinal ones. `heads[i]` is where the
 * branch stood before `entries[i]`. It begins at genesis, or where its anchors prove that it may.
 */
export class Branch {
  readonly entries: Entry[] = [];
  readonly heads: Head[];
  readonly #context: ChainContext;
  /** places where the history can begin for others, oldest first; the first is where this branch does */
  #beginnings: (Beginning & { tip: Hash })[];
  /** before it, no new segment is tried: the last try took more anchors than there may be */
  #nextHeight = 0;

  constructor(context: ChainContext, beginning: Beginning = GENESIS) {
    this.#context = context;
    const last = beginning.anchors.at(-1);
    const first = last
      ? headBefore(context.genesis, last.head, last.entry.block)
      : firstHead(context.genesis, context.run);
    this.heads = [first];
    this.#beginnings = [{ ...beginning, tip: first.tip }];
    if (last) this.append(last.entry);
  }

  get head(): Head {
    return this.heads[this.heads.length - 1]!;
  }

  /** Where it begins. */
  get beginning(): Beginning {
    return this.#beginnings[0]!;
  }

  /** The last block that the user knew of those before its newest segment. */
  get pinned(): Hash | null {
    return this.#beginnings.at(-1)!.pinned;
  }

  /** Segments that it consists of. */
  get segments(): number {
    return this.#beginnings.length;
  }

  /** Position of the head whose last block is this one, -1 if the branch has no such. Looks from the end. */
  find(tip: Hash): number {
    for (let i = this.heads.length - 1; i >= 0; i--) if (this.heads[i]!.tip === tip) return i;
    return -1;
  }

  append(entry: Entry): void {
    assert(entry.block.previous === this.head.tip, 'a branch grows at its head');
    this.entries.push(entry);
    this.heads.push(headAfter(this.#context.genesis, this.head, entry.block));
  }

  /** Forgets what came after a position. */
  truncate(position: number): void {
    if (position === this.entries.length) return;
    this.entries.length = position;
    this.heads.length = position + 1;
    this.#beginnings = this.#beginnings.filter(({ tip }) => this.find(tip) >= 0);
  }

  /** A branch that begins like this one up to a position. */
  fork(position: number): Branch {
    const fork = new Branch(this.#context, this.beginning);
    fork.entries.length = 0;
    fork.heads.length = 1;
    // one by one: there may be more than a call takes arguments
    for (const entry of this.entries.slice(0, position)) fork.entries.push(entry);
    for (const head of this.heads.slice(1, position + 1)) fork.heads.push(head);
    fork.#beginnings = this.#beginnings.filter(({ tip }) => fork.find(tip) >= 0);
    return fork;
  }

  /** How much of it is decided: up to the last certified block. */
  certifiedLength(): number {
    return this.entries.findLastIndex(({ block }) => block.members === null) + 1;
  }

  /** How much of it others can be expected to follow, once they see a quorum (`isCredible`). */
  credibleLength(): number {
    let { length } = this.entries;
    while (length > 0 && !isCredible(this.heads[length]!, this.entries[length - 1]!.block.members, true)) length--;
    return length;
  }

  /**
   * Checks and appends what a peer or a disk gave us.
   * @throws CodedError `E_HISTORY`, `E_ENDLESS`
   */
  extend(entries: readonly Entry[]): void {
    for (const entry of entries) {
      checkEntry(this.#context, this.head, entry, undefined);
      this.append(entry);
    }
  }

  /**
   * A page of entries after the certified block of a height; at least one, or one anchor, whatever its size.
   * @param bytesMax of all that is in it
   */
  page(
    { fromHeight, skip, anchors: told }: PageRequest,
    bytesMax: number,
  ): { anchors: Anchor[]; entries: Entry[]; more: boolean } {
    let bytes = 0;
    const fits = <Item>(items: readonly Item[], encode: (item: Item) => Uint8Array, atLeast: number): Item[] => {
      const end = items.findIndex((item) => {
        bytes += encode(item).length;
        return bytes > bytesMax;
      });
      return end < 0 ? [...items] : items.slice(0, Math.max(atLeast, end));
    };
    const isBefore = fromHeight < this.heads[0]!.height;
    const all = isBefore ? this.beginning.anchors : [];
    const anchors = fits(all.slice(told), encodeAnchor, 1);
    if (told + anchors.length < all.length || bytes > bytesMax) return { anchors, entries: [], more: true };
    const first = this.heads.findIndex((head) => head.height >= fromHeight);
    if (first < 0) return { anchors, entries: [], more: false };
    // the block of the last anchor comes with it
    const position = isBefore ? 1 : first + skip;
    const next = this.entries.slice(position, position + LIMITS.historyEntriesMax);
    const entries = fits(next, encodeEntry, anchors.length === 0 ? 1 : 0);
    return { anchors, entries, more: position + entries.length < this.entries.length };
  }

  /**
   * Lets a new segment begin with the last entry, if the one so far is long enough and a certified round ended before it.
   * @param pinned block that the user knows, and that this branch has had
   */
  beginSegment(size: SegmentSize, pinned: Hash | null): Beginning | undefined {
    const last = this.entries.length - 1;
    const since = this.find(this.#beginnings.at(-1)!.tip);
    if (last <= since || !this.#isRoundStart(last) || !this.#isLong(since, last, size)) return undefined;
    const beginning = { ...this.#proofTo(last, since), pinned };
    if (beginning.anchors.length > LIMITS.anchorsMax) {
      this.#nextHeight = this.head.height + size.blocksMin;
      return undefined;
    }
    this.#beginnings.push({ ...beginning, tip: this.heads[last]!.tip });
    return beginning;
  }

  /** Takes note of a segment that began earlier. */
  noteSegment({ anchors, passed, pinned }: Beginning): void {
    this.#beginnings.push({ anchors, passed, pinned, tip: anchors.at(-1)!.entry.block.previous });
  }

  /** Position at which the newest so many segments begin. */
  beginningOf(segments: number): number {
    return this.find(this.#beginnings.at(-Math.min(segments, this.segments))!.tip);
  }

  /** Forgets all but the newest segments. @returns how many positions earlier what is left of it lies now */
  forget(segments: number): number {
    const position = this.beginningOf(segments);
    this.#beginnings = this.#beginnings.slice(-segments);
    this.entries.splice(0, position);
    this.heads.splice(0, position);
    return position;
  }

  #isLong(since: number, last: number, { blocksMin, blocksMax, bytesMax }: SegmentSize): boolean {
    const { height } = this.heads[last]!;
    const blocks = height - this.heads[since]!.height;
    if (blocks < blocksMin || height < this.#nextHeight) return false;
    return blocks >= blocksMax || bytesOf(this.entries.slice(since, last)) > bytesMax;
  }

  /** The state that a round begins with is known by the block that led to it: where that is forgotten, it is of no use. */
  #isRoundStart(position: number): boolean {
    const [head, entry] = [this.heads[position]!, this.entries[position]!];
    return entry.block.members === null && head.unfinalTokens === 0 && head.round > this.heads[position - 1]!.round;
  }

  /**
   * The anchors to a position: those of the segment so far, and what it takes for all who have voted since to vouch for the
   * next. The last of those so far is left out where all vouch who voted since the one before it, as far as they are known.
   */
  #proofTo(position: number, since: number): Pick<Beginning, 'anchors' | 'passed'> {
    const before = this.#beginnings.at(-1)!;
    const passed = before.passed && summary(this.#committees(since, position), before.passed);
    if (passed && allVouch(passed, this.heads[position]!.committee, this.entries[position]!)) {
      return { anchors: [...before.anchors.slice(0, -1), this.#anchorAt(position)], passed };
    }
    const first = before.anchors.length === 0 ? since : since + 1;
    const places = this.#steppingStones(first, position);
    return {
      anchors: [...before.anchors, ...places.map((place) => this.#anchorAt(place))],
      passed: summary(this.#committees(places.length > 1 ? places.at(-2)! + 1 : first, position)),
    };
  }

  /** Positions of anchors, the last at `position`, such that at every head from `first` on the committee vouches for the next. */
  #steppingStones(first: number, position: number): number[] {
    const places = [position];
    for (let i = position; i >= first; i--) {
      const { committee } = this.heads[i]!;
      if (committee === this.heads[i + 1]?.committee || this.#vouches(committee, places[0]!)) continue;
      // what is decided next is signed by a quorum of it
      places.unshift(this.entries.findIndex(({ block }, at) => at >= i && block.members === null));
    }
    return places;
  }

  #committees(from: number, to: number): Committee[] {
    return this.heads.slice(from, to + 1).map(({ committee }) => committee);
  }

  #vouches(committee: Committee, position: number): boolean {
    return isVouchedFor(committee, this.heads[position]!.committee, this.entries[position]!);
  }

  #anchorAt(position: number): Anchor {
    return { head: headFacts(this.heads[position]!), entry: this.entries[position]! };
  }
}

/**
 * What a disk kept of a history: a later entry that follows an earlier block replaces what stood there before.
 * @param left takes the last that were replaced since the last certified block
 */
export function branchFromLog(context: ChainContext, segments: readonly Segment[], left: Branch[] = []): Branch {
  let branch: Branch | undefined;
  for (const segment of segments) {
    const last = segment.anchors.at(-1);
    if (!branch || (last && branch.find(last.entry.block.previous) < 0)) branch = new Branch(context, segment);
    else if (last) branch.noteSegment(segment);
    for (const entry of segment.entries) {
      const position = branch.find(entry.block.previous);
      if (position < 0) continue;
      if (position < branch.entries.length) left.push(branch.fork(branch.entries.length));
      if (left.length > LEFT_MAX) left.shift();
      branch.truncate(position);
      branch.append(entry);
      if (entry.block.members === null) left.length = 0;
    }
  }
  return branch ?? new Branch(context);
}

/** Branches that were replaced at one height and are found again after a restart. */
const LEFT_MAX = 16;

/** About the bytes of entries. */
export function bytesOf(entries: readonly Entry[]): number {
  return entries.reduce((sum, each) => sum + sizeOf(each), 0);
}

/** About the bytes of an entry: it is asked of many at once, and what is in it varies little. */
function sizeOf({ block, certificate }: Entry): number {
  const { updates, joins, leaves, evictions, members } = block;
  const signed = updates.length + joins.length + leaves.length + 2 * evictions.length;
  return 256 * (1 + signed) + 64 * (certificate.signatures.length + (members?.length ?? 0));
}

/** What a disk has of a history after an `append`. */
export function afterAppend(segments: readonly Segment[], { entry, segment }: Append): Segment[] {
  if (segment) {
    const { keep, ...beginning } = segment;
    return [...segments, { ...beginning, entries: [entry] }].slice(-keep);
  }
  const last = segments.at(-1) ?? { ...GENESIS, entries: [] };
  return [...segments.slice(0, -1), { ...last, entries: [...last.entries, entry] }];
}

/**
 * Which of two branches a peer follows: more certified blocks win, then more tokens in unfinal rounds, then the smaller
 * tip, so that everybody chooses alike. Negative when `a` is to be preferred.
 */
export function compareBranches(a: BranchStanding, b: BranchStanding): number {
  if (a.height !== b.height) return b.height - a.height;
  if (a.unfinalTokens !== b.unfinalTokens) return b.unfinalTokens - a.unfinalTokens;
  if (a.round !== b.round) return b.round - a.round;
  return a.tip < b.tip ? -1 : a.tip > b.tip ? 1 : 0;
}

export interface BranchStanding {
  height: number;
  unfinalTokens: number;
  round: number;
  tip: Hash;
}

import { fewest, headAtAnchor, isVouchedFor } from './anchors.ts';
import {
  type ChainContext,
  checkEntry,
  firstHead,
  type Head,
  headAfter,
  isCredible,
  recentAt,
  rootOf,
  stateAt,
} from './chain.ts';
import { assert } from './errors.ts';
import type { Hash } from './hash.ts';
import { LIMITS } from './limits.ts';
import { encodeAnchor, encodeEntry, type LogRecord, type PageRequest } from './messages.ts';
import type { Anchor, Entry, Snapshot } from './wire.ts';

/** Entries of one certified stretch of a history, which is kept or forgotten as a whole. */
export interface Segment {
  /** prove where it begins, the last of them there; none for the segment that begins at genesis */
  anchors: readonly Anchor[];
  records: readonly LogRecord[];
}

/** What a log takes in. */
export interface Append {
  record: LogRecord;
  /** a new segment begins with the record, and of all that there are then only the newest `keep` stay */
  segment: { anchors: readonly Anchor[]; keep: number } | null;
}

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
  #beginnings: { tip: Hash; anchors: readonly Anchor[] }[];

  constructor(context: ChainContext, anchors: readonly Anchor[] = []) {
    this.#context = context;
    const last = anchors.at(-1);
    const first = last ? headAtAnchor(context, last) : firstHead(context.genesis, context.run);
    this.heads = [first];
    this.#beginnings = [{ tip: first.tip, anchors }];
    if (last) this.append(last.entry);
  }

  get head(): Head {
    return this.heads[this.heads.length - 1]!;
  }

  /** Prove where the branch begins: none at genesis. */
  get anchors(): readonly Anchor[] {
    return this.#beginnings[0]!.anchors;
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
    const fork = new Branch(this.#context, this.anchors);
    fork.entries.length = 0;
    fork.heads.length = 1;
    fork.entries.push(...this.entries.slice(0, position));
    fork.heads.push(...this.heads.slice(1, position + 1));
    fork.#beginnings = this.#beginnings.filter(({ tip }) => fork.find(tip) >= 0);
    return fork;
  }

  /** How much of it others can be expected to follow, once they see a quorum (`isCredible`). */
  credibleLength(): number {
    let { length } = this.entries;
    while (length > 0 && !isCredible(this.heads[length]!, this.entries[length - 1]!.block.members, true)) length--;
    return length;
  }

  /** Checks and appends what a peer or a disk gave us. @throws CodedError `E_HISTORY` */
  extend(entries: readonly Entry[]): void {
    for (const entry of entries) {
      checkEntry(this.#context, this.head, entry, undefined);
      this.append(entry);
    }
  }

  /**
   * A page of entries after the certified block of a height.
   * @param bytesMax of all that is in it
   */
  page(
    { fromHeight, skip, anchors: told }: PageRequest,
    bytesMax: number,
  ): { anchors: Anchor[]; entries: Entry[]; more: boolean } {
    let bytes = 0;
    const fits = <Item>(items: readonly Item[], encode: (item: Item) => Uint8Array): Item[] => {
      const end = items.findIndex((item) => {
        bytes += encode(item).length + 80; // with a snapshot
        return bytes > bytesMax;
      });
      return items.slice(0, end < 0 ? items.length : end);
    };
    const isBefore = fromHeight < this.heads[0]!.height;
    const anchors = isBefore ? fits(this.anchors.slice(told), encodeAnchor) : [];
    if (isBefore && told + anchors.length < this.anchors.length) return { anchors, entries: [], more: true };
    // the block of the last anchor comes with it
    const position = isBefore ? 1 : this.heads.findIndex((head) => head.height >= fromHeight) + skip;
    if (position < skip) return { anchors, entries: [], more: false };
    const entries = fits(this.entries.slice(position, position + LIMITS.historyEntriesMax), encodeEntry);
    return { anchors, entries, more: position + entries.length < this.entries.length };
  }

  /**
   * Lets a new segment begin with the last entry, if the one so far is long enough and what the entry builds on is known and
   * can be proven.
   * @param snapshots by the block that led to the state
   * @returns its anchors
   */
  beginSegment(snapshots: ReadonlyMap<Hash, Snapshot>, size: SegmentSize): readonly Anchor[] | undefined {
    const last = this.entries.length - 1;
    const since = this.find(this.#beginnings.at(-1)!.tip);
    if (last < since || !this.#isLong(since, last, size)) return undefined;
    const anchors = this.#anchorsTo(since, last, snapshots);
    if (anchors) this.#beginnings.push({ tip: this.heads[last]!.tip, anchors });
    return anchors;
  }

  /** Takes note of a segment that began earlier. */
  noteSegment(anchors: readonly Anchor[]): void {
    this.#beginnings.push({ tip: anchors.at(-1)!.entry.block.previous, anchors });
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
    const blocks = this.heads[last]!.height - this.heads[since]!.height;
    if (blocks < blocksMin) return false;
    return (
      blocks >= blocksMax || this.entries.slice(since, last).reduce((sum, each) => sum + sizeOf(each), 0) > bytesMax
    );
  }

  /**
   * The anchors to a position: those of the segment so far, the one there, and as few as it takes between them.
   * @returns undefined where the position is none to begin at, or nobody can vouch for it
   */
  #anchorsTo(since: number, position: number, snapshots: ReadonlyMap<Hash, Snapshot>): Anchor[] | undefined {
    const before = this.#beginnings.at(-1)!.anchors;
    const target = this.#anchorAt(position, snapshots);
    if (!target) return undefined;
    const anchors = [...before];
    // the head that is to vouch for the next anchor
    let from = before.length > 0 ? since + 1 : since;
    while (!this.#vouches(from, position)) {
      let next = position - 1;
      while (next > from && !(this.#vouches(from, next) && this.#anchorAt(next, snapshots))) next--;
      if (next <= from) return undefined;
      anchors.push(this.#anchorAt(next, snapshots)!);
      from = next + 1;
    }
    return fewest(this.#context, firstHead(this.#context.genesis, this.#context.run), [...anchors, target]);
  }

  #vouches(head: number, position: number): boolean {
    return isVouchedFor(this.heads[head]!, this.heads[position]!.committee, this.entries[position]!);
  }

  #anchorAt(position: number, snapshots: ReadonlyMap<Hash, Snapshot>): Anchor | undefined {
    const [head, entry] = [this.heads[position]!, this.entries[position]!];
    const snapshot = snapshots.get(head.tip);
    if (!snapshot || head.unfinalTokens > 0 || entry.block.members !== null) return undefined;
    const state = stateAt(head, snapshot);
    // others may have told us of another snapshot
    return rootOf(state) === entry.block.base ? { state, recent: recentAt(head), entry } : undefined;
  }
}

/** What a disk kept of a history: a later entry that follows an earlier block replaces what stood there before. */
export function branchFromLog(context: ChainContext, segments: readonly Segment[]): Branch {
  let branch: Branch | undefined;
  for (const { anchors, records } of segments) {
    const last = anchors.at(-1);
    if (!branch || (last && branch.find(last.entry.block.previous) < 0)) branch = new Branch(context, anchors);
    else if (last) branch.noteSegment(anchors);
    for (const { entry } of records) {
      const position = branch.find(entry.block.previous);
      if (position < 0) continue;
      branch.truncate(position);
      branch.append(entry);
    }
  }
  return branch ?? new Branch(context);
}

/** About the bytes of an entry: it is asked of many at once, and what is in it varies little. */
function sizeOf({ block, certificate }: Entry): number {
  const { updates, joins, leaves, evictions, members } = block;
  const signed = updates.length + joins.length + leaves.length + 2 * evictions.length;
  return 256 * (1 + signed) + 64 * (certificate.signatures.length + (members?.length ?? 0));
}

/** @param parts segments, or pages of an answer */
export function entriesOf(parts: readonly Pick<Segment, 'records'>[]): Entry[] {
  return parts.flatMap(({ records }) => records).map(({ entry }) => entry);
}

/** What a disk has of a history after an `append`. */
export function afterAppend(segments: readonly Segment[], { record, segment }: Append): Segment[] {
  const begun = segments.length === 0 ? [{ anchors: [], records: [] }] : segments;
  const kept = segment ? [...segments, { anchors: segment.anchors, records: [] }].slice(-segment.keep) : begun;
  const { anchors, records } = kept.at(-1)!;
  return [...kept.slice(0, -1), { anchors, records: [...records, record] }];
}

/**
 * Which of two branches a peer follows: more certified blocks win, then more tokens in unfinal rounds, then the smaller
 * root, so that everybody chooses alike. Negative when `a` is to be preferred.
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

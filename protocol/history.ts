import { type ChainContext, checkEntry, firstHead, type Head, headAfter, isCredible } from './chain.ts';
import { assert } from './errors.ts';
import type { Hash } from './hash.ts';
import { LIMITS } from './limits.ts';
import { encodeEntry } from './messages.ts';
import type { Entry } from './wire.ts';

/**
 * One branch of the run's history from genesis on: certified blocks and, between or after them, unfinal ones.
 * `heads[i]` is where the branch stood before `entries[i]`.
 */
export class Branch {
  readonly entries: Entry[] = [];
  readonly heads: Head[];
  readonly #context: ChainContext;

  constructor(context: ChainContext) {
    this.#context = context;
    this.heads = [firstHead(context.genesis, context.run)];
  }

  get head(): Head {
    return this.heads[this.heads.length - 1]!;
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
    this.entries.length = position;
    this.heads.length = position + 1;
  }

  /** A branch that begins like this one up to a position. */
  fork(position: number): Branch {
    const fork = new Branch(this.#context);
    fork.entries.push(...this.entries.slice(0, position));
    fork.heads.push(...this.heads.slice(1, position + 1));
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

  /** A page of entries after the certified block of a height, at most as many as one answer holds. */
  page(fromHeight: number, skip: number): { entries: Entry[]; more: boolean } {
    let position = this.heads.findIndex((head) => head.height >= fromHeight);
    if (position < 0) return { entries: [], more: false };
    position += skip;
    const entries: Entry[] = [];
    let bytes = 4096; // for the states and the frame of the answer
    for (const entry of this.entries.slice(position, position + LIMITS.historyEntriesMax)) {
      bytes += encodeEntry(entry).length + 8;
      if (bytes > LIMITS.historyBytesMax - 128 * LIMITS.rosterMax) break;
      entries.push(entry);
    }
    return { entries, more: position + entries.length < this.entries.length };
  }
}

/** Entries of a disk's log: a later entry that follows an earlier block replaces what stood there before. */
export function branchFromLog(context: ChainContext, log: readonly Entry[]): Branch {
  const branch = new Branch(context);
  for (const entry of log) {
    const position = branch.find(entry.block.previous);
    if (position < 0) continue;
    branch.truncate(position);
    branch.append(entry);
  }
  return branch;
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

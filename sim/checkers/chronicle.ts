import { firstHead, type Head, headAfter } from '../../protocol/chain.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import { blockHash } from '../../protocol/signing.ts';
import type { Entry } from '../../protocol/wire.ts';

export interface Recorded {
  hash: Hash;
  entry: Entry;
  before: Head;
  after: Head;
}

/** Every block that a correct peer made part of its history, with where its branch stood before and after it. */
export class Chronicle {
  readonly genesis: Genesis;
  readonly run: Hash;
  readonly #recorded = new Map<Hash, Recorded>();
  /** rounds of the updates in certified blocks and in the unfinal ones that such a block followed, by payload */
  readonly #settled = new Map<Hash, number>();
  readonly first: Head;

  constructor(genesis: Genesis, run: Hash) {
    this.genesis = genesis;
    this.run = run;
    this.first = firstHead(genesis, run);
  }

  /** @returns what is new; undefined when the block is known or follows one that is not */
  add(entry: Entry): Recorded | undefined {
    const hash = blockHash(entry.block);
    const before = this.#headOf(entry.block.previous);
    if (this.#recorded.has(hash) || !before) return undefined;
    const recorded = { hash, entry, before, after: headAfter(this.genesis, before, entry.block) };
    this.#recorded.set(hash, recorded);
    if (entry.block.members === null) this.#settle(recorded);
    return recorded;
  }

  /** The round that has an update with this payload for good, counted as rounds are reported. */
  roundOf(payload: Hash): number | undefined {
    return this.#settled.get(payload);
  }

  #settle({ hash }: Recorded): void {
    for (const { hash: at, entry } of this.back(hash)) {
      if (at !== hash && entry.block.members === null) return;
      for (const { payload } of entry.block.updates) this.#settled.set(payload, entry.block.round + 1);
    }
  }

  get(hash: Hash): Recorded | undefined {
    return this.#recorded.get(hash);
  }

  /** From a block back to the first. */
  *back(from: Hash): Generator<Recorded> {
    for (let at = this.#recorded.get(from); at; at = this.#recorded.get(at.entry.block.previous)) yield at;
  }

  #headOf(tip: Hash): Head | undefined {
    return tip === this.run ? this.first : this.#recorded.get(tip)?.after;
  }
}

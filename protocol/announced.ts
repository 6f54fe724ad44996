import type { Hash } from './hash.ts';
import type { MessageOf } from './messages.ts';

/** Headers that this peer announced, by the root they build on: each stands if its round is still open, or opens again. */
export class Announced {
  readonly #headers = new Map<Hash, MessageOf<'header'>>();

  on(base: Hash): MessageOf<'header'> | undefined {
    return this.#headers.get(base);
  }

  /** Oldest first. */
  all(): MessageOf<'header'>[] {
    return [...this.#headers.values()];
  }

  /**
   * The payload rides in the newest alone: all of them are in every record.
   * @param held roots of the states that this peer still has, and may be sent back to
   */
  note(header: MessageOf<'header'>, held: ReadonlySet<Hash>): void {
    for (const [base, before] of this.#headers) {
      if (before.inline) this.#headers.set(base, { ...before, inline: null });
    }
    this.#headers.set(header.base, header);
    for (const base of this.#headers.keys()) {
      if (this.#headers.size <= ANNOUNCED_KEPT) break;
      if (!held.has(base)) this.#headers.delete(base);
    }
  }
}

/** Those of a long stretch of unfinal rounds, which another history may send us back into. */
const ANNOUNCED_KEPT = 64;

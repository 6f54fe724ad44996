import type { Hash } from './hash.ts';
import { LIMITS } from './limits.ts';
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

  /** The payload rides in the newest alone: all of them are in every record. */
  note(header: MessageOf<'header'>): void {
    for (const [base, before] of this.#headers) {
      if (before.inline) this.#headers.set(base, { ...before, inline: null });
    }
    this.#headers.set(header.base, header);
    for (const base of this.#headers.keys()) {
      if (this.#headers.size <= LIMITS.payloadRoundsKept) break;
      this.#headers.delete(base);
    }
  }
}

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
   * @param known.held roots of the states that this peer still has, and may be sent back to
   * @param known.decided rounds that are certified: another history cannot send us back before their end
   */
  note(header: MessageOf<'header'>, { held, decided }: { held: ReadonlySet<Hash>; decided: number }): void {
    for (const [base, before] of this.#headers) {
      if (before.inline) this.#headers.set(base, { ...before, inline: null });
    }
    this.#headers.set(header.base, header);
    const all = this.all();
    const past = all.filter(({ round }) => round < decided);
    const open = all.filter(({ round }) => round >= decided);
    for (const { base } of [...past, ...open.slice(FIRST_KEPT)]) {
      if (this.#headers.size <= ANNOUNCED_KEPT) break;
      if (!held.has(base)) this.#headers.delete(base);
    }
  }
}

/** Those of a long stretch of unfinal rounds, which another history may send us back into. */
const ANNOUNCED_KEPT = 64;
/**
 * Of the rounds after the last certified one so many stay however long the stretch: a block that was decided when the quorum
 * was lost, and that nobody who went on had heard of, leads to the very states that they went on from.
 */
const FIRST_KEPT = 8;

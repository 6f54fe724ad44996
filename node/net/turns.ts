import type { PeerId } from '../../protocol/identity.ts';
import { abortedBy } from './deadline.ts';
import { NET_LIMITS } from './limits.ts';

interface Waiter {
  peer: PeerId;
  go: () => void;
}

/**
 * Whose chunk is sent now. Peers in the roster never wait; strangers, whose names cost nothing, take turns: first come, first
 * served, each with one chunk, some at a time, and hardly any while somebody in the roster is being served. Without this many
 * of them together would have the whole uplink. Nobody waits for long, lest it takes this peer for dead.
 */
export class Turns {
  readonly #waiting: Waiter[] = [];
  #favoured = 0;
  /** turns that strangers have now */
  readonly #taken = new Map<PeerId, number>();

  /**
   * Settles when it is the caller's turn, who calls what it gets when it is done; late callers keep nobody waiting.
   * @param signal nobody waits for the chunk any more
   * @throws CodedError `E_ABORTED`
   */
  async take(peer: PeerId, isFavoured: boolean, signal: AbortSignal): Promise<() => void> {
    if (isFavoured) this.#favoured++;
    else await this.#wait(peer, signal);
    let isOver = false;
    const over = (): void => {
      clearTimeout(late);
      if (isOver) return;
      isOver = true;
      if (isFavoured) this.#favoured--;
      else this.#count(peer, -1);
      this.#next();
    };
    const late = setTimeout(over, NET_LIMITS.blobTurnMs);
    return over;
  }

  #wait(peer: PeerId, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(impatient);
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(abortedBy(signal));
      };
      const waiter = {
        peer,
        go: (): void => {
          clearTimeout(impatient);
          signal.removeEventListener('abort', leave);
          this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
          this.#count(peer, 1);
          resolve();
        },
      };
      const impatient = setTimeout(waiter.go, NET_LIMITS.blobStallMs / 2);
      signal.addEventListener('abort', leave, { once: true });
      this.#waiting.push(waiter);
      if (signal.aborted) leave();
      else this.#next();
    });
  }

  #count(peer: PeerId, change: number): void {
    const turns = (this.#taken.get(peer) ?? 0) + change;
    if (turns > 0) this.#taken.set(peer, turns);
    else this.#taken.delete(peer);
  }

  #next(): void {
    const most = this.#favoured > 0 ? NET_LIMITS.strangersServedBesides : NET_LIMITS.strangersServedMax;
    while (this.#taken.size < most) {
      const next = this.#waiting.find(({ peer }) => !this.#taken.has(peer));
      if (!next) return;
      next.go();
    }
  }
}

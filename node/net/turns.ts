import { NET_LIMITS } from './limits.ts';

/**
 * Whose chunk is sent now. Peers in the roster never wait; strangers, whose names cost nothing, take turns: first come, first
 * served, some at a time, and hardly any while somebody in the roster is being served. Without this many of them together
 * would have the whole uplink.
 */
export class Turns {
  readonly #waiting: (() => void)[] = [];
  #favoured = 0;
  #strangers = 0;

  /** Settles when it is the caller's turn, who calls what it gets when it is done; late callers keep nobody waiting. */
  async take(isFavoured: boolean): Promise<() => void> {
    if (isFavoured) this.#favoured++;
    else {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        this.#next();
      });
    }
    let isOver = false;
    const over = (): void => {
      clearTimeout(late);
      if (isOver) return;
      isOver = true;
      if (isFavoured) this.#favoured--;
      else this.#strangers--;
      this.#next();
    };
    const late = setTimeout(over, NET_LIMITS.blobTurnMs);
    return over;
  }

  #next(): void {
    const most = this.#favoured > 0 ? NET_LIMITS.strangersServedBesides : NET_LIMITS.strangersServedMax;
    while (this.#strangers < most) {
      const resolve = this.#waiting.shift();
      if (!resolve) return;
      this.#strangers++;
      resolve();
    }
  }
}

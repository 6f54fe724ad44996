import type { Kernel, Planned } from './kernel.ts';
import type { Carried } from './ledger.ts';
import type { Links } from './links.ts';

/** Bytes under way from one peer to another. */
export interface Transfer {
  readonly from: number;
  readonly to: number;
  readonly startMs: number;
  left: number;
  /** bytes a millisecond, now */
  rate: number;
  sinceMs: number;
  end: Planned | undefined;
  /** the last byte has left */
  onSent: (() => void) | undefined;
  readonly onArrival: () => void;
}

/**
 * Bulk transfers that share links: each gets an equal part of its sender's uplink and of its receiver's downlink,
 * whichever is less, and no more than TCP reaches on a lossy path. Shares change when a transfer begins or ends. A part
 * that one transfer cannot use is not given to others: at worst the simulator is slower than a real network there. Alone,
 * B bytes at bandwidth b and one-way latency l take l + B / b.
 */
export class Transfers {
  readonly #kernel: Kernel;
  readonly #links: Links;
  readonly #onEnd: (carried: Carried) => void;
  readonly #sending = new Map<number, Set<Transfer>>();
  readonly #receiving = new Map<number, Set<Transfer>>();

  /** @param onEnd the last byte has left, or the transfer is cut off */
  constructor(kernel: Kernel, links: Links, onEnd: (carried: Carried) => void = () => undefined) {
    this.#kernel = kernel;
    this.#links = links;
    this.#onEnd = onEnd;
  }

  /** @param onArrival the last byte is there */
  start(from: number, to: number, bytes: number, onArrival: () => void): Transfer {
    const sinceMs = this.#kernel.nowMs;
    const transfer: Transfer = {
      from,
      to,
      startMs: sinceMs,
      left: bytes,
      rate: 0,
      sinceMs,
      end: undefined,
      onSent: undefined,
      onArrival,
    };
    setOf(this.#sending, from).add(transfer);
    setOf(this.#receiving, to).add(transfer);
    this.#share(from, to);
    return transfer;
  }

  /** The connection is gone, and what was under way with it. */
  cancel(transfer: Transfer): void {
    this.#kernel.cancel(transfer.end);
    this.#remove(transfer);
  }

  #remove(transfer: Transfer): void {
    const { from, to, startMs } = transfer;
    this.#onEnd({ from, to, fromMs: startMs, toMs: this.#kernel.nowMs });
    this.#sending.get(from)?.delete(transfer);
    this.#receiving.get(to)?.delete(transfer);
    this.#share(from, to);
  }

  #share(from: number, to: number): void {
    for (const transfer of setOf(this.#sending, from)) this.#update(transfer);
    for (const transfer of setOf(this.#receiving, to)) if (transfer.from !== from) this.#update(transfer);
  }

  #update(transfer: Transfer): void {
    const { from, to } = transfer;
    const { nowMs } = this.#kernel;
    const up = this.#links.uploadRate(from) / setOf(this.#sending, from).size;
    const down = this.#links.downloadRate(to) / setOf(this.#receiving, to).size;
    const rate = Math.min(up, down, this.#links.lossyRate(from, to));
    if (rate === transfer.rate) return;
    if (transfer.rate > 0) transfer.left = Math.max(0, transfer.left - transfer.rate * (nowMs - transfer.sinceMs));
    transfer.sinceMs = nowMs;
    transfer.rate = rate;
    this.#kernel.cancel(transfer.end);
    transfer.end = this.#kernel.after(transfer.left / rate, () => {
      this.#remove(transfer);
      transfer.onSent?.();
      this.#kernel.after(this.#links.oneWayMs(from, to), transfer.onArrival);
    });
  }
}

function setOf(sets: Map<number, Set<Transfer>>, peer: number): Set<Transfer> {
  let set = sets.get(peer);
  if (!set) {
    set = new Set();
    sets.set(peer, set);
  }
  return set;
}

import { createHash } from 'node:crypto';

/** Bytes of text that are gathered before they are hashed. */
const FLUSH_LENGTH = 1 << 16;

/**
 * The fingerprint of a run: SHA-256 over one line of text an event, `<ms> <peer> <kind> <ids>`. Two runs with the same
 * hash went through the same events at the same virtual times.
 */
export class Trace {
  readonly #hash = createHash('sha256');
  #text = '';

  add(nowMs: number, peer: number, kind: string, ids: string | number): void {
    this.#text += `${nowMs} ${peer} ${kind} ${ids}\n`;
    if (this.#text.length >= FLUSH_LENGTH) this.#flush();
  }

  digest(): string {
    this.#flush();
    return this.#hash.copy().digest('hex');
  }

  #flush(): void {
    this.#hash.update(this.#text);
    this.#text = '';
  }
}

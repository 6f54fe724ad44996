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

  /** Messages that were read at once, by their numbers: one line, with a checksum (FNV-1a over the numbers). */
  addRead(nowMs: number, peer: number, numbers: readonly number[]): void {
    let sum = 0x811c9dc5;
    for (let i = 0; i < numbers.length; i++) sum = Math.imul(sum ^ numbers[i]!, 0x01000193);
    this.add(nowMs, peer, 'read', `${numbers.length} ${sum >>> 0}`);
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

import { payloadError } from './payload.ts';

/** Packs fields of up to 16 bits, least significant bit first, into bytes that the caller has sized exactly. */
export class BitWriter {
  readonly #bytes: Uint8Array;
  #at: number;
  #held = 0;
  #heldBits = 0;

  constructor(bytes: Uint8Array, offset: number) {
    this.#bytes = bytes;
    this.#at = offset;
  }

  write(value: number, bits: number): void {
    this.#held |= value << this.#heldBits;
    this.#heldBits += bits;
    while (this.#heldBits >= 8) {
      this.#bytes[this.#at++] = this.#held & 0xff;
      this.#held >>>= 8;
      this.#heldBits -= 8;
    }
  }

  /** `count` ones and a zero */
  writeUnary(count: number): void {
    let left = count;
    for (; left > 15; left -= 15) this.write(0x7fff, 15);
    this.write((1 << left) - 1, left + 1);
  }

  /** Pads the last byte with zeros; returns the offset after it. */
  finish(): number {
    if (this.#heldBits > 0) this.write(0, 8 - this.#heldBits);
    return this.#at;
  }
}

/** Reads what `BitWriter` wrote from `[offset, end)`. Every read that leaves the section is an `E_PAYLOAD_FORMAT`. */
export class BitReader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #at: number;
  #held = 0;
  #heldBits = 0;

  constructor(bytes: Uint8Array, offset: number, end: number) {
    this.#bytes = bytes;
    this.#at = offset;
    this.#end = end;
  }

  read(bits: number): number {
    while (this.#heldBits < bits) {
      if (this.#at >= this.#end) throw payloadError('E_PAYLOAD_FORMAT', 'bit stream ends inside a field');
      this.#held |= this.#bytes[this.#at++]! << this.#heldBits;
      this.#heldBits += 8;
    }
    const value = this.#held & ((1 << bits) - 1);
    this.#held >>>= bits;
    this.#heldBits -= bits;
    return value;
  }

  /** Counts ones up to a zero; more than `max` of them is an error, so a run of ones cannot keep us busy. */
  readUnary(max: number): number {
    let count = 0;
    while (this.read(1) === 1) {
      if (++count > max) throw payloadError('E_PAYLOAD_FORMAT', `unary run of more than ${max} ones`);
    }
    return count;
  }

  /** One meaning has one spelling: nothing but the zero bits of the last byte may follow. */
  expectEnd(): void {
    if (this.#at !== this.#end || this.#held !== 0) {
      throw payloadError('E_PAYLOAD_FORMAT', 'bytes or set bits after the end of a bit stream');
    }
  }
}

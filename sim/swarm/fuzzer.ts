import { encodeCanonical } from '../../protocol/encoding.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { PeerId, Signer } from '../../protocol/identity.ts';
import { decodeHistory, encodeHistory, encodeMessage, type Message, statusFields } from '../../protocol/messages.ts';
import type { RandomStream } from '../../protocol/random.ts';
import {
  blockHash,
  joinBytes,
  leaveBytes,
  proposalBytes,
  statusBytes,
  updateBytes,
  voteBytes,
} from '../../protocol/signing.ts';
import { pick } from './plan.ts';

/** Changes made to one message at most. */
const CHANGES_MAX = 3;
/** Chance that a change is made where the walk has got to, and not further in. */
const HERE = 0.3;
/** Chance that bits of the encoding are turned besides. */
const GARBLED = 0.15;
/** Elements that an array is blown up to. */
const BLOWN_UP = 3000;

const NUMBERS = [0, 1, -1, 0.5, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 40 + 1, Number.MAX_SAFE_INTEGER, Number.NaN, 1e300];
const ODDITIES = [null, true, '', 'x', -7, [], {}, new Uint8Array(0), [[[[[[]]]]]]];
/** One of its own each time: a later change may be made inside of it, and the next message must find it as it was. */
const oddity = (random: RandomStream): unknown => structuredClone(pick(random, ODDITIES));

type Tree = Record<string | number, unknown>;

/**
 * Makes of what was said what nobody would say: a number, a name, a list or a piece of it is another, taken from elsewhere
 * or from the edge of what the format allows. What a message is signed over is signed again, by the liar, so that it gets
 * past the decoder as often as not.
 */
export class Fuzzer {
  readonly #random: RandomStream;
  readonly #signer: Signer;
  readonly #run: Hash;
  /** in the message at hand: one list in the other they would be millions of elements */
  #blownUp = false;

  constructor(components: { random: RandomStream; signer: Signer }, run: Hash) {
    this.#random = components.random;
    this.#signer = components.signer;
    this.#run = run;
  }

  /** @param heard what to begin with and to take pieces from, not empty */
  message(heard: readonly Message[]): Uint8Array {
    const original = pick(this.#random, heard);
    const changed = this.#changed(original, heard);
    return this.#encoded(() => encodeMessage(this.#signed(changed)), changed, encodeMessage(original));
  }

  /** An answer to a question for the history. @throws CodedError where the honest one is none */
  history(honest: Uint8Array): Uint8Array {
    const original = decodeHistory(honest, this.#run);
    const changed = this.#changed(original, [original]);
    return this.#encoded(() => encodeHistory(changed), changed, honest);
  }

  #changed<Value>(value: Value, donors: readonly unknown[]): Value {
    const changed = structuredClone(value);
    this.#blownUp = false;
    const changes = 1 + this.#random.below(CHANGES_MAX);
    for (let i = 0; i < changes; i++) this.#change(changed as Tree, donors);
    return changed;
  }

  /** Walks down to a place that is drawn, and puts something else there. */
  #change(tree: Tree, donors: readonly unknown[]): void {
    const keys = Object.keys(tree);
    if (keys.length === 0) return;
    const key = pick(this.#random, keys);
    const value = tree[key];
    const isTree = typeof value === 'object' && value !== null && !(value instanceof Uint8Array);
    if (isTree && this.#random.unit() > HERE) return this.#change(value as Tree, donors);
    const way = this.#random.below(12);
    if (way === 0) delete tree[key];
    else if (way === 1) tree[key] = oddity(this.#random);
    else if (way < 5) tree[key] = this.#fromElsewhere(key, donors) ?? this.#other(value);
    else tree[key] = this.#other(value);
  }

  /** What stands under this name in something else. */
  #fromElsewhere(key: string, donors: readonly unknown[]): unknown {
    let at: unknown = pick(this.#random, donors);
    while (typeof at === 'object' && at !== null && !(at instanceof Uint8Array)) {
      if (Object.hasOwn(at, key)) return structuredClone((at as Tree)[key]);
      const inner = Object.values(at);
      if (inner.length === 0) return undefined;
      at = pick(this.#random, inner);
    }
    return undefined;
  }

  #other(value: unknown): unknown {
    const random = this.#random;
    if (typeof value === 'number') return pick(random, [...NUMBERS, value + 1, value - 1, 2 * value]);
    if (typeof value === 'string') return this.#otherText(value);
    if (value instanceof Uint8Array) return this.#otherBytes(value);
    if (Array.isArray(value)) return this.#otherList(value);
    return oddity(random);
  }

  #otherText(text: string): string {
    const letters = [...text];
    if (letters.length === 0) return 'x'.repeat(this.#random.below(200));
    const at = this.#random.below(letters.length);
    letters[at] = pick(this.#random, [...'0123456789abcdef']);
    return pick(this.#random, [letters.join(''), text.slice(0, at), text + text, this.#signer.self]);
  }

  #otherBytes(bytes: Uint8Array): Uint8Array {
    const other = new Uint8Array(pick(this.#random, [bytes.length, bytes.length, 0, bytes.length + 1, 40_000]));
    other.set(bytes.subarray(0, other.length));
    if (other.length > 0) other[this.#random.below(other.length)]! ^= 1 << this.#random.below(8);
    return other;
  }

  #otherList(list: readonly unknown[]): unknown[] {
    const at = this.#random.below(Math.max(1, list.length));
    switch (this.#random.below(5)) {
      case 0:
        return [];
      case 1:
        return [...list].reverse();
      case 2:
        return list.filter((_, i) => i !== at);
      case 3:
        return list.flatMap((each, i) => (i === at ? [each, each] : [each]));
      default:
        if (list.length === 0 || this.#blownUp) return [null];
        this.#blownUp = true;
        return new Array<unknown>(BLOWN_UP).fill(list[at]);
    }
  }

  /** As the liar's own, where it can be signed at all. */
  #signed(message: Message): Message {
    const author: PeerId = this.#signer.self;
    const sign = (bytes: Uint8Array) => this.#signer.sign(bytes);
    const run = this.#run;
    if (this.#random.below(8) === 0) return message; // as somebody else's
    switch (message.type) {
      case 'header': {
        const update = { ...message.update, author };
        const signature = sign(updateBytes(run, message.round, message.base, update));
        return { ...message, update: { ...update, signature } };
      }
      case 'join': {
        const join = { ...message.join, author };
        return { ...message, join: { ...join, signature: sign(joinBytes(run, join)) } };
      }
      case 'leave': {
        const leave = { ...message.leave, author };
        return { ...message, leave: { ...leave, signature: sign(leaveBytes(run, leave)) } };
      }
      case 'proposal': {
        const { height, view, parentView, block } = message;
        return { ...message, author, signature: sign(proposalBytes(run, height, view, parentView, blockHash(block))) };
      }
      case 'vote': {
        const { kind, height, view, block } = message;
        return { ...message, author, signature: sign(voteBytes(run, kind, height, view, block)) };
      }
      case 'status': {
        const fields = statusFields({ ...message, author });
        return { ...message, author, signature: sign(statusBytes(run, fields)) };
      }
      default:
        return message;
    }
  }

  /** What the format has no room for goes out as it is, or as a spoiled original where it cannot be encoded at all. */
  #encoded(encode: () => Uint8Array, changed: unknown, original: Uint8Array): Uint8Array {
    const bytes = tried(encode) ?? tried(() => encodeCanonical(changed)) ?? this.#otherBytes(original);
    return this.#random.unit() < GARBLED ? this.#otherBytes(bytes) : bytes;
  }
}

function tried(encode: () => Uint8Array): Uint8Array | undefined {
  try {
    return encode();
  } catch {
    return undefined; // it is not of the format: that is what it was changed for
  }
}

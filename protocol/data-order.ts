import { sha256 } from './hash.ts';

/**
 * Which sequences a peer trains on, from seed and position alone, without overlap between peers or rounds (but
 * for what a peer trains while a round waits for a quorum, which is what its place has in later rounds).
 *
 * The training tokens are cut into sequences of `context` tokens. One epoch visits all of them in an order that a keyed
 * permutation gives; epochs differ in key and in where the first cut falls. The run counts sequences handed out so far
 * (`cursor`, part of the agreed state); in a round the peer at place p takes the innerSteps x batch positions after
 * `cursor + p * innerSteps * batch`, and the cursor then moves on by that much for every place.
 */
export interface DataOrder {
  /** sequences in one epoch */
  readonly epochLength: number;
  /** First token of the sequence at a position of the run (0-based, without end). */
  tokenOffset(position: number): number;
}

/**
 * @param trainTokens tokens in the training split
 * @param context tokens in a sequence; one more is needed as the last target
 */
export function dataOrder(seed: number, trainTokens: number, context: number): DataOrder {
  // one sequence is given up so that every epoch's shift leaves room for the target of the last token
  const epochLength = Math.max(1, Math.floor((trainTokens - 1) / context) - 1);
  const shiftRange = Math.max(1, Math.min(context, trainTokens - 1 - epochLength * context));
  const halfBits = Math.max(1, Math.ceil(Math.log2(Math.max(2, epochLength)) / 2));
  let cached: { epoch: number; keys: Uint32Array; shift: number } | undefined;
  const keysOf = (epoch: number) => {
    if (cached?.epoch === epoch) return cached;
    const view = new DataView(sha256(new TextEncoder().encode(`${seed}/data/${epoch}`)).buffer);
    const keys = Uint32Array.from({ length: FEISTEL_ROUNDS }, (_, i) => view.getUint32(4 * i));
    cached = { epoch, keys, shift: view.getUint32(4 * FEISTEL_ROUNDS) % shiftRange };
    return cached;
  };
  return {
    epochLength,
    tokenOffset(position) {
      const { keys, shift } = keysOf(Math.floor(position / epochLength));
      let index = position % epochLength;
      // cycle walking: the Feistel domain is a power of four, step until we are back inside the epoch
      do index = feistel(index, halfBits, keys);
      while (index >= epochLength);
      return index * context + shift;
    },
  };
}

const FEISTEL_ROUNDS = 4;

/** A balanced Feistel network over 2 x halfBits bits: a permutation whatever its round function is. */
function feistel(value: number, halfBits: number, keys: Uint32Array): number {
  const mask = 2 ** halfBits - 1;
  let left = Math.floor(value / 2 ** halfBits);
  let right = value % 2 ** halfBits;
  for (const key of keys) {
    const mixed = Math.imul(right ^ key, 0x9e3779b1) ^ (right * 0x85ebca6b);
    const next = (left ^ ((mixed ^ (mixed >>> 15)) >>> 3)) & mask;
    left = right;
    right = next >>> 0;
  }
  return left * 2 ** halfBits + right;
}

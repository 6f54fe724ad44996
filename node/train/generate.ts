import { setImmediate as nextTurn } from 'node:timers/promises';
import { type RandomStream, randomStream } from '../../protocol/random.ts';
import type { Engine } from './engine.ts';

export interface GenerateOptions {
  /** tokens to add */
  count: number;
  /** divides the logits: below 1 safer, above 1 wilder; 0 always takes the likeliest. @default 1 */
  temperature?: number;
  /** same seed, parameters and backend, same text */
  seed: number;
  signal?: AbortSignal;
}

/**
 * Samples tokens that continue `prompt` (at least one token), one at a time, yielding each. The model sees the last
 * `context` tokens. Gives the event loop a turn after each, so aborts arrive.
 */
export async function* generate(
  engine: Engine,
  prompt: ArrayLike<number>,
  { count, temperature = 1, seed, signal }: GenerateOptions,
): AsyncGenerator<number, void, void> {
  const random = randomStream(seed, 'generate');
  const tokens = new Int32Array(prompt.length + count);
  tokens.set(prompt);
  for (let length = prompt.length; length < tokens.length && !signal?.aborted; length++) {
    const logits = await engine.logits(tokens.subarray(0, length));
    const token = sample(logits, temperature, random);
    tokens[length] = token;
    yield token;
    await nextTurn();
  }
}

/** Draws from softmax(logits / temperature) by walking along the cumulated weights. */
function sample(logits: Float32Array, temperature: number, random: RandomStream): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  if (temperature === 0) return best;
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - logits[best]!) / temperature));
  let left = random.unit() * weights.reduce((sum, weight) => sum + weight, 0);
  for (let i = 0; i < weights.length; i++) {
    left -= weights[i]!;
    if (left < 0) return i;
  }
  return best; // rounding may leave a crumb after the last weight
}

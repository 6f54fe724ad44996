import { CodedError } from '../../protocol/errors.ts';
import type { DataErrorCode } from './sources.ts';
import type { Tokenizer, Tokens } from './tokenizer.ts';

/** A text as tokens, the last part of them kept out of training. Both parts are views of one array. */
export interface Dataset {
  vocabulary: number;
  train: Tokens;
  validation: Tokens;
}

/**
 * How many of `tokens` are for training: `floor(tokens x (1 - fraction))`, as nanoGPT's `data[:int(n * 0.9)]`. Every peer
 * must get the same number. The millionth covers what `1 - fraction` loses in binary (at most 5e-7 for 2e9 tokens), so
 * that an exact product is not taken for one less.
 */
export function trainLength(tokens: number, validationFraction: number): number {
  return Math.min(tokens, Math.floor(tokens * (1 - validationFraction) + 1e-6));
}

/** @param text valid UTF-8 */
export function makeDataset(text: Uint8Array, tokenizer: Tokenizer, validationFraction: number): Dataset {
  const tokens = tokenizer.encodeUtf8(text);
  const length = trainLength(tokens.length, validationFraction);
  const { vocabulary } = tokenizer;
  return { vocabulary, train: tokens.subarray(0, length), validation: tokens.subarray(length) };
}

/**
 * A text must give two sequences to train on and, where some is kept out, one to measure with; each needs one token more
 * as its last target.
 * @param context tokens in a sequence
 * @throws CodedError `E_DATA_TOO_SMALL`
 */
export function checkLargeEnough({ train, validation }: Dataset, context: number): void {
  const advice = 'give more text or a model with a shorter context';
  const trainNeeded = 2 * context + 1;
  if (train.length < trainNeeded) {
    const message = `${train.length} tokens to train on, a context of ${context} needs ${trainNeeded}; ${advice}`;
    throw new CodedError<DataErrorCode>('E_DATA_TOO_SMALL', message);
  }
  if (validation.length > 0 && validation.length < context + 1) {
    const message = `${validation.length} tokens to validate with, a context of ${context} needs ${context + 1}; ${advice}`;
    throw new CodedError<DataErrorCode>('E_DATA_TOO_SMALL', message);
  }
}

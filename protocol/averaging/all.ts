import { assert } from '../errors.ts';
import type { Accumulator, Averaging } from './averaging.ts';

/**
 * Mean over everyone's pseudo-gradients, weighted by the tokens each was trained on:
 *
 *   average = sum_r min(tokens_r, T) x_r / sum_r tokens_r
 *
 * (DiLoCo, arXiv 2311.08105, weighs by shard size where shards differ.) T are the tokens of a whole round. An update of
 * more makes good for rounds which came too late, and is the sum of their pseudo-gradients: weighted by all its tokens, it
 * would move the model as many times further as there were late rounds, and diverge where most of a round's updates are
 * late. With the weight of one round, and its tokens in the divisor, work moves the model by as much, late or not. The
 * divisor is the same for all coordinates. To average a coordinate only over those who sent it, as SparseLoCo's published
 * code does, makes steps up to R times larger where sparse updates do not overlap, and gives one liar full weight wherever
 * nobody else wrote.
 *
 * Sums are float64, added in the caller's order, and rounded to float32 once: only IEEE + * / and Math.fround, so that
 * all peers get the same bits. Memory: 8 bytes a parameter, however many updates.
 */
export const all: Averaging = {
  name: 'all',
  init(length, roundTokens): Accumulator {
    const sums = new Float64Array(length);
    let tokensTotal = 0;
    return {
      add({ values, tokens }) {
        assert(values.length === length, `update of ${values.length} values for a mean over ${length}`);
        assert(Number.isSafeInteger(tokens) && tokens > 0, `update weighs ${tokens} tokens, not a positive integer`);
        const weight = Math.min(tokens, roundTokens);
        for (let i = 0; i < length; i++) sums[i]! += weight * values[i]!;
        tokensTotal += tokens;
      },
      finish(out) {
        assert(tokensTotal > 0, 'mean over no updates');
        assert(out.length === length, `output of ${out.length} values for a mean over ${length}`);
        for (let i = 0; i < length; i++) out[i] = sums[i]! / tokensTotal;
      },
    };
  },
};

import { assert } from '../errors.ts';
import type { Accumulator, Averaging } from './averaging.ts';

/**
 * Mean over everyone's pseudo-gradients, weighted by the tokens each was trained on:
 *
 *   average = sum_r tokens_r (x_r / rounds_r) / sum_r tokens_r
 *
 * (DiLoCo, arXiv 2311.08105, weighs by shard size where shards differ.) An update that makes good for rounds which came
 * too late holds the sum of their pseudo-gradients; a mean of sums would take steps as many times longer as there were
 * late rounds, and diverge where most of a round's updates are late. So it counts as so many pseudo-gradients of
 * average length, and work moves the model by as much, late or not. The divisor is the same for all coordinates. To
 * average a coordinate only over those who sent it, as SparseLoCo's published code does, makes steps up to R times
 * larger where sparse updates do not overlap, and gives one liar full weight wherever nobody else wrote.
 *
 * Sums are float64, added in the caller's order, and rounded to float32 once: only IEEE + * / and Math.fround, so that
 * all peers get the same bits. Memory: 8 bytes a parameter, however many updates.
 */
export const all: Averaging = {
  name: 'all',
  init(length): Accumulator {
    const sums = new Float64Array(length);
    let tokensTotal = 0;
    return {
      add({ values, tokens, rounds }) {
        assert(values.length === length, `update of ${values.length} values for a mean over ${length}`);
        assert(Number.isSafeInteger(tokens) && tokens > 0, `update weighs ${tokens} tokens, not a positive integer`);
        assert(Number.isSafeInteger(rounds) && rounds > 0, `update of ${rounds} rounds, not a positive integer`);
        const weight = tokens / rounds;
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

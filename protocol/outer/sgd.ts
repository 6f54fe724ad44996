import { assert } from '../errors.ts';
import { type OuterOptimizer, saturated } from './outer.ts';

/**
 * Plain gradient descent on the averaged pseudo-gradient g:
 *
 *   theta <- theta - eta g
 *
 * A value beyond the largest float32 becomes that one: a state with infinities in it could not be loaded any more.
 * eta = 1 is federated averaging (McMahan et al. 2017, arXiv 1602.05629), and the outer step of SparseLoCo.
 */
export const sgd: OuterOptimizer = {
  name: 'sgd',
  slots: 0,
  update({ learningRate }, parameters, state, average) {
    assert(state.length === 0 && average.length === parameters.length, 'sgd has no state and one gradient a parameter');
    // eta itself is a float32: a product of two float32 is exact in float64, so fround makes it a true float32 product
    const eta = Math.fround(learningRate);
    for (let i = 0; i < parameters.length; i++) {
      parameters[i] = saturated(parameters[i]! - Math.fround(eta * average[i]!));
    }
  },
};

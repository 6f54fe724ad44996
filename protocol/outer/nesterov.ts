import { assert } from '../errors.ts';
import { type OuterOptimizer, saturated } from './outer.ts';

/**
 * DiLoCo's outer optimizer (Douillard et al. 2023, arXiv 2311.08105), SGD with Nesterov momentum as PyTorch defines it,
 * on the averaged pseudo-gradient g:
 *
 *   u     <- mu u + g
 *   theta <- theta - eta (g + mu u)
 *
 * The paper uses eta = 0.7, mu = 0.9. State: u, begins at zero. A sum beyond the largest float32 becomes that one (see sgd.ts).
 */
export const nesterov: OuterOptimizer = {
  name: 'nesterov',
  slots: 1,
  update({ learningRate, momentum }, parameters, state, average) {
    assert(
      state.length === parameters.length && average.length === parameters.length,
      'nesterov has one momentum and one gradient a parameter',
    );
    // as float32, so that every operation below is a float32 one (see sgd.ts)
    const eta = Math.fround(learningRate);
    const mu = Math.fround(momentum);
    for (let i = 0; i < parameters.length; i++) {
      const gradient = average[i]!;
      const velocity = saturated(Math.fround(mu * state[i]!) + gradient);
      const direction = saturated(gradient + Math.fround(mu * velocity));
      state[i] = velocity;
      parameters[i] = saturated(parameters[i]! - Math.fround(eta * direction));
    }
  },
};

import { describe, expect, it } from 'vitest';
import { outerOf } from '../../../protocol/outer/index.ts';
import { OUTER_NAMES } from '../../../protocol/outer/outer.ts';
import { normalValues } from '../../helpers/layouts.ts';

describe('outer optimizers', () => {
  it('has every name that genesis may hold', () => {
    expect(OUTER_NAMES.map((name) => outerOf(name).name)).toEqual([...OUTER_NAMES]);
  });

  it('sgd takes one float32 step along the average', () => {
    const sgd = outerOf('sgd');
    const config = { name: 'sgd', learningRate: 0.7, momentum: 0 } as const;
    const parameters = Float32Array.of(1, -2, 0.1);
    sgd.update(config, parameters, new Float32Array(0), Float32Array.of(0.5, 0, 1e-9));
    const [f, eta] = [Math.fround, Math.fround(0.7)];
    expect([...parameters]).toEqual([f(1 - f(eta * 0.5)), -2, f(f(0.1) - f(eta * f(1e-9)))]);
  });

  it.each(OUTER_NAMES)('%s stays finite, whatever it is given', (name) => {
    const outer = outerOf(name);
    const config = { name, learningRate: 2, momentum: name === 'sgd' ? 0 : 0.9 };
    const [parameters, state] = [Float32Array.of(3e38, -3e38), new Float32Array(2 * outer.slots)];
    for (const sign of [-1, -1, 1]) outer.update(config, parameters, state, Float32Array.of(sign * 3e38, sign * -3e38));
    for (const value of [...parameters, ...state]) expect(Number.isFinite(value)).toBe(true);
  });

  it('nesterov follows the float64 reference of a different formulation over 50 rounds', () => {
    const length = 64;
    const [eta, mu] = [0.7, 0.9];
    const nesterov = outerOf('nesterov');
    const parameters = normalValues(length, 1, 1);
    const state = new Float32Array(nesterov.slots * length);
    // Sutskever et al. 2013: v' = mu v - eta g evaluated at theta + mu v; with y = theta + mu v the lookahead point,
    // y' = y - mu v + (1 + mu) v'. y is what DiLoCo calls theta, v is -eta u.
    const lookahead = Float64Array.from(parameters);
    const velocity = new Float64Array(length);
    for (let round = 0; round < 50; round++) {
      const average = normalValues(length, 0.1, 100 + round);
      nesterov.update({ name: 'nesterov', learningRate: eta, momentum: mu }, parameters, state, average);
      for (let i = 0; i < length; i++) {
        const next = mu * velocity[i]! - eta * average[i]!;
        lookahead[i] = lookahead[i]! - mu * velocity[i]! + (1 + mu) * next;
        velocity[i] = next;
      }
    }
    for (let i = 0; i < length; i++) {
      expect(Math.abs(parameters[i]! - lookahead[i]!)).toBeLessThan(1e-4);
      expect(Math.abs(state[i]! + velocity[i]! / eta)).toBeLessThan(1e-5);
    }
  });

  it('without momentum nesterov is sgd, bit for bit', () => {
    const average = normalValues(100, 1, 3);
    const [plain, momentum] = [normalValues(100, 1, 2), normalValues(100, 1, 2)];
    outerOf('sgd').update({ name: 'sgd', learningRate: 0.3, momentum: 0 }, plain, new Float32Array(0), average);
    const config = { name: 'nesterov', learningRate: 0.3, momentum: 0 } as const;
    outerOf('nesterov').update(config, momentum, new Float32Array(100), average);
    expect(momentum).toEqual(plain);
  });

  it('refuses vectors of other lengths', () => {
    const [two, three] = [new Float32Array(2), new Float32Array(3)];
    const config = { name: 'nesterov', learningRate: 1, momentum: 0.9 } as const;
    expect(() => outerOf('nesterov').update(config, two, two, three)).toThrow(/assertion failed/);
    expect(() => outerOf('nesterov').update(config, two, three, two)).toThrow(/assertion failed/);
    expect(() => outerOf('sgd').update({ ...config, name: 'sgd' }, two, two, two)).toThrow(/assertion failed/);
  });
});

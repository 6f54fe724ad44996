import { nesterov } from './nesterov.ts';
import type { OuterName, OuterOptimizer } from './outer.ts';
import { sgd } from './sgd.ts';

/** The outer optimizer that genesis names. */
export function outerOf(name: OuterName): OuterOptimizer {
  switch (name) {
    case 'sgd':
      return sgd;
    case 'nesterov':
      return nesterov;
    default:
      return name satisfies never;
  }
}

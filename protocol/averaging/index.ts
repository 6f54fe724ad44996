import { all } from './all.ts';
import type { Averaging, AveragingName } from './averaging.ts';

/** The averaging rule that genesis names. */
export function averagingOf(name: AveragingName): Averaging {
  switch (name) {
    case 'all':
      return all;
    default:
      return name satisfies never;
  }
}

export const AVERAGING_NAMES = ['all'] as const;
export type AveragingName = (typeof AVERAGING_NAMES)[number];

/** One decoded update and what it weighs. */
export interface WeightedUpdate {
  /** decoded sum of its author's pseudo-gradients, one value a parameter */
  values: Float32Array;
  /** tokens that its author trained on for them, a positive safe integer */
  tokens: number;
}

/** How the certified updates of a round become one pseudo-gradient. A pure init/add/finish triple. */
export interface Averaging {
  readonly name: AveragingName;
  /**
   * Begins a mean over vectors of this length.
   * @param roundTokens tokens of a whole round of one peer: an update of more carries late work
   */
  init(length: number, roundTokens: number): Accumulator;
}

export interface Accumulator {
  /** Adds one update. The caller adds in canonical order (by peer id), since float addition is not associative. */
  add(update: WeightedUpdate): void;
  /** Writes the mean into `out`. */
  finish(out: Float32Array): void;
}

export const OUTER_NAMES = ['sgd', 'nesterov'] as const;
export type OuterName = (typeof OUTER_NAMES)[number];

export interface OuterConfig {
  name: OuterName;
  /** eta */
  learningRate: number;
  /** mu; 0 for sgd */
  momentum: number;
}

/**
 * The optimizer that takes the averaged pseudo-gradient as its gradient. A pure init/update pair; the arithmetic is
 * float32 with one rounding an operation, in parameter order, so that every peer computes the same bits.
 */
export interface OuterOptimizer {
  readonly name: OuterName;
  /** How many vectors of the parameters' length the state has (0 for sgd, 1 for nesterov). */
  readonly slots: number;
  /**
   * One outer step, in place.
   * @param parameters theta0, becomes the next agreed model
   * @param state `slots` vectors laid end to end
   * @param average weighted mean of the decoded pseudo-gradients
   */
  update(config: OuterConfig, parameters: Float32Array, state: Float32Array, average: Float32Array): void;
}

const LARGEST = Math.fround(3.4028235e38);

/** As a float32; beyond the largest, the largest. */
export function saturated(value: number): number {
  return Math.max(-LARGEST, Math.min(LARGEST, Math.fround(value)));
}

import { type RandomStream, randomStream } from '../protocol/random.ts';
import { type Distribution, draw } from './distribution.ts';

/** How long computing takes on each peer, in virtual milliseconds. */
export interface ComputeConfig {
  /** one inner step, drawn anew for every step */
  step: Distribution;
  /** peers that differ, by index */
  peers: Record<number, Distribution>;
  /** a share of the peers, drawn from the seed, that takes `factor` times as long */
  stragglers: { share: number; factor: number } | null;
  /** encoding an update and making it durable */
  encodeMs: number;
  /** decoding, averaging, the outer step, hashing and a checkpoint */
  applyMs: number;
  /** making a vote or a block durable */
  diskMs: number;
}

export class ComputeModel {
  readonly encodeMs: number;
  readonly applyMs: number;
  readonly diskMs: number;
  /** indices of the slow ones */
  readonly stragglers: ReadonlySet<number>;
  readonly #config: ComputeConfig;
  readonly #streams: RandomStream[];

  constructor(config: ComputeConfig, init: { peers: number; seed: number }) {
    const { peers, seed } = init;
    this.#config = config;
    this.encodeMs = config.encodeMs;
    this.applyMs = config.applyMs;
    this.diskMs = config.diskMs;
    this.stragglers = new Set(chooseStragglers(config, peers, seed));
    this.#streams = Array.from({ length: peers }, (_, peer) => randomStream(seed, 'compute', peer));
  }

  /** When each of so many steps ends, in milliseconds from the first one's start. */
  stepEnds(peer: number, steps: number): Float64Array {
    const { step, peers, stragglers } = this.#config;
    const factor = this.stragglers.has(peer) ? (stragglers?.factor ?? 1) : 1;
    const distribution = peers[peer] ?? step;
    const random = this.#streams[peer]!;
    const ends = new Float64Array(steps);
    let sum = 0;
    for (let i = 0; i < steps; i++) {
      sum += factor * draw(distribution, random);
      ends[i] = sum;
    }
    return ends;
  }
}

function chooseStragglers({ stragglers }: ComputeConfig, peers: number, seed: number): number[] {
  if (!stragglers) return [];
  const order = Array.from({ length: peers }, (_, i) => i);
  const random = randomStream(seed, 'stragglers');
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order.slice(0, stragglersAmong(peers, stragglers.share));
}

export function stragglersAmong(peers: number, share: number): number {
  return Math.round(share * peers);
}

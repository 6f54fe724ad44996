import { assert } from './errors.ts';
import { sha256 } from './hash.ts';

/**
 * A deterministic random stream. Every purpose has a stream of its own, named by seed and label, so that adding a draw
 * in one place never changes another (`randomStream(seed, 'init')`, `randomStream(seed, 'data', epoch)`).
 *
 * Generator: xoshiro128** 1.1 (Blackman and Vigna 2021), seeded with SHA-256 of the name. Integer arithmetic only, so
 * all platforms agree bit for bit.
 */
export interface RandomStream {
  /** uniform 32-bit unsigned integer */
  uint32(): number;
  /** uniform in [0, 1), a multiple of 2^-32 */
  unit(): number;
  /** uniform integer in [0, bound), bound at most 2^32, without modulo bias */
  below(bound: number): number;
}

export function randomStream(seed: number | string, ...labels: (number | string)[]): RandomStream {
  const name = new TextEncoder().encode([seed, ...labels].join('/'));
  const words = new DataView(sha256(name).buffer.slice(0));
  const state = new Uint32Array(4);
  for (let i = 0; i < 4; i++) state[i] = words.getUint32(4 * i, true);
  const uint32 = (): number => {
    const [a, b, c, d] = [state[0]!, state[1]!, state[2]!, state[3]!];
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0;
    const shifted = b << 9;
    const c1 = c ^ a;
    const d1 = d ^ b;
    state[1] = b ^ c1;
    state[0] = a ^ d1;
    state[2] = c1 ^ shifted;
    state[3] = rotateLeft(d1, 11);
    return result;
  };
  const below = (bound: number): number => {
    assert(bound > 0, 'nothing is drawn from nothing');
    const limit = 4294967296 - (4294967296 % bound);
    for (;;) {
      const draw = uint32();
      if (draw < limit) return draw % bound;
    }
  };
  return { uint32, unit: () => uint32() / 4294967296, below };
}

function rotateLeft(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k));
}

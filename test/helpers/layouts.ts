import type { Layout } from '../../protocol/model.ts';
import { randomStream } from '../../protocol/random.ts';

/** A layout of vectors of these lengths. */
export function layoutOf(...lengths: number[]): Layout {
  let offset = 0;
  const tensors = lengths.map((length, i) => {
    const slot = { name: `tensor${i}`, shape: [length], offset, length };
    offset += length;
    return slot;
  });
  return { tensors, length: offset };
}

/** Nearly normal values (sum of twelve uniforms), the same for the same seed. */
export function normalValues(length: number, scale: number, seed: number): Float32Array {
  const stream = randomStream(seed, 'normal');
  return Float32Array.from({ length }, () => {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += stream.unit();
    return scale * sum;
  });
}

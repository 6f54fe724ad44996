import { randomStream } from './random.ts';

/** The GPT that a run trains (nanoGPT's shape: tied head, no bias, GELU). Sizes in units, `context` in tokens. */
export interface ModelShape {
  layers: number;
  heads: number;
  width: number;
  context: number;
  vocabulary: number;
}

/** One named tensor inside the flat parameter vector: elements `[offset, offset + length)`, row-major. */
export interface TensorSlot {
  name: string;
  shape: readonly number[];
  offset: number;
  length: number;
}

/** How the flat `Float32Array` of parameters is divided. Peers must agree on it, so it follows from the shape alone. */
export interface Layout {
  tensors: readonly TensorSlot[];
  /** number of parameters */
  length: number;
}

/** `micro` is for tests, `nano` is nanoGPT's CPU configuration, `baby` its Shakespeare GPU one, `gpt2` the shape of the 124M one. */
export const MODEL_PRESETS = {
  micro: { layers: 2, heads: 2, width: 64, context: 32 },
  nano: { layers: 4, heads: 4, width: 128, context: 64 },
  baby: { layers: 6, heads: 6, width: 384, context: 256 },
  gpt2: { layers: 12, heads: 12, width: 768, context: 1024 },
} as const satisfies Record<string, Omit<ModelShape, 'vocabulary'>>;

export type ModelPreset = keyof typeof MODEL_PRESETS;

/** Names and shapes in order: embeddings, then every block, then the final norm. The head is tied to `embedding`. */
function tensorShapes({ layers, width: C, context: T, vocabulary: V }: ModelShape): [string, number[]][] {
  const shapes: [string, number[]][] = [
    ['embedding', [V, C]],
    ['position', [T, C]],
  ];
  for (let i = 0; i < layers; i++) {
    shapes.push(
      [`block${i}.norm1`, [C]],
      [`block${i}.qkv`, [C, 3 * C]],
      [`block${i}.attentionOut`, [C, C]],
      [`block${i}.norm2`, [C]],
      [`block${i}.mlpIn`, [C, 4 * C]],
      [`block${i}.mlpOut`, [4 * C, C]],
    );
  }
  shapes.push(['normFinal', [C]]);
  return shapes;
}

export function modelLayout(model: ModelShape): Layout {
  let offset = 0;
  const tensors = tensorShapes(model).map(([name, shape]) => {
    const length = shape.reduce((a, b) => a * b, 1);
    const slot: TensorSlot = { name, shape, offset, length };
    offset += length;
    return slot;
  });
  return { tensors, length: offset };
}

/**
 * GPT-2's initialization: N(0, 0.02) for matrices, 0.02 / sqrt(2 layers) for the projections back into the residual
 * stream, 1 for norm gains. A normal is drawn as the sum of 12 uniforms minus 6 (Irwin-Hall), because logarithm and
 * cosine are not the same to the last bit on every platform and this vector must be.
 */
export function initialParameters(model: ModelShape, seed: number): Float32Array {
  const layout = modelLayout(model);
  const parameters = new Float32Array(layout.length);
  const residualScale = 0.02 / Math.sqrt(2 * model.layers);
  for (const { name, shape, offset, length } of layout.tensors) {
    if (shape.length === 1) {
      parameters.fill(1, offset, offset + length);
      continue;
    }
    const scale = name.endsWith('.attentionOut') || name.endsWith('.mlpOut') ? residualScale : 0.02;
    const stream = randomStream(seed, 'init', name);
    for (let i = 0; i < length; i++) {
      let sum = -6;
      for (let j = 0; j < 12; j++) sum += stream.unit();
      parameters[offset + i] = scale * sum;
    }
  }
  return parameters;
}

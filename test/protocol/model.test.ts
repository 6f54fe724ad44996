import { describe, expect, it } from 'vitest';
import { hashOf } from '../../protocol/hash.ts';
import { initialParameters, MODEL_PRESETS, modelLayout } from '../../protocol/model.ts';

/** Every peer of every version must get this; a change of it is a change of protocol. */
const GOLDEN = '56800bd8e2277a7d83d4b61737405df9f25deb73f912bb171e83258d064293ba';

const nano = { ...MODEL_PRESETS.nano, vocabulary: 65 };

describe('modelLayout', () => {
  it.each([
    // nanoGPT prints counts without the position embedding: 0.80M, 10.65M and (vocabulary 50304) 123.59M
    ['nano', 65, 804_096, 795_904],
    ['baby', 65, 10_745_088, 10_646_784],
    ['gpt2', 50_257, 124_337_664, 123_551_232],
  ] as const)('%s has as many parameters as nanoGPT without biases', (preset, vocabulary, all, withoutPosition) => {
    const layout = modelLayout({ ...MODEL_PRESETS[preset], vocabulary });
    expect(layout.length).toBe(all);
    const position = layout.tensors.find(({ name }) => name === 'position')!;
    expect(layout.length - position.length).toBe(withoutPosition);
  });

  it('lays tensors end to end under names of their own', () => {
    const { tensors, length } = modelLayout(nano);
    let end = 0;
    for (const { shape, offset, length: own } of tensors) {
      expect(offset).toBe(end);
      expect(own).toBe(shape.reduce((a, b) => a * b, 1));
      end += own;
    }
    expect(end).toBe(length);
    expect(new Set(tensors.map(({ name }) => name)).size).toBe(tensors.length);
    expect(tensors).toHaveLength(2 + 6 * nano.layers + 1);
  });
});

describe('initialParameters', () => {
  it('draws matrices from N(0, 0.02), projections into the residual stream narrower, norms at 1', () => {
    const parameters = initialParameters(nano, 1337);
    for (const { name, shape, offset, length } of modelLayout(nano).tensors) {
      const values = parameters.subarray(offset, offset + length);
      if (shape.length === 1) {
        expect(values.every((value) => value === 1)).toBe(true);
        continue;
      }
      const deviation = /Out$/.test(name) ? 0.02 / Math.sqrt(2 * nano.layers) : 0.02;
      const mean = values.reduce((sum, value) => sum + value, 0) / length;
      const measured = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / length);
      // five standard errors of the mean, and of the deviation
      expect(Math.abs(mean)).toBeLessThan((5 * deviation) / Math.sqrt(length));
      expect(Math.abs(measured / deviation - 1)).toBeLessThan(5 / Math.sqrt(2 * length));
    }
  });

  it('follows from shape and seed to the last bit, on every platform', () => {
    const micro = { ...MODEL_PRESETS.micro, vocabulary: 65 };
    const bytes = new Uint8Array(initialParameters(micro, 1).buffer);
    expect(hashOf(bytes)).toBe(GOLDEN);
    expect(hashOf(new Uint8Array(initialParameters(micro, 2).buffer))).not.toBe(GOLDEN);
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Codec } from '../../protocol/codecs/codec.ts';
import { equalBytes } from '../../protocol/encoding.ts';
import { isCoded } from '../../protocol/errors.ts';
import type { Layout } from '../../protocol/model.ts';
import { layoutOf, normalValues } from '../helpers/layouts.ts';

/** Throws (by `expect`) when `decoded` is further from `update` than the codec states. */
export type ErrorBound = (update: Float32Array, decoded: Float32Array, layout: Layout) => void;

const PAYLOAD_CODES = ['E_PAYLOAD_SIZE', 'E_PAYLOAD_FORMAT', 'E_PAYLOAD_NOT_FINITE'];

/** Tensors of one value, shorter than a chunk, of exactly one, one value longer, and of several with a rest. */
const LAYOUTS: Record<string, Layout> = {
  'one value': layoutOf(1),
  'tensors around a chunk': layoutOf(1, 7, 4095, 4096, 4097, 9001, 2),
  'three values': layoutOf(3),
};

const INPUTS: Record<string, (length: number) => Float32Array> = {
  zeros: (length) => new Float32Array(length),
  'minus zeros': (length) => new Float32Array(length).fill(-0),
  normal: (length) => normalValues(length, 1e-3, 1),
  equal: (length) => new Float32Array(length).fill(-0.25),
  denormals: (length) => normalValues(length, 1, 2).map((value) => value * 2 ** -140),
  'smallest denormals': (length) => new Float32Array(length).map((_, i) => (i % 3) * 2 ** -149),
  huge: (length) => normalValues(length, 2e37, 3),
  largest: (length) => new Float32Array(length).map((_, i) => (i % 2 ? 1 : -1) * (2 - 2 ** -23) * 2 ** 127),
  'largest but one sign': (length) => new Float32Array(length).fill((2 - 2 ** -23) * 2 ** 127),
  'a single spike': (length) => new Float32Array(length).map((_, i) => (i === length - 1 ? 1e4 : 0)),
  'wide range': (length) => normalValues(length, 1, 4).map((value, i) => value * 2 ** (((i * 37) % 240) - 130)),
};

/** What every codec promises (`protocol/codecs/codec.ts`). */
export function describeCodec(title: string, codec: Codec, expectWithin: ErrorBound): void {
  describe(`${title} keeps the codec contract`, () => {
    for (const [layoutName, layout] of Object.entries(LAYOUTS)) {
      for (const [inputName, make] of Object.entries(INPUTS)) {
        it(`round trip of ${inputName}, ${layoutName}`, () =>
          roundTrip(codec, layout, make(layout.length), expectWithin));
      }
    }

    it('round trip of any finite values', () => {
      const layout = layoutOf(5, 40, 1);
      const update = fc.float32Array({ minLength: 46, maxLength: 46, noNaN: true, noDefaultInfinity: true });
      fc.assert(fc.property(update, (values) => roundTrip(codec, layout, values, expectWithin)));
    });

    it('decodes a view into larger memory as it does the bytes alone', () => {
      const layout = layoutOf(4097, 3);
      const payload = codec.encode(normalValues(layout.length, 1, 5), layout);
      const shifted = new Uint8Array(payload.length + 7).fill(0xff);
      shifted.set(payload, 3);
      const view = shifted.subarray(3, 3 + payload.length);
      codec.check(view, layout);
      expect(sameBits(decoded(codec, view, layout), decoded(codec, payload, layout))).toBe(true);
    });

    it('refuses NaN and infinity as a programming error', () => {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        expect(() => codec.encode(Float32Array.of(1, bad), layoutOf(2))).toThrow(/assertion failed/);
      }
    });

    describeHostile(codec);
  });
}

function describeHostile(codec: Codec): void {
  const layout = layoutOf(300, 1, 4100);
  const valid = codec.encode(normalValues(layout.length, 1e-3, 6), layout);

  it('refuses every truncation and any extra byte by size', () => {
    for (let length = 0; length < valid.length; length += 1 + Math.floor(length / 64)) {
      expect(
        codeOf(() => codec.check(valid.subarray(0, length), layout)),
        `${length} bytes`,
      ).toBe('E_PAYLOAD_SIZE');
    }
    const longer = new Uint8Array(valid.length + 1);
    longer.set(valid);
    expect(codeOf(() => codec.check(longer, layout))).toBe('E_PAYLOAD_SIZE');
  });

  it('claims no more than the bound, whatever the prefix', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 16 }), (prefix) => {
        let size = 0;
        const code = codeOf(() => {
          size = codec.sizeOf(prefix, layout);
        });
        if (code !== undefined) expect(code).toBe('E_PAYLOAD_SIZE');
        expect(size).toBeLessThanOrEqual(codec.bytesMax(layout));
      }),
    );
  });

  it('refuses random bytes with a code, or decodes them to finite values', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => refusedOrFinite(codec, bytes, layoutOf(40, 3))),
    );
  });

  it('refuses random bytes of the right length with a code, or decodes them to finite values', () => {
    const small = layoutOf(40, 3);
    const template = codec.encode(normalValues(small.length, 1, 7), small);
    const tail = fc.uint8Array({ minLength: template.length, maxLength: template.length });
    fc.assert(
      fc.property(tail, fc.nat({ max: template.length }), (bytes, kept) => {
        const mixed = bytes.slice();
        mixed.set(template.subarray(0, kept));
        refusedOrFinite(codec, mixed, small);
      }),
      { numRuns: 500 },
    );
  });

  it('refuses flipped bits with a code, or decodes them to finite values', () => {
    const flips = fc.array(fc.nat({ max: 8 * valid.length - 1 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(flips, (bits) => {
        const damaged = valid.slice();
        for (const bit of bits) damaged[bit >>> 3]! ^= 1 << (bit & 7);
        refusedOrFinite(codec, damaged, layout);
      }),
      { numRuns: 300 },
    );
  });

  it('refuses a short payload of a vast model before it allocates or walks anything', () => {
    // 2^45 values: an array of them is a RangeError and a loop over them never ends
    const vast = layoutOf(2 ** 45);
    expect(codeOf(() => codec.check(valid, vast))).toBe('E_PAYLOAD_SIZE');
    expect(codeOf(() => codec.check(new Uint8Array(64).fill(0xff), vast))).toBe('E_PAYLOAD_SIZE');
  });
}

function roundTrip(codec: Codec, layout: Layout, update: Float32Array, expectWithin: ErrorBound): void {
  const before = update.slice();
  const payload = codec.encode(update, layout);
  expect(sameBits(update, before), 'the input is left alone').toBe(true);
  expect(equalBytes(codec.encode(before, layout), payload), 'equal updates give equal bytes').toBe(true);
  expect(payload.length).toBeLessThanOrEqual(codec.bytesMax(layout));
  expect(codec.sizeOf(payload.subarray(0, 16), layout), 'size from the prefix').toBe(payload.length);
  codec.check(payload, layout);
  const out = decoded(codec, payload, layout);
  expect(firstIndex(out, (value) => !Number.isFinite(value))).toBe(-1);
  expectWithin(update, out, layout);
  expectNothingLost(update, out);
}

/** residual + decoded = update up to one unit in the last place of the larger, and residual is one float32 rounding. */
function expectNothingLost(update: Float32Array, out: Float32Array): void {
  const lost = firstIndex(update, (value, i) => {
    const residual = Math.fround(value - out[i]!);
    if (!Number.isFinite(residual)) return Math.abs(value - out[i]!) < 2 ** 128; // the replica refuses these
    const unit = Math.max(2 ** -149, 2 ** -23 * Math.max(Math.abs(value), Math.abs(out[i]!)));
    return Math.abs(residual + out[i]! - value) > unit;
  });
  expect(lost).toBe(-1);
}

function decoded(codec: Codec, payload: Uint8Array, layout: Layout): Float32Array {
  const out = new Float32Array(layout.length).fill(Number.NaN); // decode must overwrite all of it
  codec.decode(payload, layout, out);
  return out;
}

function refusedOrFinite(codec: Codec, payload: Uint8Array, layout: Layout): void {
  const code = codeOf(() => codec.check(payload, layout));
  if (code !== undefined) expect(PAYLOAD_CODES).toContain(code);
  else expect(firstIndex(decoded(codec, payload, layout), (value) => !Number.isFinite(value))).toBe(-1);
}

/** The code that a call throws; an error without one is a failure. */
export function codeOf(call: () => void): string | undefined {
  try {
    call();
  } catch (error) {
    if (isCoded(error)) return error.code;
    throw error;
  }
  return undefined;
}

/** Equal to the bit; an assertion on two long vectors takes seconds to compare them. */
export function sameBits(a: Float32Array, b: Float32Array): boolean {
  const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return equalBytes(bytesOf(a), bytesOf(b));
}

/** As `findIndex`, in a form that keeps assertions on long vectors cheap. */
export function firstIndex(values: Float32Array, fails: (value: number, i: number) => boolean): number {
  for (let i = 0; i < values.length; i++) if (fails(values[i]!, i)) return i;
  return -1;
}

/**
 * The bound of the sparse codecs: what is not selected decodes to zero, what is selected is at least as large as what
 * is not (per chunk), and the error has no more energy than the update.
 */
export function expectContraction(chunk: number, keptOf: (length: number) => number): ErrorBound {
  return (update, out, layout) => {
    // scaled so that squares neither overflow nor vanish
    const largest = update.reduce((max, value) => Math.max(max, Math.abs(value)), 2 ** -149);
    for (const { offset, length } of layout.tensors) {
      for (let start = offset; start < offset + length; start += chunk) {
        const end = Math.min(start + chunk, offset + length);
        const sent = [...out.subarray(start, end).keys()].filter((i) => out[start + i] !== 0);
        expect(sent.length).toBeLessThanOrEqual(keptOf(end - start));
        const magnitudes = update.slice(start, end).map(Math.abs);
        const smallestKept = magnitudes.toSorted().at(-keptOf(end - start))!;
        expect(sent.filter((i) => magnitudes[i]! < smallestKept)).toEqual([]);
      }
    }
    let energy = 0;
    let errorEnergy = 0;
    for (let i = 0; i < update.length; i++) {
      energy += (update[i]! / largest) ** 2;
      errorEnergy += ((update[i]! - out[i]!) / largest) ** 2;
    }
    expect(errorEnergy).toBeLessThanOrEqual(energy * (1 + 1e-6));
  };
}

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeCanonical, encodeCanonical, equalBytes } from '../../protocol/encoding.ts';
import { hexToBytes } from '../../protocol/hash.ts';

const BYTES_MAX = 256 * 1024;

function codeOf(bytes: Uint8Array): string | undefined {
  try {
    decodeCanonical(bytes, BYTES_MAX);
    return undefined;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

/** What messages are made of. */
const { value: values } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true }).filter((number) => !Object.is(number, -0)),
    fc.string({ unit: 'grapheme' }),
    fc.uint8Array({ maxLength: 40 }),
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(fc.string(), tie('value'), { maxKeys: 5 }).filter((map) => !Object.hasOwn(map, '__proto__')),
  ),
}));

describe('canonical CBOR', () => {
  it('has the spellings of RFC 8949, keys by length and then by bytes', () => {
    const value = { bb: [1, -1, 256], a: 'ü', c: new Uint8Array([0xff]), d: 1.5, e: null, f: true };
    const expected = 'a66161 62c3bc 6163 41ff 6164 fb3ff8000000000000 6165 f6 6166 f5 626262 83 01 20 190100';
    expect(encodeCanonical(value)).toEqual(hexToBytes(expected.replaceAll(' ', '')));
  });

  it('gives values back, and does not depend on the order of keys', () => {
    fc.assert(
      fc.property(values, (value) => {
        const bytes = encodeCanonical(value);
        const again = decodeCanonical(bytes, BYTES_MAX);
        expect(encodeCanonical(again)).toEqual(bytes);
        if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) return;
        expect(encodeCanonical(Object.fromEntries(Object.entries(value).toReversed()))).toEqual(bytes);
      }),
    );
  });
});

describe('decodeCanonical', () => {
  it.each([
    ['nothing', ''],
    ['two values', '0101'],
    ['cut short', '8201'],
    ['a claim of 2^32 entries', '9affffffff'],
    ['a claim of 2^63 bytes', '5b7fffffffffffffff'],
    ['an integer spelled longer than needed', '1801'],
    ['a length spelled longer than needed', '7801 61'],
    ['a whole number as a float', 'fb3ff0000000000000'],
    ['a short float', 'f93e00'],
    ['negative zero', 'fb8000000000000000'],
    ['an array without length', '9f01ff'],
    ['a string without length', '7f6161ff'],
    ['a key twice', 'a2616101616102'],
    ['keys out of order', 'a2616201616102'],
    ['a longer key first', 'a262616101616201'],
    ['undefined', 'f7'],
    ['a tag', 'c100'],
    ['text that is not UTF-8', '61ff'],
    ['a reserved byte', '1c'],
  ])('refuses %s', (_, hex) => {
    expect(codeOf(hexToBytes(hex.replaceAll(' ', '')))).toBe('E_MALFORMED');
  });

  it('takes __proto__ for a key like any other', () => {
    const value = decodeCanonical(hexToBytes('a1695f5f70726f746f5f5fa16178f5'), BYTES_MAX) as object;
    expect(Object.keys(value)).toEqual(['__proto__']);
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect(value).not.toHaveProperty('x');
  });

  it('looks at the length first', () => {
    const bytes = new Uint8Array(BYTES_MAX + 1);
    expect(codeOf(bytes)).toBe('E_TOO_LARGE');
  });

  it('does not fall over nesting of any depth', () => {
    for (let depth = 1; depth < BYTES_MAX; depth = Math.ceil(depth * 1.04)) {
      const bytes = new Uint8Array(depth + 1).fill(0x81);
      bytes[depth] = 0x80;
      expect([undefined, 'E_MALFORMED']).toContain(codeOf(bytes));
    }
  });

  it('refuses random bytes with a code, or they are the one spelling of what they say', () => {
    const decode = (bytes: Uint8Array) => decodeCanonical(bytes, BYTES_MAX);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        if (codeOf(bytes) === undefined) expect(encodeCanonical(decode(bytes))).toEqual(bytes);
        else expect(codeOf(bytes)).toBe('E_MALFORMED');
      }),
      { numRuns: 5000 },
    );
  });

  it('refuses what a flipped bit makes of a message, or takes it for another one', () => {
    fc.assert(
      fc.property(values, fc.nat(), fc.nat(7), (value, at, bit) => {
        const bytes = encodeCanonical(value);
        bytes[at % bytes.length]! ^= 1 << bit;
        if (codeOf(bytes) !== undefined) expect(codeOf(bytes)).toBe('E_MALFORMED');
        else expect(equalBytes(bytes, encodeCanonical(value))).toBe(false);
      }),
    );
  });
});

describe('equalBytes', () => {
  it('compares content and length', () => {
    expect(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2))).toBe(true);
    expect(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 3))).toBe(false);
    expect(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2, 0))).toBe(false);
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { byteTokenizer, charTokenizer, charTokenizerFromBlob } from '../../../node/data/tokenizer.ts';

const utf8 = (text: string) => new TextEncoder().encode(text);

describe('char tokenizer', () => {
  it('numbers the sorted characters of the text, as nanoGPT does', () => {
    const tokenizer = charTokenizer(utf8('hello, wörld 🐳\n'));
    expect(new TextDecoder().decode(tokenizer.blob)).toBe('\n ,dehlorwö🐳');
    expect(tokenizer.vocabulary).toBe(12);
    expect([...tokenizer.encode('how🐳')]).toEqual([5, 7, 9, 11]);
    expect(tokenizer.decode([5, 7, 9, 11])).toBe('how🐳');
  });

  it('gives text back, from its own blob too', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (text) => {
        const tokenizer = charTokenizer(utf8(text));
        const tokens = tokenizer.encode(text);
        expect(tokenizer.decode(tokens)).toBe(text);
        expect(tokens.length).toBe([...text].length);
        const twin = charTokenizerFromBlob(tokenizer.blob!);
        expect(twin.encodeUtf8(utf8(text))).toEqual(tokens);
        expect(twin.blob).toEqual(tokenizer.blob);
      }),
    );
  });

  it('gives tokens in the narrowest array that holds the vocabulary', () => {
    const codePoints = (from: number, to: number) =>
      Array.from({ length: to - from }, (_, i) => String.fromCodePoint(from + i)).join('');
    expect(charTokenizer(utf8(codePoints(1, 257))).encode('a')).toBeInstanceOf(Uint8Array);
    expect(charTokenizer(utf8(codePoints(1, 258))).encode('a')).toBeInstanceOf(Uint16Array);
    const tokenizer = charTokenizer(utf8(codePoints(1, 0xd800) + codePoints(0xe000, 0x20000)));
    expect(tokenizer.encode('a')).toBeInstanceOf(Uint32Array);
    expect(tokenizer.decode(tokenizer.encode('a€🐳'))).toBe('a€🐳');
  });

  it('names a character that it does not know', () => {
    const tokenizer = charTokenizer(utf8('abc'));
    const unknown = expect.objectContaining({
      code: 'E_TOKENIZER_UNKNOWN',
      message: expect.stringContaining('U+1F433'),
    });
    expect(() => tokenizer.encode('ab🐳')).toThrow(unknown);
    expect(() => tokenizer.encode('\ud800')).toThrow(expect.objectContaining({ code: 'E_TOKENIZER_UNKNOWN' }));
    expect(tokenizer.decode([0, 77, 2])).toBe('a\ufffdc');
  });

  it('refuses a text that is not UTF-8', () => {
    const tokenizer = charTokenizer(utf8('abc'));
    for (const bytes of [Uint8Array.of(0x61, 0xff), Uint8Array.of(0xf7, 0xbf, 0xbf, 0xbf), Uint8Array.of(0xe2)]) {
      expect(() => tokenizer.encodeUtf8(bytes)).toThrow(expect.objectContaining({ code: 'E_DATA_NOT_TEXT' }));
    }
  });

  it.each([
    ['empty', new Uint8Array(0)],
    ['unsorted', utf8('ba')],
    ['repeated', utf8('aab')],
    ['not UTF-8', Uint8Array.of(0x61, 0xff)],
    ['surrogates', Uint8Array.of(0xed, 0xa0, 0x80)],
    ['overlong', Uint8Array.of(0xc1, 0x81)],
    ['cut short', utf8('aé').slice(0, 2)],
    ['too large', new Uint8Array(4_000_001).fill(0x61)],
  ])('refuses a vocabulary that is %s', (_, blob) => {
    expect(() => charTokenizerFromBlob(blob)).toThrow(expect.objectContaining({ code: 'E_TOKENIZER_BLOB' }));
  });

  it('refuses a bad vocabulary with its code, or takes one that it would write itself', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 12 }), (blob) => {
        let tokenizer: ReturnType<typeof charTokenizerFromBlob>;
        try {
          tokenizer = charTokenizerFromBlob(blob);
        } catch (error) {
          expect(error).toMatchObject({ code: 'E_TOKENIZER_BLOB' });
          return;
        }
        expect(tokenizer.blob).toEqual(blob);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('byte tokenizer', () => {
  it('gives any text back', () => {
    const tokenizer = byteTokenizer();
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
        expect(tokenizer.encodeUtf8(utf8(text))).toEqual(tokenizer.encode(text));
      }),
    );
    expect(tokenizer.decode([0x61, 0xff])).toBe('a\ufffd');
  });
});

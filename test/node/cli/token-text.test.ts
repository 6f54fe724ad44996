import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TokenText } from '../../../node/cli/generate.ts';
import { byteTokenizer, charTokenizer } from '../../../node/data/tokenizer.ts';

describe('TokenText', () => {
  it('gives the whole text piece by piece, with bytes as with characters', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', minLength: 1 }).filter((text) => text.isWellFormed()),
        (text) => {
          for (const tokenizer of [byteTokenizer(), charTokenizer(new TextEncoder().encode(text))]) {
            const pieces = new TokenText(tokenizer);
            const parts = Array.from(tokenizer.encode(text), (token) => pieces.push(token));
            expect(parts.join('') + pieces.flush()).toBe(text);
          }
        },
      ),
      // a vocabulary of characters clears a table of a million code points for each text
      { numRuns: 30 },
    );
  });

  it('holds back a character until it is whole, but not for ever', () => {
    const pieces = new TokenText(byteTokenizer());
    const euro = new TextEncoder().encode('€');
    expect(Array.from(euro, (token) => pieces.push(token))).toEqual(['', '', '€']);
    expect([0xff, 0xff, 0xff, 0xff].map((token) => pieces.push(token)).join('')).toBe('\ufffd'.repeat(4));
    expect([pieces.push(0xe2), pieces.flush()]).toEqual(['', '\ufffd']);
    // one byte that begins nothing does not spoil what comes after it
    for (const stray of [0x80, 0xc3]) {
      const tokens = [stray, ...new TextEncoder().encode('😀🎉b')];
      expect(tokens.map((token) => pieces.push(token)).join('')).toBe('\ufffd😀🎉b');
    }
  });
});

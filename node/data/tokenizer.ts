import { isUtf8 } from 'node:buffer';
import { CodedError } from '../../protocol/errors.ts';
import { countCodePoints, eachCodePoint } from './utf8.ts';

export type TokenizerErrorCode =
  | 'E_TOKENIZER_UNKNOWN' // a character that the vocabulary does not have
  | 'E_TOKENIZER_BLOB'; // a vocabulary from elsewhere that is not one

/** Tokens in the narrowest type that holds the vocabulary. */
export type Tokens = Uint8Array | Uint16Array | Uint32Array;

export interface Tokenizer {
  readonly kind: 'char' | 'byte';
  /** number of tokens; a token is in [0, vocabulary) */
  readonly vocabulary: number;
  /** What other peers need to build the same tokenizer; none for `byte`. */
  readonly blob: Uint8Array | undefined;
  /** @throws CodedError `E_TOKENIZER_UNKNOWN` naming the character */
  encode(text: string): Tokens;
  /** The same for text as UTF-8. @throws CodedError also `E_DATA_NOT_TEXT` where characters are needed and it is none */
  encodeUtf8(bytes: Uint8Array): Tokens;
  /** Tokens outside the vocabulary, and bytes that make no character, become U+FFFD. */
  decode(tokens: Iterable<number>): string;
}

/** The bound that genesis puts on a vocabulary; a character takes at most 4 bytes. */
const VOCABULARY_MAX = 1_000_000;
const CODE_POINTS = 0x110000;
const REPLACEMENT = '\ufffd';

function tokenArray(vocabulary: number, length: number): Tokens {
  if (vocabulary <= 0x100) return new Uint8Array(length);
  return vocabulary <= 0x10000 ? new Uint16Array(length) : new Uint32Array(length);
}

/** A token a byte of UTF-8: knows every text, needs no vocabulary. */
export function byteTokenizer(): Tokenizer {
  return {
    kind: 'byte',
    vocabulary: 256,
    blob: undefined,
    encode: (text) => new TextEncoder().encode(text),
    encodeUtf8: (bytes) => bytes.slice(),
    decode: (tokens) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(tokens)),
  };
}

/**
 * A token a character (code point): the vocabulary is the sorted set of those in the text, as in nanoGPT's
 * `data/shakespeare_char/prepare.py`.
 * @param text valid UTF-8, not empty
 */
export function charTokenizer(text: Uint8Array): Tokenizer {
  const seen = new Uint8Array(CODE_POINTS);
  eachCodePoint(text, (codePoint) => {
    seen[codePoint] = 1;
  });
  const characters: number[] = [];
  for (let codePoint = 0; codePoint < CODE_POINTS; codePoint++) if (seen[codePoint]) characters.push(codePoint);
  return charTokenizerOf(characters);
}

/**
 * The same from another peer's blob: the characters in order, as UTF-8.
 * @throws CodedError `E_TOKENIZER_BLOB` unless they are valid, ascending and within the bound of genesis
 */
export function charTokenizerFromBlob(blob: Uint8Array): Tokenizer {
  if (blob.length === 0 || blob.length > 4 * VOCABULARY_MAX) {
    throw new CodedError('E_TOKENIZER_BLOB', `a vocabulary of ${blob.length} bytes; the run's founder made a bad one`);
  }
  if (!isUtf8(blob))
    throw new CodedError('E_TOKENIZER_BLOB', 'the vocabulary is not UTF-8; its founder made a bad one');
  const characters: number[] = [];
  eachCodePoint(blob, (codePoint) => characters.push(codePoint));
  const ascending = characters.every((character, i) => i === 0 || character > (characters[i - 1] ?? 0));
  if (!ascending || characters.length > VOCABULARY_MAX) {
    throw new CodedError('E_TOKENIZER_BLOB', "the vocabulary is not a sorted set; the run's founder made a bad one");
  }
  return charTokenizerOf(characters);
}

/** @param characters code points, ascending */
function charTokenizerOf(characters: readonly number[]): Tokenizer {
  const tokenOf = new Int32Array((characters.at(-1) ?? 0) + 1).fill(-1);
  characters.forEach((codePoint, token) => {
    tokenOf[codePoint] = token;
  });
  const texts = characters.map((codePoint) => String.fromCodePoint(codePoint));
  const encodeUtf8 = (bytes: Uint8Array): Tokens => {
    // a joiner's text comes from its peers, who may have hashed anything
    if (!isUtf8(bytes)) throw new CodedError('E_DATA_NOT_TEXT', 'the text is not UTF-8; its founder made a bad run');
    const tokens = tokenArray(characters.length, countCodePoints(bytes));
    let length = 0;
    eachCodePoint(bytes, (codePoint) => {
      const token = tokenOf[codePoint] ?? -1;
      if (token < 0) throw unknownCharacter(codePoint);
      tokens[length++] = token;
    });
    return tokens;
  };
  return {
    kind: 'char',
    vocabulary: characters.length,
    blob: new TextEncoder().encode(texts.join('')),
    encode: (text) => encodeUtf8(new TextEncoder().encode(text)),
    encodeUtf8,
    decode: (tokens) => Array.from(tokens, (token) => texts[token] ?? REPLACEMENT).join(''),
  };
}

function unknownCharacter(codePoint: number): CodedError<TokenizerErrorCode> {
  const character = JSON.stringify(String.fromCodePoint(codePoint));
  const name = `U+${codePoint.toString(16).toUpperCase().padStart(4, '0')}`;
  const message = `the character ${character} (${name}) is not in this run's vocabulary; leave it out of the text`;
  return new CodedError('E_TOKENIZER_UNKNOWN', message);
}

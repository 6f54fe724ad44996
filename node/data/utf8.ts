/**
 * Calls `visit` with every code point of valid UTF-8 (the caller has checked it). Works on the bytes, because a string
 * of a large text would take more memory than the text and JavaScript strings end at half a gigabyte.
 */
export function eachCodePoint(bytes: Uint8Array, visit: (codePoint: number) => void): void {
  const at = (i: number) => (bytes[i] ?? 0) & 0x3f;
  for (let i = 0; i < bytes.length; ) {
    const first = bytes[i] ?? 0;
    if (first < 0x80) {
      visit(first);
      i += 1;
    } else if (first < 0xe0) {
      visit(((first & 0x1f) << 6) | at(i + 1));
      i += 2;
    } else if (first < 0xf0) {
      visit(((first & 0x0f) << 12) | (at(i + 1) << 6) | at(i + 2));
      i += 3;
    } else {
      visit(((first & 0x07) << 18) | (at(i + 1) << 12) | (at(i + 2) << 6) | at(i + 3));
      i += 4;
    }
  }
}

/** How many code points valid UTF-8 has: every byte but the continuations begins one. */
export function countCodePoints(bytes: Uint8Array): number {
  let count = 0;
  // every process counts a whole text once, at its start: an iterator would take four times as long until it is compiled
  for (let i = 0; i < bytes.length; i++) if (((bytes[i] ?? 0) & 0xc0) !== 0x80) count += 1;
  return count;
}

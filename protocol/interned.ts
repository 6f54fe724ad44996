/** Beyond so many all are forgotten: strangers' names pass here too. */
const KEPT = 1 << 14;
const strings = new Map<string, string>();

/**
 * One string for all that are equal. Names of peers, rounds and blocks come with every message; where they are the same
 * string in memory, comparing and looking them up costs next to nothing.
 */
export function interned(text: string): string {
  const known = strings.get(text);
  if (known !== undefined) return known;
  if (strings.size >= KEPT) strings.clear();
  strings.set(text, text);
  return text;
}

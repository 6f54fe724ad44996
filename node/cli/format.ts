/** Numbers and names as people read them. */

/** 950 B, 12.3 kB, 1.20 MB: powers of 1000, three digits. */
export function formatBytes(bytes: number): string {
  return bytes < 1000 ? `${bytes} B` : `${scaled(bytes, ['', ' k', ' M', ' G', ' T'])}B`;
}

/** 950, 12.3k, 1.20M: three digits. */
export function formatCount(count: number): string {
  return count < 1000 ? String(Math.round(count)) : scaled(count, ['', 'k', 'M', 'G', 'T']);
}

function scaled(value: number, units: string[]): string {
  let unit = 0;
  let left = value;
  // 999.5 would be printed as 1000
  while (left >= 999.5 && unit < units.length - 1) {
    left /= 1000;
    unit++;
  }
  const digits = left < 9.995 ? 2 : left < 99.95 ? 1 : 0;
  return `${left.toFixed(digits)}${units[unit]}`;
}

/** 8s, 3m 20s, 2h 05m */
export function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${String(seconds % 60).padStart(2, '0')}s`;
  return `${Math.floor(minutes / 60)}h ${String(minutes % 60).padStart(2, '0')}m`;
}

export function formatLoss(loss: number): string {
  return Number.isFinite(loss) ? loss.toFixed(4) : '-';
}

const BAR_CELLS = 20;

export function formatBar(done: number, all: number, cells = BAR_CELLS): string {
  const filled = all > 0 ? Math.min(cells, Math.floor((cells * done) / all)) : 0;
  return '█'.repeat(filled) + '░'.repeat(cells - filled);
}

/** The last characters of a peer id: the first are the same for all. */
export function shortPeer(id: string): string {
  return `…${id.slice(-8)}`;
}

/** Text that somebody else wrote, without what could move the cursor or turn the reading direction. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ');
}

/** As one word of a POSIX shell. */
export function shellWord(text: string): string {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

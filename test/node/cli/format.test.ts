import { describe, expect, it } from 'vitest';
import {
  formatBar,
  formatBytes,
  formatCount,
  formatDuration,
  formatLoss,
  printable,
  shellWord,
  shortPeer,
} from '../../../node/cli/format.ts';

describe('formatting', () => {
  it('writes bytes and counts with three digits', () => {
    expect([0, 999, 1000, 12_345, 999_499, 999_500, 1_204_997, 2e9].map(formatBytes)).toEqual([
      '0 B',
      '999 B',
      '1.00 kB',
      '12.3 kB',
      '999 kB',
      '1.00 MB',
      '1.20 MB',
      '2.00 GB',
    ]);
    expect([0, 42.4, 804_096, 124e6].map(formatCount)).toEqual(['0', '42', '804k', '124M']);
  });

  it('never writes a count with more than three digits before its unit', () => {
    for (let value = 1; value < 1e12; value *= 1.013) {
      expect(formatCount(value)).toMatch(/^(\d{1,3}|\d[.]\d\d[kMGT]|\d\d[.]\d[kMGT]|\d{3}[kMGT]|1000)$/);
    }
  });

  it('writes durations', () => {
    expect([0, 8_400, 59_600, 200_000, 7_500_000].map(formatDuration)).toEqual([
      '0s',
      '8s',
      '1m 00s',
      '3m 20s',
      '2h 05m',
    ]);
  });

  it('writes losses, and nothing for one that is not a number', () => {
    expect(formatLoss(2.41567)).toBe('2.4157');
    expect(formatLoss(Number.NaN)).toBe('-');
  });

  it('fills a bar from empty to full', () => {
    expect(formatBar(0, 50)).toBe('░'.repeat(20));
    expect(formatBar(25, 50)).toBe('█'.repeat(10) + '░'.repeat(10));
    expect(formatBar(60, 50)).toBe('█'.repeat(20));
    expect(formatBar(0, 0)).toBe('░'.repeat(20));
  });

  it('takes the commands out of what strangers write', () => {
    expect(printable('a\x1b[2Jb\u202ec\nd')).toBe('a [2Jb c d');
    expect(printable('naïve 漢字')).toBe('naïve 漢字');
  });

  it('quotes for the shell only where it must', () => {
    expect(shellWord('/home/me/run-1')).toBe('/home/me/run-1');
    expect(shellWord("it's here")).toBe("'it'\\''s here'");
  });

  it('shows the end of a peer id', () => {
    expect(shortPeer('12D3KooWCm5r9MZAfj2yyPeRw2gTf5UCEYMkAAUccUZHHYnk1rni')).toBe('…HYnk1rni');
  });
});

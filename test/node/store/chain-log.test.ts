import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ChainLog } from '../../../node/store/chain-log.ts';
import { hashOf } from '../../../protocol/hash.ts';
import type { Entry } from '../../../protocol/wire.ts';

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'outerloop-chain-'));
  path = join(folder, 'chain.log');
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function entry(height: number): Entry {
  const hash = hashOf(Uint8Array.of(height));
  const empty = { updates: [], joins: [], leaves: [], evictions: [] };
  return {
    block: { height, previous: hash, kind: 'membership', round: 0, base: hash, members: null, ...empty },
    certificate: { kind: 'finalize', height, view: 0, block: hash, signatures: [[0, new Uint8Array(64)]] },
  };
}

function write(count: number): void {
  const log = new ChainLog(path);
  for (let height = 1; height <= count; height++) log.append(entry(height));
  log.close();
}

function heights(): number[] {
  const log = new ChainLog(path);
  log.close();
  return log.entries.map(({ block }) => block.height);
}

test('what was appended is there after a restart', () => {
  write(3);
  expect(heights()).toEqual([1, 2, 3]);
  const log = new ChainLog(path);
  expect(log.entries[1]).toEqual(entry(2));
  log.append(entry(4));
  log.close();
  expect(heights()).toEqual([1, 2, 3, 4]);
});

test('an entry cut short at any byte is dropped, those before it stay, and the log grows from there', () => {
  write(2);
  const whole = readFileSync(path).length;
  write(0);
  for (const cut of [1, 20, 36, 37, 100]) {
    rmSync(path);
    write(3);
    truncateSync(path, whole + cut);
    expect(heights()).toEqual([1, 2]);
    const log = new ChainLog(path);
    log.append(entry(9));
    log.close();
    expect(heights()).toEqual([1, 2, 9]);
  }
});

test('garbage at the end is cut off', () => {
  write(2);
  appendFileSync(path, new Uint8Array(200).fill(7));
  expect(heights()).toEqual([1, 2]);
});

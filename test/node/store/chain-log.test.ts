import { appendFileSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { ChainLog, chainSegments, readChainLog } from '../../../node/store/chain-log.ts';
import { hashOf } from '../../../protocol/hash.ts';
import type { Append } from '../../../protocol/history.ts';
import type { Beginning } from '../../../protocol/messages.ts';
import type { Anchor, Entry } from '../../../protocol/wire.ts';
import { factsOf } from '../../helpers/history.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let folder: string;
let path: string;

beforeEach(() => {
  folder = temporaryFolder();
  path = join(folder, 'chain');
});

function entry(height: number): Entry {
  const hash = hashOf(Uint8Array.of(height));
  const empty = { head: hash, updates: [], joins: [], leaves: [], evictions: [] };
  return {
    block: { height, previous: hash, kind: 'membership', round: 0, base: hash, members: null, ...empty },
    certificate: { kind: 'finalize', height, view: 0, block: hash, signatures: [[0, new Uint8Array(64)]] },
  };
}

function append(height: number, segment: Append['segment'] = null) {
  return { entry: entry(height), segment };
}

/** Of a segment. */
const file = (serial: number): string => join(path, `00000${serial}.log`);

function write(count: number): void {
  const log = new ChainLog(path);
  for (let height = 1; height <= count; height++) log.append(append(height));
  log.close();
}

function heights(): number[] {
  const log = new ChainLog(path);
  log.close();
  return log.segments.flatMap(({ entries }) => entries).map(({ block }) => block.height);
}

test('what was appended is there after a restart', () => {
  write(3);
  expect(heights()).toEqual([1, 2, 3]);
  const log = new ChainLog(path);
  expect(log.segments[0]!.entries[1]).toEqual(entry(2));
  log.append(append(4));
  log.close();
  expect(heights()).toEqual([1, 2, 3, 4]);
});

test('many are appended at once, segments that begin among them too', () => {
  const log = new ChainLog(path);
  log.append(append(1), append(2), append(3, { ...beginning(3), keep: 2 }), append(4), append(5));
  log.close();
  expect(heights()).toEqual([1, 2, 3, 4, 5]);
  expect(readdirSync(path)).toHaveLength(2);
});

test('an entry cut short at any byte is dropped, those before it stay, and the log grows from there', () => {
  write(2);
  const whole = readFileSync(file(1)).length;
  write(0);
  for (const cut of [1, 20, 36, 37, 100]) {
    rmSync(path, { recursive: true });
    write(3);
    truncateSync(file(1), whole + cut);
    expect(heights()).toEqual([1, 2]);
    const log = new ChainLog(path);
    log.append(append(9));
    log.close();
    expect(heights()).toEqual([1, 2, 9]);
  }
});

test('garbage at the end is cut off', () => {
  write(2);
  appendFileSync(file(1), new Uint8Array(200).fill(7));
  expect(heights()).toEqual([1, 2]);
});

function anchor(height: number): Anchor {
  const facts = factsOf([{ peer: SELF, lastRound: 0 }]);
  return { head: { ...facts, changes: [[SELF, 1]] }, entry: entry(height) };
}
function beginning(height: number): Beginning {
  return {
    anchors: [anchor(height)],
    passed: height % 2 === 0 ? null : { core: [SELF], largest: 2 },
    pinned: entry(height).block.head,
  };
}
const SELF = `12D3KooW${'x'.repeat(44)}`;

test('a segment has its anchors, and of the old ones only so many stay', () => {
  write(2);
  let log = new ChainLog(path);
  for (const [height, keep] of [
    [3, 2],
    [4, 2],
    [5, 1],
  ] as const) {
    log.append(append(height, { ...beginning(height), keep }));
    expect(readdirSync(path)).toHaveLength(keep);
    expect(chainSegments(log.copy())).toEqual(readChainLog(path));
  }
  log.append(append(6));
  log.close();
  log = new ChainLog(path);
  log.close();
  expect(log.segments).toEqual([{ ...beginning(5), entries: [5, 6].map(entry) }]);
});

test('a segment that the disk lost is left out, and its file goes when those before it go', () => {
  write(1);
  let log = new ChainLog(path);
  for (const height of [2, 3]) log.append(append(height, { ...beginning(height), keep: 3 }));
  log.close();
  truncateSync(file(2), 20);
  expect(heights()).toEqual([1, 3]);
  log = new ChainLog(path);
  log.append(append(4, { ...beginning(4), keep: 2 }));
  log.close();
  expect(readdirSync(path)).toEqual(['000003.log', '000004.log']);
  // of the newest one: what comes after goes on from the one before
  truncateSync(file(4), 20);
  log = new ChainLog(path);
  log.append(append(5, { ...beginning(5), keep: 2 }));
  log.close();
  expect(heights()).toEqual([3, 5]);
});

test('what is no segment is passed over: a file that a kill left half written, and what a system puts into folders', () => {
  write(2);
  for (const name of ['000002.log.77-0-1.tmp', '.DS_Store', 'x000003.log']) writeFileSync(join(path, name), 'half');
  expect(heights()).toEqual([1, 2]);
  expect(readChainLog(path)).toHaveLength(1);
  const log = new ChainLog(path);
  log.append(append(3, { ...beginning(3), keep: 2 }));
  log.close();
  expect(heights()).toEqual([1, 2, 3]);
  expect(readdirSync(path)).toContain('000002.log');
});

import type { PeerId } from '@libp2p/interface';
import { expect, test } from 'vitest';
import { NET_LIMITS } from '../../../node/net/index.ts';
import { PeerEntries } from '../../../node/net/peer-entries.ts';

const { peerEntriesMax: MOST } = NET_LIMITS;

test('the oldest entries of peers that are gone make room, whatever comes', () => {
  const here = ['peer0', 'peer3'];
  const connected = here.map((name) => ({ toCID: () => name }) as unknown as PeerId);
  const entries = new PeerEntries(() => connected);
  const keyOf = (i: number) => ({ toString: () => `/peers/peer${i}` }) as Parameters<PeerEntries['put']>[0];
  for (let i = 0; i < MOST + 10; i++) entries.put(keyOf(i), Uint8Array.of(i));
  expect(entries.size).toBe(MOST);
  const isHere = (i: number): boolean => entries.has(keyOf(i)) as boolean;
  expect(Array.from({ length: 16 }, (_, i) => i).filter(isHere)).toEqual([0, 3, 12, 13, 14, 15]);
  expect(entries.get(keyOf(0))).toEqual(Uint8Array.of(0));
  // said again it is as good as new, and what is removed takes no room
  entries.put(keyOf(12), Uint8Array.of(1));
  entries.delete(keyOf(13));
  for (let i = 0; i < 2; i++) entries.put(keyOf(MOST + 100 + i), Uint8Array.of(i));
  expect([12, 14, 15].map(isHere)).toEqual([true, false, true]);
});

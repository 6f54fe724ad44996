import { describe, expect, it } from 'vitest';
import { type NetworkErrorCode, networkError } from '../../../node/net/errors.ts';
import { createIdentity, NET_LIMITS } from '../../../node/net/index.ts';
import { Members } from '../../../node/net/members.ts';
import { PeerBook } from '../../../node/net/peer-book.ts';
import { codeOf } from './swarm.ts';

/** A book on a clock that is moved by hand, with dials that come out as told. */
function bookOf(
  outcome: (addresses: readonly string[]) => string | NetworkErrorCode | Promise<string>,
  { tellsId = false, isInRoster = (_: string): boolean => false } = {},
) {
  const members = new Members({ isInRoster });
  const dials: (readonly string[])[] = [];
  const waits: { ms: number; callback: () => void }[] = [];
  const book = new PeerBook({
    self: 'me',
    members,
    dial: async (addresses) => {
      dials.push([...addresses]);
      const result = await outcome(addresses);
      if (result.startsWith('E_')) throw networkError(result as NetworkErrorCode, 'as told');
      const named = addresses.map((text) => (tellsId && !text.includes('/p2p/') ? `${text}/p2p/${result}` : text));
      members.admit(result, { addresses: named, software: '', connection: '1' });
      return result;
    },
    timers: {
      set: (callback, ms) => {
        const wait = { ms, callback };
        waits.push(wait);
        return wait;
      },
      clear: (wait) => {
        const at = waits.indexOf(wait as never);
        if (at >= 0) waits.splice(at, 1);
      },
    },
    random: () => 0.5,
  });
  /** Lets the next wait pass; its length in ms. */
  const pass = async (): Promise<number | undefined> => {
    const wait = waits.shift();
    wait?.callback();
    await settled();
    return wait?.ms;
  };
  return { book, members, dials, waits, pass };
}

/** Dials of these tests settle within a few microtasks. */
async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

const PEER = createIdentity().self;
const ADDRESS = `/ip4/192.0.2.7/tcp/4001/p2p/${PEER}`;
const OTHER = createIdentity().self;
const OTHER_ADDRESS = `/ip4/192.0.2.8/tcp/4001/p2p/${OTHER}`;

describe('PeerBook', () => {
  it('dials those who are in the roster, however many strangers are connected', async () => {
    const isInRoster = (peer: string): boolean => [PEER, OTHER].includes(peer) || peer.startsWith('member');
    const { book, members, dials } = bookOf(() => PEER, { isInRoster });
    const admit = (name: string): void => members.admit(name, { addresses: [], software: '', connection: name });
    for (let i = 0; i < 2 * NET_LIMITS.connectionsWanted; i++) admit(`stranger ${i}`);
    book.learn([ADDRESS]);
    await settled();
    expect(dials).toEqual([[ADDRESS]]);
    for (let i = 0; i < NET_LIMITS.connectionsWanted / 2; i++) admit(`member ${i}`);
    book.learn([OTHER_ADDRESS]);
    await settled();
    expect(dials).toHaveLength(1);
  });

  it('keeps room for who was here, and who is in the roster, whatever addresses a stranger makes up', async () => {
    const hang = new Promise<string>(() => undefined);
    const made = Array.from({ length: 64 }, (_, i) => `/ip4/192.0.2.1/tcp/${5000 + i}/p2p/${createIdentity().self}`);
    const { book, dials } = bookOf((to) => (made.includes(to[0]!) ? hang : 'E_NOT_CONNECTED'), {
      isInRoster: (peer) => peer === PEER,
    });
    book.learn(made);
    book.learn([ADDRESS]);
    book.remember([OTHER_ADDRESS]);
    await settled();
    expect(dials.filter(([to]) => made.includes(to!))).toHaveLength(NET_LIMITS.connectionsWanted / 2);
    expect(dials).toContainEqual([ADDRESS]);
    expect(dials).toContainEqual([OTHER_ADDRESS]);
  });

  it("dials a user's address for whoever lives there next, also where that was another before", async () => {
    const bare = '/ip4/192.0.2.9/tcp/4001';
    const third = createIdentity().self;
    let lives = PEER;
    const { book, members, pass, waits } = bookOf(
      (addresses) => {
        const reaches = addresses.some((text) => !text.includes('/p2p/') || text.endsWith(lives));
        return reaches ? lives : 'E_STREAM_CLOSED';
      },
      { tellsId: true },
    );
    await book.dialPinned(bare, undefined);
    for (const next of [OTHER, third]) {
      members.remove(lives);
      lives = next;
      for (let i = 0; i < 10 && waits.length > 0 && !members.has(next); i++) await pass();
      expect(members.has(next)).toBe(true);
    }
  });

  it('dials who it is told of, once, and never itself or a member', async () => {
    const { book, dials, members } = bookOf(() => PEER);
    book.learn([ADDRESS, ADDRESS, '/ip4/192.0.2.8/tcp/1']);
    await settled();
    book.learn([ADDRESS]);
    await settled();
    expect(dials).toEqual([[ADDRESS]]);
    expect(members.list()).toEqual([PEER]);
  });

  it('dials who was here once for good: every minute while it is alone, else seldom', async () => {
    let up = true;
    const { book, members, pass, waits } = bookOf((addresses) => {
      if (addresses.includes(ADDRESS)) return up ? PEER : 'E_STREAM_CLOSED';
      return OTHER;
    });
    book.learn([ADDRESS]);
    await settled();
    up = false;
    members.remove(PEER);
    for (let i = 0; i < 2 * NET_LIMITS.redialAttemptsMax; i++) await pass();
    expect(waits.map(({ ms }) => ms)).toEqual([NET_LIMITS.redialMaxMs]);
    book.learn([OTHER_ADDRESS]);
    await settled();
    await pass();
    expect(waits.map(({ ms }) => ms)).toEqual([NET_LIMITS.redialSeldomMs]);
    // alone again: it does not wait any longer for who may be the only one left
    members.remove(OTHER);
    expect(waits.map(({ ms }) => ms)).toEqual([NET_LIMITS.redialFirstMs, NET_LIMITS.redialMaxMs]);
    up = true;
    await pass();
    await pass();
    expect(members.list().toSorted()).toEqual([PEER, OTHER].toSorted());
  });

  it('keeps where a peer was reached, whatever others say, and the newest of their words', async () => {
    let up = true;
    const { book, members } = bookOf(() => (up ? PEER : 'E_STREAM_CLOSED'));
    const [mine, second, ...told] = [7, 8, 21, 22, 23, 24].map((i) => `/ip4/192.0.2.${i}/tcp/4001/p2p/${PEER}`);
    await book.dialPinned(mine!, PEER);
    members.remove(PEER);
    up = false;
    book.learn([second!]);
    book.learn(told);
    await settled();
    expect(book.addresses()).toEqual([mine, second, told[0], told.at(-1)]);
  });

  it('does not forget who was here before a restart', async () => {
    const { book, pass, waits } = bookOf(() => 'E_STREAM_CLOSED');
    book.remember([ADDRESS]);
    await settled();
    for (let i = 0; i < 2 * NET_LIMITS.redialAttemptsMax; i++) await pass();
    expect(waits.map(({ ms }) => ms)).toEqual([NET_LIMITS.redialMaxMs]);
    expect(book.addresses()).toEqual([ADDRESS]);
  });

  it('doubles its waits to a minute, then forgets the peer', async () => {
    const { book, pass } = bookOf(() => 'E_STREAM_CLOSED');
    book.learn([ADDRESS]);
    await settled();
    const waits = [];
    for (let wait = await pass(); wait !== undefined; wait = await pass()) waits.push(wait);
    expect(waits.slice(0, 7)).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
    expect(waits).toHaveLength(NET_LIMITS.redialAttemptsMax);
    expect(book.size).toBe(0);
  });

  it('dials a user’s address for ever, and again when the peer has gone down', async () => {
    let up = false;
    const { book, members, pass, dials } = bookOf(() => (up ? PEER : 'E_STREAM_CLOSED'));
    const bare = '/ip4/192.0.2.7/tcp/4001';
    expect(await codeOf(book.dialPinned(bare, undefined))).toBe('E_STREAM_CLOSED');
    for (let i = 0; i < 3 * NET_LIMITS.redialAttemptsMax; i++) expect(await pass()).toBeGreaterThan(0);
    up = true;
    await pass();
    expect(members.list()).toEqual([PEER]);
    expect(book.size).toBe(1);
    members.remove(PEER);
    const before = dials.length;
    expect(await pass()).toBe(1_000);
    expect(dials.slice(before)).toEqual([[bare]]);
    expect(members.list()).toEqual([PEER]);
  });

  it.each(['E_OTHER_RUN', 'E_OTHER_VERSION'] as const)('gives up at once on %s', async (code) => {
    const { book, waits } = bookOf(() => code);
    expect(await codeOf(book.dialPinned(ADDRESS, PEER))).toBe(code);
    expect([book.size, waits.length]).toEqual([0, 0]);
  });

  it('is bounded, and keeps room for the living', async () => {
    const { book, members } = bookOf((addresses) => (addresses[0]?.includes('192.0.2.7') ? PEER : 'E_STREAM_CLOSED'));
    for (let i = 0; i < NET_LIMITS.bookPeersMax + 20; i++) {
      book.learn([`/ip4/192.0.2.1/tcp/${i + 1}/p2p/${createIdentity().self}`]);
      await settled();
    }
    expect(book.size).toBe(NET_LIMITS.bookPeersMax);
    book.learn([ADDRESS]);
    await settled();
    expect(members.list()).toEqual([PEER]);
    expect(book.size).toBe(NET_LIMITS.bookPeersMax);
  });

  it('does nothing after it is stopped', async () => {
    const { book, dials, waits } = bookOf(() => 'E_STREAM_CLOSED');
    book.learn([ADDRESS]);
    await settled();
    book.stop();
    book.learn([ADDRESS]);
    await settled();
    expect([dials.length, waits.length, book.size]).toEqual([1, 0, 0]);
  });
});

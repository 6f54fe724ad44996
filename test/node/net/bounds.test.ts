import type { Connection, Stream } from '@libp2p/interface';
import { streamPair } from '@libp2p/utils';
import { multiaddr } from '@multiformats/multiaddr';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { Frames } from '../../../node/net/frames.ts';
import { HELLO_PROTOCOL } from '../../../node/net/hello.ts';
import { createIdentity, NET_LIMITS } from '../../../node/net/index.ts';
import { Members } from '../../../node/net/members.ts';
import { MESSAGE_PROTOCOL } from '../../../node/net/messages.ts';
import { untilAdmitted } from '../../../node/net/streams.ts';
import { SYNC_PROTOCOL } from '../../../node/net/sync.ts';
import { LIMITS } from '../../../protocol/limits.ts';
import { addressOf, eventually, Swarm, type TestPeer } from './swarm.ts';

const swarm = new Swarm();
afterEach(() => swarm.stop());

async function rawMemberOf(victim: TestPeer) {
  const raw = await swarm.raw();
  const connection = await raw.host.node.dial(multiaddr(addressOf(victim)));
  await eventually(() => raw.members.has(victim.id), 'both members');
  const again = (): Promise<Connection> => raw.host.node.dial(multiaddr(addressOf(victim)), { force: true });
  return { ...raw, connection, again };
}

describe('one peer', () => {
  it('has a few requests worked on, however many connections it has, until it reads the answers', async () => {
    let asked = 0;
    const victim = await swarm.peer({
      onRequest: async () => {
        asked++;
        return new Uint8Array(LIMITS.historyBytesMax);
      },
    });
    const { connection, again } = await rawMemberOf(victim);
    const unread: Stream[] = [];
    const ask = async (on: Connection): Promise<[Frames, Stream]> => {
      const stream = await on.newStream(SYNC_PROTOCOL);
      const frames = new Frames(stream, {
        frameBytesMax: 1 + LIMITS.historyBytesMax,
        unreadBytesMax: 2 * LIMITS.historyBytesMax,
      });
      await frames.write(Uint8Array.of(1));
      return [frames, stream];
    };
    for (let i = 0; i < NET_LIMITS.syncRequestsPerPeerMax; i++) {
      const [, stream] = await ask(connection);
      stream.pause();
      unread.push(stream);
    }
    await eventually(() => asked === NET_LIMITS.syncRequestsPerPeerMax, 'as many requests as may be');
    const second = await again();
    const [refused] = await ask(second);
    expect(new TextDecoder().decode(await refused.read())).toContain('4 requests of yours are being worked on');
    for (const stream of unread) stream.resume();
    const sent = NET_LIMITS.syncRequestsPerPeerMax * LIMITS.historyBytesMax;
    await eventually(() => victim.network.counters().bytesSent > sent, 'all answers read');
    const [answered] = await ask(second);
    expect((await answered.read())?.length).toBe(1 + LIMITS.historyBytesMax);
  });

  it('has a few connections, and keeps those', async () => {
    const victim = await swarm.peer();
    const { host, connection, again } = await rawMemberOf(victim);
    for (let i = 0; i < 2 * NET_LIMITS.connectionsPerPeerMax; i++) await again().catch(() => undefined);
    const open = (): number => host.node.getConnections().filter(({ status }) => status === 'open').length;
    await eventually(() => open() === NET_LIMITS.connectionsPerPeerMax, 'the others closed');
    expect([connection.status, victim.network.peers()]).toEqual(['open', [host.self]]);
  });
});

describe('strangers', () => {
  /** For one test. */
  function limited(limit: 'strangersMax' | 'strangerConnectionsMax' | 'syncStrangersMax', value: number): void {
    const limits = NET_LIMITS as Record<typeof limit, number>;
    const before = limits[limit];
    limits[limit] = value;
    onTestFinished(() => {
      limits[limit] = before;
    });
  }

  it('leave room for those who are in the roster, with however many connections each', async () => {
    limited('strangerConnectionsMax', 3);
    const known: string[] = [];
    const victim = await swarm.peer({ isInRoster: (peer) => known.includes(peer) });
    const { again, host } = await rawMemberOf(victim);
    for (let i = 0; i < 5; i++) await again().catch(() => undefined);
    await eventually(() => host.node.getConnections().length === 3, 'no more than may be');
    const member = await swarm.raw();
    known.push(member.host.self);
    await member.host.node.dial(multiaddr(addressOf(victim)));
    await eventually(() => member.members.has(victim.id), 'who is in the roster is let in');
  });

  it('say hello once on a connection: another is not answered', async () => {
    const victim = await swarm.peer();
    const { connection } = await rawMemberOf(victim);
    const stream = await connection.newStream(HELLO_PROTOCOL);
    const frames = new Frames(stream, { frameBytesMax: NET_LIMITS.helloBytesMax });
    await expect(frames.write(Uint8Array.of(1)).then(() => frames.read())).rejects.toThrow();
    expect(connection.status).toBe('open');
  });

  it('leave room for those who are in the roster', async () => {
    limited('strangersMax', 2);
    const member = createIdentity();
    const victim = await swarm.peer({ isInRoster: (peer) => peer === member.self });
    const crowd = await Promise.all([0, 1, 2].map(() => swarm.peer()));
    const came = await Promise.allSettled(crowd.map(({ network }) => network.dial(addressOf(victim))));
    expect(came.filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
    const refused = came.flatMap((each) => (each.status === 'rejected' ? String(each.reason.message) : []));
    expect(refused).toEqual([expect.stringContaining('2 peers that are in no roster')]);
    const { network } = await swarm.peer({ identity: member });
    expect(await network.dial(addressOf(victim))).toBe(victim.id);
  });

  it('have so many answers kept for them, and the one that is read slowest goes', async () => {
    limited('syncStrangersMax', 2);
    let asked = 0;
    const victim = await swarm.peer({
      onRequest: async () => {
        asked++;
        return new Uint8Array(LIMITS.historyBytesMax);
      },
    });
    const { connection } = await rawMemberOf(victim);
    const streams: Stream[] = [];
    for (let i = 1; i <= 3; i++) {
      const stream = await connection.newStream(SYNC_PROTOCOL);
      await new Frames(stream, { frameBytesMax: 1 + LIMITS.historyBytesMax }).write(Uint8Array.of(1));
      stream.pause();
      streams.push(stream);
      await eventually(() => asked === i, 'the request heard');
    }
    await eventually(() => streams[0]?.status !== 'open', 'the oldest cut off');
    expect(streams.slice(1).map(({ status }) => status)).toEqual(['open', 'open']);
  });
});

describe('before hello', () => {
  it('a stream is paused, and reset when its sender goes on', async () => {
    const [near, far] = await streamPair();
    const stranger = { remotePeer: createIdentity().self } as unknown as Connection;
    untilAdmitted(far, stranger, new Members()).catch(() => undefined);
    near.send(new Uint8Array(NET_LIMITS.unheardBytesMax / 2));
    await eventually(() => far.readBufferLength === NET_LIMITS.unheardBytesMax / 2, 'the first bytes kept');
    near.send(new Uint8Array(NET_LIMITS.unheardBytesMax));
    await eventually(() => far.status !== 'open', 'the stream reset');
    expect(far.readBufferLength).toBe(0);
  });

  it.each(['message', 'gossip'])('a stranger gets no more than a little into a stream of %ss', async (kind) => {
    const victim = await swarm.peer({ helloMs: 60_000 });
    const raw = await swarm.raw({ hello: false });
    const connection = await raw.host.node.dial(multiaddr(addressOf(victim)));
    const protocol = kind === 'message' ? MESSAGE_PROTOCOL : raw.router.protocols;
    const stream = await connection.newStream(protocol);
    const bytes = 3 * 1024 * 1024;
    stream.send(Uint8Array.of(0x80, 0x80, 0x10));
    stream.send(new Uint8Array(bytes));
    // what has been taken comes back as room to send more; a ping goes the same way
    for (let i = 0; i < 20; i++) await raw.host.node.services.ping.ping(connection.remotePeer);
    const taken = stream.status === 'open' ? bytes - stream.writeBufferLength : 0;
    expect(taken).toBeLessThanOrEqual(NET_LIMITS.unheardBytesMax);
  });

  it('messages that overtake it wait, and none is lost', async () => {
    const victim = await swarm.peer();
    const raw = await swarm.raw({ hello: false });
    const connection = await raw.host.node.dial(multiaddr(addressOf(victim)));
    const frames = new Frames(await connection.newStream(MESSAGE_PROTOCOL), { frameBytesMax: 1, queueMax: 2 });
    const texts = ['a', 'b'].map((letter) => letter.repeat(LIMITS.gossipBytesMax));
    const written = texts.map((text) => frames.write(new TextEncoder().encode(text)));
    await raw.host.node.services.ping.ping(connection.remotePeer);
    expect(victim.messages).toEqual([]);
    await raw.greet(connection);
    await Promise.all(written);
    await eventually(() => victim.messages.length === 2, 'both messages');
    expect(victim.messages.map(({ text }) => text)).toEqual(texts);
  });
});

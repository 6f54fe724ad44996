import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { reasonOf } from '../../../node/net/errors.ts';
import { createIdentity, fetchGenesis, type TransportWrapper } from '../../../node/net/index.ts';
import { PROTOCOL_VERSION } from '../../../protocol/genesis.ts';
import { addressOf, codeOf, eventually, GENESIS, RUN, Swarm, sha256Hex, type TestPeer, textBytes } from './swarm.ts';

const swarm = new Swarm();
afterEach(() => swarm.stop());

const otherGenesis = textBytes('another run');
const OTHER_RUN = { runId: sha256Hex(otherGenesis), genesisBytes: otherGenesis };

describe('a network on loopback', () => {
  it('connects a third peer to the second, whose address only the first knew', async () => {
    const [a, b, c] = await swarm.joined(3);
    expect(new Set(c?.network.peers())).toEqual(new Set([a?.id, b?.id]));
    expect(b?.changes).toContain(`up ${c?.id}`);
  });

  it('brings a broadcast to all, at once and whether or not a mesh has formed', async () => {
    const peers = await swarm.joined(5);
    for (const [i, { network }] of peers.entries()) {
      expect(await network.broadcast(textBytes(`from ${i}`))).toBeGreaterThanOrEqual(4);
    }
    const heard = (peer: TestPeer): number => new Set(peer.messages.map(({ text }) => text)).size;
    await eventually(() => peers.every((peer) => heard(peer) === 4), 'every message at every other peer');
    for (const [i, { messages }] of peers.entries())
      expect(messages.map(({ text }) => text)).not.toContain(`from ${i}`);
  });

  it('brings the same bytes again to all when they are broadcast again', async () => {
    const [a, b, c] = await swarm.joined(3);
    await a!.network.broadcast(textBytes('once'));
    await eventually(() => [b!, c!].every(({ messages }) => messages.length > 0), 'the message');
    const before = [b!, c!].map(({ messages }) => messages.length);
    expect(await a!.network.broadcast(textBytes('once'))).toBe(2);
    await eventually(() => [b!, c!].every(({ messages }, i) => messages.length > (before[i] ?? 0)), 'and again');
  });

  it('carries a message to one peer directly, and repeats it on request', async () => {
    const [a, b, c] = await swarm.joined(3);
    await a!.network.sendTo(b!.id, textBytes('vote'));
    await a!.network.sendTo(b!.id, textBytes('vote'));
    await eventually(() => b!.messages.length === 2, 'both messages');
    expect(b!.messages).toEqual([
      { text: 'vote', from: a!.id },
      { text: 'vote', from: a!.id },
    ]);
    expect(c!.messages).toEqual([]);
  });

  it('asks a peer and gets its answer, or its words', async () => {
    const a = await swarm.peer({
      onRequest: async (request, from) => {
        if (request.length > 3) throw new Error('no such height\u001b[2J');
        return textBytes(`${from} asked ${request.join()}`);
      },
    });
    const b = await swarm.peer();
    await b.network.dial(addressOf(a));
    const answer = await b.network.request(a.id, Uint8Array.of(1, 2, 3));
    expect(new TextDecoder().decode(answer)).toBe(`${b.id} asked 1,2,3`);
    const failed = b.network.request(a.id, new Uint8Array(4));
    await expect(failed).rejects.toMatchObject({
      code: 'E_REFUSED',
      message: expect.stringContaining('no such height [2J'),
    });
    expect(
      await codeOf(b.network.request('12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo', Uint8Array.of(1))),
    ).toBe('E_NOT_CONNECTED');
    const { bytesSent, bytesReceived } = b.network.counters();
    expect([bytesSent >= 7, bytesReceived > answer.length]).toEqual([true, true]);
  });

  it('dials a peer again that has gone down and come back', async () => {
    const timers: (() => void)[] = [];
    const a = await swarm.peer();
    const address = addressOf(a);
    const set = (callback: () => void): number => timers.push(callback);
    const b = await swarm.peer({ timers: { set, clear: () => undefined } });
    await b.network.dial(address);
    await a.network.stop();
    await eventually(() => b.changes.includes(`down ${a.id}`), 'the peer down');
    expect(b.network.peers()).toEqual([]);
    const listen = [address.replace(/\/p2p\/.*/, '')];
    const again = await swarm.peer({ listen });
    await eventually(() => timers.length > 0, 'a redial in waiting');
    for (const redial of timers.splice(0)) redial();
    // another identity at the same address: the named address fails, and it is tried again later
    await eventually(() => timers.length > 0, 'a redial in waiting');
    expect(b.network.peers()).not.toContain(again.id);
  });

  it('redials the same identity, and reports it up again', async () => {
    const identity = createIdentity();
    const a = await swarm.peer({ identity });
    const b = await swarm.peer({ timers: { set: (callback) => setImmediate(callback), clear: () => undefined } });
    await b.network.dial(addressOf(a));
    const listen = [addressOf(a).replace(/\/p2p\/.*/, '')];
    await a.network.stop();
    await eventually(() => b.changes.includes(`down ${a.id}`), 'the peer down');
    await swarm.peer({ identity, listen });
    await eventually(() => b.changes.filter((change) => change === `up ${a.id}`).length === 2, 'the peer up again');
  });
});

describe('hello', () => {
  it('refuses another run and tells both sides why', async () => {
    const a = await swarm.peer();
    const b = await swarm.peer({ run: OTHER_RUN });
    const dialed = b.network.dial(addressOf(a));
    await expect(dialed).rejects.toMatchObject({ code: 'E_OTHER_RUN' });
    await dialed.catch(({ message }: Error) => {
      expect(message).toContain(`${a.id} refused`);
      expect(message).toContain(RUN.runId.slice(0, 12));
      expect(message).toContain(OTHER_RUN.runId.slice(0, 12));
    });
    await eventually(() => a.refusals.length > 0, 'the refusal reported by who refused');
    expect(a.refusals[0]).toMatchObject({ peer: b.id, error: { code: 'E_OTHER_RUN' } });
    expect([a.network.peers(), b.network.peers(), a.changes, b.changes]).toEqual([[], [], [], []]);
  });

  it('refuses another version, whichever of the two is newer', async () => {
    const a = await swarm.peer();
    const b = await swarm.peer({ version: PROTOCOL_VERSION + 1 });
    expect(await codeOf(b.network.dial(addressOf(a)))).toBe('E_OTHER_VERSION');
    expect(await codeOf(a.network.dial(addressOf(b)))).toBe('E_OTHER_VERSION');
    await eventually(() => a.refusals.length === 2 && b.refusals.length === 2, 'both reported on both sides');
    expect(a.refusals[0]?.error.message).toContain(`protocol ${PROTOCOL_VERSION + 1}`);
  });

  it('gives the genesis to who has none, who does not become a member by it', async () => {
    const a = await swarm.peer();
    const fetched = await fetchGenesis([addressOf(a)]);
    expect(fetched.runId).toBe(RUN.runId);
    expect(new Uint8Array(fetched.genesisBytes)).toEqual(GENESIS);
    expect(a.changes).toEqual([]);
  });

  it('says which bootstrap addresses fail and why', async () => {
    const a = await swarm.peer();
    const dead = addressOf(a);
    await a.network.stop();
    await expect(fetchGenesis([dead])).rejects.toMatchObject({
      code: 'E_BOOTSTRAP',
      message: expect.stringMatching(/127\.0\.0\.1.*connection refused.*check that the peer runs/),
    });
    const b = await swarm.peer();
    await expect(b.network.dial(dead)).rejects.toMatchObject({ code: 'E_BOOTSTRAP' });
    expect(await codeOf(b.network.dial('localhost:4001'))).toBe('E_MULTIADDR');
    expect(await codeOf(b.network.dial(addressOf(b)))).toBe('E_BOOTSTRAP');
    expect(await codeOf(fetchGenesis([]))).toBe('E_BOOTSTRAP');
  });

  it.each([
    ['a web server', 'HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n', 'another program listens there'],
    ['a longer answer', `HTTP/1.1 400 Bad Request\r\n${'x'.repeat(200)}`, 'another program listens there'],
    ['nothing at all', '', 'closes the connection at once'],
  ])('says of %s that it is no peer', async (_, answer, reason) => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined); // the other side hangs up, too
      socket.once('data', () => socket.end(answer));
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const address = `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}`;
    const a = await swarm.peer();
    for (const ask of [() => fetchGenesis([address]), () => a.network.dial(address)]) {
      const error = await ask().catch((cause: Error) => cause);
      expect(error).toMatchObject({ code: 'E_BOOTSTRAP' });
      expect((error as Error).message).toMatch(new RegExp(`^cannot reach ${address}: .*${reason}.*copy the address`));
      expect((error as Error).message).not.toMatch(/EncryptionFailed|\n/);
    }
    server.close();
  });

  it('says of one that resets the connection at once that it may have too many', () => {
    const error = new Error('connection error 127.0.0.1:4001: connect ECONNRESET 127.0.0.1:4001');
    expect(reasonOf(error)).toContain('unless it has too many connections');
  });

  it('names the address of one that takes the connection and says nothing', async () => {
    const server = createServer((socket) => socket.on('error', () => undefined));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const address = `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}`;
    await expect(fetchGenesis([address], { patienceMs: 50 })).rejects.toMatchObject({
      code: 'E_BOOTSTRAP',
      message: expect.stringMatching(new RegExp(`${address}: no genesis within .*check that the peer runs`)),
    });
    server.close();
  });

  it('says that another peer answers than the address names', async () => {
    const a = await swarm.peer();
    const other = addressOf(a).replace(a.id, createIdentity().self);
    await expect(fetchGenesis([other])).rejects.toMatchObject({
      code: 'E_BOOTSTRAP',
      message: expect.stringContaining('another peer answers there'),
    });
  });

  it('takes the genesis from the one bootstrap peer that answers', async () => {
    const [a, b] = [await swarm.peer(), await swarm.peer()];
    const dead = addressOf(a);
    await a.network.stop();
    expect((await fetchGenesis([dead, addressOf(b)])).runId).toBe(RUN.runId);
  });
});

describe('listening', () => {
  it('goes through the given transport, as does dialing', async () => {
    const calls: string[] = [];
    const transport: TransportWrapper = (factory) => (components) => {
      const inner = factory(components);
      const dial = inner.dial.bind(inner);
      inner.dial = (address, options) => {
        calls.push(address.toString());
        return dial(address, options);
      };
      return inner;
    };
    const a = await swarm.peer();
    const b = await swarm.peer({ transport });
    await b.network.dial(addressOf(a));
    await fetchGenesis([addressOf(a)], { transport });
    expect(calls).toEqual([addressOf(a), addressOf(a)]);
  });

  it('names a port that is taken, and what to do', async () => {
    const a = await swarm.peer();
    const listen = [addressOf(a).replace(/\/p2p\/.*/, '')];
    await expect(swarm.peer({ listen })).rejects.toMatchObject({
      code: 'E_PORT_TAKEN',
      message: expect.stringMatching(/tcp\/\d+ is taken by another program: stop it or listen on another port/),
    });
    // of several, that one alone
    const several = swarm.peer({ listen: ['/ip4/127.0.0.1/tcp/0', ...listen] });
    await expect(several).rejects.toMatchObject({
      message: expect.stringMatching(new RegExp(`^${listen[0]} is taken`)),
    });
    expect(await codeOf(swarm.peer({ listen: ['/ip4/203.0.113.9/tcp/0'] }))).toBe('E_LISTEN');
    expect(await codeOf(swarm.peer({ listen: ['0.0.0.0:4001'] }))).toBe('E_MULTIADDR');
  });

  it('tells addresses with the peer id, or those announced instead', async () => {
    const a = await swarm.peer();
    const listening = expect.stringMatching(/^\/ip4\/127.0.0.1\/tcp\/[1-9]\d*$/);
    expect(a.network.listening()).toEqual([listening]);
    expect(a.network.addresses()).toEqual([`${a.network.listening()[0]}/p2p/${a.id}`]);
    const b = await swarm.peer({ announce: ['/dns4/peer.example/tcp/4001'] });
    expect(b.network.listening()).toEqual([listening]);
    expect(b.network.addresses()).toEqual([`/dns4/peer.example/tcp/4001/p2p/${b.id}`]);
  });

  it('makes connections from the address that it is told', async () => {
    // all of 127/8 is this machine's on Linux alone
    if (process.platform !== 'linux') return;
    const seen: (string | undefined)[] = [];
    const server = createServer((socket) => {
      seen.push(socket.remoteAddress);
      socket.destroy();
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    const a = await swarm.peer({ dialFrom: '127.0.0.9' });
    expect(await codeOf(a.network.dial(`/ip4/127.0.0.1/tcp/${port}`))).toBe('E_BOOTSTRAP');
    expect(new Set(seen)).toEqual(new Set(['127.0.0.9']));
    const elsewhere = await swarm.peer({ dialFrom: '203.0.113.9' });
    const message = expect.stringContaining('check --dial-from');
    await expect(elsewhere.network.dial(`/ip4/127.0.0.1/tcp/${port}`)).rejects.toMatchObject({ message });
    server.close();
  });
});

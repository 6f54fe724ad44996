import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { type LinkShape, Links, loopbackOf } from '../../../node/chaos/links.ts';

/** All of 127/8 is this machine's on Linux alone, as `chaos` says too. */
const linux = process.platform === 'linux';

/** Two peers behind links: 0 and 1 listen and echo. */
async function world(shape: LinkShape = {}) {
  const links = new Links(shape);
  const servers = await Promise.all(
    [0, 1].map(async (peer) => {
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        socket.on('error', () => socket.destroy());
        socket.pipe(socket);
      });
      await once(server.listen(0, loopbackOf(peer)), 'listening');
      return server;
    }),
  );
  const ports = await Promise.all(servers.map((server, i) => links.front(i, (server.address() as AddressInfo).port)));
  onTestFinished(() => {
    links.close();
    for (const server of servers) server.close();
  });
  const dial = (from: number, to: number): Socket => {
    const socket = connect({ host: loopbackOf(to), port: ports[to]!, localAddress: loopbackOf(from) });
    socket.on('error', () => socket.destroy());
    return socket;
  };
  return { links, dial };
}

async function echoed(socket: Socket, bytes: Buffer): Promise<Buffer> {
  socket.end(bytes);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const PATTERN = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 31 + (i >> 8)) % 251));

test.runIf(linux).each([{}, { latencyMs: 3 }, { latencyMs: 2, bytesPerSecond: 5_000_000 }])(
  'all bytes pass in order, both ways, with %j',
  async (shape) => {
    const { dial } = await world(shape);
    expect((await echoed(dial(0, 1), PATTERN)).equals(PATTERN)).toBe(true);
  },
);

test.runIf(linux)(
  'a cut breaks what a peer has, both ways, and lets nothing new through until it is healed',
  async () => {
    const { links, dial } = await world();
    const open = [dial(0, 1), dial(1, 0), dial(2, 0)] as const;
    for (const socket of open) {
      socket.write('here');
      await once(socket, 'data');
    }
    links.cut(1);
    await Promise.all(open.slice(0, 2).map((socket) => once(socket, 'close')));
    // who has nothing to do with it goes on
    open[2].write('still here');
    expect(String((await once(open[2], 'data'))[0])).toBe('still here');
    await Promise.all([dial(0, 1), dial(1, 0)].map((socket) => once(socket, 'close')));
    links.heal(1);
    expect(String(await echoed(dial(0, 1), Buffer.from('again')))).toBe('again');
    expect(String(await echoed(dial(1, 0), Buffer.from('again')))).toBe('again');
  },
);

test('every peer has an address of its own', () => {
  const addresses = Array.from({ length: 300 }, (_, peer) => loopbackOf(peer));
  expect(new Set(addresses).size).toBe(300);
  for (const address of addresses) expect(address).toMatch(/^127\.0\.[1-9]\d*\.[1-9]\d*$/);
});

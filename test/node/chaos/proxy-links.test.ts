import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { LinkShape } from '../../../node/chaos/links.ts';
import { loopbackOf, ProxyLinks } from '../../../node/chaos/proxy-links.ts';

/** All of 127/8 is this machine's on Linux alone, as `chaos` says too. */
const linux = process.platform === 'linux';

/** The address and port behind an option of `start`. */
function addressOf(options: readonly string[], option: string): { host: string; port: number } {
  const [, host = '', port] = /^\/ip4\/(.*)\/tcp\/(\d+)$/.exec(options[options.indexOf(option) + 1] ?? '') ?? [];
  return { host, port: Number(port) };
}

/** Three peers behind links, each with a server that echoes. */
async function world(shape: LinkShape = {}) {
  const links = new ProxyLinks(shape);
  const places = await Promise.all([0, 1, 2].map((peer) => links.place(peer)));
  const servers = await Promise.all(
    places.map(async ({ options }) => {
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        socket.on('error', () => socket.destroy());
        socket.pipe(socket);
      });
      const { host, port } = addressOf(options, '--listen');
      await once(server.listen(port, host), 'listening');
      return server;
    }),
  );
  onTestFinished(() => {
    links.close();
    for (const server of servers) server.close();
  });
  const dial = (from: number, to: number): Socket => {
    const localAddress = addressOf(places[from]!.options, '--listen').host;
    const socket = connect({ ...addressOf(places[to]!.options, '--announce'), localAddress });
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

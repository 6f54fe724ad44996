import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { listenAddresses, withPorts } from '../../node/listening.ts';

const ANY = '/ip4/0.0.0.0/tcp/0';

/** A port of 127.0.0.1 that another program has. */
async function takenPort(): Promise<number> {
  const server = createServer();
  onTestFinished(() => {
    server.close();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return (server.address() as AddressInfo).port;
}

/** One that a program had until just now. */
async function freePort(): Promise<number> {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

it('takes what is asked for as it is, even where that is taken: the user is told', async () => {
  const asked = [`/ip4/127.0.0.1/tcp/${await takenPort()}`];
  expect(await listenAddresses(asked, [ANY])).toEqual({ wanted: asked, listen: asked });
});

it('takes any free port where nothing was ever asked for', async () => {
  expect(await listenAddresses(undefined)).toEqual({ wanted: [ANY], listen: [ANY] });
  expect(await listenAddresses(undefined, [])).toEqual({ wanted: [ANY], listen: [ANY] });
});

it('listens again where it was asked to before, and nowhere else', async () => {
  const port = await freePort();
  // the second is no address of this machine: that is for who listens to say, another is none of its business
  for (const host of ['ip4/127.0.0.1', 'ip4/203.0.113.9', 'ip4/0.0.0.0', 'ip6/::1']) {
    const before = [`/${host}/tcp/${port}`];
    expect(await listenAddresses(undefined, before)).toEqual({ wanted: before, listen: before });
  }
});

it('takes another port of the same address where the old one is taken', async () => {
  const before = [`/ip4/127.0.0.1/tcp/${await takenPort()}`, `/ip4/127.0.0.1/tcp/${await freePort()}`];
  expect(await listenAddresses(undefined, before)).toEqual({
    wanted: before,
    listen: ['/ip4/127.0.0.1/tcp/0', before[1]],
  });
});

it.each([
  { asked: [ANY], listening: ['/ip4/127.0.0.1/tcp/5', '/ip4/192.0.2.7/tcp/5'], kept: ['/ip4/0.0.0.0/tcp/5'] },
  // started without a network: the next time there may be one
  { asked: [ANY], listening: ['/ip4/127.0.0.1/tcp/5'], kept: ['/ip4/0.0.0.0/tcp/5'] },
  { asked: ['/ip6/::1/tcp/0'], listening: ['/ip6/::1/tcp/5'], kept: ['/ip6/::1/tcp/5'] },
  { asked: ['/ip4/192.0.2.7/tcp/4001'], listening: ['/ip4/192.0.2.7/tcp/5'], kept: ['/ip4/192.0.2.7/tcp/4001'] },
  {
    asked: ['/ip4/127.0.0.1/tcp/0', ANY, '/ip6/::/tcp/0'],
    listening: ['/ip4/127.0.0.1/tcp/5', '/ip4/192.0.2.7/tcp/6', '/ip6/2001:db8::1/tcp/7'],
    kept: ['/ip4/127.0.0.1/tcp/5', '/ip4/0.0.0.0/tcp/6', '/ip6/::/tcp/7'],
  },
  { asked: ['/dns4/localhost/tcp/0'], listening: ['/ip4/127.0.0.1/tcp/5'], kept: ['/dns4/localhost/tcp/0'] },
])('keeps $asked with the port that was got', ({ asked, listening, kept }) => {
  expect(withPorts(asked, listening)).toEqual(kept);
});

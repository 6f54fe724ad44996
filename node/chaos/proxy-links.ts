import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { LinkShape, Links, Place } from './links.ts';

/** What may wait in one direction of a shaped connection before its sender is held up. */
const WAITING_BYTES_MAX = 4 * 1024 * 1024;

interface Passage {
  from: number | undefined;
  to: number;
  ends: readonly [Socket, Socket];
}

/**
 * A TCP proxy in front of every peer's listener, and the only address of it that the others know. A cut breaks all
 * connections of a peer, and both ends are told. A peer dials from a loopback address of its own, so a proxy knows both
 * ends of what passes. All of 127/8 is the machine's own on Linux alone.
 */
export class ProxyLinks implements Links {
  readonly #shape: LinkShape;
  readonly #servers: Server[] = [];
  readonly #passages = new Set<Passage>();
  readonly #cut = new Set<number>();

  constructor(shape: LinkShape = {}) {
    this.#shape = shape;
  }

  async place(peer: number): Promise<Place> {
    const host = loopbackOf(peer);
    const port = await freePort(host);
    const front = await this.#front(peer, port);
    const [listen, announce] = [`/ip4/${host}/tcp/${port}`, `/ip4/${host}/tcp/${front}`];
    return { options: ['--listen', listen, '--announce', announce, '--dial-from', host], command: [] };
  }

  /** Opens the way to a peer that will listen on this port of its own address. @returns the port to dial instead */
  async #front(peer: number, port: number): Promise<number> {
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#pass(socket, peer, port));
    this.#servers.push(server);
    await once(server.listen(0, loopbackOf(peer)), 'listening');
    return (server.address() as AddressInfo).port;
  }

  cut(peer: number): void {
    this.#cut.add(peer);
    for (const { from, to, ends } of this.#passages) {
      if (from === peer || to === peer) for (const end of ends) end.destroy();
    }
  }

  heal(peer: number): void {
    this.#cut.delete(peer);
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const { ends } of this.#passages) for (const end of ends) end.destroy();
  }

  #pass(dialer: Socket, to: number, port: number): void {
    const from = peerAt(dialer.remoteAddress);
    if (this.#cut.has(to) || (from !== undefined && this.#cut.has(from))) {
      dialer.destroy();
      return;
    }
    // each direction ends on its own, as it would without us in between
    const listener = connect({ host: loopbackOf(to), port, noDelay: true, allowHalfOpen: true });
    dialer.setNoDelay(true);
    const passage: Passage = { from, to, ends: [dialer, listener] };
    this.#passages.add(passage);
    forward(dialer, listener, this.#shape);
    forward(listener, dialer, this.#shape);
    for (const [end, other] of [passage.ends, passage.ends.toReversed()] as [Socket, Socket][]) {
      end.on('error', () => other.destroy());
      end.on('close', () => {
        if (dialer.closed && listener.closed) this.#passages.delete(passage);
      });
    }
  }
}

/** The address that a peer listens on and dials from. */
export function loopbackOf(peer: number): string {
  return `127.0.${1 + (peer >> 7)}.${1 + (peer & 127)}`;
}

function peerAt(address: string | undefined): number | undefined {
  const [, high, low] = /^127[.]0[.](\d+)[.](\d+)$/.exec(address ?? '') ?? [];
  const peer = ((Number(high) - 1) << 7) + Number(low) - 1;
  return loopbackOf(peer) === address ? peer : undefined;
}

/** Passes bytes on, each after its turn at the link's rate and its latency. */
function forward(
  from: Socket,
  to: Socket,
  { latencyMs = 0, bytesPerSecond = Number.POSITIVE_INFINITY }: LinkShape,
): void {
  if (latencyMs === 0 && bytesPerSecond === Number.POSITIVE_INFINITY) {
    from.pipe(to);
    return;
  }
  const waiting: { atMs: number; chunk: Buffer | null }[] = [];
  let waitingBytes = 0;
  let freeMs = 0;
  // also what the other end does not take: one that stands still is to hold up who writes to it
  const isFull = (): boolean => waitingBytes + to.writableLength >= WAITING_BYTES_MAX;
  const goOn = (): void => {
    if (!isFull()) from.resume();
  };
  to.on('drain', goOn);
  const release = (): void => {
    for (let next = waiting[0]; next && next.atMs <= performance.now(); next = waiting[0]) {
      waiting.shift();
      waitingBytes -= next.chunk?.length ?? 0;
      if (next.chunk) to.write(next.chunk);
      else to.end();
    }
    goOn();
    const [next] = waiting;
    if (next) setTimeout(release, Math.max(1, next.atMs - performance.now()));
  };
  const add = (chunk: Buffer | null): void => {
    const bytes = chunk?.length ?? 0;
    freeMs = Math.max(freeMs, performance.now()) + (1000 * bytes) / bytesPerSecond;
    waiting.push({ atMs: freeMs + latencyMs, chunk });
    waitingBytes += bytes;
    if (isFull()) from.pause();
    if (waiting.length === 1) setTimeout(release, Math.max(1, freeMs + latencyMs - performance.now()));
  };
  from.on('data', add);
  from.on('end', () => add(null));
}

/** Below those that the system gives to whoever asks for any: until the peer listens somebody else may have got one. */
const PORTS = { first: 10_240, count: 20_000 };

async function freePort(host: string): Promise<number> {
  const server = createServer();
  for (;;) {
    const port = PORTS.first + Math.floor(Math.random() * PORTS.count);
    try {
      await once(server.listen(port, host), 'listening');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') continue;
      throw error;
    }
    server.close();
    await once(server, 'close');
    return port;
  }
}

import './polyfill.ts';
import type { MultiaddrConnection, Transport, Upgrader } from '@libp2p/interface';
import { AbstractMultiaddrConnection } from '@libp2p/utils';
import type { TransportWrapper } from './host.ts';

/** What a link does to bytes, as one node has it. */
export interface LinkShape {
  /** one-way, milliseconds; the way back has the other side's */
  oneWayMs: number;
  /** shared by all connections of the node, bits a second @default without limit */
  uploadBits?: number;
  downloadBits?: number;
  /** packets lost, as a share; a lost one stalls its connection for a retransmission timeout @default 0 */
  loss?: number;
  /** 0 to 1, for loss */
  random?: () => number;
}

/** Payload of a TCP segment, bytes. */
const SEGMENT_BYTES = 1448;
/** Linux's smallest retransmission timeout. */
const RETRANSMIT_MS_MIN = 200;
/** A connection takes no more bytes when the uplink has so much before it: a shallow send buffer. Milliseconds. */
const BACKLOG_MS = 20;
/** Timers know whole milliseconds. */
const TIMER_MS = 0.5;

/**
 * One node's link to everybody: a transport wrapped in latency, bandwidth and loss, for measurements and tests on real
 * nodes of one machine. It lies below noise and yamux, so windows, pings and handshakes behave as on a long way. What TCP
 * itself does (slow start, congestion) is not there: loss stalls a connection and does not slow it.
 */
export class ShapedLink {
  /** of the wire: everything that a connection carries, handshakes included */
  readonly counters = { bytesSent: 0, bytesReceived: 0 };
  readonly shape: LinkShape;
  /** when the uplink has sent what it was given, and the downlink received; milliseconds of `performance.now` */
  #upFreeMs = 0;
  #downFreeMs = 0;

  constructor(shape: LinkShape) {
    this.shape = shape;
  }

  /** For `HostInit.transport`. */
  readonly wrap: TransportWrapper = (factory) => (components) => {
    const transport: Transport = factory(components);
    const { dial, createListener } = transport;
    transport.dial = (address, options) => {
      return dial.call(transport, address, { ...options, upgrader: this.#upgrader(options.upgrader) });
    };
    transport.createListener = (options) => {
      return createListener.call(transport, { ...options, upgrader: this.#upgrader(options.upgrader) });
    };
    return transport as ReturnType<typeof factory>;
  };

  /** @returns when the last of these bytes has left, and when it is at the other end */
  send(bytes: number): { sentMs: number; arrivalMs: number } {
    const { uploadBits, oneWayMs, loss = 0, random = () => 1 } = this.shape;
    this.counters.bytesSent += bytes;
    this.#upFreeMs = Math.max(this.#upFreeMs, performance.now()) + sendingMs(bytes, uploadBits);
    const lost = loss > 0 && random() < 1 - (1 - loss) ** Math.ceil(bytes / SEGMENT_BYTES);
    const stallMs = lost ? Math.max(RETRANSMIT_MS_MIN, 4 * oneWayMs) : 0;
    return { sentMs: this.#upFreeMs, arrivalMs: this.#upFreeMs + oneWayMs + stallMs };
  }

  /** @returns when bytes that have come this far are through the downlink, which took them in while they were sent */
  receive(bytes: number): number {
    const ms = sendingMs(bytes, this.shape.downloadBits);
    this.counters.bytesReceived += bytes;
    this.#downFreeMs = Math.max(this.#downFreeMs, performance.now() - ms) + ms;
    return this.#downFreeMs;
  }

  #upgrader(upgrader: Upgrader): Upgrader {
    const shaped = (connection: MultiaddrConnection) => new ShapedConnection(connection, this);
    return new Proxy(upgrader, {
      get: (target, name) => {
        const value = Reflect.get(target, name);
        if (typeof value !== 'function') return value;
        if (name !== 'upgradeInbound' && name !== 'upgradeOutbound') return value.bind(target);
        return (connection: MultiaddrConnection, options: never) => value.call(target, shaped(connection), options);
      },
    });
  }
}

function sendingMs(bytes: number, bits: number | undefined): number {
  return bits === undefined ? 0 : (8000 * bytes) / bits;
}

type Data = Parameters<AbstractMultiaddrConnection['sendData']>[0];

/** Bytes in order, each piece at its time. */
class Delayed<T> {
  readonly #waiting: { atMs: number; piece: T }[] = [];
  readonly #pass: (piece: T) => void;
  #timer: NodeJS.Timeout | undefined;
  #lastMs = 0;
  #onEmpty: (() => void) | undefined;

  constructor(pass: (piece: T) => void) {
    this.#pass = pass;
  }

  add(atMs: number, piece: T): void {
    this.#lastMs = Math.max(this.#lastMs, atMs); // what waits for a lost packet keeps what comes after it waiting
    this.#waiting.push({ atMs: this.#lastMs, piece });
    if (!this.#timer) this.#run();
  }

  /** Resolves when nothing waits. */
  empty(): Promise<void> {
    if (this.#waiting.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onEmpty = resolve;
    });
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#waiting.length = 0;
    this.#onEmpty?.();
  }

  #run(): void {
    this.#timer = undefined;
    for (;;) {
      const [first] = this.#waiting;
      if (!first) return this.#onEmpty?.();
      const waitMs = first.atMs - performance.now();
      if (waitMs > TIMER_MS) {
        this.#timer = setTimeout(() => this.#run(), waitMs);
        return;
      }
      this.#waiting.shift();
      this.#pass(first.piece);
    }
  }
}

class ShapedConnection extends AbstractMultiaddrConnection {
  readonly #inner: MultiaddrConnection;
  readonly #link: ShapedLink;
  readonly #outgoing: Delayed<Data>;
  readonly #incoming: Delayed<Uint8Array | Data>;
  /** the other side has closed, and what it sent before is still on its way */
  #closing = false;

  constructor(inner: MultiaddrConnection, link: ShapedLink) {
    const { remoteAddr, direction } = inner;
    super({ remoteAddr, direction, log: inner.log.newScope('shaped'), maxReadBufferLength: Number.POSITIVE_INFINITY });
    this.#inner = inner;
    this.#link = link;
    this.#outgoing = new Delayed((piece) => {
      if (inner.status === 'open') inner.send(piece);
    });
    this.#incoming = new Delayed((piece) => this.onData(piece));
    inner.addEventListener('message', ({ data }) => this.#incoming.add(link.receive(data.byteLength), data));
    inner.addEventListener('close', ({ error }) => void this.#onClose(error));
  }

  override sendData(data: Data): { sentBytes: number; canSendMore: boolean } {
    const { sentMs, arrivalMs } = this.#link.send(data.byteLength);
    this.#outgoing.add(arrivalMs, data.sublist());
    const backlogMs = sentMs - performance.now() - BACKLOG_MS;
    if (backlogMs > 0) setTimeout(() => this.safeDispatchEvent('drain'), backlogMs);
    return { sentBytes: data.byteLength, canSendMore: backlogMs <= 0 };
  }

  override async sendClose(options?: Parameters<MultiaddrConnection['close']>[0]): Promise<void> {
    await this.#outgoing.empty();
    await this.#inner.close(options);
  }

  override sendReset(error?: Error): void {
    this.#outgoing.clear();
    this.#inner.abort(error ?? new Error('reset'));
  }

  override sendPause(): void {
    this.#inner.pause();
  }

  override sendResume(): void {
    this.#inner.resume();
  }

  async #onClose(error: Error | undefined): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    this.#outgoing.clear();
    await this.#incoming.empty();
    this.onTransportClosed(error);
  }
}

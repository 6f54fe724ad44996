import './polyfill.ts';
import type { Connection, Stream } from '@libp2p/interface';
import { CodedError } from '../../protocol/errors.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { usableAddresses } from './addresses.ts';
import { within } from './deadline.ts';
import { networkError, printable } from './errors.ts';
import { Frames } from './frames.ts';
import { type Answer, decodeAnswer, decodeGreeting, encodeGreeting, type Greeting, otherRun } from './greeting.ts';
import { type Host, isLoopbackConnection } from './host.ts';
import { NET_LIMITS } from './limits.ts';
import type { Members } from './members.ts';

export const HELLO_PROTOCOL = '/outerloop/hello/1.0.0';

export interface HelloComponents {
  host: Host;
  members: Members;
  /** addresses of other peers, told by one that was admitted; checked, each with a peer id */
  onAddresses: (addresses: string[]) => void;
  /** a peer was turned away, or turned us away */
  onRefused: (peer: PeerId, error: Error) => void;
}

export interface HelloInit {
  version: number;
  runId: string;
  genesisBytes: Uint8Array;
  software: string;
  /** time that the other side has to say hello @default NET_LIMITS.helloMs */
  helloMs?: number;
  /** milliseconds of a clock that does not go back @default performance.now */
  now?: () => number;
}

/**
 * The first exchange on every connection. Who passes becomes a member; who is of another run or version, or says
 * nothing within `helloMs`, is told why and cut off. It also carries the addresses by which a newcomer finds all the
 * others.
 */
export class Hello {
  readonly #components: HelloComponents;
  readonly #init: HelloInit;
  readonly #greetings = new WeakMap<Connection, Promise<PeerId>>();
  /** when each was opened: libp2p says so by a clock that may be set back */
  readonly #openedMs = new WeakMap<Connection, number>();
  /** for those that were there before */
  #startedMs = 0;
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(components: HelloComponents, init: HelloInit) {
    this.#components = components;
    this.#init = init;
  }

  async start(): Promise<void> {
    const { host, members } = this.#components;
    this.#startedMs = this.#now();
    host.node.addEventListener('connection:open', ({ detail }) => this.#onOpen(detail));
    host.node.addEventListener('connection:close', ({ detail }) => this.#onClose(detail));
    host.node.addEventListener('peer:disconnect', ({ detail }) => members.remove(detail.toString()));
    const options = { maxInboundStreams: NET_LIMITS.streamsPerPeerMax };
    await host.node.handle(HELLO_PROTOCOL, (stream, connection) => this.#answer(stream, connection), options);
  }

  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  /**
   * Says hello on a connection that we dialed; a second call gives the outcome of the first.
   * @throws CodedError `E_OTHER_RUN`, `E_OTHER_VERSION`, `E_NO_HELLO`, `E_REFUSED`; the connection is closed then
   */
  greet(connection: Connection): Promise<PeerId> {
    const known = this.#greetings.get(connection);
    if (known) return known;
    const greeting = this.#greet(connection);
    this.#greetings.set(connection, greeting);
    return greeting;
  }

  #onOpen(connection: Connection): void {
    this.#openedMs.set(connection, this.#now());
    if (connection.direction === 'outbound') {
      this.greet(connection).catch(() => undefined); // reported to onRefused
      return;
    }
    const open = this.#components.host.node.getConnections(connection.remotePeer);
    if (open.filter(({ id }) => id !== connection.id).length >= NET_LIMITS.connectionsPerPeerMax) {
      connection.abort(networkError('E_BUSY', `${connection.remotePeer} has ${open.length} connections already`));
      return;
    }
    if (this.#isCrowd(connection)) {
      connection.abort(networkError('E_BUSY', 'peers that are in no roster have too many connections'));
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      const peer = connection.remotePeer.toString();
      if (this.#components.members.has(peer) || connection.status !== 'open') return;
      this.#cutOff(connection, networkError('E_NO_HELLO', `${peer} said no hello in time`));
    }, this.#init.helloMs ?? NET_LIMITS.helloMs);
    this.#timers.add(timer);
  }

  /** With several connections each, few strangers would have all there are. */
  #isCrowd({ remotePeer }: Connection): boolean {
    const { host, members } = this.#components;
    const isStranger = (peer: { toString(): string }): boolean => !members.isInRoster(peer.toString());
    if (!isStranger(remotePeer)) return false;
    const strange = host.node.getConnections().filter((each) => isStranger(each.remotePeer));
    return strange.length > NET_LIMITS.strangerConnectionsMax;
  }

  /**
   * Streams live on the connection a peer was admitted on. Where that one closes and a second remains (both had
   * dialed), gossip would never hear of it and be silent in one direction; so the second is closed too, and the peer
   * redialed.
   */
  #onClose(connection: Connection): void {
    const { host, members } = this.#components;
    if (members.get(connection.remotePeer.toString())?.connection !== connection.id) return;
    if (host.node.getConnections(connection.remotePeer).length === 0) return;
    host.node.hangUp(connection.remotePeer).catch(() => undefined);
  }

  async #greet(connection: Connection): Promise<PeerId> {
    const peer = connection.remotePeer.toString();
    try {
      const answer = await exchange(connection, this.#greeting(connection), this.#init.version);
      if (answer.kind === 'refusal') throw refusedBy(peer, answer);
      if (answer.kind === 'genesis') throw networkError('E_NO_HELLO', `${peer} answered what was not asked`);
      if (answer.runId !== this.#init.runId) throw otherRun(this.#init.runId, answer.runId ?? 'none');
      this.#admit(connection, answer);
      return peer;
    } catch (error) {
      const coded = error instanceof CodedError ? error : networkError('E_NO_HELLO', `${peer} gave no hello`, error);
      this.#cutOff(connection, coded);
      throw coded;
    }
  }

  async #answer(stream: Stream, connection: Connection): Promise<void> {
    const frames = new Frames(stream, { frameBytesMax: NET_LIMITS.helloBytesMax });
    const peer = connection.remotePeer.toString();
    if (this.#components.members.get(peer)?.connection === connection.id) {
      // nothing is answered twice: what a hello costs would be for the asking
      frames.abort(networkError('E_MALFORMED', 'hello was said on this connection'));
      return;
    }
    try {
      const ms = this.#init.helloMs ?? NET_LIMITS.helloMs;
      const bytes = await within(frames.read(), { ms, what: 'hello' });
      if (!bytes) throw networkError('E_NO_HELLO', `${peer} closed the stream without a hello`);
      const greeting = decodeGreeting(bytes, this.#init.version);
      const { version, runId, genesisBytes } = this.#init;
      if (greeting.runId === null) {
        await frames.write(encodeGreeting({ kind: 'genesis', version, genesis: genesisBytes }));
      } else if (greeting.runId !== runId) {
        throw otherRun(runId, greeting.runId);
      } else {
        const welcome = encodeGreeting({ kind: 'welcome', ...this.#greeting(connection) });
        this.#replaceOld(connection);
        this.#refuseCrowd(peer);
        // before the first wait: of two newcomers at the same time, the second must hear of the first
        this.#admit(connection, greeting);
        await frames.write(welcome);
      }
      frames.close();
    } catch (error) {
      const coded = error instanceof CodedError ? error : networkError('E_NO_HELLO', `${peer} gave no hello`, error);
      await this.#refuse(frames, coded);
      this.#cutOff(connection, coded);
    }
  }

  /** @throws CodedError `E_BUSY` */
  #refuseCrowd(peer: PeerId): void {
    const { members } = this.#components;
    if (members.isInRoster(peer) || members.has(peer)) return;
    const strangers = members.strangers();
    if (strangers < NET_LIMITS.strangersMax) return;
    throw networkError('E_BUSY', `${strangers} peers that are in no roster are connected: try again, or another`);
  }

  /** Says why, and waits until the other side has read it and ended the stream, but not for long. */
  async #refuse(frames: Frames, { code, message }: { code: string; message: string }): Promise<void> {
    const text = printable(message, NET_LIMITS.textMax);
    try {
      await frames.write(encodeGreeting({ kind: 'refusal', version: this.#init.version, code, text }));
      frames.close();
      await within(frames.read(), { ms: 1_000, what: 'end of the stream' });
    } catch {
      // it will not listen
    }
  }

  /**
   * Who says hello again on a newer connection has lost the one before, though nothing may have told us: its machine, or
   * its address, was gone without a word. Where both sides dialed at once the two are about as old, and the first stays.
   */
  #replaceOld(connection: Connection): void {
    const { host, members } = this.#components;
    const peer = connection.remotePeer.toString();
    const admitted = members.get(peer)?.connection;
    const before = host.node.getConnections(connection.remotePeer).find(({ id }) => id === admitted);
    if (!before || before.id === connection.id) return;
    if (this.#openedAtMs(connection) - this.#openedAtMs(before) < 2 * NET_LIMITS.helloMs) return;
    members.remove(peer);
    before.abort(networkError('E_NOT_CONNECTED', `${peer} has come again on another connection`));
  }

  #now(): number {
    return this.#init.now?.() ?? performance.now();
  }

  #openedAtMs(connection: Connection): number {
    return this.#openedMs.get(connection) ?? this.#startedMs;
  }

  #admit(connection: Connection, greeting: Greeting): void {
    if (connection.status !== 'open') throw networkError('E_NOT_CONNECTED', 'the connection closed during hello');
    const peer = connection.remotePeer.toString();
    const own = usableAddresses(greeting.addresses, NET_LIMITS.ownAddressesMax).filter((a) => a.peer === peer);
    const dialed = connection.direction === 'outbound' ? [connection.remoteAddr.toString()] : [];
    const addresses = [...new Set([...dialed, ...own.map((a) => a.text)])].slice(0, NET_LIMITS.addressesPerPeerMax);
    this.#components.members.admit(peer, { addresses, software: greeting.software, connection: connection.id });
    const others = usableAddresses(greeting.peers, NET_LIMITS.exchangePeersMax * NET_LIMITS.addressesPerPeerMax);
    this.#components.onAddresses(others.filter((a) => a.peer !== undefined).map((a) => a.text));
  }

  /** What the other end of this connection is told; addresses of this machine only if it is on this machine. */
  #greeting(connection: Connection): Greeting {
    const { host, members } = this.#components;
    const near = isLoopbackConnection(connection);
    const usable = (addresses: readonly string[]): string[] =>
      usableAddresses(addresses, addresses.length)
        .filter((address) => near || !address.loopback)
        .map((address) => address.text);
    const others = shuffled(members.list().filter((peer) => peer !== connection.remotePeer.toString()));
    return {
      version: this.#init.version,
      runId: this.#init.runId,
      software: this.#init.software.slice(0, NET_LIMITS.softwareMax),
      addresses: usable(host.addresses()).slice(0, NET_LIMITS.ownAddressesMax),
      peers: others.slice(0, NET_LIMITS.exchangePeersMax).flatMap((peer) => usable(members.get(peer)?.addresses ?? [])),
    };
  }

  #cutOff(connection: Connection, error: Error): void {
    connection.close().catch(() => connection.abort(error));
    this.#components.onRefused(connection.remotePeer.toString(), error);
  }
}

/** The dialer's half: one greeting, one answer. Also used by who has no run yet. */
export async function exchange(connection: Connection, greeting: Greeting, version: number): Promise<Answer> {
  const peer = connection.remotePeer.toString();
  const signal = AbortSignal.timeout(NET_LIMITS.helloMs);
  const stream = await connection.newStream(HELLO_PROTOCOL, { signal }).catch((cause: unknown) => {
    throw networkError(
      'E_NO_HELLO',
      `${peer} does not speak ${HELLO_PROTOCOL}: is it outerloop that listens there?`,
      cause,
    );
  });
  const frames = new Frames(stream, { frameBytesMax: NET_LIMITS.helloBytesMax });
  try {
    await frames.write(encodeGreeting(greeting));
    const bytes = await within(frames.read(), { ms: NET_LIMITS.helloMs, what: `hello from ${peer}` });
    if (!bytes) throw networkError('E_NO_HELLO', `${peer} closed the stream without a hello`);
    return decodeAnswer(bytes, version);
  } finally {
    frames.close();
  }
}

export function refusedBy(peer: PeerId, { code, text }: { code: string; text: string }): Error {
  const known = code === 'E_OTHER_RUN' || code === 'E_OTHER_VERSION' ? code : 'E_REFUSED';
  return networkError(known, `${peer} refused: ${text}`);
}

/** A different few each time, so that a newcomer to a large swarm hears of all of it. */
function shuffled<T>(items: T[]): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [items[i], items[j]] = [items[j] as T, items[i] as T];
  }
  return items;
}

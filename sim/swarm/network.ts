import { createHash } from 'node:crypto';
import { isCoded } from '../../protocol/errors.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { Signer } from '../../protocol/identity.ts';
import { decodeMessage, encodeMessage, type Message } from '../../protocol/messages.ts';
import { type RandomStream, randomStream } from '../../protocol/random.ts';
import { BlobFetches, type FetchRequest } from '../blob-fetch.ts';
import type { Batch } from '../inbox.ts';
import type { Kernel } from '../kernel.ts';
import type { Ledger } from '../ledger.ts';
import type { Links } from '../links.ts';
import type { Endpoint, PeerNetwork, Reply } from '../network.ts';
import { Seen } from '../seen.ts';
import { Transfers } from '../transfers.ts';
import type { Liar } from './liar.ts';

export interface HostileComponents {
  kernel: Kernel;
  links: Links;
  ledger: Ledger;
  signer: Signer;
  liars: ReadonlyMap<number, Liar>;
  /** a correct peer's message has left it */
  onSent: (peer: number, message: Message) => void;
  /** a message that was decoded for the first time, before anybody has it */
  onNew: (message: Message) => void;
  /** a correct peer has answered a question for its history */
  onAnswer: (peer: number, answer: Uint8Array) => void;
}

/** How messages fare now: chances, and the longest that one is held up. */
export interface Weather {
  loss: number;
  duplicates: number;
  delayMs: number;
}

export const FAIR: Weather = { loss: 0, duplicates: 0, delayMs: 0 };

/** A peer that answers no question for its history is given up after so long, as in `node/net/limits.ts`. */
const ANSWER_MS = 30_000;
/** About as long as a real peer waits for a part before it asks others too; here it only waits. */
const CHUNK_PATIENCE_MS = 3000;
/** Of a message's latency, drawn for each: what comes later may arrive earlier. */
const JITTER = 0.5;
const REDIAL_MS_MAX = 2000;

/**
 * Links that lose, double, delay and reorder messages, are cut in one direction or both, and carry what liars make of
 * theirs. What passes through goes as bytes, through the real decoder. Blobs travel as in `SimulatedNetwork`.
 */
export class HostileNetwork implements PeerNetwork {
  weather: Weather = FAIR;
  /** messages that the decoder refused */
  refused = 0;
  readonly #c: HostileComponents;
  readonly #run: Hash;
  readonly #random: RandomStream;
  readonly #endpoints: (Endpoint | undefined)[];
  readonly #lives: number[];
  readonly #connected: Set<number>[];
  /** how many faults block the way from one peer (row) to another */
  readonly #blocked: number[][];
  readonly #blobs: BlobFetches;
  /** by asker: what ends its questions to each other peer without an answer, once the connection is gone */
  readonly #questions: Map<number, Set<() => void>>[];
  readonly #decoded = new WeakMap<Message, Message>();
  /** by author and bytes: others do not hand them on again */
  readonly #seen = new Seen();
  #messages = 0;
  readonly #readMs: number;
  /** by receiver: what has come and is not read yet */
  readonly #unread: (Batch | undefined)[];

  /** @param init.readMs a peer reads so long after something has come, and all at once; 0 for each message by itself */
  constructor(components: HostileComponents, init: { peers: number; seed: number; run: Hash; readMs: number }) {
    const { kernel, links, ledger } = components;
    const { peers, seed, run } = init;
    this.#c = components;
    this.#run = run;
    this.#readMs = init.readMs;
    this.#unread = Array.from({ length: peers });
    this.#random = randomStream(seed, 'hostile network');
    this.#endpoints = Array.from({ length: peers });
    this.#lives = Array.from({ length: peers }, () => 0);
    this.#connected = Array.from({ length: peers }, () => new Set());
    this.#questions = Array.from({ length: peers }, () => new Map());
    this.#blocked = Array.from({ length: peers }, () => Array.from({ length: peers }, () => 0));
    const hasPart = (peer: number, blob: Hash, part: number): boolean => {
      if (components.liars.get(peer)?.withholds) return false;
      return this.#endpoints[peer]?.hasPart(blob, part) ?? false;
    };
    const neighbours = (peer: number) => this.#neighbours(peer);
    const transfers = new Transfers(kernel, links);
    const dawdleMs = (peer: number) => components.liars.get(peer)?.dawdleMs(CHUNK_PATIENCE_MS) ?? 0;
    this.#blobs = new BlobFetches({ kernel, links, ledger, transfers, neighbours, hasPart, dawdleMs });
  }

  attach(peer: number, endpoint: Endpoint): void {
    this.#endpoints[peer] = endpoint;
    this.#lives[peer]!++;
    for (const other of this.#endpoints.keys()) this.#dial(peer, other, 0);
  }

  detach(peer: number): void {
    this.#endpoints[peer] = undefined;
    this.#unread[peer] = undefined;
    this.#lives[peer]!++;
    for (const other of [...this.#connected[peer]!]) {
      this.#disconnect(peer, other);
      this.#tell(other, peer, false, this.#c.links.oneWayMs(peer, other));
    }
  }

  /** Messages no longer pass this way, until `unblock`; several faults may block the same way. */
  block(from: number, to: number): void {
    this.#blocked[from]![to]!++;
  }

  unblock(from: number, to: number): void {
    this.#blocked[from]![to]!--;
    if (this.#isOpen(from, to) && this.#isOpen(to, from)) {
      this.#dial(from, to, this.#random.unit() * REDIAL_MS_MAX);
    }
  }

  /** A connection on which nothing passes either way is given up. */
  noticeCut(a: number, b: number): void {
    if (!this.#connected[a]!.has(b) || this.#isOpen(a, b) || this.#isOpen(b, a)) return;
    this.#disconnect(a, b);
    this.#tell(a, b, false, 0);
    this.#tell(b, a, false, 0);
  }

  broadcast(from: number, message: Message): void {
    this.#hear(from, message);
    let isNew: boolean | undefined;
    for (const to of this.#endpoints.keys()) {
      if (to === from || !this.#endpoints[to]) continue;
      const by = this.#wayTo(from, to);
      if (by === undefined) continue;
      // neighbours are told again what others hand on once
      if (by !== from) isNew ??= this.#isNew(from, message);
      if (by === from || isNew) this.#say(from, to, by, message);
    }
  }

  /** Gossip takes the same bytes of an author once in two minutes. */
  #isNew(from: number, message: Message): boolean {
    const { nowMs } = this.#c.kernel;
    const name = `${from}/${createHash('sha256').update(encodeMessage(message)).digest('base64')}`;
    const isNew = !this.#seen.has(name, nowMs);
    if (isNew) this.#seen.add(name, nowMs);
    return isNew;
  }

  send(from: number, to: number, message: Message): void {
    this.#hear(from, message);
    if (this.#connected[from]!.has(to) && this.#isOpen(from, to)) this.#say(from, to, from, message);
  }

  /** What a liar says on its own account. @param onHeard each time that it comes to the other's decoder */
  whisper(from: number, to: number, bytes: Uint8Array, onHeard?: () => void): void {
    if (this.#connected[from]!.has(to) && this.#isOpen(from, to)) this.#carry(from, to, from, bytes, onHeard);
  }

  request(from: number, to: number, answer: (reply: Reply) => void, onDone: (bytes?: Uint8Array) => void): void {
    const { kernel, links, liars } = this.#c;
    if (!this.#connected[from]!.has(to)) return void kernel.after(0, () => onDone());
    const questions = this.#questions[from]!.get(to) ?? new Set();
    this.#questions[from]!.set(to, questions);
    const end = () => done();
    const done = (bytes?: Uint8Array): void => {
      if (questions.delete(end)) onDone(bytes);
    };
    questions.add(end);
    // nothing of it is lost in a storm, but comes late
    const wayMs = (a: number, b: number): number => {
      const lateMs = this.weather.delayMs > 0 ? this.#random.unit() * this.weather.delayMs : 0;
      return links.oneWayMs(a, b) * (1 + this.#random.unit()) + lateMs;
    };
    const answerMs = wayMs(to, from);
    const askedMs = kernel.nowMs;
    kernel.after(wayMs(from, to), () => {
      const reply: Reply = (honest) => {
        if (honest === 'not ready') return void kernel.after(answerMs, () => done());
        const liar = liars.get(to);
        if (honest && !liar) this.#c.onAnswer(to, honest);
        const bytes = honest && liar ? liar.answer(honest) : honest;
        const inTimeMs = Math.max(0, ANSWER_MS - (kernel.nowMs - askedMs));
        const afterMs = answerMs + (liar?.dawdleMs(ANSWER_MS + 1000) ?? 0);
        if (bytes && afterMs < inTimeMs) kernel.after(afterMs, () => done(bytes));
        else kernel.after(inTimeMs, () => done());
      };
      if (this.#endpoints[to] && this.#isOpen(from, to) && this.#isOpen(to, from)) answer(reply);
      else reply(undefined);
    });
  }

  fetch(request: FetchRequest): () => void {
    const { delayMs } = this.weather;
    if (delayMs === 0) return this.#blobs.fetch(request);
    let end: (() => void) | undefined;
    let isGivenUp = false;
    this.#c.kernel.after(this.#random.unit() * delayMs, () => {
      if (isGivenUp) request.onDone(false);
      else end = this.#blobs.fetch(request);
    });
    return () => {
      isGivenUp = true;
      end?.();
    };
  }

  #hear(from: number, message: Message): void {
    if (!this.#c.liars.has(from)) this.#c.onSent(from, message);
  }

  #isOpen(from: number, to: number): boolean {
    return this.#blocked[from]![to] === 0;
  }

  #neighbours(peer: number): ReadonlySet<number> {
    const open = [...this.#connected[peer]!].filter((other) => this.#isOpen(peer, other) && this.#isOpen(other, peer));
    return new Set(open);
  }

  /** Who hands a gossiped message to a peer: its author, or another that both reach. */
  #wayTo(from: number, to: number): number | undefined {
    const passes = (a: number, b: number) => this.#connected[a]!.has(b) && this.#isOpen(a, b);
    if (passes(from, to)) return from;
    for (const by of this.#connected[from]!) {
      if (!this.#c.liars.get(by)?.withholds && passes(from, by) && passes(by, to)) return by;
    }
    return undefined;
  }

  #say(from: number, to: number, by: number, message: Message): void {
    const liar = this.#c.liars.get(from);
    if (liar) for (const bytes of liar.say(to, message)) this.#carry(from, to, by, bytes);
    else this.#carry(from, to, by, message);
  }

  /** Through today's weather: lost, held up, doubled. */
  #carry(from: number, to: number, by: number, what: Message | Uint8Array, onHeard?: () => void): void {
    const { loss, duplicates, delayMs } = this.weather;
    for (let copies = 1; copies > 0; copies--) {
      if (this.#random.unit() < duplicates) copies++;
      // gossip asks again for what did not come, and is said once
      const isFar = by !== from;
      if (this.#random.unit() < loss && !isFar) continue;
      const relayMs = isFar ? this.#c.links.oneWayMs(from, by) + (this.#endpoints[by]?.pauseLeftMs ?? 0) : 0;
      const jitter = 1 + JITTER * this.#random.unit();
      const latencyMs = (relayMs + this.#c.links.oneWayMs(by, to)) * jitter + this.#random.unit() * delayMs;
      const life = this.#lives[to];
      this.#c.kernel.after(latencyMs, () => {
        if (this.#lives[to] !== life) return;
        onHeard?.();
        this.#deliver(by, to, what);
      });
    }
  }

  #deliver(by: number, to: number, what: Message | Uint8Array): void {
    const message = what instanceof Uint8Array ? this.#decode(what) : this.#decodeOnce(what);
    if (!message) return;
    this.#c.liars.get(to)?.hear(message);
    const number = this.#messages++;
    const unread = this.#unread[to];
    if (unread) {
      unread.messages.push(message);
      unread.from.push(by);
      unread.numbers.push(number);
      return;
    }
    const batch: Batch = { messages: [message], from: [by], numbers: [number] };
    if (this.#readMs === 0) return this.#endpoints[to]?.onMessages(batch);
    this.#unread[to] = batch;
    this.#c.kernel.after(this.#readMs, () => {
      if (this.#unread[to] !== batch) return;
      this.#unread[to] = undefined;
      this.#endpoints[to]?.onMessages(batch);
    });
  }

  #decodeOnce(message: Message): Message {
    let decoded = this.#decoded.get(message);
    if (!decoded) {
      decoded = decodeMessage(encodeMessage(message), this.#run, this.#c.signer);
      this.#decoded.set(message, decoded);
      this.#c.onNew(decoded);
    }
    return decoded;
  }

  #decode(bytes: Uint8Array): Message | undefined {
    try {
      const message = decodeMessage(bytes, this.#run, this.#c.signer);
      this.#c.onNew(message);
      return message;
    } catch (error) {
      if (!isCoded(error)) throw error;
      this.refused++;
      return undefined;
    }
  }

  #dial(peer: number, other: number, delayMs: number): void {
    if (other === peer || !this.#endpoints[peer] || !this.#endpoints[other]) return;
    const { kernel, links } = this.#c;
    const [life, otherLife] = [this.#lives[peer], this.#lives[other]];
    kernel.after(delayMs + 3 * links.roundTripMs(peer, other), () => {
      if (this.#lives[peer] !== life || this.#lives[other] !== otherLife) return;
      if (this.#connected[peer]!.has(other) || !this.#isOpen(peer, other) || !this.#isOpen(other, peer)) return;
      this.#connected[peer]!.add(other);
      this.#connected[other]!.add(peer);
      this.#endpoints[peer]?.onConnection(other, true);
      this.#endpoints[other]?.onConnection(peer, true);
    });
  }

  #disconnect(a: number, b: number): void {
    this.#connected[a]!.delete(b);
    this.#connected[b]!.delete(a);
    this.#blobs.onDisconnect(a, b);
    for (const [asker, asked] of [[a, b] as const, [b, a] as const]) {
      const questions = this.#questions[asker]!.get(asked) ?? [];
      for (const end of questions) this.#c.kernel.after(this.#c.links.oneWayMs(asked, asker), end);
    }
  }

  #tell(peer: number, about: number, up: boolean, delayMs: number): void {
    const life = this.#lives[peer];
    this.#c.kernel.after(delayMs, () => {
      if (this.#lives[peer] !== life || this.#connected[peer]!.has(about) !== up) return;
      this.#endpoints[peer]?.onConnection(about, up);
    });
  }
}

import type { Effect, Event } from '../../protocol/events.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { PeerId } from '../../protocol/identity.ts';
import type { Message } from '../../protocol/messages.ts';
import type { Replica } from '../../protocol/replica.ts';
import type { BlobLibrary } from '../blob-library.ts';
import type { SeatObserver } from '../seat.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import { type Checker, Violation } from './checker.ts';
import type { Chronicle } from './chronicle.ts';

interface Books {
  /** all pseudo-gradients so far, and the tokens trained on for them */
  trained: Float64Array;
  trainedTokens: number;
  residual: Float32Array;
  pending: Float32Array | undefined;
  /** of pending and residual */
  ownTokens: number;
}

/** Own updates in the blocks up to one. */
interface Included {
  values: Float64Array;
  tokens: number;
}

/**
 * No work is lost, and none counts twice. With a codec that lets nothing decay, for every peer at every state it comes
 * to, up to rounding:
 *
 *   own pseudo-gradients so far = own updates in the blocks that led to the state + pending + residual
 *
 * (in a state behind what the peer has applied for good, on its way back there: in the blocks up to that). A crash sets "so
 * far" back to what the disk has. And whatever codec: no token that was trained on is missing in the same sum of tokens
 * (an update that was given back and counts after all may be counted again), and a training that was begun ends as an
 * update or in the residual, unless the peer is killed. Payloads that the books may be put right with are still there.
 */
export class WorkChecker implements Checker, SeatObserver {
  readonly #chronicle: Chronicle;
  readonly #exact: boolean;
  readonly #correct: (peer: number) => boolean;
  readonly #tellForgotten: (peer: number, forgot: boolean) => void;
  readonly #length: number;
  readonly #trained: Float64Array[];
  readonly #trainedTokens: number[];
  readonly #open: boolean[];
  /** payloads of own updates that others may know of */
  readonly #announced: Set<Hash>[];
  readonly #library: BlobLibrary;
  #lost: Violation | undefined;
  readonly #books: Map<number, Books>[];
  readonly #last: (Books | undefined)[];
  /** decoded updates by payload */
  readonly #updates = new Map<string, Float32Array>();
  /** the block whose state the peer goes to, and in which round the history begins that it is told for it */
  readonly #target = new Map<number, { block: Hash; begins: number }>();
  /** the block whose state the peer is at */
  readonly #at = new Map<number, Hash>();
  /** the last block that this peer applied for good: what is in it is in the state that it will come back to */
  readonly #settled = new Map<number, Hash>();
  /** rounds that this process has seen end for good: nothing of them is open on its books */
  readonly #ended = new Map<number, number>();
  readonly #ids = new Map<number, PeerId>();
  readonly #sums = new Map<string, Included>();

  /**
   * @param components.onForgotten a peer's own work is given up, or a process begins that has not heard of that
   * @param init.exact the codec lets nothing decay, so that the sums must come out even
   */
  constructor(
    components: {
      chronicle: Chronicle;
      library: BlobLibrary;
      correct: (peer: number) => boolean;
      onForgotten: (peer: number, forgot: boolean) => void;
    },
    init: { peers: number; parameters: number; exact: boolean },
  ) {
    this.#chronicle = components.chronicle;
    this.#library = components.library;
    this.#correct = components.correct;
    this.#tellForgotten = components.onForgotten;
    this.#exact = init.exact;
    this.#length = init.parameters;
    const each = <T>(make: () => T): T[] => Array.from({ length: init.peers }, make);
    this.#trained = each(() => new Float64Array(init.parameters));
    this.#trainedTokens = each(() => 0);
    this.#open = each(() => false);
    this.#announced = each(() => new Set());
    this.#books = each(() => new Map());
    this.#last = each(() => undefined);
  }

  // --- what the replicas' seats tell ----------------------------------------------------------------------------------

  onTrain(peer: number): void {
    // said at the next step: what is thrown here would only end this replica's work
    if (this.#open[peer] && this.#correct(peer)) {
      this.#lost ??= new Violation('work', `peer ${peer} trains again, and what it trained before is nowhere`);
    }
    this.#open[peer] = true;
  }

  onTrained(peer: number): void {
    this.#open[peer] = false;
  }

  onWork(peer: number, from: Float32Array, local: Float32Array, tokens: number): void {
    const trained = this.#trained[peer]!;
    this.#trainedTokens[peer]! += tokens;
    for (let i = 0; i < trained.length; i++) trained[i]! += from[i]! - local[i]!;
  }

  onSave(peer: number, version: number, { ownWork }: Replica, payload: Hash | undefined): void {
    const books = {
      trained: this.#trained[peer]!.slice(),
      trainedTokens: this.#trainedTokens[peer]!,
      residual: ownWork.residual.values.slice(),
      pending: ownWork.pending?.values.slice(),
      ownTokens: ownWork.residual.tokens + (ownWork.pending?.tokens ?? 0),
    };
    this.#books[peer]!.set(version, books);
    this.#last[peer] = books;
    if (payload !== undefined && books.pending) this.#updates.set(payload, books.pending);
    this.#books[peer]!.delete(version - VERSIONS_KEPT);
  }

  onRestart(peer: number, version: number): void {
    this.#tellForgotten(peer, false);
    const books = this.#books[peer]!.get(version);
    this.#trained[peer] = books?.trained.slice() ?? new Float64Array(this.#length);
    this.#trainedTokens[peer] = books?.trainedTokens ?? 0;
    this.#last[peer] = books;
    this.#open[peer] = false;
  }

  /** The books are closed, and said to be: what is in the history counts, and there is nothing else. */
  onForgotten(peer: number): void {
    this.#tellForgotten(peer, true);
    const [target, id] = [this.#target.get(peer), this.#ids.get(peer)];
    if (target === undefined || !id) return;
    const { block, begins } = target;
    const ended = this.#ended.get(peer) ?? -1;
    if (begins <= ended && this.#correct(peer)) {
      const told = `peer ${peer} gives up own work, and is told a history from round ${begins} on`;
      this.#lost ??= new Violation('work', `${told}, while it knows of all up to ${ended}`);
    }
    const { values, tokens } = this.#included(this.#standing(peer, block), id);
    this.#trained[peer] = values.slice();
    this.#trainedTokens[peer] = tokens;
  }

  // --- what the machines tell -----------------------------------------------------------------------------------------

  onStep(peer: VirtualPeer, event: Event, effects: readonly Effect[]): void {
    if (this.#lost) throw this.#lost;
    const { index } = peer;
    this.#ids.set(index, peer.id);
    if (event.type === 'start') {
      this.#at.delete(index);
      this.#target.delete(index);
      this.#settled.delete(index);
      this.#ended.delete(index);
      const newest = event.restart?.states.at(-1);
      if (newest) this.#came(index, newest.block);
      this.#checkDisk(peer);
    }
    if (event.type === 'applied') {
      this.#came(index, event.block);
      const applied = this.#chronicle.get(event.block);
      if (applied?.entry.block.members === null) this.#ended.set(index, applied.after.round);
    }
    if (event.type === 'restored' && event.error === null) {
      const target = this.#target.get(index);
      if (target !== undefined) this.#came(index, target.block);
    }
    if (event.type === 'applied' || (event.type === 'restored' && !event.error)) this.#balance(peer, event.type);
    for (const effect of effects) {
      if (effect.type === 'initialize') this.#target.set(index, { block: this.#chronicle.run, begins: 0 });
      if (effect.type === 'restore') this.#target.set(index, { block: effect.block, begins: effect.own.begins });
    }
  }

  onSent({ index, id }: VirtualPeer, message: Message): void {
    if (message.type === 'header' && message.update.author === id) this.#announced[index]!.add(message.update.payload);
  }

  /** An update that others know of may come to count, and then the books are put right with its payload. */
  #checkDisk({ index, openPayloads }: VirtualPeer): void {
    const isLost = (payload: Hash) => this.#announced[index]!.has(payload) && !this.#library.has(index, payload);
    const lost = openPayloads.find(isLost);
    if (lost)
      throw new Violation('work', `peer ${index} has dropped ${lost}, an update of its own that may come to count`);
  }

  #came(index: number, at: Hash): void {
    this.#at.set(index, at);
    for (const { hash, entry } of this.#chronicle.back(at)) {
      if (entry.block.members !== null) continue;
      if (this.#heightOf(hash) > this.#heightOf(this.#settled.get(index))) this.#settled.set(index, hash);
      return;
    }
  }

  #heightOf(hash: Hash | undefined): number {
    return hash === undefined ? 0 : (this.#chronicle.get(hash)?.after.height ?? 0);
  }

  #balance(peer: VirtualPeer, when: string): void {
    const [at, books] = [this.#at.get(peer.index), this.#last[peer.index]];
    if (at === undefined || !books) return;
    const included = this.#included(this.#standing(peer.index, at), peer.id);
    const which = `the books of peer ${peer.index} at round ${this.#chronicle.get(at)?.after.round ?? 0}`;
    const missing = books.trainedTokens - included.tokens - books.ownTokens;
    // also where one is no number
    if (!(missing <= 0)) throw new Violation('work', `${which} lack ${missing} tokens that it trained on (${when})`);
    const worst = this.#exact ? errorOf(books, included.values) : 0;
    if (!(worst <= TOLERANCE)) throw new Violation('work', `${which} are off by ${worst} (${when})`);
  }

  /** The block up to which own updates count: what was applied for good counts on the way back there, too. */
  #standing(index: number, at: Hash): Hash {
    const settled = this.#settled.get(index);
    return settled !== undefined && this.#heightOf(at) < this.#heightOf(settled) ? settled : at;
  }

  #included(at: Hash, peer: PeerId): Included {
    const path: Hash[] = [];
    let sum: Included | undefined;
    for (const { hash } of this.#chronicle.back(at)) {
      sum = this.#sums.get(`${hash}/${peer}`);
      if (sum) break;
      path.push(hash);
    }
    sum ??= { values: new Float64Array(this.#length), tokens: 0 };
    for (const hash of path.reverse()) {
      for (const { author, payload, tokens } of this.#chronicle.get(hash)!.entry.block.updates) {
        const update = author === peer ? this.#updates.get(payload) : undefined;
        if (!update) continue;
        sum = { values: sum.values.map((value, i) => value + update[i]!), tokens: sum.tokens + tokens };
      }
      this.#sums.set(`${hash}/${peer}`, sum);
    }
    return sum;
  }
}

/** The largest of all parameters. */
function errorOf({ trained, pending, residual }: Books, included: Float64Array): number {
  let worst = 0;
  for (let i = 0; i < included.length; i++) {
    const owned = included[i]! + (pending?.[i] ?? 0) + residual[i]!;
    worst = Math.max(worst, Math.abs(trained[i]! - owned));
  }
  return worst;
}

/** Updates are of the order of 0.01 to 1, float32 sums over some hundred rounds are off by less than this. */
const TOLERANCE = 1e-4;
/** More than a disk holds. */
const VERSIONS_KEPT = 8;

import type { Effect, Event } from '../../protocol/events.ts';
import type { Hash } from '../../protocol/hash.ts';
import { NO_HISTORY, type OwnHistory } from '../../protocol/own-updates.ts';
import { type Receipt, Receipts } from '../../protocol/receipts.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import { type Checker, Violation } from './checker.ts';
import type { Chronicle } from './chronicle.ts';

/** What a peer is told of its contributions. */
interface Told {
  receipts: Receipts;
  /** made and not answered yet: their rounds, by payload */
  unanswered: Map<Hash, number>;
  /** late or returned, and not closed: the updates made since, any of which may carry its work */
  carriers: Map<Hash, Hash[]>;
  /** accepted or given up: nothing more is to be said of them */
  closed: Set<Hash>;
  /** of the training under way */
  round: number;
  restoring: OwnHistory | undefined;
  forgot: boolean;
}

/**
 * Every update is answered: when a round has ended for good, every update that was made for it or an earlier one has
 * had a receipt; what was accepted is in that round for good, or its work in an update there; and nothing is accepted or
 * given up twice. All that however often the peer is killed: what receipts know is on its disk.
 */
export class ReceiptsChecker implements Checker {
  readonly #chronicle: Chronicle;
  readonly #told = new Map<number, Told>();
  /** what came in while an event was looked at */
  #news: Receipt[] = [];

  constructor(chronicle: Chronicle) {
    this.#chronicle = chronicle;
  }

  /** A peer is about to be told that what it owns is not known any more; or was, and has ended before. */
  onForgotten(peer: number, forgot: boolean): void {
    const told = this.#told.get(peer);
    if (told) told.forgot = forgot;
  }

  onStep(peer: VirtualPeer, event: Event, effects: readonly Effect[]): void {
    if (event.type === 'start') this.#told.set(peer.index, this.#begun(this.#told.get(peer.index)));
    const told = this.#told.get(peer.index)!;
    const { ownHistory, standing } = peer.machine!;
    if (event.type === 'start' && ownHistory) told.receipts.resumed(ownHistory, standing.round);
    if (event.type === 'trained') {
      const { payload } = event.update;
      told.unanswered.set(payload, told.round);
      told.receipts.made(told.round, payload);
      this.#hear(peer, told);
      for (const carriers of told.carriers.values()) carriers.push(payload);
    }
    if (event.type === 'trained-on') told.receipts.trainedOn(standing.round + 1);
    if (event.type === 'restored' && event.error === null && told.restoring) {
      told.receipts.restored(told.restoring, told.forgot);
      told.restoring = undefined;
      told.forgot = false;
    }
    this.#hear(peer, told);
    for (const effect of effects) {
      if (effect.type === 'train') {
        told.round = effect.round + 1;
        told.receipts.begun(told.round);
      }
      if (effect.type === 'restore') told.restoring = effect.own;
      if (effect.type === 'initialize') told.restoring = NO_HISTORY;
      if (effect.type !== 'report' || effect.report.kind !== 'round') continue;
      told.receipts.ended(effect.report);
      this.#hear(peer, told);
      if (effect.report.final) this.#allAnswered(peer, told, effect.report.round);
    }
  }

  #begun(before: Told | undefined): Told {
    const receipts = new Receipts((receipt) => this.#news.push(receipt), before?.receipts.saved);
    const { unanswered, carriers, closed } = before ?? {
      unanswered: new Map(),
      carriers: new Map(),
      closed: new Set<Hash>(),
    };
    return { receipts, unanswered, carriers, closed, round: 0, restoring: undefined, forgot: false };
  }

  #hear(peer: VirtualPeer, { unanswered, carriers, closed }: Told): void {
    for (const { payload, status, round, acceptedIn } of this.#news.splice(0)) {
      if (payload === null) continue;
      const what = `the update of peer ${peer.index} for round ${round} is ${status}`;
      if (closed.has(payload)) throw new Violation('receipts', `${what}, after its last receipt`);
      unanswered.delete(payload);
      if (status !== 'accepted' && status !== 'unknown') {
        if (!carriers.has(payload)) carriers.set(payload, []);
        continue;
      }
      // that update itself, or one that its work came into
      const counted = [payload, ...(carriers.get(payload) ?? [])];
      carriers.delete(payload);
      closed.add(payload);
      if (status === 'unknown' || counted.some((each) => this.#chronicle.roundOf(each) === acceptedIn)) continue;
      throw new Violation('receipts', `${what} in ${acceptedIn}, and no such round has it for good`);
    }
  }

  #allAnswered(peer: VirtualPeer, { unanswered }: Told, ended: number): void {
    for (const round of unanswered.values()) {
      if (round > ended) continue;
      throw new Violation(
        'receipts',
        `round ${ended} has ended, and peer ${peer.index} hears nothing of its update for ${round}`,
      );
    }
  }
}

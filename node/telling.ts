import type { Report } from '../protocol/events.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { PeerId } from '../protocol/identity.ts';
import type { Network } from './net/index.ts';
import type { PeerEvent } from './peer-events.ts';
import type { StepNotice } from './train/index.ts';

export interface TellingComponents {
  network: Pick<Network, 'peers' | 'counters'>;
  onEvent: (event: PeerEvent) => void;
}

/** Turns what happens into the events that the user's side gets, with what was sent and computed since the last round. */
export class Telling {
  readonly #c: TellingComponents;
  readonly #genesis: Genesis;
  #roundSinceMs = performance.now();
  #trainMs = 0;
  #valLoss: number | null = null;
  #restored = { bytes: 0, ms: 0 };
  #before = { bytesSent: 0, bytesReceived: 0 };
  /** bytes, when the round began that was reported last */
  sentBefore = 0;
  /** whose updates for the round are here */
  #arrived = { round: -1, authors: new Set<PeerId>() };
  /** members whose updates are waited for, once this peer's own is ready */
  #awaited: { round: number; members: readonly PeerId[] } | undefined;

  constructor(components: TellingComponents, genesis: Genesis) {
    this.#c = components;
    this.#genesis = genesis;
  }

  step({ step, steps, loss, tokens, stepMs }: StepNotice, training: { round: number } | undefined, at: number): void {
    const tokensPerSecond = (1000 * tokens) / stepMs;
    const round = training?.round ?? at;
    this.#awaited = undefined;
    this.#progress({ phase: 'training', round, step, steps, loss, tokensPerSecond });
  }

  phase(phase: 'fetching' | 'applying' | 'waiting', round: number, detail?: string): void {
    this.#awaited = undefined;
    this.#progress({ phase, round, ...(detail === undefined ? {} : { detail }) });
  }

  trained(trainMs: number): void {
    this.#trainMs += trainMs;
  }

  /** This peer is done with a round: it goes on once the updates of the members are here and are agreed on. */
  gathering(round: number, members: readonly PeerId[]): void {
    this.#awaited = { round, members };
    this.#tellAwaited();
  }

  /** The update of a member is here. @param at the round under way: others do not count */
  arrived(round: number, author: PeerId, at: number): void {
    if (round !== at) return;
    if (round !== this.#arrived.round) this.#arrived = { round, authors: new Set() };
    this.#arrived.authors.add(author);
    if (this.#awaited?.round === round) this.#tellAwaited();
  }

  #tellAwaited(): void {
    if (!this.#awaited) return;
    const { round, members } = this.#awaited;
    const here = members.filter((member) => this.#arrived.authors.has(member)).length;
    this.#progress({ phase: 'gathering', round, updates: { here, of: members.length } });
  }

  applied(valLoss: number | null): void {
    this.#valLoss = valLoss;
  }

  restored(bytes: number, ms: number): void {
    this.#restored = { bytes, ms };
  }

  report(report: Report): void {
    const { onEvent } = this.#c;
    switch (report.kind) {
      case 'round':
        return this.#round(report);
      case 'synced':
        return onEvent({ event: 'synced', round: report.round, root: report.root, ...this.#restored });
      case 'peer':
        return onEvent({ event: 'peer', id: report.peer, change: report.change, members: report.members });
      case 'warning':
        return onEvent({ event: 'warning', code: report.code, message: report.message });
      case 'done':
        return onEvent({ event: 'done', reason: report.reason });
      default:
        return report satisfies never;
    }
  }

  #round(report: Report & { kind: 'round' }): void {
    const { round, root, block, final, contributors, trainLoss, tokens } = report;
    const { bytesSent, bytesReceived } = this.#c.network.counters();
    const nowMs = performance.now();
    const wallMs = nowMs - this.#roundSinceMs;
    this.#c.onEvent({
      event: 'round',
      round,
      root,
      block,
      final,
      contributors,
      trainLoss,
      valLoss: this.#valLoss,
      tokens,
      bytesSent: bytesSent - this.#before.bytesSent,
      bytesReceived: bytesReceived - this.#before.bytesReceived,
      computeFraction: Math.min(1, this.#trainMs / wallMs),
    });
    this.sentBefore = this.#before.bytesSent;
    this.#before = { bytesSent, bytesReceived };
    this.#roundSinceMs = nowMs;
    this.#trainMs = 0;
    this.#valLoss = null;
  }

  #progress(fields: Omit<PeerEvent & { event: 'progress' }, 'event' | 'rounds' | 'peers'>): void {
    const peers = this.#c.network.peers().length;
    this.#c.onEvent({ event: 'progress', rounds: this.#genesis.rounds, peers, ...fields });
  }
}

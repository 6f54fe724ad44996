import type { SkewedClock } from '../clock.ts';
import type { Kernel } from '../kernel.ts';
import type { LastWrite, VirtualPeer } from '../virtual-peer.ts';
import { FAIR, type HostileNetwork } from './network.ts';
import type { Fault } from './plan.ts';

/** A peer that wants to go stays so long for its certificate, as the real one does. */
export const LEAVE_MS = 2500;

export interface MischiefComponents {
  kernel: Kernel;
  network: HostileNetwork;
  peers: readonly VirtualPeer[];
  clocks: readonly SkewedClock[];
  /** it is not to come up yet, whatever the plan says */
  isHeldBack: (index: number) => boolean;
  onCrash: () => void;
}

/** Carries out the faults of a plan, and knows who is to run all the same. */
export class Mischief {
  /** peers whose user wants them to run */
  readonly wanted = new Set<number>();
  /** peers that never come back */
  readonly #gone = new Set<number>();
  readonly #c: MischiefComponents;
  /** by index: crashes that wait for their moment */
  readonly #dying = new Map<number, Fault & { kind: 'crash' }>();

  constructor(components: MischiefComponents) {
    this.#c = components;
  }

  begin(fault: Fault): void {
    const { kernel, network, peers, clocks, isHeldBack } = this.#c;
    switch (fault.kind) {
      case 'cut': {
        const [a, b] = fault.groups as [number[], number[]];
        this.#block([...pairs(a, b), ...pairs(b, a)], fault.forMs);
        kernel.after(fault.noticedMs, () => {
          for (const [from, to] of pairs(a, b)) network.noticeCut(from, to);
        });
        return;
      }
      case 'one-way':
        return this.#block(pairs(fault.from, fault.to), fault.forMs);
      case 'storm': {
        const { loss, duplicates, delayMs } = fault;
        const weather = { loss, duplicates, delayMs };
        network.weather = weather;
        kernel.after(fault.forMs, () => {
          // another storm may have begun meanwhile
          if (network.weather === weather) network.weather = FAIR;
        });
        return;
      }
      case 'pause':
        return peers[fault.peer]!.pause(fault.forMs);
      case 'crash':
        if (fault.moment) this.#dying.set(fault.peer, fault);
        else this.#crash(fault);
        return;
      case 'blackout': {
        const { peers: hit, forMs, lastWrite } = fault;
        for (const [i, peer] of hit.entries()) this.#crash({ peer, forMs: (forMs * (i + 1)) / hit.length, lastWrite });
        return;
      }
      case 'leave':
        return this.#leave(fault);
      case 'late':
        if (!isHeldBack(fault.peer)) this.wantUp(fault.peer);
        return;
      case 'jump':
        return clocks[fault.peer]!.jump(fault.byMs);
      case 'skew':
      case 'lie':
        return; // from the beginning
      default:
        return fault satisfies never;
    }
  }

  /** A vote of this peer has just left, or it has begun to write. */
  onMoment(index: number, moment: 'vote' | 'write'): void {
    const dying = this.#dying.get(index);
    if (dying?.moment !== moment) return;
    this.#dying.delete(index);
    this.#c.kernel.after(0, () => this.#crash(dying));
  }

  wantUp(index: number): void {
    if (this.#gone.has(index)) return;
    const peer = this.#c.peers[index]!;
    this.wanted.add(index);
    // one that is through serves on until its user starts it again
    if (peer.finished) peer.crash();
    peer.finished = false;
    peer.start();
  }

  /** The peer's machine is gone. */
  giveUp(index: number): void {
    this.#gone.add(index);
    this.wanted.delete(index);
    this.#c.peers[index]!.crash();
  }

  /** No more faults, and who is wanted is up. Cuts and storms end by themselves before. */
  end(): void {
    this.#dying.clear();
    this.#c.network.weather = FAIR;
    for (const index of this.wanted) this.wantUp(index);
  }

  #block(ways: readonly (readonly [number, number])[], forMs: number): void {
    const { kernel, network } = this.#c;
    for (const [from, to] of ways) network.block(from, to);
    kernel.after(forMs, () => {
      for (const [from, to] of ways) network.unblock(from, to);
    });
  }

  #crash({ peer, forMs, lastWrite }: { peer: number; forMs: number; lastWrite: LastWrite }): void {
    const { kernel, peers, onCrash } = this.#c;
    if (!peers[peer]!.isUp) return;
    onCrash();
    peers[peer]!.crash(lastWrite);
    kernel.after(forMs, () => {
      if (this.wanted.has(peer)) peers[peer]!.start();
    });
  }

  #leave({ peer, backAfterMs }: Fault & { kind: 'leave' }): void {
    const { kernel, peers } = this.#c;
    const virtual = peers[peer]!;
    // one that is on its way already: else it would be back for the one although the other was for good
    if (!virtual.isUp || !this.wanted.has(peer)) return;
    this.wanted.delete(peer);
    virtual.leave();
    // who does not hear the certificate in time goes without it
    kernel.after(LEAVE_MS, () => {
      if (this.wanted.has(peer)) return;
      virtual.crash();
      if (backAfterMs !== null) kernel.after(backAfterMs, () => this.wantUp(peer));
    });
  }
}

function pairs(a: readonly number[], b: readonly number[]): [number, number][] {
  return a.flatMap((from) => b.map((to): [number, number] => [from, to]));
}

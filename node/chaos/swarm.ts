import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CodedError } from '../../protocol/errors.ts';
import type { Links, Place } from './links.ts';
import { Observed } from './observed.ts';
import { PeerProcess } from './peer-process.ts';

export interface SwarmInit {
  peers: number;
  /** each peer has a folder in it */
  dir: string;
  /** of `start`, for the founder: what the run is to be; and for all: what this machine is to do */
  runOptions: readonly string[];
  machineOptions: readonly string[];
  /** null: peers reach each other without links that can be cut */
  links: (() => Links) | null;
}

/** For how long no peer may get on before all have begun, on a machine that is busy with many of them. */
const START_MS = 120_000;
/** How long one that was asked to leave may take. */
const LEAVE_MS = 10_000;
/** How long one that was started again may take until it is ready. */
const READY_MS = 120_000;

const ANYWHERE: Place = { options: ['--listen', '/ip4/127.0.0.1/tcp/0'], command: [] };

interface Seat {
  dir: string;
  place: Place;
  process: PeerProcess;
}

/** Real peers on this machine, each in a process of its own. */
export class Swarm {
  readonly observed = new Observed();
  /** peers that ended without being told to, with their last words */
  readonly fallen: string[] = [];
  readonly links: Links | null;
  readonly #init: SwarmInit;
  readonly #signal: AbortSignal;
  readonly #seats = new Map<number, Seat>();
  #stopped = false;
  readonly #dismissed = new Set<PeerProcess>();
  readonly #watchers = new Set<() => void>();
  /** times that a peer has said what it is at */
  #progress = 0;
  /** who waits for the swarm stops it too, and hears what goes wrong in that */
  readonly #onAbort = (): void => void this.stop().catch(() => undefined);

  /** @param signal ends all processes and all waiting */
  constructor(init: SwarmInit, signal: AbortSignal) {
    this.#init = init;
    this.#signal = signal;
    this.links = init.links?.() ?? null;
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Resolves when all peers have ended the first round. @throws CodedError `E_PEER_ENDED`, `E_CHAOS_START` */
  async start(): Promise<void> {
    const { peers, runOptions } = this.#init;
    const founder = await this.#seat(0, ['--wait-for', String(peers), ...runOptions]);
    if (!(await isReady(founder, START_MS))) {
      throw new CodedError(
        'E_CHAOS_START',
        `the first peer was not ready after ${START_MS / 1000} s: ${founder.stderr}`,
      );
    }
    const rest = Array.from({ length: peers - 1 }, (_, i) => this.#seat(i + 1, ['--bootstrap', founder.address]));
    // all of them, so that none begins after the swarm was stopped for another
    await Promise.allSettled(rest);
    const all = [founder, ...(await Promise.all(rest))];
    const begun = (): boolean => all.every((peer) => peer.last !== undefined);
    for (let before = -1; before < this.#progress; ) {
      before = this.#progress;
      if (await this.until(begun, START_MS)) return;
      if (this.fallen[0] !== undefined) break;
    }
    const fix = 'give fewer --peers, fewer --inner-steps or a smaller --model';
    const silent = `the peers did not end their first round, and none got on for ${START_MS / 1000} s: ${fix}`;
    throw new CodedError('E_CHAOS_START', this.fallen[0] ?? silent);
  }

  idOf(peer: number): string {
    return this.#at(peer).process.id;
  }

  signal(peer: number, signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#at(peer).process.signal(signal);
  }

  async kill(peer: number): Promise<void> {
    const { process } = this.#at(peer);
    this.#dismissed.add(process);
    await process.kill('SIGKILL');
    this.observed.killed(peer);
  }

  /** As by Ctrl+C. @throws CodedError `E_PEER_LEAVING` if it fails or takes too long */
  async leave(peer: number): Promise<void> {
    const { process } = this.#at(peer);
    this.#dismissed.add(process);
    const code = await Promise.race([process.kill('SIGINT'), delay(LEAVE_MS, 'late' as const, { ref: false })]);
    if (code === 'late') await process.kill('SIGKILL');
    if (code === 0) return;
    const how = code === 'late' ? `did not end within ${LEAVE_MS / 1000} s` : `ended with ${code}: ${process.stderr}`;
    throw new CodedError('E_PEER_LEAVING', `peer ${peer} was asked to leave and ${how}`);
  }

  /** In its folder, without an address: it remembers where the others were. @throws CodedError `E_PEER_ENDED`, `E_PEER_STUCK` */
  async restart(peer: number): Promise<void> {
    const seat = this.#at(peer);
    seat.process = this.#spawn(peer, seat.dir, seat.place);
    if (await isReady(seat.process, READY_MS)) return;
    const message = `peer ${peer} was started again, and was not ready after ${READY_MS / 1000} s`;
    throw new CodedError('E_PEER_STUCK', message);
  }

  /** All live peers have ended this round, and a quorum has certified the last that each has ended. */
  reached(round: number): boolean {
    return [...this.#seats.values()].every(({ process: { last } }) => last?.final === true && last.round >= round);
  }

  /** Looks again whenever a peer says something. @returns whether the condition came to hold in that time */
  until(condition: () => boolean, limitMs: number): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => finish(() => resolve(false)), limitMs);
      const look = (): void => {
        if (this.#signal.aborted) finish(() => reject(this.#signal.reason));
        else if (condition()) finish(() => resolve(true));
        else if (this.fallen.length > 0) finish(() => resolve(false));
      };
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        this.#watchers.delete(look);
        this.#signal.removeEventListener('abort', look);
        settle();
      };
      this.#watchers.add(look);
      this.#signal.addEventListener('abort', look);
      look();
    });
  }

  /** Ends all processes at once. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#signal.removeEventListener('abort', this.#onAbort);
    const processes = [...this.#seats.values()].map(({ process }) => process);
    for (const process of processes) this.#dismissed.add(process);
    await Promise.all(processes.map((process) => process.kill('SIGKILL')));
    this.links?.close();
  }

  async #seat(peer: number, first: readonly string[]): Promise<PeerProcess> {
    const dir = join(this.#init.dir, `peer-${peer}`);
    const place = (await this.links?.place(peer)) ?? ANYWHERE;
    const process = this.#spawn(peer, dir, place, first);
    this.#seats.set(peer, { dir, place, process });
    return process;
  }

  #spawn(peer: number, dir: string, { options, command }: Place, first: readonly string[] = []): PeerProcess {
    this.#signal.throwIfAborted();
    if (this.#stopped) throw new CodedError('E_CHAOS_START', 'the swarm was stopped before all of its peers had begun');
    const process = new PeerProcess(dir, [...options, ...this.#init.machineOptions, ...first], command);
    process.watch((line) => {
      if (line?.event === 'progress') this.#progress++;
      if (line) this.observed.take(peer, line);
      else if (!this.#dismissed.has(process))
        this.fallen.push(`peer ${peer} ended by itself: ${process.stderr.trim()}`);
      for (const look of [...this.#watchers]) look();
    });
    return process;
  }

  #at(peer: number): Seat {
    const seat = this.#seats.get(peer);
    if (!seat) throw new RangeError(`no peer ${peer}`);
    return seat;
  }
}

/** @throws CodedError `E_PEER_ENDED` */
async function isReady(process: PeerProcess, limitMs: number): Promise<boolean> {
  return Promise.race([process.ready().then(() => true), delay(limitMs, false, { ref: false })]);
}

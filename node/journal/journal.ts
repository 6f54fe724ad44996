import { createHash } from 'node:crypto';
import { readdirSync, rmSync, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Effect, Event } from '../../protocol/events.ts';
import type { PeerId, Signer } from '../../protocol/identity.ts';
import { encodeMessage, type Message } from '../../protocol/messages.ts';
import { encodeRecord, type PeerRecord } from '../../protocol/record.ts';
import { blockHash } from '../../protocol/signing.ts';
import type { AgreedState } from '../../protocol/wire.ts';
import { makeFolder, removeQuietly } from '../store/atomic.ts';
import type { ChainLog } from '../store/chain-log.ts';
import { framed } from '../store/framed.ts';
import { describeEffect, describeFailure } from './describe.ts';
import { encodeHead, encodeStep, type Head, JOURNAL_FORMAT, type Signed, type Step } from './format.ts';

/** All files of a journal: the oldest go first. The newest may exceed it by its own part and the history in its head. */
const JOURNAL_BYTES_MAX = 64 * 1024 * 1024;
/** Events of one file, before the next one is begun at the end of a round. */
const FILE_BYTES_MAX = 16 * 1024 * 1024;
/** What waits for a disk that is too slow; beyond it the journal ends, and the peer goes on. */
const WAITING_BYTES_MAX = 16 * 1024 * 1024;
/** Messages since the last round, which a next file begins with: the newest, and no more than so many bytes of them. */
const RECENT_MESSAGES_MAX = 4096;
const RECENT_BYTES_MAX = 4 * 1024 * 1024;

export interface JournalComponents {
  folder: string;
  genesisBytes: Uint8Array;
  chain: Pick<ChainLog, 'copy'>;
  signer: Signer;
  onWarning: (code: 'W_JOURNAL', message: string) => void;
}

export interface JournalLimits {
  /** @default JOURNAL_BYTES_MAX */
  bytesMax?: number;
  /** @default FILE_BYTES_MAX */
  fileBytesMax?: number;
}

/**
 * Writes down every event that the machine is given and what it made of it, so that `outerloop replay` can feed them to
 * another machine later. A file of its own for every start; where one is full the next begins as if the peer had been
 * started again at that moment, between two rounds. Written behind the caller's back and never waited for: a killed
 * process loses the last few events, a failing disk ends the journal with a warning.
 */
export class Journal {
  /** for the machine: what it signs goes into the journal, since a replay has no key */
  readonly signer: Signer;
  readonly #c: JournalComponents;
  readonly #limits: Required<JournalLimits>;
  #signed: Signed[] = [];
  /** frames to be written, and what is to be done between them */
  #waiting: (Uint8Array | (() => Promise<void>))[] = [];
  #waitingBytes = 0;
  #draining: Promise<void> | undefined;
  #file: FileHandle | undefined;
  #fileBytes = 0;
  #ended = false;
  // what the next file would have to begin with
  readonly #up = new Set<PeerId>();
  #record: PeerRecord | Uint8Array | null = null;
  #applying: { block: string; state: Omit<AgreedState, 'snapshot' | 'snapshotBytes'> } | undefined;
  #tip: string | undefined;
  #recent: { message: Message; from: PeerId; bytes: Uint8Array }[] = [];
  #recentBytes = 0;
  /** of the newest file: what comes before it can be followed by another is left out */
  #isFull = false;

  constructor(components: JournalComponents, limits: JournalLimits = {}) {
    this.#c = components;
    this.#limits = { bytesMax: JOURNAL_BYTES_MAX, fileBytesMax: FILE_BYTES_MAX, ...limits };
    const { signer } = components;
    this.signer = {
      self: signer.self,
      verify: (publicKey, bytes, signature) => signer.verify(publicKey, bytes, signature),
      sign: (bytes) => {
        const signature = signer.sign(bytes);
        this.#signed.push([signedDigest(bytes), signature]);
        return signature;
      },
    };
  }

  /**
   * @param effects of the step, or the error that it ended in
   * @param bytes of messages, as they came
   */
  step(event: Event, effects: readonly Effect[] | Error, bytes?: readonly Uint8Array[]): void {
    const signed = this.#signed;
    this.#signed = [];
    if (this.#ended) return;
    try {
      this.#take(event, effects, signed, bytes);
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #take(event: Event, effects: readonly Effect[] | Error, signed: Signed[], bytes?: readonly Uint8Array[]): void {
    if (event.type === 'start') {
      const { restart } = event;
      this.#record = restart?.record ?? null;
      this.#beginFile(false, restart && { record: restart.record, states: restart.states });
    }
    const outcome = effects instanceof Error ? [describeFailure(effects)] : effects.map(describeEffect);
    this.#write({ event, signed, outcome }, bytes);
    if (effects instanceof Error) return;
    this.#follow(event, effects, bytes);
    if (event.type === 'applied') this.#endRound(event);
  }

  /** When everything is written. */
  async close(): Promise<void> {
    await this.#draining;
    this.#ended = true;
    await this.#file?.close();
    this.#file = undefined;
  }

  /** Keeps what a next file would begin with. */
  #follow(event: Event, effects: readonly Effect[], bytes?: readonly Uint8Array[]): void {
    if (event.type === 'peer') {
      if (event.up) this.#up.add(event.peer);
      else this.#up.delete(event.peer);
    } else if (event.type === 'messages') {
      for (const [i, from] of event.from.entries()) {
        const message = event.messages[i];
        if (message) this.#keep({ message, from, bytes: bytes?.[i] ?? encodeMessage(message) });
      }
    }
    for (const effect of effects) {
      if (effect.type === 'persist') this.#record = effect.record;
      else if (effect.type === 'append') this.#tip = blockHash(effect.entry.block);
      else if (effect.type === 'apply') this.#applying = { block: effect.block, state: effect.state };
    }
  }

  #keep(recent: { message: Message; from: PeerId; bytes: Uint8Array }): void {
    this.#recent.push(recent);
    this.#recentBytes += recent.bytes.length;
    let gone = 0;
    for (const { bytes } of this.#recent) {
      if (this.#recentBytes <= RECENT_BYTES_MAX && this.#recent.length - gone <= RECENT_MESSAGES_MAX) break;
      this.#recentBytes -= bytes.length;
      gone++;
    }
    if (gone > 0) this.#recent.splice(0, gone);
  }

  /** Where a round ends and nothing of the next is decided, little of the machine's state is not on disk. */
  #endRound({ nowMs, block, snapshot, snapshotBytes }: Event & { type: 'applied' }): void {
    const recent = this.#recent;
    this.#recent = [];
    this.#recentBytes = 0;
    if (this.#fileBytes < this.#limits.fileBytesMax) return;
    if (this.#applying?.block !== block || this.#tip !== block) return;
    const state = { ...this.#applying.state, snapshot, snapshotBytes };
    const record = this.#record && (this.#record instanceof Uint8Array ? this.#record : encodeRecord(this.#record));
    this.#beginFile(true, { record, states: [{ block, state }] });
    const given = (event: Event, bytes?: Uint8Array[]): void =>
      this.#write({ event, signed: [], outcome: null }, bytes);
    given({ nowMs, type: 'start', restart: null });
    for (const peer of this.#up) given({ nowMs, type: 'peer', peer, up: true });
    // what came too early for the round that has just ended
    const [messages, from] = [recent.map(({ message }) => message), recent.map((each) => each.from)];
    const bytesOf = recent.map(({ bytes }) => bytes);
    if (messages.length > 0) given({ nowMs, type: 'messages', messages, from }, bytesOf);
  }

  #beginFile(continued: boolean, restart: Pick<NonNullable<Head['restart']>, 'record' | 'states'> | null): void {
    const { genesisBytes: genesis, chain, signer } = this.#c;
    // now: it grows, or is cut, while the file is being opened
    const stored = restart && { chain: chain.copy(), ...restart };
    this.#fileBytes = 0;
    this.#isFull = false;
    const clockMs = Math.round(performance.timeOrigin);
    this.#add(async () => {
      await this.#file?.close();
      const path = this.#nextPath();
      this.#file = await open(path, 'wx', 0o600);
      const head = { format: JOURNAL_FORMAT, self: signer.self, genesis, clockMs, continued, restart: stored } as const;
      await this.#file.appendFile(framed(encodeHead(head))).catch((error: unknown) => {
        // on a full disk: without its head it is no journal
        removeQuietly(path);
        throw error;
      });
    });
  }

  /** The next free name, once there is room for it. */
  #nextPath(): string {
    const { folder } = this.#c;
    makeFolder(folder);
    const paths = journalFiles(folder);
    const sizes = paths.map((path) => statSync(path).size);
    let bytes = sizes.reduce((sum, size) => sum + size, 0);
    for (const [i, path] of paths.entries()) {
      if (bytes <= this.#limits.bytesMax - this.#limits.fileBytesMax) break;
      rmSync(path, { force: true });
      bytes -= sizes[i] ?? 0;
    }
    const last = Number(/(\d+)[.]journal$/.exec(paths.at(-1) ?? '')?.[1] ?? 0);
    return join(folder, `${String(last + 1).padStart(6, '0')}.journal`);
  }

  #write(step: Step, bytes?: readonly Uint8Array[]): void {
    if (this.#isFull) return;
    this.#add(framed(encodeStep(step, bytes)));
    if (this.#fileBytes < this.#limits.bytesMax) return;
    this.#isFull = true;
    const message = `no round has ended for so long that the journal in ${this.#c.folder} is full: it goes on when one does`;
    this.#c.onWarning('W_JOURNAL', message);
  }

  #add(what: Uint8Array | (() => Promise<void>)): void {
    if (this.#ended) return;
    if (what instanceof Uint8Array) {
      this.#fileBytes += what.length;
      this.#waitingBytes += what.length;
    }
    if (this.#waitingBytes > WAITING_BYTES_MAX) return this.#giveUp(new Error('the disk is too slow for it'));
    this.#waiting.push(what);
    this.#draining ??= this.#drain();
  }

  async #drain(): Promise<void> {
    try {
      for (let next = this.#next(); next && !this.#ended; next = this.#next()) {
        if (typeof next === 'function') await next();
        else await this.#file?.appendFile(next);
      }
    } catch (error) {
      this.#giveUp(error);
    } finally {
      this.#draining = undefined;
    }
  }

  /** Frames up to the next change of files are written at once. */
  #next(): Uint8Array | (() => Promise<void>) | undefined {
    if (typeof this.#waiting[0] === 'function') return this.#waiting.shift();
    const end = this.#waiting.findIndex((what) => typeof what === 'function');
    const frames = this.#waiting.splice(0, end < 0 ? this.#waiting.length : end) as Uint8Array[];
    if (frames.length === 0) return undefined;
    const joined = Buffer.concat(frames);
    this.#waitingBytes -= joined.length;
    return joined;
  }

  #giveUp(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#waiting = [];
    this.#recent = [];
    const why = error instanceof Error ? error.message : String(error);
    this.#c.onWarning('W_JOURNAL', `the journal in ${this.#c.folder} ends here, the peer goes on: ${why}`);
  }
}

/** Files of a journal's folder, oldest first. */
export function journalFiles(folder: string): string[] {
  const names = readdirSync(folder).filter((name) => /^\d{6,}[.]journal$/.test(name));
  return names.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10)).map((name) => join(folder, name));
}

export function signedDigest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 32);
}

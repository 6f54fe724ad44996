import { createHash } from 'node:crypto';
import { codecOf } from '../../protocol/codecs/index.ts';
import type { Effect, Event } from '../../protocol/events.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { Signer } from '../../protocol/identity.ts';
import type { Machine } from '../../protocol/machine.ts';
import type { History, Message } from '../../protocol/messages.ts';
import { modelLayout } from '../../protocol/model.ts';

/** What a driver asked of its edges. */
export type Asked = 'broadcast' | 'send' | 'train' | 'request-history';

export interface DriverInit {
  genesis: Genesis;
  /** the driver's own, then that of the one neighbour it has */
  signers: readonly [Signer, Signer];
  /** a message of the driver is on its way */
  onLeave: (message: Message) => void;
  /** the driver asked for something, in this moment */
  onAsked: (what: Asked) => void;
}

/** A driver whose edges are in the hands of a test. */
export interface DriverUnderTest {
  /** what is heard before the start is kept for it; else others say it again */
  readonly keepsEarly: boolean;
  /** of the life that is now */
  readonly machine: Machine | undefined;
  /** Starts it on the disk that it has, connected to the neighbour, and waits until it knows that. */
  start(): Promise<void>;
  /** The process is gone in this very moment; the disk has what it has. */
  kill(): void;
  /** The connection to the neighbour comes or goes. */
  connect(up: boolean): void;
  /** The neighbour hands over a message; once the driver has read what has come, this is over. */
  hear(message: Message): Promise<void>;
  /** The neighbour has these bytes, to be fetched. */
  provide(bytes: Uint8Array): Promise<void>;
  /** The neighbour has these bytes as well, and gives none of them. */
  withhold(bytes: Uint8Array): void;
  /** The neighbour asks for the driver's history. */
  askHistory(fromHeight: number, skip: number): Promise<History>;
  /** whether the neighbour could fetch a blob of one chunk */
  serves(blob: Hash): Promise<boolean>;
  /** Lets happen what is under way until the condition holds. @throws when it never does */
  until(condition: () => boolean, what: string): Promise<void>;
  /** what the machine of the neighbour does, where it has one */
  neighbourStep?(event: Event): readonly Effect[];
  close(): Promise<void>;
}

/** A snapshot that no replica can load. */
export const UNLOADABLE = 'not a snapshot';

/** For an adapter's replica: a snapshot that it cannot load. */
export function isLoadable(snapshot: Uint8Array): boolean {
  return new TextDecoder().decode(snapshot) !== UNLOADABLE;
}

/** For an adapter's replica: the snapshot of the state that a block leads to. */
export function snapshotAfter(block: Hash): Uint8Array {
  return new TextEncoder().encode(`the state after ${block}`);
}

export function idOf(bytes: Uint8Array): Hash {
  return createHash('sha256').update(bytes).digest('hex');
}

/** For an adapter's replica: an update as the codec makes it. */
export function validPayload({ codec, model }: Genesis, value = 0.5): Uint8Array {
  const layout = modelLayout(model);
  return codecOf(codec).encode(new Float32Array(layout.length).fill(value), layout);
}

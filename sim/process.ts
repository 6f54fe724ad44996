import type { Event, Report } from '../protocol/events.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId } from '../protocol/identity.ts';
import type { Machine } from '../protocol/machine.ts';
import type { PeerRecord } from '../protocol/record.ts';
import type { AgreedState, Block, Entry } from '../protocol/wire.ts';
import type { BlobLibrary } from './blob-library.ts';
import type { ComputeModel } from './compute.ts';
import type { Kernel } from './kernel.ts';
import type { Ledger } from './ledger.ts';
import type { SimulatedNetwork } from './network.ts';
import type { ApplyRequest, ReplicaHost } from './replica-host.ts';
import type { Trace } from './trace.ts';

/** A virtual peer as the others see it. */
export interface Inhabitant {
  readonly index: number;
  readonly id: PeerId;
  /** undefined while its process does not run */
  readonly machine: Machine | undefined;
}

/** What all virtual peers share. */
export interface World {
  kernel: Kernel;
  network: SimulatedNetwork;
  library: BlobLibrary;
  host: ReplicaHost;
  compute: ComputeModel;
  ledger: Ledger;
  trace: Trace;
  genesis: Genesis;
  indexOf: ReadonlyMap<PeerId, number>;
  /** by index */
  ids: readonly PeerId[];
  peers: readonly Inhabitant[];
  /** what to apply for a block: looked up by the first peer that does */
  payloads: WeakMap<Block, ApplyRequest['updates']>;
  onReport: (peer: Inhabitant, report: Report) => void;
}

/** What is left of a peer when its process is gone. */
export interface Disk {
  entries: Entry[];
  record: PeerRecord | null;
  applied: { block: Hash; state: AgreedState } | null;
  /** snapshots kept for others, oldest first */
  snapshots: Hash[];
  /** of the replica's seat */
  version: number;
}

export type WithoutClock<T> = T extends unknown ? Omit<T, 'nowMs'> : never;

/** One life of a peer, for the parts of it: what they belong to, and whether it is still there. */
export interface Process {
  readonly world: World;
  readonly index: number;
  readonly disk: Disk;
  give: (event: WithoutClock<Event>) => void;
  isAlive: () => boolean;
}

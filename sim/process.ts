import type { Event, StateOnDisk } from '../protocol/events.ts';
import type { Genesis } from '../protocol/genesis.ts';
import type { Hash } from '../protocol/hash.ts';
import type { Segment, SegmentSize } from '../protocol/history.ts';
import type { PeerId } from '../protocol/identity.ts';
import type { PeerRecord } from '../protocol/record.ts';
import type { Block } from '../protocol/wire.ts';
import type { BlobLibrary } from './blob-library.ts';
import type { ComputeModel } from './compute.ts';
import type { Kernel } from './kernel.ts';
import type { Ledger } from './ledger.ts';
import type { PeerNetwork } from './network.ts';
import type { ApplyRequest, ReplicaHost } from './replica-host.ts';
import type { Trace } from './trace.ts';

/** What a process finds around it: time, links, disks and the threads that compute. */
export interface Surroundings {
  kernel: Kernel;
  network: PeerNetwork;
  library: BlobLibrary;
  host: ReplicaHost;
  compute: ComputeModel;
  ledger: Ledger;
  trace: Trace;
  genesis: Genesis;
  indexOf: ReadonlyMap<PeerId, number>;
  /** by index */
  ids: readonly PeerId[];
  /** what to apply for a block: looked up by the first peer that does */
  payloads: WeakMap<Block, ApplyRequest['updates']>;
  /** of the history that a machine keeps @default the protocol's */
  segmentSize?: SegmentSize | undefined;
  /** payloads up to this size ride in their headers @default the protocol's limit */
  inlineBytesMax?: number;
  /** from when such payloads are here until they are on the disk @default 0 */
  takeMs?: number;
}

/** What is left of a peer when its process is gone. */
export interface Disk {
  segments: Segment[];
  record: PeerRecord | null;
  /** agreed states, oldest first */
  states: StateOnDisk[];
  /** the snapshot that was being fetched */
  unfinished?: Hash | undefined;
  /** of the replica's seat */
  version: number;
  /** payloads of own updates that this version of it needs */
  open: readonly Hash[];
}

/** An event before it is given: the clock is read then. */
export type Untimed<T extends Event = Event> = T extends unknown ? Omit<T, 'nowMs'> : never;

/** One life of a peer, for the parts of it: what they belong to, and whether it is still there. */
export interface Process {
  readonly world: Surroundings;
  readonly index: number;
  readonly disk: Disk;
  readonly id: PeerId;
  /** writes under way, oldest first: what makes them durable */
  readonly writing: Set<() => void>;
  give: (event: Untimed) => void;
  /** Tells the user of something that the machine does not know. */
  warn: (code: string, message: string) => void;
  isAlive: () => boolean;
}

import type { Hash } from './hash.ts';
import type { PeerId } from './identity.ts';
import type { History, Message } from './messages.ts';
import type { OwnIncluded } from './own-updates.ts';
import type { AgreedState, Entry, Update } from './wire.ts';

/** What happens to a peer. Every event carries the driver's clock: milliseconds that never run backwards. */
export type Event = { nowMs: number } & (
  | { type: 'start'; restart: Restart | null }
  /** a message that `decodeMessage` passed, and the peer that handed it to us */
  | { type: 'message'; from: PeerId; message: Message }
  /** a peer of this run can be reached, or no longer */
  | { type: 'peer'; peer: PeerId; up: boolean }
  /** the inner steps asked for by `train` are done (or cut short by `finish`) and the update is encoded and durable */
  | { type: 'trained'; base: Hash; update: Omit<Update, 'author' | 'signature'>; inline: Uint8Array | null }
  /** a `fetch` is over: the payload is here and its codec's check passed, or it is refused with this code */
  | { type: 'payload'; payload: Hash; error: string | null }
  /**
   * an `apply` is done; the snapshot is that of the new agreed state, `served` if it is on disk for others to fetch and
   * for this peer to start from (a large model's is not at every round)
   */
  | { type: 'applied'; block: Hash; snapshot: Hash; snapshotBytes: number; served: boolean }
  /** an `initialize` or `restore` is done; an error code when the snapshot could not be had */
  | { type: 'restored'; snapshot: Hash; snapshotBytes: number; served: boolean; error: string | null }
  /** the answer to `request-history`; null when the peer gave none that could be read */
  | { type: 'history'; peer: PeerId; history: History | null }
  | { type: 'wake' }
  /** the user wants to go */
  | { type: 'leave' }
);

/** What a driver kept on disk for a peer that starts again. */
export interface Restart {
  /** every `append` so far, in order */
  entries: Entry[];
  /** the last `persist` */
  record: Uint8Array | null;
  /** the newest agreed state on disk and the block that led to it (the run id for the initial one) */
  applied: { block: Hash; state: AgreedState } | null;
}

/** What a peer wants done. Effects of one step are carried out in order. */
export type Effect =
  /** make these bytes durable, replacing the last ones, before any later effect */
  | { type: 'persist'; record: Uint8Array }
  /** make this entry durable before any later effect */
  | { type: 'append'; entry: Entry }
  | { type: 'broadcast'; message: Message }
  | { type: 'send'; peer: PeerId; message: Message }
  /** compute the initial parameters, answer `restored` */
  | { type: 'initialize' }
  /**
   * fetch this snapshot, make it the agreed state, answer `restored`; own work that is not in it returns to the residual.
   * `included` are own updates that the history up to there has taken up; `keep` as for `apply`
   */
  | {
      type: 'restore';
      state: AgreedState;
      block: Hash;
      holders: PeerId[];
      included: OwnIncluded[];
      keep: Hash[];
    }
  /** train from the agreed state, encode, answer `trained` */
  | { type: 'train'; round: number; base: Hash; firstPosition: number; steps: number; firstStep: number }
  /** others wait: stop after the current inner step and contribute what is there */
  | { type: 'finish' }
  /** get the payload from one of the holders, check it with the codec, answer `payload` */
  | { type: 'fetch'; payload: Hash; size: number; holders: PeerId[]; inline: Uint8Array | null }
  /**
   * stop training if still at it (its change becomes residual), decode, average, take the outer step, answer `applied`;
   * `keep` are snapshots to serve and restore from still, beside the newest `LIMITS.snapshotsKept`
   */
  | {
      type: 'apply';
      entry: Entry;
      block: Hash;
      final: boolean;
      state: Omit<AgreedState, 'snapshot' | 'snapshotBytes'>;
      keep: Hash[];
    }
  | { type: 'request-history'; peer: PeerId; fromHeight: number; skip: number }
  /** send a `wake` event at this time or soon after; replaces the earlier one */
  | { type: 'wake'; atMs: number }
  | { type: 'report'; report: Report };

/** What a person or program watching the peer is told. */
export type Report =
  | {
      kind: 'round';
      /** rounds completed, this one included */
      round: number;
      root: Hash;
      final: boolean;
      contributors: PeerId[];
      trainLoss: number;
      tokens: number;
      /** whether this peer's update is among them, and if not, why */
      own: 'included' | 'late' | 'none';
    }
  | { kind: 'synced'; round: number; root: Hash }
  | { kind: 'peer'; peer: PeerId; change: 'joined' | 'left' | 'evicted' }
  | { kind: 'warning'; code: string; message: string }
  | { kind: 'done'; reason: 'rounds' | 'left' };

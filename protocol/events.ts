import type { Hash } from './hash.ts';
import type { Append, Segment } from './history.ts';
import type { PeerId } from './identity.ts';
import type { History, Message, MessageOf, PageRequest } from './messages.ts';
import type { OwnHistory } from './own-updates.ts';
import type { PeerRecord } from './record.ts';
import type { AgreedState, Entry, Update } from './wire.ts';

interface StartEvent {
  type: 'start';
  restart: Restart | null;
  /** known to the user: no history without this block is followed */
  trustBlock?: Hash | undefined;
  /** a snapshot of which parts are on the disk: gone on with, where those who have it serve it still */
  unfinished?: Hash | undefined;
}

/** What happens to a peer. Every event carries the driver's clock: milliseconds that never run backwards. */
export type Event = { nowMs: number } & (
  | StartEvent
  /**
   * Messages that `decodeMessage` passed, in the order in which they came, and the peer that handed each to us: as many
   * as are there, such as all that one turn of an event loop read from its sockets. The lists are not kept.
   */
  | { type: 'messages'; messages: readonly Message[]; from: readonly PeerId[] }
  /** a peer of this run can be reached, or no longer */
  | { type: 'peer'; peer: PeerId; up: boolean }
  /** the inner steps asked for by `train` are done (or cut short by `finish`) and the update is encoded and durable */
  | { type: 'trained'; base: Hash; update: Omit<Update, 'author' | 'signature'>; inline: Uint8Array | null }
  /**
   * the inner steps asked for by `train` gave nothing of use, however often they were tried; or those of `train-on` did not, or
   * the residual has no room for more
   */
  | { type: 'broken'; base: Hash }
  /** the inner steps asked for by `train-on` are done, and what they changed is in the residual, durably */
  | { type: 'trained-on'; base: Hash }
  /** a `fetch` is over: the payload is here and its codec's check passed, or it is refused with this code */
  | { type: 'payload'; update: Update; error: string | null }
  /** a `take` is over, for headers that had inside what they name: here and checked, but for those refused with a code */
  | { type: 'taken'; headers: readonly MessageOf<'header'>[]; refused: ReadonlyMap<MessageOf<'header'>, string> }
  /** an `apply` is done; the snapshot is that of the new agreed state */
  | { type: 'applied'; block: Hash; snapshot: Hash; snapshotBytes: number }
  /** the agreed state that this block led to is on disk, for others to fetch and for this peer to start from */
  | { type: 'saved'; block: Hash }
  /** an `initialize` or `restore` is done and the state on disk; an error code when the snapshot could not be had */
  | { type: 'restored'; snapshot: Hash; snapshotBytes: number; error: string | null }
  /** the answer to `request-history`; null when the peer gave none that could be read */
  | { type: 'history'; peer: PeerId; history: History | null }
  | { type: 'wake' }
  /** the user wants to go */
  | { type: 'leave' }
);

/** What a driver kept on disk for a peer that starts again. */
export interface Restart {
  /** every `append` that was to be kept, in order */
  segments: readonly Segment[];
  /** the last `persist`, encoded */
  record: Uint8Array | null;
  /** the agreed states on disk, the newest last: that is the one to go on from, the others can be served and gone back to */
  states: StateOnDisk[];
}

/** An agreed state and the block that led to it (the run id for the initial one). */
export interface StateOnDisk {
  block: Hash;
  state: AgreedState;
}

/** What must stay on the disk when the next state comes, however old: this peer or others may have to come back to it. */
export interface Keep {
  /** to serve and to restore from, beside the newest `LIMITS.snapshotsKept` */
  snapshots: readonly Hash[];
  /** beside those of the last `LIMITS.payloadRoundsKept` rounds */
  payloads: readonly Pick<Update, 'payload' | 'size'>[];
}

/** What a peer wants done. Effects of one step are carried out in order. */
export type Effect =
  /** make this durable (`encodeRecord`), replacing the last one, before any later effect */
  | { type: 'persist'; record: PeerRecord }
  /** make this record durable before any later effect */
  | ({ type: 'append' } & Append)
  | { type: 'broadcast'; message: Message }
  | { type: 'send'; peer: PeerId; message: Message }
  /** compute the initial parameters, answer `restored`; `keep` as for `apply` */
  | { type: 'initialize'; keep: Keep }
  /**
   * fetch this snapshot, make it the agreed state, answer `restored`; own work that is not in it returns to the residual.
   * `own` is what the history up to there says of own updates; `keep` as for `apply`
   */
  | {
      type: 'restore';
      state: AgreedState;
      block: Hash;
      holders: PeerId[];
      own: OwnHistory;
      keep: Keep;
    }
  /** what is fetched for the last `restore` is not wanted any more: unless all of it is here, answer `restored` with an error */
  | { type: 'abandon' }
  /** train from the agreed state, encode, answer `trained` */
  | { type: 'train'; round: number; base: Hash; firstPosition: number; steps: number; firstStep: number }
  /**
   * the update is made, and nobody can decide on it: train on from where own work leads, add what changes to the residual, answer
   * `trained-on`
   */
  | { type: 'train-on'; round: number; base: Hash; firstPosition: number; steps: number; firstStep: number }
  /** others wait: stop after the current inner step and contribute what is there */
  | { type: 'finish' }
  /** get the payload, of an update for this round, from one of the holders, check it with the codec, answer `payload` */
  | { type: 'fetch'; update: Update; round: number; holders: PeerId[] }
  /**
   * store the payloads that came inside these headers, check each with the codec, answer `taken`. What rides in a header is
   * not signed: where it is not what the header names, keep nothing of it, fetch the payload from the author and answer
   * `payload`
   */
  | { type: 'take'; headers: readonly MessageOf<'header'>[] }
  /**
   * stop training if still at it (its change becomes residual), decode, average, take the outer step, answer `applied`;
   * `keep` is what must stay, however old
   */
  | {
      type: 'apply';
      entry: Entry;
      block: Hash;
      final: boolean;
      state: Omit<AgreedState, 'snapshot' | 'snapshotBytes'>;
      keep: Keep;
    }
  | { type: 'request-history'; peer: PeerId; request: PageRequest }
  /** send a `wake` event at this time or soon after; replaces the earlier one, which stands as long as none comes */
  | { type: 'wake'; atMs: number }
  | { type: 'report'; report: Report };

/** What a person or program watching the peer is told. */
export type Report =
  | {
      kind: 'round';
      /** rounds completed, this one included */
      round: number;
      root: Hash;
      /** that ended the round */
      block: Hash;
      final: boolean;
      contributors: PeerId[];
      trainLoss: number;
      tokens: number;
      /** whether this peer's update is among them, and if not, why */
      own: 'included' | 'late' | 'none';
      /** the payload of that update; null where none was announced */
      ownPayload: Hash | null;
    }
  | { kind: 'synced'; round: number; root: Hash }
  /** @param members after it, with all other changes of the same block */
  | { kind: 'peer'; peer: PeerId; change: 'joined' | 'left' | 'evicted'; members: number }
  | { kind: 'warning'; code: string; message: string }
  | { kind: 'done'; reason: 'rounds' | 'left' };

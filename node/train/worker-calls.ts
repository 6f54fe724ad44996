import type { Hash } from '../../protocol/hash.ts';
import type { OwnPayload } from '../../protocol/own-updates.ts';
import type { AgreedState } from '../../protocol/wire.ts';
import type { BackendName } from './backend.ts';
import type { LoadedState } from './checkpoints.ts';
import type { UnderWaySettings } from './under-way.ts';

/* What the training thread is asked and what it answers; `PeerWorker` has the methods. */

export interface WorkerInit {
  genesisBytes: Uint8Array;
  directory: string;
  backend: BackendName | 'auto';
  deterministic: boolean;
  microBatch?: number;
  /** @default those of `UnderWay` */
  underWay?: UnderWaySettings;
  /** see `CheckpointPlan` */
  alwaysParameters?: number;
}

export interface Opened extends Omit<LoadedState, 'taken'> {
  backend: string;
  parameters: number;
  /** own updates whose payloads must stay */
  open: OwnPayload[];
  /** an earlier process has left training under way */
  isUnderWay: boolean;
}

export interface Contribution {
  payload: Hash;
  size: number;
  tokens: number;
  steps: number;
  loss: number;
  inline: Uint8Array | null;
  skipped: number;
  trainMs: number;
}

/** Training beyond the update; with `full` the residual has no room for more. */
export interface TrainedOn {
  outcome: 'done' | 'full' | NoContribution;
  /** something of it is in the residual, durably */
  isKept: boolean;
  skipped: number;
  trainMs: number;
}

export type NoContribution = 'overtaken' | 'broken';

export interface AppliedState {
  snapshot: Hash;
  snapshotBytes: number;
  /** of the new agreed model over some of the validation split (all of it on request); null when not measured */
  valLoss: number | null;
  /** own updates whose payloads must stay */
  open: OwnPayload[];
}

export interface RestoredState extends AppliedState {
  /** own work was given up: the history begins too late to tell what of it counts */
  forgot: boolean;
}

export interface ApplyRequest {
  /** root of the state that the block builds on */
  base: Hash;
  block: Hash;
  updates: { payload: Hash; size: number; tokens: number }[];
  /** place of this peer's update among them: another author may have named the same payload */
  own: number | undefined;
  final: boolean;
  /** snapshots that must stay, beside the newest */
  keep: readonly Hash[];
  state: Omit<AgreedState, 'snapshot' | 'snapshotBytes'>;
  /** measure on the whole validation split, as after the last round */
  evaluateAll: boolean;
}

/** What the thread tells unasked. */
export type WorkerNotice = StepNotice | WorkerWarning;

export interface WorkerWarning {
  code: string;
  message: string;
  /** all own work was given up: no receipt may say of it that it counts */
  gaveUp?: true;
}

export interface StepNotice {
  step: number;
  steps: number;
  loss: number;
  tokens: number;
  stepMs: number;
}

/** Times that a round is trained from the agreed model before it is given up: it may break down for its moments alone. */
export const TRAINING_ATTEMPTS = 3;

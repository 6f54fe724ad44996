import type { RoundPlan } from '../node/train/trainer.ts';
import type { Hash } from '../protocol/hash.ts';
import type { OwnHistory } from '../protocol/own-updates.ts';

/** The agreed state after an operation, and the version of the seat that its disk then has. */
export interface Settled {
  snapshot: Hash;
  /** the snapshot itself: of peers in one thread that come to it the same memory, never to be changed */
  bytes: Uint8Array;
  version: number;
  /** payloads of own updates that must stay on the disk */
  open: Hash[];
}

export interface Contribution {
  payload: Hash;
  bytes: Uint8Array;
  tokens: number;
  steps: number;
  /** mean over the steps, in nats (in the quadratic's own unit for the synthetic trainer) */
  loss: number;
  version: number;
  /** as in `Settled`, and not this update's own */
  open: Hash[];
}

export interface ApplyRequest {
  /** names the outcome: a block says which state it builds on */
  block: Hash;
  round: number;
  /** the same list for all who apply the block */
  updates: { payload: Hash; bytes: Uint8Array; tokens: number }[];
  /** place of this peer's update among them: another author may have named the same payload */
  own: number | undefined;
  final: boolean;
}

/** What a peer trains. */
export interface Training extends RoundPlan {
  round: number;
  /** from where its own work leads (`Replica.standing`), instead of from the agreed parameters */
  beyond?: boolean;
}

/** Of work that went to the residual for good: the version of the seat that has it. */
export interface Kept {
  version: number;
}

/**
 * Where the replicas of the virtual peers are: their parameters, residuals, optimizer states, and what their disks hold
 * of these. Operations of one peer are done in the order asked for. Answers depend on what was asked alone, never on
 * when it is done or by how many threads: the virtual peer says how many steps a training had time for.
 */
export interface ReplicaHost {
  /** values in the model */
  readonly parameters: number;
  /** The initial parameters become the peer's agreed state. */
  initialize(peer: number): Promise<Settled>;
  /** A fetched snapshot becomes the peer's agreed state; `own` is what its history says of own updates. */
  restore(peer: number, snapshot: { id: Hash; bytes: Uint8Array }, own: OwnHistory): Promise<Settled>;
  /** Begins to train; ended by `contribute`, `keep` or `abandon`, which say after how many steps. */
  train(peer: number, training: Training): void;
  /** @returns null when nothing of use was learned */
  contribute(peer: number, steps: number): Promise<Contribution | null>;
  /**
   * Beyond the update: what the steps changed goes to the residual, durably.
   * @returns null when nothing of use was learned
   */
  keep(peer: number, steps: number): Promise<Kept | null>;
  /** Overtaken: what the steps changed goes to the residual. */
  abandon(peer: number, steps: number): Promise<void>;
  apply(peer: number, request: ApplyRequest): Promise<Settled>;
  /** The process died: everything newer than this version of its seat is lost. Version 0 is an empty disk. */
  restart(peer: number, version: number): void;
  /** Loss of the peer's agreed model over some of the validation data, or over `all`; null where there is none. */
  evaluate(peer: number, all: boolean): Promise<number | null>;
  close(): Promise<void>;
}

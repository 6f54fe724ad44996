import type { Averaging, AveragingName } from './averaging/averaging.ts';
import { averagingOf } from './averaging/index.ts';
import { blobIdOf } from './blob.ts';
import type { Codec, CodecConfig } from './codecs/codec.ts';
import { allFinite, FLOAT_BYTES, readFloats, writeFloats } from './codecs/floats.ts';
import { codecOf } from './codecs/index.ts';
import { assert, CodedError } from './errors.ts';
import { type Genesis, roundTokens } from './genesis.ts';
import { type Hash, type Sha256, sha256 } from './hash.ts';
import { LIMITS } from './limits.ts';
import { type Layout, modelLayout } from './model.ts';
import { outerOf } from './outer/index.ts';
import type { OuterConfig, OuterOptimizer } from './outer/outer.ts';

type ReplicaErrorCode =
  | 'E_NOT_FINITE' // NaN or infinity in what was trained, or in a state that was handed to us
  | 'E_SNAPSHOT_SIZE' // not the bytes of an agreed state of this model
  | 'E_OWN_FORMAT'; // not the own work of a replica of this model

export interface ReplicaComponents {
  /** @default the portable one */
  sha256?: Sha256;
  /** Makes the vectors that others may look at, parameters and outer state. @default new Float32Array */
  allocate?: (length: number) => Float32Array;
}

/** From genesis, and the layout of its model. */
export interface ReplicaInit {
  layout: Layout;
  codec: CodecConfig;
  averaging: { name: AveragingName };
  outer: OuterConfig;
  /** tokens of a whole round of one peer (`roundTokens`) */
  roundTokens: number;
}

export function replicaInit(genesis: Genesis): ReplicaInit {
  const { model, codec, averaging, outer } = genesis;
  return { layout: modelLayout(model), codec, averaging, outer, roundTokens: roundTokens(genesis) };
}

/** A sum of pseudo-gradients. What a codec left out is in it too, and was counted where it came from. */
export interface Work {
  values: Float32Array;
  /** trained on for it, a safe integer */
  tokens: number;
}

/** Own work that is not agreed on, or not for good. */
export interface OwnWork {
  residual: Work;
  pending: Work | null;
  unfinalOwn: Work | null;
}

/** An update as the network carries it. */
export interface EncodedUpdate {
  payload: Uint8Array;
  /** trained on for it, a positive safe integer */
  tokens: number;
}

/** An update of a certified round, fetched. */
export interface CertifiedUpdate extends EncodedUpdate {
  /**
   * this peer is the author, and it is the update that `contribute` last made (`pending`), or one that was given back to
   * the residual and counts after all (`returned`)
   */
  own?: 'pending' | 'returned' | undefined;
}

/**
 * The numeric half of a peer: the agreed state, which is the same to the bit on all peers, and the peer's own work that
 * is not part of it yet. No work is lost: at all times, with decay 1 and plain outer steps of learning rate 1,
 *
 *   own pseudo-gradients so far = own updates applied for good + unfinalOwn + pending + residual
 *
 * up to float32 rounding. A peer's round is: train a copy of `parameters`; `contribute` (or `abandon`) it; where nobody can
 * decide on that, train a copy of `standing` and `abandon` it, too; `apply` the certified updates. Methods that throw a
 * CodedError leave everything as it was.
 */
export class Replica {
  /** theta, the agreed model. Begins at zero: load a snapshot or set the initial parameters. Changed in place. */
  readonly parameters: Float32Array;
  /** The outer optimizer's vectors, end to end. Changed in place. */
  readonly outerState: Float32Array;
  readonly #layout: Layout;
  readonly #codec: Codec;
  readonly #averaging: Averaging;
  readonly #outer: OuterOptimizer;
  readonly #outerConfig: OuterConfig;
  readonly #roundTokens: number;
  readonly #sha256: Sha256;
  #residual: Work;
  #scratch: Float32Array;
  /** own update as it decodes, between `contribute` and the round's end */
  #pending: Work | null = null;
  /** own updates inside unfinal rounds, which another history may still undo */
  #unfinalOwn: Work | null = null;

  constructor(components: ReplicaComponents, init: ReplicaInit) {
    const allocate = components.allocate ?? ((length) => new Float32Array(length));
    this.#sha256 = components.sha256 ?? sha256;
    this.#layout = init.layout;
    this.#codec = codecOf(init.codec);
    this.#averaging = averagingOf(init.averaging.name);
    this.#outer = outerOf(init.outer.name);
    this.#outerConfig = init.outer;
    this.#roundTokens = init.roundTokens;
    this.parameters = allocate(init.layout.length);
    this.outerState = allocate(init.layout.length * this.#outer.slots);
    this.#residual = { values: new Float32Array(init.layout.length), tokens: 0 };
    this.#scratch = new Float32Array(init.layout.length);
  }

  /** Own work that no update has carried yet: what the codec left out (error feedback), and what came too late. */
  get residual(): Float32Array {
    return this.#residual.values;
  }

  /** Views: valid until the next call. */
  get ownWork(): OwnWork {
    return { residual: this.#residual, pending: this.#pending, unfinalOwn: this.#unfinalOwn };
  }

  /** A round's worth more of work that waits would go with the next update. */
  get hasRoom(): boolean {
    return this.#residual.tokens + this.#roundTokens <= LIMITS.lateRoundsMax * this.#roundTokens;
  }

  /** Where the model would be with all of this peer's own work in it and nobody else's: `parameters - pending - residual`. */
  standing(): Float32Array {
    const { parameters } = this;
    const [residual, pending] = [this.#residual.values, this.#pending?.values];
    return parameters.map((value, i) => Math.fround(value - residual[i]!) - (pending?.[i] ?? 0));
  }

  /**
   * Ends the round's training: what changed, with the residual, becomes an update.
   *
   *   residual <- beta residual + (parameters - local);  payload = encode(s residual);  residual <- residual - decoded
   *
   * s is 1, unless more work came too late than an update may carry: then it carries its share, and the rest follows in
   * later ones.
   * @param local parameters after the inner steps
   * @param tokens that these trained on, a positive integer
   * @throws CodedError `E_NOT_FINITE` when training diverged: begin the next round from the agreed parameters
   */
  contribute(local: Float32Array, tokens: number): EncodedUpdate {
    assert(this.#pending === null, 'contribute: the update before is not settled by apply or adopt');
    const next = this.#withChange(local, this.#codec.residualDecay);
    if (!allFinite(next)) throw notFinite('training diverged, or its change overflows float32; nothing is sent');
    const all = this.#residual.tokens + tokens;
    const now = Math.min(all, (1 + LIMITS.lateRoundsMax) * this.#roundTokens);
    const share = now / all;
    const carried = share === 1 ? next : next.map((value) => share * value);
    const payload = this.#codec.encode(carried, this.#layout);
    const decoded = new Float32Array(next.length);
    this.#codec.decode(payload, this.#layout, decoded);
    for (let i = 0; i < next.length; i++) next[i] = next[i]! - decoded[i]!;
    if (!allFinite(next)) throw notFinite('what the codec leaves out overflows float32; nothing is sent');
    this.#takeResidual(next, all - now);
    this.#pending = { values: decoded, tokens: now };
    return { payload, tokens: now };
  }

  /**
   * Keeps the work of a round that ends before an update could be made of it, or of what was trained beyond the update:
   * `residual <- residual + (from - local)`.
   * @param tokens as for `contribute`
   * @param from where training began @default the agreed parameters
   * @returns false, with nothing changed, when it is not finite
   */
  abandon(local: Float32Array, tokens: number, from = this.parameters): boolean {
    const next = this.#withChange(local, 1, from);
    if (!allFinite(next)) return false;
    this.#takeResidual(next, this.#residual.tokens + tokens);
    return true;
  }

  /** Takes back an update that is not announced, or was made before a restart: its work returns to the residual. */
  withdraw(): void {
    addTo(this.#residual, this.#pending);
    this.#pending = null;
  }

  /**
   * Ends a round: the mean of its updates goes through one outer step, and own work is settled. An own update that is
   * not among them returns to the residual. In an unfinal round an own one stays on the books until a final round
   * confirms it.
   * @param updates at least one, in canonical order (by peer id)
   * @throws CodedError `PayloadErrorCode` when a payload does not check
   */
  apply(updates: readonly CertifiedUpdate[], { final }: { final: boolean }): void {
    assert(updates.length > 0, 'apply: a round has at least one update');
    assert(updates.filter(({ own }) => own).length <= 1, 'apply: a peer has one update in a round');
    const returned = updates.filter(({ own }) => own === 'returned');
    for (const { payload } of updates) this.#codec.check(payload, this.#layout);
    const mean = this.#averaging.init(this.#layout.length, this.#roundTokens);
    for (const { payload, tokens } of updates) {
      this.#codec.decode(payload, this.#layout, this.#scratch);
      mean.add({ values: this.#scratch, tokens });
    }
    mean.finish(this.#scratch);
    this.#outer.update(this.#outerConfig, this.parameters, this.outerState, this.#scratch);
    const included = updates.some(({ own }) => own === 'pending');
    this.#settleOwn({ included, final, returned });
  }

  /**
   * `apply` with the outcome already known, because another replica in this program applied the same block to the same
   * state: peers of a simulation need not all compute what must be equal anyway.
   * @param own whether the own pending update is in the round, and own ones that were given back before
   */
  applyKnown(
    agreed: { parameters: Float32Array; outerState: Float32Array },
    own: { included: boolean; final: boolean; returned: readonly EncodedUpdate[] },
  ): void {
    this.parameters.set(agreed.parameters);
    this.outerState.set(agreed.outerState);
    this.#settleOwn(own);
  }

  #settleOwn(own: { included: boolean; final: boolean; returned: readonly EncodedUpdate[] }): void {
    const { included, final, returned } = own;
    if (!included) addTo(this.#residual, this.#pending);
    else if (!final) this.#unfinalOwn = sumOf(this.#unfinalOwn, this.#pending);
    this.#pending = null;
    const taken = returned.map((update) => this.#takeBack(update));
    if (!final) for (const work of taken) this.#unfinalOwn = sumOf(this.#unfinalOwn, work);
    if (final) this.#unfinalOwn = null;
  }

  /** What an update carries leaves the residual, where it was given back to. */
  #takeBack({ payload, tokens }: EncodedUpdate): Work {
    const values = new Float32Array(this.#layout.length);
    this.#codec.decode(payload, this.#layout, values);
    const residual = this.#residual;
    for (let i = 0; i < values.length; i++) residual.values[i] = residual.values[i]! - values[i]!;
    // where a later update carried it a second time, that one has been counted for it
    residual.tokens = Math.max(0, residual.tokens - tokens);
    return { values, tokens };
  }

  /**
   * Replaces the agreed state by that of another history (state sync). Own work that only the old one had, and an
   * update that is still pending, return to the residual.
   * @param included own updates on the books (pending, unfinal, or given back) that are in the new state,
   *   for good or in unfinal rounds of its history; null to forget all own work
   * @throws CodedError `E_NOT_FINITE`
   */
  adopt(parameters: Float32Array, outerState: Float32Array, included: Included | null = NOTHING): void {
    assert(parameters.length === this.parameters.length, `adopt: ${parameters.length} parameters`);
    assert(outerState.length === this.outerState.length, `adopt: ${outerState.length} values of outer state`);
    if (!allFinite(parameters) || !allFinite(outerState)) throw notFinite('the state offered for adoption is damaged');
    this.parameters.set(parameters);
    this.outerState.set(outerState);
    addTo(this.#residual, this.#pending);
    addTo(this.#residual, this.#unfinalOwn);
    this.#pending = null;
    this.#unfinalOwn = null;
    if (included === null) this.#residual = { values: new Float32Array(this.#layout.length), tokens: 0 };
    if (included === null) return;
    for (const update of included.final) this.#takeBack(update);
    for (const update of included.unfinal) this.#unfinalOwn = sumOf(this.#unfinalOwn, this.#takeBack(update));
  }

  /** Bytes of an agreed state in a run. */
  static snapshotSize({ model, outer }: Pick<Genesis, 'model' | 'outer'>): number {
    return FLOAT_BYTES * modelLayout(model).length * (1 + outerOf(outer.name).slots);
  }

  /** The agreed state as every peer hashes it: parameters, then outer state, little-endian float32. */
  snapshotBytes(): Uint8Array {
    const bytes = new Uint8Array(FLOAT_BYTES * (this.parameters.length + this.outerState.length));
    writeFloats(this.outerState, bytes, writeFloats(this.parameters, bytes, 0));
    return bytes;
  }

  /** Blob id of `snapshotBytes`: equal on two peers exactly when their agreed states are. */
  snapshotId(): Hash {
    return blobIdOf(this.snapshotBytes(), this.#sha256);
  }

  /**
   * Sets the agreed state, when a peer starts from disk or joins. Own work is left as it is: a state of another history
   * is for `adopt`, with `readSnapshot`.
   * @throws CodedError `E_SNAPSHOT_SIZE`, `E_NOT_FINITE`
   */
  loadSnapshot(bytes: Uint8Array): void {
    const { parameters, outerState } = this.readSnapshot(bytes);
    this.parameters.set(parameters);
    this.outerState.set(outerState);
  }

  /** @throws CodedError `E_SNAPSHOT_SIZE`, `E_NOT_FINITE` */
  readSnapshot(bytes: Uint8Array): { parameters: Float32Array; outerState: Float32Array } {
    const size = FLOAT_BYTES * (this.parameters.length + this.outerState.length);
    if (bytes.length !== size) {
      const message = `snapshot of ${bytes.length} bytes, this model and outer optimizer have ${size}: of another run?`;
      throw new CodedError<ReplicaErrorCode>('E_SNAPSHOT_SIZE', message);
    }
    const parameters = new Float32Array(this.parameters.length);
    const outerState = new Float32Array(this.outerState.length);
    readFloats(bytes, readFloats(bytes, 0, parameters), outerState);
    if (!allFinite(parameters) || !allFinite(outerState)) throw notFinite('the snapshot is damaged');
    return { parameters, outerState };
  }

  /** A copy of `ownWork`. */
  exportOwn(): OwnWork {
    const [residual, pending, unfinalOwn] = [this.#residual, this.#pending, this.#unfinalOwn];
    return {
      residual: copyOf(residual),
      pending: pending && copyOf(pending),
      unfinalOwn: unfinalOwn && copyOf(unfinalOwn),
    };
  }

  /**
   * Takes up own work of an earlier process, in place of this one's.
   * @throws CodedError `E_OWN_FORMAT`, `E_NOT_FINITE`
   */
  importOwn({ residual, pending, unfinalOwn }: OwnWork): void {
    for (const work of [residual, pending, unfinalOwn]) if (work) this.#checkOwn(work);
    this.#residual = copyOf(residual);
    this.#pending = pending && copyOf(pending);
    this.#unfinalOwn = unfinalOwn && copyOf(unfinalOwn);
  }

  #checkOwn({ values, tokens }: Work): void {
    const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;
    if (values.length !== this.parameters.length || !isCount(tokens)) {
      const message = `own work of ${values.length} values and ${tokens} tokens does not fit a model of ${this.parameters.length} parameters: remove the file`;
      throw new CodedError<ReplicaErrorCode>('E_OWN_FORMAT', message);
    }
    if (!allFinite(values)) throw notFinite('the file of own work is damaged: remove it');
  }

  /** `decay residual + (from - local)`, in the scratch vector. */
  #withChange(local: Float32Array, decay: number, from = this.parameters): Float32Array {
    assert(local.length === this.parameters.length, `${local.length} local parameters of ${this.parameters.length}`);
    const [residual, next] = [this.#residual.values, this.#scratch];
    for (let i = 0; i < next.length; i++) {
      const change = Math.fround(from[i]! - local[i]!);
      next[i] = Math.fround(decay * residual[i]!) + change;
    }
    return next;
  }

  /** Makes the scratch vector the residual and the old residual scratch. */
  #takeResidual(next: Float32Array, tokens: number): void {
    this.#scratch = this.#residual.values;
    this.#residual = { values: next, tokens };
  }
}

interface Included {
  final: readonly EncodedUpdate[];
  unfinal: readonly EncodedUpdate[];
}
const NOTHING: Included = { final: [], unfinal: [] };

function notFinite(why: string): CodedError<ReplicaErrorCode> {
  return new CodedError('E_NOT_FINITE', `NaN or infinity: ${why}`);
}

function copyOf({ values, tokens }: Work): Work {
  return { values: values.slice(), tokens };
}

function addTo(target: Work, work: Work | null): void {
  if (work === null) return;
  for (let i = 0; i < target.values.length; i++) target.values[i] = target.values[i]! + work.values[i]!;
  target.tokens += work.tokens;
}

function sumOf(a: Work | null, b: Work | null): Work | null {
  if (a === null) return b;
  addTo(a, b);
  return a;
}

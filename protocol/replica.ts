import type { Averaging, AveragingName } from './averaging/averaging.ts';
import { averagingOf } from './averaging/index.ts';
import { blobIdOf } from './blob.ts';
import type { Codec, CodecConfig } from './codecs/codec.ts';
import { allFinite, FLOAT_BYTES, readFloats, writeFloats } from './codecs/floats.ts';
import { codecOf } from './codecs/index.ts';
import { assert, CodedError } from './errors.ts';
import { type Hash, type Sha256, sha256 } from './hash.ts';
import type { Layout } from './model.ts';
import { outerOf } from './outer/index.ts';
import type { OuterConfig, OuterOptimizer } from './outer/outer.ts';

type ReplicaErrorCode =
  | 'E_NOT_FINITE' // NaN or infinity in what was trained, or in a state that was handed to us
  | 'E_SNAPSHOT_SIZE' // not the bytes of an agreed state of this model
  | 'E_OWN_FORMAT'; // not what `exportOwn` wrote for this model

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
}

/** An update of a certified round, fetched. */
export interface CertifiedUpdate {
  payload: Uint8Array;
  /** tokens that its author trained on, a positive safe integer */
  tokens: number;
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
 * up to float32 rounding. A peer's round is: train a copy of `parameters`; `contribute` (or `abandon`) it; `apply` the
 * certified updates. Methods that throw a CodedError leave everything as it was.
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
  readonly #sha256: Sha256;
  #residual: Float32Array;
  #scratch: Float32Array;
  /** own update as it decodes, between `contribute` and the round's end */
  #pending: Float32Array | undefined;
  /** own updates inside unfinal rounds, which another history may still undo */
  #unfinalOwn: Float32Array | undefined;

  constructor(components: ReplicaComponents, init: ReplicaInit) {
    const allocate = components.allocate ?? ((length) => new Float32Array(length));
    this.#sha256 = components.sha256 ?? sha256;
    this.#layout = init.layout;
    this.#codec = codecOf(init.codec);
    this.#averaging = averagingOf(init.averaging.name);
    this.#outer = outerOf(init.outer.name);
    this.#outerConfig = init.outer;
    this.parameters = allocate(init.layout.length);
    this.outerState = allocate(init.layout.length * this.#outer.slots);
    this.#residual = new Float32Array(init.layout.length);
    this.#scratch = new Float32Array(init.layout.length);
  }

  /** Own work that no update has carried yet (error feedback). A view: valid until the next call. */
  get residual(): Float32Array {
    return this.#residual;
  }

  get pending(): Float32Array | undefined {
    return this.#pending;
  }

  get unfinalOwn(): Float32Array | undefined {
    return this.#unfinalOwn;
  }

  /**
   * Ends the round's training: what changed, with the residual, becomes an update.
   *
   *   residual <- beta residual + (parameters - local);  payload = encode(residual);  residual <- residual - decoded
   *
   * @param local parameters after the inner steps
   * @throws CodedError `E_NOT_FINITE` when training diverged: begin the next round from the agreed parameters
   */
  contribute(local: Float32Array): { payload: Uint8Array } {
    assert(this.#pending === undefined, 'contribute: the update before is not settled by apply or adopt');
    const next = this.#withChange(local, this.#codec.residualDecay);
    if (!allFinite(next)) throw notFinite('training diverged, or its change overflows float32; nothing is sent');
    const payload = this.#codec.encode(next, this.#layout);
    const decoded = new Float32Array(next.length);
    this.#codec.decode(payload, this.#layout, decoded);
    for (let i = 0; i < next.length; i++) next[i] = next[i]! - decoded[i]!;
    if (!allFinite(next)) throw notFinite('what the codec leaves out overflows float32; nothing is sent');
    this.#takeResidual(next);
    this.#pending = decoded;
    return { payload };
  }

  /**
   * Keeps the work of a round that ends before an update could be made of it: `residual <- residual + (parameters -
   * local)`.
   * @returns false, with nothing changed, when it is not finite
   */
  abandon(local: Float32Array): boolean {
    const next = this.#withChange(local, 1);
    if (!allFinite(next)) return false;
    this.#takeResidual(next);
    return true;
  }

  /** Takes back an update that is not announced, or was made before a restart: its work returns to the residual. */
  withdraw(): void {
    addTo(this.#residual, this.#pending);
    this.#pending = undefined;
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
    const returned = updates.filter(({ own }) => own === 'returned').map(({ payload }) => payload);
    for (const { payload } of updates) this.#codec.check(payload, this.#layout);
    const mean = this.#averaging.init(this.#layout.length);
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
   * @param own whether the own pending update is in the round, and payloads of own ones that were given back before
   */
  applyKnown(
    agreed: { parameters: Float32Array; outerState: Float32Array },
    own: { included: boolean; final: boolean; returned: readonly Uint8Array[] },
  ): void {
    this.parameters.set(agreed.parameters);
    this.outerState.set(agreed.outerState);
    this.#settleOwn(own);
  }

  #settleOwn(own: { included: boolean; final: boolean; returned: readonly Uint8Array[] }): void {
    const { included, final, returned } = own;
    if (!included) addTo(this.#residual, this.#pending);
    else if (!final) this.#unfinalOwn = sumOf(this.#unfinalOwn, this.#pending);
    this.#pending = undefined;
    const taken = returned.map((payload) => this.#takeBack(payload));
    if (!final) for (const values of taken) this.#unfinalOwn = sumOf(this.#unfinalOwn, values);
    if (final) this.#unfinalOwn = undefined;
  }

  /** What an update carries leaves the residual, where it was given back to. */
  #takeBack(payload: Uint8Array): Float32Array {
    const values = new Float32Array(this.#layout.length);
    this.#codec.decode(payload, this.#layout, values);
    for (let i = 0; i < values.length; i++) this.#residual[i] = this.#residual[i]! - values[i]!;
    return values;
  }

  /**
   * Replaces the agreed state by that of another history (state sync). Own work that only the old one had, and an
   * update that is still pending, return to the residual.
   * @param included payloads of own updates on the books (pending, unfinal, or given back) that are in the new state,
   *   for good or in unfinal rounds of its history
   * @throws CodedError `E_NOT_FINITE`
   */
  adopt(parameters: Float32Array, outerState: Float32Array, included: Included = NOTHING): void {
    assert(parameters.length === this.parameters.length, `adopt: ${parameters.length} parameters`);
    assert(outerState.length === this.outerState.length, `adopt: ${outerState.length} values of outer state`);
    if (!allFinite(parameters) || !allFinite(outerState)) throw notFinite('the state offered for adoption is damaged');
    this.parameters.set(parameters);
    this.outerState.set(outerState);
    addTo(this.#residual, this.#pending);
    addTo(this.#residual, this.#unfinalOwn);
    this.#pending = undefined;
    this.#unfinalOwn = undefined;
    for (const payload of included.final) this.#takeBack(payload);
    for (const payload of included.unfinal) this.#unfinalOwn = sumOf(this.#unfinalOwn, this.#takeBack(payload));
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

  /** Own work for a file: a byte that says which vectors there are, then residual, pending, unfinalOwn. */
  exportOwn(): Uint8Array {
    const pending = this.#pending ?? new Float32Array(0);
    const unfinalOwn = this.#unfinalOwn ?? new Float32Array(0);
    const vectors = [this.#residual, pending, unfinalOwn];
    const bytes = new Uint8Array(1 + vectors.reduce((size, { length }) => size + FLOAT_BYTES * length, 0));
    bytes[0] = (pending.length > 0 ? PENDING : 0) | (unfinalOwn.length > 0 ? UNFINAL_OWN : 0);
    let at = 1;
    for (const vector of vectors) at = writeFloats(vector, bytes, at);
    return bytes;
  }

  /**
   * Takes back what `exportOwn` wrote, replacing own work.
   * @throws CodedError `E_OWN_FORMAT`, `E_NOT_FINITE`
   */
  importOwn(bytes: Uint8Array): void {
    const { length } = this.parameters;
    const flags = bytes[0] ?? 0;
    const count = 1 + (flags & PENDING ? 1 : 0) + (flags & UNFINAL_OWN ? 1 : 0);
    if (bytes.length !== 1 + FLOAT_BYTES * length * count || flags > (PENDING | UNFINAL_OWN)) {
      const message = `own work of ${bytes.length} bytes does not fit a model of ${length} parameters: remove the file`;
      throw new CodedError<ReplicaErrorCode>('E_OWN_FORMAT', message);
    }
    const vectors = Array.from({ length: count }, (_, i) => {
      const vector = new Float32Array(length);
      readFloats(bytes, 1 + FLOAT_BYTES * length * i, vector);
      if (!allFinite(vector)) throw notFinite('the file of own work is damaged: remove it');
      return vector;
    });
    this.#residual = vectors[0]!;
    this.#pending = flags & PENDING ? vectors[1]! : undefined;
    this.#unfinalOwn = flags & UNFINAL_OWN ? vectors.at(-1)! : undefined;
  }

  /** `decay residual + (parameters - local)`, in the scratch vector. */
  #withChange(local: Float32Array, decay: number): Float32Array {
    assert(local.length === this.parameters.length, `${local.length} local parameters of ${this.parameters.length}`);
    const [residual, parameters, next] = [this.#residual, this.parameters, this.#scratch];
    for (let i = 0; i < next.length; i++) {
      const change = Math.fround(parameters[i]! - local[i]!);
      next[i] = Math.fround(decay * residual[i]!) + change;
    }
    return next;
  }

  /** Makes the scratch vector the residual and the old residual scratch. */
  #takeResidual(next: Float32Array): void {
    this.#scratch = this.#residual;
    this.#residual = next;
  }
}

interface Included {
  final: readonly Uint8Array[];
  unfinal: readonly Uint8Array[];
}
const NOTHING: Included = { final: [], unfinal: [] };

const PENDING = 1;
const UNFINAL_OWN = 2;

function notFinite(why: string): CodedError<ReplicaErrorCode> {
  return new CodedError('E_NOT_FINITE', `NaN or infinity: ${why}`);
}

function addTo(target: Float32Array, vector: Float32Array | undefined): void {
  if (vector === undefined) return;
  for (let i = 0; i < target.length; i++) target[i] = target[i]! + vector[i]!;
}

function sumOf(a: Float32Array | undefined, b: Float32Array | undefined): Float32Array | undefined {
  if (a === undefined) return b;
  addTo(a, b);
  return a;
}

import type { RoundPlan } from '../node/train/trainer.ts';
import { COMMITTEE, checkGenesis, type Genesis, PROTOCOL_VERSION } from '../protocol/genesis.ts';
import { modelLayout } from '../protocol/model.ts';
import type { OwnHistory } from '../protocol/own-updates.ts';
import { randomStream } from '../protocol/random.ts';
import { normal } from './distribution.ts';
import type { ApplyRequest, Contribution, Kept, ReplicaHost, Settled, Training } from './replica-host.ts';
import { AgreedStates, type InnerTrainer, Seat, type SeatObserver, type Trained, type TrainRequest } from './seat.ts';

/** The problem that stands for a model where only the protocol is of interest. */
export interface Quadratic {
  /** alpha at the inner learning rate that a synthetic genesis has, which is 1 */
  learningRate: number;
  /** h: curvatures run from 1 down to this, geometrically */
  curvatureMin: number;
  /** standard deviation of the peers' optima around the common one */
  spread: number;
  /** sigma: standard deviation of the noise on every gradient coordinate */
  noise: number;
}

const DEFAULT_QUADRATIC: Quadratic = { learningRate: 0.1, curvatureMin: 0.1, spread: 0.1, noise: 0.1 };

/** The problem of one who trains on everybody's data, so many batches in a step: the common optimum, less noise. */
export function pooledQuadratic(batches: number): Quadratic {
  return { ...DEFAULT_QUADRATIC, spread: 0, noise: DEFAULT_QUADRATIC.noise / Math.sqrt(batches) };
}

/** The smallest model that genesis allows: its vector is long enough for every codec, and a thousand of them are small. */
const SHAPE = { layers: 1, heads: 1, width: 4, context: 4, vocabulary: 4 };

/** What a synthetic run can be asked to be; the rest of a genesis does not matter to it. */
export type SyntheticChoices = Pick<
  Genesis,
  'founder' | 'seed' | 'innerSteps' | 'codec' | 'outer' | 'rounds' | 'waitFor' | 'timing'
> &
  Partial<Pick<Genesis, 'committee'>>;

export function syntheticGenesis(choices: SyntheticChoices): Genesis {
  const inner = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, clipNorm: 0 };
  return checkGenesis({
    version: PROTOCOL_VERSION,
    title: 'noisy quadratic',
    model: SHAPE,
    tokenizer: { kind: 'byte' },
    data: { name: 'synthetic', blob: { id: '0'.repeat(64), size: 1 }, validationFraction: 0 },
    inner: { ...inner, learningRate: 1, learningRateMin: 0, warmupSteps: 0, decaySteps: 1 },
    batch: 1,
    averaging: { name: 'all' },
    committee: COMMITTEE,
    ...choices,
  } satisfies Genesis);
}

/**
 * Inner SGD on a noisy quadratic with an optimum of its own for every peer, in closed form:
 *
 *   f_i(x) = 1/2 sum_j h_j (x_j - c_ij)^2,   c_ij = c_j + spread z_ij
 *   x_H = c_i + q^H (x_0 - c_i) + noise,     q_j = 1 - alpha h_j,
 *   noise ~ N(0, alpha^2 sigma^2 (1 - q^2H) / (1 - q^2))
 *
 * so that averaging with outer SGD at rate 1 contracts the distance to the mean optimum by exactly q^H a round, but for
 * the noise. The loss is f at the mean optimum's scale: f(x) with c for c_i.
 */
export class QuadraticTrainer implements InnerTrainer<null> {
  readonly #seed: number;
  readonly #quadratic: Quadratic;
  readonly #length: number;
  readonly #tokensAStep: number;
  readonly curvatures: Float64Array;
  readonly center: Float64Array;
  readonly #optima = new Map<number, Float64Array>();
  #pace: Pace | undefined;

  constructor({ seed, model, batch, inner }: Genesis, quadratic: Quadratic) {
    const { length } = modelLayout(model);
    this.#seed = seed;
    this.#quadratic = { ...quadratic, learningRate: inner.learningRate * quadratic.learningRate };
    this.#length = length;
    this.#tokensAStep = batch * model.context;
    this.curvatures = Float64Array.from({ length }, (_, j) => quadratic.curvatureMin ** (j / (length - 1)));
    const random = randomStream(seed, 'optimum');
    this.center = Float64Array.from({ length }, () => normal(random));
  }

  fresh(): null {
    return null;
  }

  /** c_i */
  optimum(peer: number): Float64Array {
    let optimum = this.#optima.get(peer);
    if (!optimum) {
      const random = randomStream(this.#seed, 'optimum', peer);
      optimum = this.center.map((common) => common + this.#quadratic.spread * normal(random));
      this.#optima.set(peer, optimum);
    }
    return optimum;
  }

  loss(parameters: ArrayLike<number>): number {
    let sum = 0;
    for (let j = 0; j < this.#length; j++) sum += this.curvatures[j]! * (parameters[j]! - this.center[j]!) ** 2;
    return sum / 2;
  }

  async train({ peer, parameters, plan, stop }: TrainRequest<null>): Promise<Trained<null>> {
    const steps = Math.min(plan.steps, stop.steps);
    const local = this.#descend(peer, parameters, plan, steps);
    const tokens = steps * this.#tokensAStep;
    const meanLoss = (this.loss(parameters) + this.loss(local)) / 2;
    return { local, optimizer: null, steps, tokens, meanLoss, badParameters: false };
  }

  async evaluate(parameters: Float32Array): Promise<number> {
    return this.loss(parameters);
  }

  #descend(peer: number, from: Float32Array, plan: RoundPlan, steps: number): Float32Array {
    const { spread, noise } = this.#quadratic;
    const { contractions, deviations } = this.#paceOf(steps);
    const optimum = spread === 0 ? this.center : this.optimum(peer);
    const random = randomStream(this.#seed, 'gradient', peer, plan.firstStep);
    const local = new Float32Array(this.#length);
    for (let j = 0; j < this.#length; j++) {
      const gaussian = noise === 0 ? 0 : deviations[j]! * normal(random);
      local[j] = optimum[j]! + contractions[j]! * (from[j]! - optimum[j]!) + gaussian;
    }
    return local;
  }

  /** The same for all peers that take so many steps. */
  #paceOf(steps: number): Pace {
    if (this.#pace?.steps === steps) return this.#pace;
    const { learningRate, noise } = this.#quadratic;
    const contractions = new Float64Array(this.#length);
    const deviations = new Float64Array(this.#length);
    for (let j = 0; j < this.#length; j++) {
      const q = 1 - learningRate * this.curvatures[j]!;
      const contraction = q ** steps;
      const variance = (1 - contraction ** 2) / (1 - q ** 2);
      contractions[j] = contraction;
      deviations[j] = noise * learningRate * Math.sqrt(variance);
    }
    this.#pace = { steps, contractions, deviations };
    return this.#pace;
  }
}

/** What so many steps do to each coordinate: q^H, and the standard deviation of the noise. */
interface Pace {
  steps: number;
  contractions: Float64Array;
  deviations: Float64Array;
}

/** All replicas in this thread, training in closed form. */
export class SyntheticHost implements ReplicaHost {
  readonly parameters: number;
  readonly trainer: QuadraticTrainer;
  readonly #seats: Seat<null>[];

  /** @param observer makes every peer compute its states itself, every time, so that a difference shows, and hears of its work */
  constructor(genesis: Genesis, peers: number, quadratic: Quadratic = DEFAULT_QUADRATIC, observer?: SeatObserver) {
    this.parameters = modelLayout(genesis.model).length;
    this.trainer = new QuadraticTrainer(genesis, quadratic);
    const shared = new AgreedStates();
    const statesOf = () => (observer ? new AgreedStates(0) : shared);
    this.#seats = Array.from({ length: peers }, (_, peer) => {
      return new Seat(peer, genesis, this.trainer, statesOf(), observer);
    });
  }

  initialize(peer: number): Promise<Settled> {
    return this.#seats[peer]!.initialize();
  }

  restore(peer: number, snapshot: { id: string; bytes: Uint8Array }, own: OwnHistory): Promise<Settled> {
    return this.#seats[peer]!.restore(snapshot, own);
  }

  train(peer: number, training: Training): void {
    this.#seats[peer]!.train(training);
  }

  contribute(peer: number, steps: number): Promise<Contribution | null> {
    return this.#seats[peer]!.contribute(steps);
  }

  keep(peer: number, steps: number): Promise<Kept | null> {
    return this.#seats[peer]!.keep(steps);
  }

  abandon(peer: number, steps: number): Promise<void> {
    return this.#seats[peer]!.abandon(steps);
  }

  apply(peer: number, request: ApplyRequest): Promise<Settled> {
    return this.#seats[peer]!.apply(request);
  }

  restart(peer: number, version: number): void {
    this.#seats[peer]!.restart(version);
  }

  evaluate(peer: number): Promise<number | null> {
    return this.#seats[peer]!.evaluate(true);
  }

  async close(): Promise<void> {}
}

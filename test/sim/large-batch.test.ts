import { expect, test } from 'vitest';
import { makeDataset } from '../../node/data/dataset.ts';
import { loadText } from '../../node/data/sources.ts';
import { buildGenesis, tokenizerFor } from '../../node/defaults.ts';
import type { Engine } from '../../node/train/engine.ts';
import { createEngine, Trainer } from '../../node/train/index.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import { initialParameters } from '../../protocol/model.ts';
import { Identities } from '../../sim/identity.ts';
import { AgreedStates, type InnerTrainer, Seat, type Trained, type TrainRequest } from '../../sim/seat.ts';

/**
 * Inner SGD with the gradient of the real engine: with beta1 = 0 and no clipping, AdamW's first moment after a step is the
 * gradient of that step's batch.
 */
class GradientSteps implements InnerTrainer<null> {
  readonly #engine: Engine;
  readonly #trainer: Trainer;
  readonly #rate: number;

  constructor(trainer: Trainer, rate: number) {
    this.#engine = trainer.engine;
    this.#trainer = trainer;
    this.#rate = rate;
  }

  fresh(): null {
    return null;
  }

  async train({ parameters, plan }: TrainRequest<null>): Promise<Trained<null>> {
    expect(plan.steps).toBe(1);
    const { length } = parameters;
    const [m, v] = [new Float32Array(length), new Float32Array(length)];
    await this.#engine.writeParameters(parameters);
    await this.#engine.writeOptimizer({ m, v, t: 0 });
    const result = await this.#trainer.trainRound(plan);
    await this.#engine.readOptimizer({ m, v });
    const local = parameters.map((theta, i) => theta - this.#rate * m[i]!);
    return { local, optimizer: null, ...result };
  }

  async evaluate(): Promise<null> {
    return null;
  }
}

test('R peers with H = 1, inner SGD, fp32 and outer SGD at rate 1 are SGD on their batches taken together, within rounding', async () => {
  const [peers, rounds, batch, rate] = [3, 3, 2, 0.5];
  const [first] = new Identities().swarm(5, 1);
  const { bytes } = loadText();
  const tokenizer = tokenizerFor('char', bytes);
  const choices = {
    model: 'micro',
    batch,
    rounds,
    innerSteps: 1,
    waitFor: peers,
    codec: 'fp32',
    outer: 'sgd',
  } as const;
  const built = buildGenesis(choices, first!.self, { name: 'text', bytes }, tokenizer);
  const genesis: Genesis = {
    ...built,
    inner: { ...built.inner, beta1: 0, clipNorm: 0 },
    outer: { name: 'sgd', learningRate: 1, momentum: 0 },
  };
  const { model, inner } = genesis;
  const engine = await createEngine({ model, inner, backend: 'wasm', deterministic: true });
  const splits = makeDataset(bytes, tokenizer, 0.1);
  const small = new GradientSteps(new Trainer({ engine, splits, genesis }), rate);
  const large = new GradientSteps(new Trainer({ engine, splits, genesis: { ...genesis, batch: peers * batch } }), rate);
  const seats = Array.from({ length: peers }, (_, peer) => new Seat(peer, genesis, small, new AgreedStates()));
  try {
    let theta: Float32Array = initialParameters(model, genesis.seed);
    await Promise.all(seats.map((seat) => seat.initialize()));
    for (let round = 0; round < rounds; round++) {
      const common = { firstStep: round, steps: 1 };
      const position = round * peers * batch;
      const updates = [];
      for (const [peer, seat] of seats.entries()) {
        seat.train({ ...common, round, firstPosition: position + peer * batch });
        updates.push((await seat.contribute(1))!);
      }
      const applied = { block: String(round), round, updates, final: true };
      const states = await Promise.all(seats.map((seat, own) => seat.apply({ ...applied, own })));
      expect(new Set(states.map(({ snapshot }) => snapshot)).size).toBe(1);
      const plan = { ...common, firstPosition: position };
      const { local } = await large.train({ peer: 0, parameters: theta, optimizer: null, plan, stop: { steps: 1 } });
      const agreed = new Float32Array(states[0]!.bytes!.slice().buffer);
      let [difference, step] = [0, 0];
      for (const [i, expected] of local.entries()) {
        difference = Math.max(difference, Math.abs(agreed[i]! - expected));
        step = Math.max(step, Math.abs(expected - theta[i]!));
      }
      // four roundings of values near one, of a step that moves some by far more
      expect(difference).toBeLessThan(4 * 2 ** -23);
      expect(step).toBeGreaterThan(0.05);
      theta = agreed;
    }
  } finally {
    engine.dispose();
  }
});

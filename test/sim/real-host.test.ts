import { expect, test } from 'vitest';
import { makeDataset } from '../../node/data/dataset.ts';
import { loadText } from '../../node/data/sources.ts';
import { buildGenesis, type RunChoices, tokenizerFor } from '../../node/defaults.ts';
import { createEngine, Trainer } from '../../node/train/index.ts';
import { encodeGenesis, type Genesis } from '../../protocol/genesis.ts';
import { initialParameters } from '../../protocol/model.ts';
import { Identities } from '../../sim/identity.ts';
import { RealHost } from '../../sim/real-host.ts';
import { makeScenario, type ScenarioText } from '../../sim/scenario.ts';
import { Simulation, type SimulationResult } from '../../sim/simulation.ts';

const { bytes: text } = loadText();
const tokenizer = tokenizerFor('char', text);
const MINUTE = 60_000;

function genesisOf(peers: number, choices: RunChoices, changes: Partial<Genesis> = {}) {
  const signers = new Identities().swarm(5, peers);
  const common = { model: 'micro', batch: 2, waitFor: peers } as const;
  const genesis = buildGenesis({ ...common, ...choices }, signers[0]!.self, { name: 'text', bytes: text }, tokenizer);
  return { signers, genesis: { ...genesis, ...changes } };
}

function openHost(genesis: Genesis, workers: number): Promise<RealHost> {
  const genesisBytes = encodeGenesis(genesis);
  return RealHost.open(
    { genesisBytes, text, tokenizer: tokenizer.blob, backend: 'wasm', deterministic: true },
    workers,
  );
}

async function simulate(peers: number, workers: number, scenario: ScenarioText): Promise<SimulationResult> {
  const { genesis, signers } = genesisOf(peers, { rounds: 3, innerSteps: 3 });
  const host = await openHost(genesis, workers);
  try {
    const world = makeScenario(scenario, peers);
    return await new Simulation({ genesis, signers, scenario: world, seed: 5, host, evaluateEvery: 2 }).run();
  } finally {
    await host.close();
  }
}

test(
  'one or two worker threads: the same trace, the same losses; stragglers that are cut short included',
  async () => {
    const scenario = { stragglers: '34%x15', latency: 'lognormal(30ms,0.5)', bandwidth: '50mbit/20mbit' };
    const [one, two] = [await simulate(3, 1, scenario), await simulate(3, 2, scenario)];
    expect(one.reason).toBe('rounds');
    expect(two.traceHash).toBe(one.traceHash);
    // the same on any machine and version of Node; a change of the protocol or the model changes it (`vitest -u`)
    expect(one.traceHash).toMatchInlineSnapshot(`"375786407245b073d1649be320d2d84cdbf60313cf534051a95c02d69f072f6b"`);
    expect(two.rows).toEqual(one.rows);
    expect(one.rows.map(({ valLoss }) => valLoss === null)).toEqual([true, false, false]);
    expect(one.rows[0]!.contributors).toBe(3);
    expect(one.rows[0]!.tokens).toBeLessThan(3 * 3 * 2 * 32);
    expect(one.rows.at(-1)!.trainLoss).toBeLessThan(one.rows[0]!.trainLoss);
  },
  2 * MINUTE,
);

test(
  'DiLoCo with one peer, H = 1, outer rate 1, no momentum and fp32 is AdamW, but for a rounding a round',
  async () => {
    const rounds = 4;
    const outer = { name: 'sgd', learningRate: 1, momentum: 0 } as const;
    const { genesis } = genesisOf(1, { rounds, innerSteps: 1, codec: 'fp32', outer: 'sgd' }, { outer });
    const host = await openHost(genesis, 1);
    const { model, inner } = genesis;
    const engine = await createEngine({ model, inner, backend: 'wasm', deterministic: true });
    const plain = new Trainer({ engine, splits: makeDataset(text, tokenizer, 0.1), genesis });
    const expected = initialParameters(model, genesis.seed);
    await engine.writeParameters(expected);
    try {
      let state = await host.initialize(0);
      for (let round = 0; round < rounds; round++) {
        const plan = { round, firstStep: round, steps: 1, firstPosition: round * genesis.batch };
        host.train(0, plan);
        const contribution = await host.contribute(0, 1);
        const update = contribution!;
        const applied = { block: String(round), round, updates: [update], own: 0, final: true };
        state = await host.apply(0, applied);
        await plain.trainRound(plan);
        await engine.readParameters(expected);
        const theta = new Float32Array(state.bytes.slice().buffer);
        expect(theta.length).toBe(expected.length);
        // theta - (theta - local) rounds to float32 where local does: half a unit in the last place of either
        for (let i = 0; i < theta.length; i++) {
          const unit = 2 ** -23 * Math.max(Math.abs(theta[i]!), Math.abs(expected[i]!), 2 ** -20);
          expect(Math.abs(theta[i]! - expected[i]!)).toBeLessThanOrEqual((round + 1) * unit);
        }
        // go on from the same bits, so that each round is compared alone
        await engine.writeParameters(theta);
        expected.set(theta);
      }
    } finally {
      engine.dispose();
      await host.close();
    }
  },
  MINUTE,
);

test(
  'a training cut short is the training of as many steps, also when the engine had run ahead',
  async () => {
    const { genesis } = genesisOf(1, { rounds: 2, innerSteps: 6 });
    const plan = { firstStep: 0, steps: 6, firstPosition: 0 };
    const payloads = [];
    for (const [planned, asked, ahead] of [
      [6, 2, true],
      [2, 2, false],
      [6, 2, false],
    ] as const) {
      const host = await openHost(genesis, 1);
      try {
        await host.initialize(0);
        host.train(0, { ...plan, steps: planned, round: 0 });
        // an answer about another peer of the thread comes after the six steps
        if (ahead) {
          await host.initialize(1);
          host.train(1, { ...plan, round: 0 });
          await host.contribute(1, 6);
        }
        const contribution = await host.contribute(0, asked);
        expect(contribution).toMatchObject({ steps: 2 });
        payloads.push(contribution!.payload);
      } finally {
        await host.close();
      }
    }
    expect(new Set(payloads).size).toBe(1);
  },
  MINUTE,
);

test(
  'a process that dies comes back with what its disk had, and a fresh optimizer',
  async () => {
    const { genesis } = genesisOf(1, { rounds: 2, innerSteps: 2 });
    const host = await openHost(genesis, 1);
    const plan = { round: 0, firstStep: 0, steps: 2, firstPosition: 0 };
    try {
      const initial = await host.initialize(0);
      host.train(0, plan);
      const before = await host.contribute(0, 2);
      host.restart(0, initial.version);
      host.train(0, plan);
      const after = await host.contribute(0, 2);
      expect(after!.payload).toBe(before!.payload);
    } finally {
      await host.close();
    }
  },
  MINUTE,
);

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildGenesis, conflictsWith, MODEL_NAMES, type RunChoices, tokenizerFor } from '../../node/defaults.ts';
import { blobIdOf } from '../../protocol/blob.ts';
import { CODEC_NAMES } from '../../protocol/codecs/codec.ts';
import { codecOf } from '../../protocol/codecs/index.ts';
import { checkGenesis, decodeGenesis, encodeGenesis } from '../../protocol/genesis.ts';
import { peerIdOf } from '../../protocol/identity.ts';
import { modelLayout } from '../../protocol/model.ts';
import { innerLearningRate } from '../../protocol/schedule.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const founder = peerIdOf(new Uint8Array(32));
const source = { name: 'fox', bytes: new TextEncoder().encode('The quick brown fox.\n'.repeat(1000)) };

function genesisOf(choices: RunChoices) {
  return buildGenesis(choices, founder, source, tokenizerFor(choices.tokenizer, source.bytes));
}

describe('buildGenesis', () => {
  for (const model of MODEL_NAMES) {
    for (const codec of CODEC_NAMES) {
      it(`makes a valid genesis of ${model} with ${codec}`, () => {
        const genesis = genesisOf({ model, codec });
        expect(checkGenesis(genesis)).toEqual(genesis);
        expect(decodeGenesis(encodeGenesis(genesis))).toEqual(genesis);
        expect(codecOf(genesis.codec).name).toBe(codec);
      });
    }
  }

  it('gives nano the schedule of nanoGPT on a CPU', () => {
    const { inner, batch, model, seed } = genesisOf({ model: 'nano' });
    expect({ ...inner, batch, seed }).toEqual({
      learningRate: 1e-3,
      learningRateMin: 1e-4,
      warmupSteps: 100,
      decaySteps: 2000,
      beta1: 0.9,
      beta2: 0.99,
      epsilon: 1e-8,
      weightDecay: 0.1,
      clipNorm: 1,
      batch: 12,
      seed: 1337,
    });
    expect(model).toMatchObject({ layers: 4, heads: 4, width: 128, context: 64 });
  });

  it('pairs dense codecs with nesterov and sparse ones with sgd', () => {
    const outerOf = (codec: RunChoices['codec']) => genesisOf(codec ? { codec } : {}).outer;
    for (const codec of ['fp32', 'fp16', 'int8'] as const) {
      expect(outerOf(codec)).toEqual({ name: 'nesterov', learningRate: 0.7, momentum: 0.9 });
    }
    for (const codec of ['sparseloco', 'topk'] as const) {
      expect(outerOf(codec)).toEqual({ name: 'sgd', learningRate: 1, momentum: 0 });
    }
    expect(genesisOf({ codec: 'fp32', outer: 'sgd' }).outer).toEqual({ name: 'sgd', learningRate: 1, momentum: 0 });
    expect(genesisOf({ codec: 'topk', outer: 'nesterov' }).outer).toMatchObject({ name: 'nesterov', momentum: 0.9 });
  });

  it('names the data and the tokenizer by their hashes', () => {
    const tokenizer = tokenizerFor('char', source.bytes);
    const { data, tokenizer: config, model, title } = genesisOf({});
    expect(data.blob).toEqual({ id: blobIdOf(source.bytes), size: source.bytes.length });
    const blob = tokenizer.blob ?? new Uint8Array();
    expect(config).toEqual({ kind: 'char', blob: { id: blobIdOf(blob), size: blob.length } });
    expect(model.vocabulary).toBe(tokenizer.vocabulary);
    expect(title).toBe('nano on fox');
    expect(genesisOf({ tokenizer: 'byte' })).toMatchObject({ tokenizer: { kind: 'byte' }, model: { vocabulary: 256 } });
  });

  it('lets the learning rate fall over a run of known length', () => {
    const { inner } = genesisOf({ model: 'nano', rounds: 5, innerSteps: 20 });
    expect(inner).toMatchObject({ decaySteps: 100, warmupSteps: 10 });
    expect(innerLearningRate(inner, 10)).toBeCloseTo(inner.learningRate, 6);
    expect(innerLearningRate(inner, 100)).toBe(inner.learningRateMin);
    expect(genesisOf({ model: 'nano', rounds: 40 }).inner).toEqual(genesisOf({ model: 'nano' }).inner);
    expect(genesisOf({ rounds: 1, innerSteps: 1 }).inner).toMatchObject({ decaySteps: 1, warmupSteps: 0 });
  });

  it('takes every choice', () => {
    const choices = { innerSteps: 7, batch: 3, waitFor: 2, rounds: 9, seed: 0, graceMs: 5000, quorumWaitMs: null };
    const { timing, ...genesis } = genesisOf(choices);
    const { graceMs, quorumWaitMs, ...rest } = choices;
    expect(genesis).toMatchObject(rest);
    expect(timing).toEqual({ graceMs, viewMs: 2000, quorumWaitMs });
    expect(genesisOf({}).timing.graceMs).toBe(2000);
  });

  it('refuses a text that is too small for the context', () => {
    const small = { name: 'small', bytes: new TextEncoder().encode('too small') };
    const build = () => buildGenesis({}, founder, small, tokenizerFor('byte', small.bytes));
    expect(build).toThrow(expect.objectContaining({ code: 'E_DATA_TOO_SMALL' }));
    const empty = { name: 'empty', bytes: new Uint8Array() };
    const buildEmpty = () => buildGenesis({}, founder, empty, tokenizerFor('char', empty.bytes));
    expect(buildEmpty).toThrow(expect.objectContaining({ code: 'E_DATA_TOO_SMALL' }));
  });

  it('cuts a long name without breaking a character', () => {
    const long = { ...source, name: `${'x'.repeat(99)}🦊${'x'.repeat(100)}` };
    const genesis = buildGenesis({}, founder, long, tokenizerFor('byte', source.bytes));
    expect(decodeGenesis(encodeGenesis(genesis))).toEqual(genesis);
  });

  it('counts the parameters of gpt2 as published', () => {
    const layout = modelLayout({ ...genesisOf({ model: 'gpt2' }).model, vocabulary: 50_257 });
    expect(Math.round(layout.length / 1e6)).toBe(124);
  });
});

describe('conflictsWith', () => {
  const run: RunChoices = {
    data: './texts/fox',
    model: 'micro',
    tokenizer: 'byte',
    innerSteps: 7,
    batch: 3,
    codec: 'int8',
    outer: 'sgd',
    waitFor: 2,
    rounds: 9,
    seed: 5,
    quorumWaitMs: 1000,
  };

  it('is silent about what agrees and what was not asked for', () => {
    expect(conflictsWith(genesisOf(run), run)).toEqual([]);
    expect(conflictsWith(genesisOf(run), {})).toEqual([]);
  });

  it('names each option, what was asked and what the run has', () => {
    const other: Required<RunChoices> = {
      data: 'sotu',
      model: 'gpt2',
      tokenizer: 'char',
      innerSteps: 8,
      batch: 4,
      codec: 'topk',
      outer: 'nesterov',
      waitFor: 1,
      rounds: 10,
      seed: 6,
      graceMs: 10_000,
      quorumWaitMs: null,
    };
    expect(conflictsWith(genesisOf(run), other)).toEqual([
      { option: '--data', asked: 'sotu', run: 'fox' },
      { option: '--model', asked: 'gpt2', run: 'micro' },
      { option: '--tokenizer', asked: 'char', run: 'byte' },
      { option: '--inner-steps', asked: '8', run: '7' },
      { option: '--batch', asked: '4', run: '3' },
      { option: '--codec', asked: 'topk', run: 'int8' },
      { option: '--outer', asked: 'nesterov', run: 'sgd' },
      { option: '--wait-for', asked: '1', run: '2' },
      { option: '--rounds', asked: '10', run: '9' },
      { option: '--seed', asked: '6', run: '5' },
      { option: '--grace', asked: '10s', run: '2s' },
      { option: '--quorum-wait', asked: 'never', run: '1s' },
    ]);
  });

  it('looks at what a text says where it is here, whatever its name', () => {
    const genesis = genesisOf({});
    const folder = temporaryFolder();
    const [same, edited] = [join(folder, 'copy.txt'), join(folder, 'fox')];
    writeFileSync(same, source.bytes);
    writeFileSync(edited, 'The quick brown dog.\n');
    expect(conflictsWith(genesis, { data: same })).toEqual([]);
    const asked = expect.stringMatching(/^fox of 21 bytes, hash [0-9a-f]{8}$/);
    const run = expect.stringMatching(/^fox of 21000 bytes, hash [0-9a-f]{8}$/);
    expect(conflictsWith(genesis, { data: edited })).toEqual([{ option: '--data', asked, run }]);
  });

  it('tells of a run without end, and of a model that is no preset', () => {
    const genesis = genesisOf({ model: 'micro' });
    expect(conflictsWith(genesis, { rounds: 3 })).toEqual([{ option: '--rounds', asked: '3', run: 'without end' }]);
    const wider = { ...genesis, model: { ...genesis.model, width: 72 } };
    expect(conflictsWith(wider, { model: 'micro' })).toEqual([
      { option: '--model', asked: 'micro', run: '2 layers, 2 heads, width 72, context 32' },
    ]);
  });
});

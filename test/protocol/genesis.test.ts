import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeCanonical } from '../../protocol/encoding.ts';
import { checkGenesis, decodeGenesis, encodeGenesis, type Genesis, runIdOf } from '../../protocol/genesis.ts';
import { hashOf } from '../../protocol/hash.ts';
import { LIMITS } from '../../protocol/limits.ts';

const genesis: Genesis = {
  version: 1,
  founder: '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp',
  title: 'moby-dick, nano',
  seed: 1337,
  model: { layers: 4, heads: 4, width: 128, context: 64, vocabulary: 65 },
  tokenizer: { kind: 'char', blob: { id: 'ab'.repeat(32), size: 90 } },
  data: { name: 'moby-dick', blob: { id: 'cd'.repeat(32), size: 1_204_997 }, validationFraction: 0.1 },
  inner: {
    learningRate: 1e-3,
    learningRateMin: 1e-4,
    warmupSteps: 100,
    decaySteps: 2000,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weightDecay: 0.1,
    clipNorm: 1,
  },
  innerSteps: 30,
  batch: 12,
  codec: { name: 'topk', chunk: 4096, k: 128, bits: 2 },
  averaging: { name: 'all' },
  outer: { name: 'nesterov', learningRate: 0.7, momentum: 0.9 },
  rounds: null,
  waitFor: 1,
  committee: { size: 200, heights: 4096 },
  timing: { graceMs: 5000, viewMs: 2000, quorumWaitMs: 60_000 },
};

/** Every path to a value that is no object. */
function leaves(value: object, path: string[] = []): string[][] {
  return Object.entries(value).flatMap(([key, inside]) =>
    inside !== null && typeof inside === 'object' ? leaves(inside, [...path, key]) : [[...path, key]],
  );
}

function changed(path: string[], to: unknown): unknown {
  const copy = structuredClone(genesis) as Record<string, unknown>;
  let at = copy;
  for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>;
  const last = path.at(-1)!;
  if (to === undefined) delete at[last];
  else at[last] = to;
  return copy;
}

const refusal = (path: string[]) =>
  expect.objectContaining({ code: 'E_GENESIS', message: expect.stringContaining(path.join('.')) });

describe('genesis', () => {
  it('comes back from its bytes, which name the run', () => {
    const bytes = encodeGenesis(genesis);
    expect(decodeGenesis(bytes)).toEqual(genesis);
    expect(runIdOf(genesis)).toBe(hashOf(bytes));
    expect(bytes.length).toBeLessThan(LIMITS.genesisBytesMax / 8);
    expect(runIdOf(JSON.parse(JSON.stringify(genesis)) as Genesis)).toBe(runIdOf(genesis));
  });

  it('names another run when any field is another', () => {
    const ids = leaves(genesis).map((path) => runIdOf(changed(path, 'another') as Genesis));
    expect(new Set([...ids, runIdOf(genesis)]).size).toBe(ids.length + 1);
  });

  it.each(leaves(genesis).filter(([first]) => first !== 'version'))('must have %s %s %s', (...path) => {
    const used = path.filter((key) => key !== undefined);
    expect(() => checkGenesis(changed(used, undefined))).toThrow(expect.objectContaining({ code: 'E_GENESIS' }));
    expect(() => checkGenesis(changed(used, { not: 'this' }))).toThrow(expect.objectContaining({ code: 'E_GENESIS' }));
  });

  it('has no other field, at any depth', () => {
    const extra = [['surprise'], ['model', 'surprise'], ['tokenizer', 'surprise'], ['data', 'blob', 'surprise']];
    for (const path of extra) {
      expect(() => checkGenesis(changed(path, 1))).toThrow(expect.objectContaining({ code: 'E_GENESIS' }));
    }
  });

  it.each<[string, unknown]>([
    ['seed', -1],
    ['seed', 1.5],
    ['founder', 'x'],
    ['title', 'x'.repeat(121)],
    ['model.layers', 0],
    ['model.layers', 257],
    ['model.vocabulary', 1_000_001],
    ['model.width', 130],
    ['data.blob.id', 'AB'.repeat(32)],
    ['data.blob.size', LIMITS.blobBytesMax + 1],
    ['data.validationFraction', 0.51],
    ['inner.learningRate', 0],
    ['inner.learningRate', Number.POSITIVE_INFINITY],
    ['inner.learningRate', Number.NaN],
    ['inner.learningRateMin', 2e-3],
    ['inner.beta2', 1],
    ['codec.name', 'zip'],
    ['codec.k', 4097],
    ['codec.bits', 3],
    ['outer.momentum', 1],
    ['rounds', 0],
    ['waitFor', LIMITS.rosterMax + 1],
    ['timing.viewMs', 0],
  ])('refuses %s = %s and names the field', (name, value) => {
    const path = name.split('.');
    expect(() => checkGenesis(changed(path, value))).toThrow(refusal(path));
  });

  it('refuses fields that do not go together', () => {
    const few = changed(['codec', 'chunk'], 64);
    expect(() => checkGenesis(few)).toThrow(refusal(['codec', 'k']));
    const large = changed(['model', 'width'], 65_536);
    expect(() => checkGenesis(large)).toThrow(refusal(['model']));
    const sgd = changed(['outer', 'name'], 'sgd');
    expect(() => checkGenesis(sgd)).toThrow(refusal(['outer', 'momentum']));
  });

  it('says which protocol another version speaks', () => {
    const bytes = encodeCanonical({ ...genesis, version: 2 });
    expect(() => decodeGenesis(bytes)).toThrow(
      expect.objectContaining({ code: 'E_VERSION', message: expect.stringMatching(/2.*1/) }),
    );
  });

  it('refuses whatever else a stranger sends with a code', () => {
    const codes = ['E_TOO_LARGE', 'E_MALFORMED', 'E_VERSION', 'E_GENESIS'];
    const codeOf = (bytes: Uint8Array) => {
      try {
        decodeGenesis(bytes);
        return 'taken';
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    expect(codeOf(new Uint8Array(LIMITS.genesisBytesMax + 1))).toBe('E_TOO_LARGE');
    for (const value of [null, 1, 'x', [], {}, [genesis]]) expect(codeOf(encodeCanonical(value))).toBe('E_VERSION');
    const whole = encodeGenesis(genesis);
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(7), (at, bit) => {
        const bytes = whole.slice();
        bytes[at]! ^= 1 << bit;
        const code = codeOf(bytes);
        if (code === 'taken') expect(runIdOf(decodeGenesis(bytes))).not.toBe(runIdOf(genesis));
        else expect(codes).toContain(code);
      }),
      { numRuns: 1000 },
    );
  });
});

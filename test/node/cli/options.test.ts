import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import {
  addMachineOptions,
  addRunOptions,
  addTrainingOptions,
  choicesOf,
  decimal,
  integer,
  machineOf,
  oneOf,
} from '../../../node/cli/options.ts';
import { startOptions } from '../../../node/cli/start.ts';

function flagsOf(...argv: string[]) {
  const command = new Command().exitOverride().configureOutput({ outputError: () => undefined });
  addMachineOptions(addRunOptions(addTrainingOptions(command)));
  return command.parse(argv, { from: 'user' }).opts();
}

const OPTION_ERROR = expect.objectContaining({ code: 'E_OPTION' });

describe('values of options', () => {
  it('takes whole numbers within bounds and nothing that merely begins like one', () => {
    const parse = integer('--n', 1, 100);
    expect([parse('1'), parse('007'), parse('100')]).toEqual([1, 7, 100]);
    for (const text of ['', '0', '101', '-1', '1.5', '1e2', '0x10', '5x', ' 5', 'NaN', '9'.repeat(400)]) {
      expect(() => parse(text), text).toThrow(OPTION_ERROR);
    }
  });

  it('takes numbers with a fraction', () => {
    const parse = decimal('--t', 0, 2);
    expect([parse('0'), parse('.5'), parse('1.25'), parse('2')]).toEqual([0, 0.5, 1.25, 2]);
    for (const text of ['', '.', '2.1', '-0.5', '1e-1', 'Infinity'])
      expect(() => parse(text), text).toThrow(OPTION_ERROR);
  });

  it('takes known names only, and says which there are', () => {
    const parse = oneOf('--codec', ['a', 'b', 'c']);
    expect(parse('b')).toBe('b');
    expect(() => parse('d')).toThrow('--codec takes a, b or c, not "d"');
    expect(() => parse('toString')).toThrow(OPTION_ERROR);
  });
});

describe('choices', () => {
  it('are empty where nothing was asked for', () => {
    expect(choicesOf(flagsOf())).toEqual({});
    expect(machineOf(flagsOf())).toEqual({ backend: 'auto', deterministic: false });
  });

  it('hold exactly what was asked for', () => {
    const flags = flagsOf(
      ...'--data x --model micro --tokenizer byte --inner-steps 5 --batch 2 --codec fp16 --outer sgd'.split(' '),
      ...'--wait-for 3 --rounds 4 --seed 0 --grace 2s --quorum-wait never --backend cpu --deterministic'.split(' '),
      ...['--micro-batch', '1'],
    );
    expect(choicesOf(flags)).toEqual({
      data: 'x',
      model: 'micro',
      tokenizer: 'byte',
      innerSteps: 5,
      batch: 2,
      codec: 'fp16',
      outer: 'sgd',
      waitFor: 3,
      rounds: 4,
      seed: 0,
      graceMs: 2000,
      quorumWaitMs: null,
    });
    expect(machineOf(flags)).toEqual({ backend: 'cpu', deterministic: true, microBatch: 1 });
    expect(choicesOf(flagsOf('--quorum-wait', '500ms'))).toEqual({ quorumWaitMs: 500 });
    expect(choicesOf(flagsOf('--quorum-wait', '1.5min'))).toEqual({ quorumWaitMs: 90_000 });
  });

  for (const bad of [
    ['--model', 'huge'],
    ['--codec', 'zip'],
    ['--outer', 'adam'],
    ['--tokenizer', 'word'],
    ['--backend', 'abacus'],
    ['--batch', 'many'],
    ['--wait-for', '0'],
    ['--grace', 'never'],
    ['--grace', '0s'],
    ['--quorum-wait', 'soon'],
    ['--quorum-wait', '30'],
    ['--quorum-wait', '500us'],
    ['--quorum-wait', '25h'],
  ]) {
    it(`refuse ${bad.join(' ')}`, () => {
      expect(() => flagsOf(...bad)).toThrow(OPTION_ERROR);
    });
  }
});

describe('startOptions', () => {
  const address = '/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWCm5r9MZAfj2yyPeRw2gTf5UCEYMkAAUccUZHHYnk1rni';

  it('leaves out what was not said', async () => {
    const nothing = { bootstrap: [], choices: {}, backend: 'auto', deterministic: false };
    expect(await startOptions({})).toStrictEqual(nothing);
  });

  it('passes on addresses, and the folder as an absolute path', async () => {
    const options = await startOptions({ bootstrap: [address], listen: ['/ip4/0.0.0.0/tcp/0'], dir: 'here' });
    expect(options).toMatchObject({
      bootstrap: [address],
      listen: ['/ip4/0.0.0.0/tcp/0'],
      dir: `${process.cwd()}/here`,
    });
  });

  it('refuses no address beside one', async () => {
    await expect(startOptions({ announce: ['none', address] })).rejects.toMatchObject({ code: 'E_OPTION' });
  });

  it('refuses what is no address', async () => {
    const refused = { code: 'E_MULTIADDR' };
    await expect(startOptions({ bootstrap: ['localhost:4001'] })).rejects.toMatchObject(refused);
    await expect(startOptions({ listen: ['/ip4/1.2.3.4/udp/1'] })).rejects.toMatchObject(refused);
  });
});

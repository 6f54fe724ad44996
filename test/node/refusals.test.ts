import { expect, it } from 'vitest';
import { Refusals } from '../../node/refusals.ts';
import { CodedError } from '../../protocol/errors.ts';

it('tells of a reason once in a while, whoever is refused for it, and not of strangers', () => {
  const told: string[] = [];
  let nowMs = 0;
  const refusals = new Refusals(
    (code, message) => told.push(`${code} ${message}`),
    () => nowMs,
  );
  const version = new CodedError('E_OTHER_VERSION', 'run the same version');
  refusals.refused('a', version);
  refusals.refused('a', version);
  refusals.refused('b', version);
  refusals.refused('c', new CodedError('E_NO_HELLO', 'a port scanner'));
  refusals.refused('d', new CodedError('E_OTHER_RUN', 'another run'));
  expect(told).toEqual([
    'W_REFUSED no connection with a: run the same version (E_OTHER_VERSION)',
    'W_REFUSED no connection with d: another run (E_OTHER_RUN)',
  ]);
  nowMs = 3_600_000;
  refusals.refused('b', version);
  expect(told).toHaveLength(3);
});

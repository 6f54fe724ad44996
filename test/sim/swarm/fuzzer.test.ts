import { expect, test } from 'vitest';
import type { Message } from '../../../protocol/messages.ts';
import { randomStream } from '../../../protocol/random.ts';
import { Identities } from '../../../sim/identity.ts';
import { Fuzzer } from '../../../sim/swarm/fuzzer.ts';

const RUN = '5'.repeat(64);

test('the same messages are fuzzed in the same way, whatever was fuzzed before', () => {
  const [signer] = new Identities().swarm(1, 1);
  const signatures: [number, Uint8Array][] = [[0, new Uint8Array(64)]];
  const certificate = { kind: 'finalize' as const, height: 3, view: 0, block: RUN, signatures };
  const heard: Message[] = [{ type: 'certificate', run: RUN, certificate, block: null }];
  const fuzzed = (seed: number, count: number) => {
    const fuzzer = new Fuzzer({ random: randomStream(seed, 'fuzzer'), signer: signer! }, RUN);
    return Array.from({ length: count }, () => Buffer.from(fuzzer.message(heard)).toString('hex'));
  };
  const first = fuzzed(1, 200);
  fuzzed(2, 4000);
  expect(fuzzed(1, 200)).toEqual(first);
});

import { expect, test } from 'vitest';
import { runIdOf } from '../../protocol/genesis.ts';
import type { Message } from '../../protocol/messages.ts';
import { joinBytes } from '../../protocol/signing.ts';
import { constant } from '../../sim/distribution.ts';
import { Kernel } from '../../sim/kernel.ts';
import { Ledger } from '../../sim/ledger.ts';
import { Links } from '../../sim/links.ts';
import { SimulatedNetwork } from '../../sim/network.ts';
import { Cluster } from '../helpers/cluster.ts';
import { testSigner } from '../helpers/signers.ts';

const run = runIdOf(new Cluster(1, 1).genesis);
const signer = testSigner('peer 0');

function join(round: number): Message {
  const unsigned = { author: signer.self, height: round, attempt: 0 };
  return { type: 'join', run, join: { ...unsigned, signature: signer.sign(joinBytes(run, unsigned)) } };
}

/** Peers that do nothing but hear, connected. */
async function swarm(peers: number) {
  const [kernel, ledger] = [new Kernel(), new Ledger(peers)];
  const links = new Links({ latency: constant(10), asymmetric: false, loss: 0, regions: [], peers: {} }, 1);
  const network = new SimulatedNetwork(
    { kernel, links, ledger, signer, onNew: () => undefined },
    { peers, seed: 1, run, readMs: 0 },
  );
  const heard = Array.from({ length: peers }, (): number[] => []);
  for (let peer = 0; peer < peers; peer++) {
    network.attach(peer, {
      onMessages: ({ messages }) => {
        for (const message of messages) heard[peer]!.push(message.type === 'join' ? message.join.height : -1);
      },
      onConnection: () => undefined,
      hasPart: () => false,
    });
  }
  const settle = () => kernel.run({ until: () => false });
  await settle();
  return { network, ledger, heard, settle };
}

test('what is said again goes to every neighbour directly, since gossip carries it once', async () => {
  const { network, ledger, heard, settle } = await swarm(5);
  network.broadcast(0, join(1));
  await settle();
  const { gossip, direct } = ledger.bytesByKind();
  expect(gossip).toBeGreaterThan(0);
  expect(direct).toBe(0);
  network.broadcast(0, join(1));
  await settle();
  expect(heard).toEqual([[], [1, 1], [1, 1], [1, 1], [1, 1]]);
  expect(ledger.bytesByKind().gossip).toBe(gossip);
  expect(ledger.bytesByKind().direct).toBeGreaterThan(0);
});

test('nobody who is gone hears what is said again', async () => {
  const { network, heard, settle } = await swarm(3);
  network.broadcast(0, join(1));
  await settle();
  network.broadcast(0, join(1));
  network.detach(2);
  await settle();
  expect(heard).toEqual([[], [1, 1], [1]]);
});

test('everybody hears a message once, and what is sent is what is received', async () => {
  const { network, ledger, heard, settle } = await swarm(12);
  for (let round = 1; round <= 3; round++) network.broadcast(round, join(round));
  await settle();
  for (const [peer, rounds] of heard.entries()) {
    expect([...rounds].sort()).toEqual([1, 2, 3].filter((round) => round !== peer));
  }
  const sum = (values: Float64Array) => values.reduce((all, value) => all + value, 0);
  expect(sum(ledger.sent.gossip)).toBeCloseTo(sum(ledger.received.gossip), 6);
});

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import * as z from 'zod';
import { MESSAGE_RATES } from '../../node/message-rates.ts';
import { NET_LIMITS } from '../../node/net/limits.ts';
import { averagingOf } from '../../protocol/averaging/index.ts';
import { blobIdOf } from '../../protocol/blob.ts';
import { firstHead, headAfter, headBefore, headFacts, headHash, rootOf } from '../../protocol/chain.ts';
import { CODEC_NAMES } from '../../protocol/codecs/codec.ts';
import { codecOf } from '../../protocol/codecs/index.ts';
import { dataOrder } from '../../protocol/data-order.ts';
import { encodeCanonical } from '../../protocol/encoding.ts';
import { checkGenesis, encodeGenesis, type Genesis, runIdOf } from '../../protocol/genesis.ts';
import { bytesToHex, type Hash } from '../../protocol/hash.ts';
import { comparePeers, type Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { initialParameters, MODEL_PRESETS } from '../../protocol/model.ts';
import { outerOf } from '../../protocol/outer/index.ts';
import { randomStream } from '../../protocol/random.ts';
import { leaderOf } from '../../protocol/roster.ts';
import { blockHash, joinBytes, statusBytes, updateBytes, voteBytes } from '../../protocol/signing.ts';
import { type Block, type Certificate, wireCertificate } from '../../protocol/wire.ts';
import { layoutOf } from '../helpers/layouts.ts';
import { testSigner } from '../helpers/signers.ts';

/** docs/protocol.md is what another team builds from, so its numbers are held to what the code does. */
const page = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8');

/** Rows `| \`name\` | value | …` below a heading, numbers written with spaces between thousands. */
function tableOf(heading: string): Record<string, number> {
  const section = page.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const rows = [...section.matchAll(/^\| `(\w+)` \| ([\d ]+) \|/gm)];
  return Object.fromEntries(rows.map(([, name, value]) => [name, Number(value?.replaceAll(' ', ''))]));
}

it('lists every limit of the protocol with its value', () => {
  expect(tableOf('Limits')).toEqual({ ...LIMITS });
});

it('lists limits of the network with their values', () => {
  const listed = tableOf('Limits of the network');
  expect(Object.keys(listed).length).toBeGreaterThan(10);
  expect(NET_LIMITS).toMatchObject(listed);
});

it('lists how many messages are taken in', () => {
  const rows = [...page.matchAll(/^\| `(\w+)` \| (\d+) \| (\d+) \|$/gm)];
  const listed = rows.map(([, name, perSecond, atOnce]) => [
    name,
    { perSecond: Number(perSecond), atOnce: Number(atOnce) },
  ]);
  expect(Object.fromEntries(listed)).toEqual(MESSAGE_RATES);
});

it('has test vectors that are what the code computes', () => {
  const block = /^```vectors\n([^`]*)^```/m.exec(page)?.[1] ?? '';
  const listed = Object.fromEntries(
    block
      .trim()
      .split('\n')
      .map((line) => line.split(/ += +/)),
  );
  expect(listed).toEqual(vectors());
});

function vectors(): Record<string, string> {
  const [a, b] = [testSigner('peer a'), testSigner('peer b')];
  const genesis = checkGenesis({
    version: 1,
    founder: a.self,
    title: 'example',
    seed: 1337,
    model: { ...MODEL_PRESETS.micro, vocabulary: 256 },
    tokenizer: { kind: 'byte' },
    data: { name: 'abc', blob: { id: blobIdOf(utf8('abc')), size: 3 }, validationFraction: 0.1 },
    inner: {
      learningRate: 0.001,
      learningRateMin: 0.0001,
      warmupSteps: 20,
      decaySteps: 500,
      beta1: 0.9,
      beta2: 0.99,
      epsilon: 1e-8,
      weightDecay: 0.1,
      clipNorm: 1,
    },
    innerSteps: 20,
    batch: 8,
    codec: { name: 'topk', chunk: 4096, k: 64, bits: 2 },
    averaging: { name: 'all' },
    outer: { name: 'sgd', learningRate: 1, momentum: 0 },
    rounds: null,
    waitFor: 1,
    committee: { size: 200, heights: 4096 },
    timing: { graceMs: 2000, viewMs: 2000, quorumWaitMs: 10_000 },
  });
  const run = runIdOf(genesis);
  const parameters = initialParameters(genesis.model, genesis.seed);
  const state = {
    round: 0,
    snapshot: blobIdOf(littleEndian(parameters)),
    snapshotBytes: 4 * parameters.length,
    roster: [{ peer: a.self, lastRound: 0 }],
    cursor: 0,
    tokens: 0,
  };
  const base = rootOf(state);
  const unsigned = {
    author: a.self,
    payload: blobIdOf(utf8('abc')),
    size: 3,
    tokens: 5120,
    steps: 20,
    loss: 2.5,
  };
  const signed = updateBytes(run, 0, base, unsigned);
  const certified: Block = {
    height: 1,
    previous: run,
    kind: 'round',
    round: 0,
    base,
    head: headHash(firstHead(genesis, run)),
    members: null,
    updates: [{ ...unsigned, signature: a.sign(signed) }],
    joins: [],
    leaves: [],
    evictions: [],
  };
  const join = { author: b.self, height: 7, attempt: 0 };
  const stream = randomStream(1337, 'leader', 1);
  const order = dataOrder(1337, 1_000_000, 64);
  return {
    'peer a': a.self,
    'peer b': b.self,
    'genesis bytes': String(encodeGenesis(genesis).length),
    run,
    'blob of 300 000 zeros': blobIdOf(new Uint8Array(300_000)),
    'first snapshot': state.snapshot,
    'first root': base,
    'signed join of b': bytesToHex(joinBytes(run, join)),
    'signature of it': bytesToHex(b.sign(joinBytes(run, join))),
    'signed header of a': bytesToHex(signed),
    'first head': certified.head,
    'first block': blockHash(certified),
    'signed finalize': bytesToHex(voteBytes(run, 'finalize', 1, 0, blockHash(certified))),
    ...after(genesis, certified, a),
    'random 1337/leader/1': [stream.uint32(), stream.uint32(), stream.uint32()].join(' '),
    'leader places, height 1, views 0 to 4, of 4': [0, 1, 2, 3, 4].map((view) => leader(view)).join(' '),
    'data offsets of positions 0 to 3': [0, 1, 2, 3].map((position) => order.tokenOffset(position)).join(' '),
    ...ofTwo({ ...genesis, waitFor: 2 }, a, b, base),
    committee: committee(genesis, base),
    ...arithmetic(),
    ...payloads(),
  };
}

/** What follows from the first block. */
function after(genesis: Genesis, block: Block, a: Signer): Record<string, string> {
  const run = runIdOf(genesis);
  const first = firstHead(genesis, run);
  const { height, unfinalTokens, round, tip } = headAfter(genesis, first, block);
  const alone = headAfter(genesis, first, { ...block, members: [a.self] });
  expect(headFacts(alone)).toMatchObject({ committee: [a.self], unfinalTokens: 5120 });
  const hash = blockHash(block);
  const signature = a.sign(voteBytes(run, 'finalize', 1, 0, hash));
  const certificate = { kind: 'finalize' as const, height: 1, view: 0, block: hash, signatures: [[0, signature]] };
  return {
    'certificate of first block': bytesToHex(encodeCanonical(z.encode(wireCertificate, certificate as Certificate))),
    'head after it': headHash(headAfter(genesis, first, block)),
    'head after it alone': headHash(alone),
    'signed status of a': bytesToHex(statusBytes(run, { author: a.self, height, unfinalTokens, round, tip })),
  };
}

/** Four of six, a to f. */
function committee(genesis: Genesis, base: Hash): string {
  const roster = ['a', 'b', 'c', 'd', 'e', 'f']
    .map((name) => ({ peer: testSigner(`peer ${name}`).self, lastRound: 0 }))
    .sort((one, other) => comparePeers(one.peer, other.peer));
  const facts = { roster, places: null, committee: null, cursor: 0, tokens: 0, unfinalTokens: 0, changes: [] };
  const small = { ...genesis, committee: { size: 4, heights: 4096 } };
  const next = { height: 1, previous: base, round: 0 } as Block;
  const drawn = headBefore(small, facts, next).committee;
  return drawn.map((peer) => roster.findIndex((member) => member.peer === peer)).join(' ');
}

function arithmetic(): Record<string, string> {
  const hex = (values: Float32Array): string => bytesToHex(littleEndian(values));
  const mean = averagingOf('all').init(3, 5120);
  mean.add({ values: Float32Array.of(1, -2, 0.1), tokens: 5120 });
  mean.add({ values: Float32Array.of(0.3, 0.7, -0.2), tokens: 7680 });
  const average = new Float32Array(3);
  mean.finish(average);
  const [theta, u] = [Float32Array.of(0.1, -0.2, 3e38), Float32Array.of(0.5, 0, -3e38)];
  outerOf('nesterov').update(
    { name: 'nesterov', learningRate: 0.7, momentum: 0.9 },
    theta,
    u,
    Float32Array.of(0.25, -1, -2e38),
  );
  return { average: hex(average), 'outer step, theta': hex(theta), 'outer step, u': hex(u) };
}

/** A run that waits for a second peer: where it stands before and after that one is let in. */
function ofTwo(genesis: Genesis, a: Signer, b: Signer, base: Hash): Record<string, string> {
  const run = runIdOf(genesis);
  const before = firstHead(genesis, run);
  const request = { author: b.self, height: 1, attempt: 0 };
  const block: Block = {
    height: 1,
    previous: run,
    kind: 'membership',
    round: 0,
    base,
    head: headHash(before),
    members: null,
    updates: [],
    joins: [{ ...request, signature: b.sign(joinBytes(run, request)) }],
    leaves: [],
    evictions: [],
  };
  const after = headAfter(genesis, before, block);
  expect(headFacts(before).places).toEqual([]);
  expect(headFacts(after)).toMatchObject({ places: null, changes: [[b.self, 1]] });
  expect(after.places).toEqual([a.self, b.self]);
  return {
    'run of two': run,
    'first head of two': block.head,
    'first block of two': blockHash(block),
    'head of two after it': headHash(after),
  };
}

function leader(view: number): string {
  return leaderOf(1337, 1, view, ['0', '1', '2', '3']);
}

/** Two tensors of 3 and 2 values. */
function payloads(): Record<string, string> {
  const values = Float32Array.of(1, -2, 0.5, 4, -0.25);
  const encode = (name: (typeof CODEC_NAMES)[number], bits: 1 | 2) =>
    bytesToHex(codecOf({ name, chunk: 4096, k: 2048, bits }).encode(values, layoutOf(3, 2)));
  const all = CODEC_NAMES.map((name): [string, string] => [`payload ${name}`, encode(name, 2)]);
  return { ...Object.fromEntries(all), 'payload topk, 1 bit': encode('topk', 1) };
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function littleEndian(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setFloat32(4 * i, value, true);
  return bytes;
}

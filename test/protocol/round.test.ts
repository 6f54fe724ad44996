import { expect, test } from 'vitest';
import { firstHead } from '../../protocol/chain.ts';
import { type Applied, Core } from '../../protocol/core.ts';
import type { Effect } from '../../protocol/events.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { hashOf } from '../../protocol/hash.ts';
import { comparePeers } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { MessageOf } from '../../protocol/messages.ts';
import { Patience } from '../../protocol/patience.ts';
import { Payloads } from '../../protocol/payloads.ts';
import { BEGINNING, GATHERING, Round } from '../../protocol/round.ts';
import type { Block, Update } from '../../protocol/wire.ts';
import { testGenesis } from '../helpers/cluster.ts';
import { testSigner } from '../helpers/signers.ts';

/** A round of so many places; `lastRound` says when the peer at a place last contributed. */
function roundOf(count: number, lastRound: (place: number) => number = () => 0, gathering = new Patience(GATHERING)) {
  const patience = { gathering, beginning: new Patience(BEGINNING) };
  const signer = testSigner('peer 0');
  const places = [
    signer.self,
    ...Array.from({ length: count - 1 }, (_, i) => `12D3KooW${String(i).padStart(44, 'x')}`),
  ];
  places.sort(comparePeers);
  const genesis = testGenesis(signer.self);
  const run = runIdOf(genesis);
  const core = new Core({ genesis, run, signer });
  const roster = places.map((peer, place) => ({ peer, lastRound: lastRound(place) }));
  const head = { ...firstHead(genesis, run), roster, places };
  const state = { round: 0, snapshot: run, snapshotBytes: 1, roster, cursor: 0, tokens: 0 };
  const applied: Applied = { position: 0, head, state, root: hashOf(new Uint8Array([7])) };
  const payloads = new Payloads(core);
  const round = new Round({ core, payloads, patience }, applied);
  payloads.beginRound(round);
  const header = (place: number, inline: Uint8Array | null = new Uint8Array([place & 255])): MessageOf<'header'> => {
    const payload = hashOf(new Uint8Array([place & 255, place >> 8]));
    const work = { payload, size: 1, tokens: 8, steps: 1, loss: 1 };
    const update = { author: places[place]!, ...work, signature: new Uint8Array(64) };
    return { type: 'header', run, round: 0, base: applied.root, update, inline };
  };
  /** the payloads of these places come inside their headers */
  const deliver = (from: number, to: number): void => {
    for (let place = from; place < to; place++) round.onHeader(header(place), places[place]!, place);
    for (const effect of core.takeEffects()) if (effect.type === 'take') round.onTaken(effect.headers, new Map());
  };
  return { core, round, payloads, places, header, deliver };
}

const everybody = (): boolean => true;
const find = <Type extends Effect['type']>(effects: readonly Effect[], type: Type) =>
  effects.filter((effect): effect is Effect & { type: Type } => effect.type === type);

test('is complete once every place that can be reached has delivered, and not before', () => {
  const { round, deliver, places } = roundOf(5);
  expect(round.isComplete(everybody)).toBe(false);
  deliver(0, 3);
  expect(round.isComplete(everybody)).toBe(false);
  const gone = new Set([places[3], places[4]]);
  expect(round.isComplete((peer) => !gone.has(peer))).toBe(true);
  gone.delete(places[3]);
  expect(round.isComplete((peer) => !gone.has(peer))).toBe(false);
  deliver(3, 4);
  expect(round.isComplete((peer) => !gone.has(peer))).toBe(true);
  deliver(4, 5);
  expect(round.isComplete(everybody)).toBe(true);
});

test('headers of one step are taken together, and each is refused or held by itself', () => {
  const { core, round, header, places } = roundOf(3);
  const headers = [0, 1, 2].map((place) => header(place));
  for (const [place, each] of headers.entries()) round.onHeader(each, places[place]!);
  const [take, ...more] = find(core.takeEffects(), 'take');
  expect(more).toEqual([]);
  expect(take?.headers).toEqual(headers);
  expect(headers.map(({ update }) => round.stateOf(update))).toEqual(['wanted', 'wanted', 'wanted']);
  round.onTaken(take!.headers, new Map([[headers[1]!, 'E_PAYLOAD_FORMAT']]));
  expect(headers.map(({ update }) => round.stateOf(update))).toEqual(['held', 'refused', 'held']);
  expect(round.held().map(({ author }) => author)).toEqual([places[0], places[2]]);
  expect(round.isComplete(everybody)).toBe(true);
});

test('the first header of an author counts', () => {
  const { round, header, deliver } = roundOf(2);
  deliver(0, 1);
  const { update } = header(0);
  const other = { ...header(0), update: { ...update, payload: hashOf(new Uint8Array([9])), tokens: 16 } };
  round.onHeader(other, update.author);
  expect(round.held()).toEqual([update]);
  expect(round.stateOf(other.update)).toBeUndefined();
});

test('what nobody had is asked for again, but not at once', () => {
  const { core, round, payloads, header, places } = roundOf(2);
  const wanted = header(1, null);
  round.onHeader(wanted, places[0]!);
  expect(find(core.takeEffects(), 'fetch')[0]).toMatchObject({ update: wanted.update, holders: [places[1]] });
  payloads.onPayload(wanted.update, 'E_BLOB_UNAVAILABLE');
  round.onHeader(wanted, places[0]!);
  expect(find(core.takeEffects(), 'fetch')).toEqual([]);
  core.nowMs += 1000;
  round.onHeader(wanted, places[0]!);
  expect(find(core.takeEffects(), 'fetch')).toHaveLength(1);
  payloads.onPayload(wanted.update, null);
  expect(round.stateOf(wanted.update)).toBe('held');
});

test('what nobody had yet is waited for and asked for again, as long as its author is there and no neighbour', () => {
  const { core, round, payloads, deliver, header, places } = roundOf(4);
  const { graceMs } = core.context.genesis.timing;
  core.nowMs = 8000;
  deliver(0, 3);
  const wanted = header(3, null);
  // heard through a neighbour, which is fetching it itself
  round.onHeader(wanted, places[1]!, 3);
  core.takeEffects();
  payloads.onPayload(wanted.update, 'E_BLOB_UNAVAILABLE');
  const isFar = (peer: string): boolean => peer === places[3];
  expect(round.isComplete((peer) => peer !== places[3])).toBe(true);
  // a neighbour was asked itself
  expect(round.isComplete(everybody)).toBe(true);
  const askedMs: number[] = [];
  const told: Effect[] = [];
  const deadlineMs = 8000 + graceMs + 8000 / 2;
  for (; core.nowMs < deadlineMs; core.nowMs += 100) {
    expect(round.isComplete(everybody, isFar)).toBe(false);
    const effects = core.takeEffects();
    told.push(...find(effects, 'report'));
    if (find(effects, 'fetch').length === 0) continue;
    askedMs.push(core.nowMs - 8000);
    payloads.onPayload(wanted.update, 'E_BLOB_UNAVAILABLE');
  }
  expect(askedMs).toEqual([500, 1500, 3500]);
  // the round ends without it
  expect(told).toEqual([]);
  expect(round.isComplete(everybody, isFar)).toBe(true);
});

test('who was far and connects is asked itself, and waited for until then', () => {
  const { core, round, payloads, deliver, header, places } = roundOf(4);
  core.nowMs = 8000;
  deliver(0, 3);
  round.onHeader(header(3, null), places[1]!, 3);
  payloads.onPayload(header(3).update, 'E_BLOB_UNAVAILABLE');
  expect(round.isComplete(everybody, (peer) => peer === places[3])).toBe(false);
  core.takeEffects();
  core.nowMs += 100; // it is there
  expect(round.isComplete(everybody)).toBe(false);
  expect(find(core.takeEffects(), 'fetch')).toEqual([]);
  core.nowMs += 400;
  expect(round.isComplete(everybody)).toBe(false);
  expect(find(core.takeEffects(), 'fetch')).toHaveLength(1);
  payloads.onPayload(header(3).update, 'E_BLOB_UNAVAILABLE');
  expect(round.isComplete(everybody)).toBe(true);
});

test('the planned end is counted from what all have heard, not from when this peer was done', () => {
  const { core, round, deliver } = roundOf(7);
  const { graceMs } = core.context.genesis.timing;
  for (const [place, atMs] of [4000, 5000, 8000].entries()) {
    expect(round.plannedEndMs()).toBe(Number.POSITIVE_INFINITY);
    core.nowMs = atMs;
    deliver(place, place + 1);
  }
  expect(round.plannedEndMs()).toBe(8000 + graceMs + 4000);
});

test('each payload that nobody had is asked for again in its own time', () => {
  const { core, round, payloads, deliver, header, places } = roundOf(7);
  core.nowMs = 8000;
  deliver(0, 5);
  const isFar = (peer: string): boolean => peer === places[5] || peer === places[6];
  const asked: [number, number][] = [];
  for (; core.nowMs < 11_000; core.nowMs += 100) {
    for (const [place, atMs] of [
      [5, 8000],
      [6, 9000],
    ] as const) {
      if (core.nowMs !== atMs) continue;
      round.onHeader(header(place, null), places[1]!, place);
      payloads.onPayload(header(place).update, 'E_BLOB_UNAVAILABLE');
      core.takeEffects();
    }
    round.isComplete(everybody, isFar);
    for (const { update } of find(core.takeEffects(), 'fetch')) {
      asked.push([places.indexOf(update.author), core.nowMs - 8000]);
      payloads.onPayload(update, 'E_BLOB_UNAVAILABLE');
    }
  }
  expect(asked).toEqual([
    [5, 500],
    [5, 1500],
    [6, 1500],
    [6, 2500],
  ]);
});

test('a header that is said again with other bytes inside is taken now and then', () => {
  const { core, round, header, places } = roundOf(4);
  let taken = 0;
  for (core.nowMs = 0; core.nowMs < 2000; core.nowMs += 10) {
    round.onHeader(header(3, new Uint8Array([core.nowMs & 255])), places[1]!, 3);
    const effects = core.takeEffects();
    taken += find(effects, 'take').length;
    // it is not what is named: the driver fetches that, and nobody has it
    round.settle(header(3).update, 'unavailable');
  }
  expect(taken).toBe(1 + 4);
});

test('who names the payload of another neither holds up nor shuts out the other', () => {
  const { core, round, payloads, header, places } = roundOf(4);
  const { update } = header(1, null);
  const namedBy = (place: number) => ({ ...header(1, null), update: { ...update, author: places[place]! } });
  // in a block that is caught up with, whose other authors are not heard yet
  const block = { round: 0, updates: [2, 1].map((place) => namedBy(place).update) } as unknown as Block;
  expect(payloads.require(block, () => [])).toBe('wanted');
  expect(find(core.takeEffects(), 'fetch')).toHaveLength(1);
  for (const place of [1, 3]) round.onHeader(namedBy(place), places[0]!);
  expect(find(core.takeEffects(), 'fetch')).toEqual([]);
  payloads.onPayload(namedBy(2).update, null);
  expect(payloads.require(block, () => [])).toBe('held');
  expect(round.held().map(({ author }) => author)).toEqual([places[1], places[3]]);
  // and when it is here
  round.onHeader(namedBy(2), places[0]!);
  expect(round.held()).toHaveLength(3);
});

test('of two in a round who name the same payload both have it when it is here', () => {
  const { core, round, payloads, header, places } = roundOf(4);
  const named = (place: number) => {
    const { update, ...rest } = header(1, null);
    return { ...rest, update: { ...update, author: places[place]! } };
  };
  for (const place of [2, 1]) round.onHeader(named(place), places[0]!);
  expect(find(core.takeEffects(), 'fetch')).toHaveLength(1);
  payloads.onPayload(named(2).update, null);
  round.onHeader(named(3), places[0]!);
  expect(round.held().map(({ author }) => author)).toEqual([places[1], places[2], places[3]]);
  expect(find(core.takeEffects(), 'fetch')).toEqual([]);
});

test('a payload of long ago is asked for anew where another names it: it is off the disk', () => {
  const { core, payloads, header, places } = roundOf(2);
  const { update } = header(1, null);
  const named = { ...update, author: places[0]! };
  const block = (round: number, updates: Update[]) => ({ round, updates }) as unknown as Block;
  payloads.require(block(0, [update]), () => []);
  payloads.onPayload(update, null);
  expect(payloads.require(block(LIMITS.payloadRoundsKept, [named]), () => [])).toBe('held');
  core.takeEffects();
  core.nowMs = 10_000;
  expect(payloads.require(block(LIMITS.payloadRoundsKept + 1, [named]), () => [])).toBe('wanted');
  expect(find(core.takeEffects(), 'fetch')).toHaveLength(1);
});

test('where a block has no room for all, those come first who have waited longest', () => {
  const count = LIMITS.blockUpdatesMax + 100;
  // the last hundred were left out of the round before
  const { round, deliver, places } = roundOf(count, (place) => (place < LIMITS.blockUpdatesMax ? 5 : 4));
  deliver(0, count);
  const authors = round.held().map(({ author }) => author);
  expect(authors).toHaveLength(LIMITS.blockUpdatesMax);
  expect(authors).toEqual([...authors].sort(comparePeers));
  expect(authors.slice(-100)).toEqual(places.slice(-100));
  expect(authors[0]).toBe(places[0]);
});

test('an update that is announced as soon as the round begins does not hurry those who train', () => {
  const { core, round, header, places } = roundOf(4);
  const liar = places.findIndex((peer) => peer !== core.self);
  const other = places.findIndex((peer, place) => place > liar && peer !== core.self);
  round.onHeader(header(liar), places[liar]!, liar);
  round.askToFinish();
  expect(round.deadlineMs()).toBe(Number.POSITIVE_INFINITY);
  core.nowMs = 60_000;
  round.askToFinish();
  expect(find(core.takeEffects(), 'finish')).toEqual([]);
  round.onHeader(header(other), places[other]!, other);
  expect(round.deadlineMs()).toBeGreaterThan(60_000 + 30_000);
});

test("measures how long a quorum's payloads took once announced, and waits as long as that has taught", () => {
  const patience = new Patience(GATHERING);
  const { core, round, payloads, deliver, header, places } = roundOf(4, () => 0, patience);
  const { graceMs } = core.context.genesis.timing;
  expect(round.outcome).toBeUndefined();
  core.nowMs = 8000; // 8 s of training: half of it is added to the grace
  deliver(0, 1);
  const plannedMs = graceMs + 4000;
  expect(round.deadlineMs()).toBe(8000 + plannedMs);
  core.nowMs = 10_000;
  round.onHeader(header(1, null), places[1]!, 1);
  expect(round.outcome).toEqual({ plannedMs, tookMs: undefined, begun: false });
  core.nowMs = 11_000; // a peer that trains longer is no reason to wait longer
  round.onHeader(header(2, null), places[2]!, 2);
  expect(round.outcome).toEqual({ plannedMs, tookMs: undefined, begun: true });
  core.nowMs = 15_000;
  for (const place of [1, 2]) payloads.onPayload(header(place).update, null);
  expect(round.outcome).toEqual({ plannedMs, tookMs: 4000, begun: true });
  patience.learn(round.outcome);
  expect(round.deadlineMs()).toBe(8000 + 3 * 4000);
});

test('once most are done, a slow peer sends what it has, and one that stays silent is not waited for much longer', () => {
  const { core, round, deliver } = roundOf(4);
  const { graceMs } = core.context.genesis.timing;
  const finishes = () => find(core.takeEffects(), 'finish').length;
  core.nowMs = 8000;
  deliver(1, 3);
  round.askToFinish();
  expect(finishes()).toBe(0);
  core.nowMs = 8100;
  deliver(3, 4);
  core.nowMs = 8100 + graceMs / 4;
  round.askToFinish();
  expect(finishes()).toBe(1);
  core.nowMs = 8100 + graceMs + 8000 / 8 - 1;
  expect(round.isComplete(everybody)).toBe(false);
  core.nowMs++;
  expect(round.isComplete(everybody)).toBe(true);
});

test('a payload that is announced and on its way is waited for longer than silence', () => {
  const { core, round, deliver, header, places } = roundOf(4);
  const { graceMs } = core.context.genesis.timing;
  core.nowMs = 8000;
  deliver(0, 3);
  round.onHeader(header(3, null), places[3]!, 3);
  core.nowMs = 8000 + graceMs + 8000 / 2 - 1;
  expect(round.isComplete(everybody)).toBe(false);
  core.nowMs++;
  expect(round.isComplete(everybody)).toBe(true);
});

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { factsAt, firstHead } from '../../protocol/chain.ts';
import type { Effect, Event, Report, Restart } from '../../protocol/events.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import { GENESIS } from '../../protocol/history.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { Machine } from '../../protocol/machine.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import { NO_HISTORY } from '../../protocol/own-updates.ts';
import { encodeRecord, type PeerRecord } from '../../protocol/record.ts';
import { joinBytes, updateBytes } from '../../protocol/signing.ts';
import type { AgreedState, Entry } from '../../protocol/wire.ts';
import { Cluster } from '../helpers/cluster.ts';
import { WHOLE } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';
import {
  type Asked,
  type DriverInit,
  type DriverUnderTest,
  idOf,
  snapshotAfter,
  UNLOADABLE,
  validPayload,
} from './driver-under-test.ts';

/**
 * What a driver owes the machine (the duties at the head of `protocol/machine.ts`), as far as it shows from outside. The
 * machine is a script here: it returns the effects that a test wants carried out and keeps the events that come back.
 */

type EventOf<T extends Event['type']> = Event & { type: T };

/** A history of real blocks, made by a peer that was alone. */
const history = (() => {
  const cluster = new Cluster(1, 2);
  const [founder] = cluster.peers as [Cluster['peers'][number]];
  founder.start();
  if (!cluster.runUntil(() => founder.lastRound >= 3, 60_000)) throw new Error('one peer alone makes rounds');
  return { genesis: cluster.genesis, told: founder.machine!.history(WHOLE) };
})();
const { genesis } = history;
const run = runIdOf(genesis);
const [firstEntry, secondEntry] = history.told.entries as [Entry, Entry];
const state: AgreedState = history.told.states[0]!;
const neighbour = testSigner('peer 1');

/** Every number gives another message, validly signed. */
function message(number: number): Message {
  const unsigned = { author: neighbour.self, height: number, attempt: 0 };
  return { type: 'join', run, join: { ...unsigned, signature: neighbour.sign(joinBytes(run, unsigned)) } };
}

const numberOf = (sent: Message): number => (sent.type === 'join' ? sent.join.height : -1);
const record = (height: number): PeerRecord => {
  return { height, votes: [], certificates: [], proposals: [], headers: [] };
};

/** The neighbour announces a payload, with these bytes inside. */
function headerOf(payload: Uint8Array, inline: Uint8Array | null): MessageOf<'header'> {
  const { base } = firstEntry.block;
  const work = { tokens: 8, steps: 1, loss: 1 };
  const named = { author: neighbour.self, payload: idOf(payload), size: payload.length, ...work };
  const update = { ...named, signature: neighbour.sign(updateBytes(run, 0, base, named)) };
  return { type: 'header', run, round: 0, base, update, inline };
}

function entryWith(payload: Uint8Array): Entry {
  const [update] = firstEntry.block.updates;
  const named = { ...update!, payload: idOf(payload), size: payload.length };
  return { ...firstEntry, block: { ...firstEntry.block, updates: [named] } };
}

const { snapshot: _, snapshotBytes: __, ...target } = state;
const effects = {
  initialize: (): Effect => ({ type: 'initialize', keep: NOTHING }),
  train: (steps = 3): Effect => {
    return { type: 'train', round: 0, base: firstEntry.block.base, firstPosition: 0, steps, firstStep: 0 };
  },
  trainOn: (steps = 3): Effect => {
    return { type: 'train-on', round: 0, base: firstEntry.block.base, firstPosition: 0, steps, firstStep: steps };
  },
  apply: (entry: Entry, block: Hash): Effect => ({
    type: 'apply',
    entry,
    block,
    final: true,
    state: target,
    keep: NOTHING,
  }),
  fetch: (bytes: Uint8Array, size = bytes.length): Effect => {
    return { type: 'fetch', update: { ...headerOf(bytes, null).update, size }, round: 0, holders: [neighbour.self] };
  },
  restore: (bytes: Uint8Array): Effect => {
    const named = { ...state, snapshot: idOf(bytes), snapshotBytes: bytes.length };
    return { type: 'restore', state: named, block: BLOCK, holders: [neighbour.self], own: NO_HISTORY, keep: NOTHING };
  },
  say: (number: number): Effect => ({ type: 'broadcast', message: message(number) }),
  send: (number: number): Effect => ({ type: 'send', peer: neighbour.self, message: message(number) }),
  ask: (peer: PeerId): Effect => ({ type: 'request-history', peer, request: WHOLE }),
};
const NOTHING = { snapshots: [], payloads: [] };
const BLOCK = 'b'.repeat(64);

/** The script that stands in for the machine of the driver under test; other machines do nothing. */
class Script {
  readonly lives: { machine: Machine; events: Event[] }[] = [];
  /** effects for the next step that is not a start, and for those after it */
  readonly next: Effect[][] = [];

  /** told of every event, in the moment at which it is given */
  onEvent: (event: Event) => void = () => undefined;

  step(machine: Machine, event: Event): readonly Effect[] {
    let life = this.lives.find((each) => each.machine === machine);
    if (!life) {
      life = { machine, events: [] };
      this.lives.push(life);
    }
    life.events.push(event);
    this.onEvent(event);
    // a message is what a test steps the machine with: what comes by itself returns nothing
    return event.type === 'messages' ? event.messages.flatMap(() => this.next.shift() ?? []) : [];
  }

  /** Messages that were passed in this life, in order. */
  get heard(): Message[] {
    return this.of('messages').flatMap(({ messages }) => messages);
  }

  get events(): Event[] {
    return this.lives.at(-1)?.events ?? [];
  }

  of<T extends Event['type']>(type: T): EventOf<T>[] {
    return this.events.filter((event): event is EventOf<T> => event.type === type);
  }
}

type Bytes4 = [Uint8Array, Uint8Array, Uint8Array, Uint8Array];

/** As long as a payload is, and nothing that may be averaged. */
function infinitePayload({ length }: Uint8Array): Uint8Array {
  return new Uint8Array(new Float32Array(length / 4).fill(Number.POSITIVE_INFINITY).buffer);
}

export type MakeDriver = (init: DriverInit) => DriverUnderTest | Promise<DriverUnderTest>;

export function describeDriver(title: string, make: MakeDriver): void {
  describe(`${title} keeps the driver contract`, () => {
    let script: Script;
    let driver: DriverUnderTest;
    let left: number[];
    let asked: Asked[];
    let onLeave: (sent: Message) => void;

    beforeEach(async () => {
      script = new Script();
      [left, asked, onLeave] = [[], [], () => undefined];
      vi.spyOn(Machine.prototype, 'step').mockImplementation(function (this: Machine, event) {
        return this === driver.machine ? script.step(this, event) : (driver.neighbourStep?.(event) ?? []);
      });
      vi.spyOn(Machine.prototype, 'history').mockImplementation(() => history.told);
      vi.spyOn(Machine.prototype, 'historyNow').mockImplementation((told) => told);
      driver = await make({
        genesis,
        signers: [testSigner('peer 0'), neighbour],
        onLeave: (sent) => {
          left.push(numberOf(sent));
          onLeave(sent);
        },
        onAsked: (what) => asked.push(what),
      });
    });

    afterEach(async () => {
      await driver.close();
      vi.restoreAllMocks();
      for (const { events } of script.lives) {
        const starts = events.map(({ type }) => type === 'start');
        expect([starts.indexOf(true), starts.lastIndexOf(true)], 'start is first, and once').toEqual([0, 0]);
        const clock = events.map(({ nowMs }) => nowMs);
        expect(clock, 'the clock does not run backwards').toEqual([...clock].sort((a, b) => a - b));
      }
    });

    let heard = 1000;
    /** A step of the machine that has these effects. */
    const give = (...step: Effect[]): Promise<void> => {
      script.next.push(step);
      return driver.hear(message(heard++));
    };
    /** The neighbour hands over headers. @returns them as the machine got them */
    const receive = async (...headers: MessageOf<'header'>[]): Promise<MessageOf<'header'>[]> => {
      for (const header of headers) await driver.hear(header);
      const last = script.heard.slice(-headers.length);
      return last.filter((received) => received.type === 'header');
    };
    const until = (condition: () => boolean, what: string) => driver.until(condition, what);
    /** Steps, and waits for so many answers of a kind. @returns them */
    const answers = async <T extends Event['type']>(type: T, count: number, step: Effect[]): Promise<EventOf<T>[]> => {
      await give(...step);
      await until(() => script.of(type).length >= count, `${count} of ${type}`);
      return script.of(type);
    };

    describeTalking();
    describeDisk();
    describeAnswers();

    function describeTalking(): void {
      it('starts the machine before anything else, though the network speaks before', async () => {
        await driver.hear(message(1));
        driver.connect(true);
        await driver.start();
        expect(script.events[0]).toMatchObject({ type: 'start', restart: null });
        expect(script.heard.map(numberOf)).toEqual(driver.keepsEarly ? [1] : []);
      });

      it('tells of the peers that are there, and that they go', async () => {
        await driver.start();
        expect(script.of('peer')).toMatchObject([{ peer: neighbour.self, up: true }]);
        driver.connect(false);
        await until(() => script.of('peer').length === 2, 'the news');
        expect(script.of('peer')[1]).toMatchObject({ peer: neighbour.self, up: false });
      });

      it('passes messages with who handed them over', async () => {
        await driver.start();
        await driver.hear(message(7));
        expect(script.of('messages')).toMatchObject([{ from: [neighbour.self], messages: [message(7)] }]);
      });

      it('passes messages that come at once in their order, together or one after the other', async () => {
        await driver.start();
        const numbers = [3, 1, 4, 1, 5];
        await Promise.all(numbers.map((number) => driver.hear(message(number))));
        expect(script.heard.map(numberOf)).toEqual(numbers);
        for (const { messages, from } of script.of('messages'))
          expect(from).toEqual(messages.map(() => neighbour.self));
      });

      it('carries effects out in order, those of later steps after those that wait for the disk', async () => {
        await driver.start();
        const { say, send, train, ask } = effects;
        await give(
          send(1),
          say(2),
          { type: 'persist', record: record(1) },
          send(3),
          train(),
          say(4),
          ask(neighbour.self),
        );
        await give(send(5), { type: 'append', entry: firstEntry, segment: null }, say(6));
        await until(() => left.length === 6, 'six messages');
        expect(left).toEqual([1, 2, 3, 4, 5, 6]);
        const order = ['send', 'broadcast', 'send', 'train', 'broadcast', 'request-history', 'send', 'broadcast'];
        expect(asked).toEqual(order);
      });

      it('wakes the machine at the time last asked for or later, and not for an earlier wish', async () => {
        await driver.start();
        for (let i = 0; i < 20; i++) {
          const nowMs = script.events.at(-1)!.nowMs;
          // of all fractions of a millisecond: timers know whole ones
          const [wishMs, lastMs] = [nowMs + 1 + i / 20, nowMs + 3 + i / 20];
          await give({ type: 'wake', atMs: wishMs }, { type: 'wake', atMs: lastMs });
          await until(() => script.of('wake').length === i + 1, 'a wake');
          expect(script.of('wake')[i]!.nowMs).toBeGreaterThanOrEqual(lastMs);
        }
        const nowMs = script.events.at(-1)!.nowMs;
        await give({ type: 'wake', atMs: nowMs + 1e6 }, { type: 'wake', atMs: nowMs + 2 });
        await until(() => script.of('wake').length === 21, 'an earlier wake than the one asked for before');
        expect(script.of('wake')[20]!.nowMs).toBeLessThan(nowMs + 1e6);
      });

      it("answers the history that others ask for with the machine's", async () => {
        await driver.start();
        expect(await driver.askHistory(2, 1)).toEqual(history.told);
        expect(vi.mocked(Machine.prototype.history)).toHaveBeenCalledWith(
          expect.objectContaining({ fromHeight: 2, skip: 1 }),
        );
      });

      it('gives nothing to a machine whose process is gone, and begins the next life with a start', async () => {
        await driver.start();
        const { nowMs } = script.events[0]!;
        const step = [effects.train(), effects.initialize(), effects.ask(neighbour.self)];
        await give({ type: 'wake', atMs: nowMs + 5 }, ...step);
        const before = script.events.length;
        driver.kill();
        await driver.start();
        await answers('restored', 1, [effects.initialize()]);
        expect(script.lives[0]!.events).toHaveLength(before);
        expect(script.of('wake').length + script.of('trained').length + script.of('history').length).toBe(0);
      });

      it('is silent once it has reported that it is done', async () => {
        await driver.start();
        const done: Report = { kind: 'done', reason: 'left' };
        await give(
          { type: 'send', peer: neighbour.self, message: message(1) },
          { type: 'report', report: done },
          effects.say(2),
        );
        await until(() => left.length === 1, 'the last message');
        const before = script.lives[0]!.events.length;
        await driver.hear(message(3));
        driver.connect(false);
        expect([left, script.lives[0]!.events.length]).toEqual([[1], before]);
      });

      it('tells who comes when it is done where that was', async () => {
        vi.spyOn(Machine.prototype, 'status', 'get').mockReturnValue(message(7));
        await driver.start();
        await give({ type: 'report', report: { kind: 'done', reason: 'rounds' } });
        driver.connect(false);
        driver.connect(true);
        await until(() => left.length > 0, 'where it was');
        expect(left).toEqual([7]);
      });
    }

    function describeDisk(): void {
      const keep = (height: number): Effect => ({ type: 'persist', record: record(height) });
      const logOf = (...entries: Entry[]) => [{ ...GENESIS, entries }];
      const log = (entry: Entry): Effect => ({ type: 'append', entry, segment: null });

      /** Steps, dies in the moment at which a message leaves, and starts again. @returns what the next life is given */
      const dieAt = async (number: number, ...steps: Effect[][]): Promise<Restart | null> => {
        let again: Promise<void> | undefined;
        onLeave = (sent) => {
          if (numberOf(sent) !== number) return;
          driver.kill();
          again = driver.start();
        };
        for (const step of steps) if (!again) await give(...step);
        await until(() => again !== undefined, `message ${number}`);
        await again;
        script.next.length = 0; // of a step that came too late
        return script.of('start')[0]!.restart;
      };

      it('has on disk what comes before a message when that leaves', async () => {
        await driver.start();
        const { say, send } = effects;
        // what another event wants said while the disk is at work must wait too
        const first = await dieAt(1, [keep(1), say(1), keep(2), log(firstEntry), say(2)], [say(3)]);
        expect(first).toEqual({ segments: [], record: encodeRecord(record(1)), states: [] });
        const second = await dieAt(4, [log(firstEntry), send(4), keep(2)]);
        expect(second).toEqual({ segments: logOf(firstEntry), record: encodeRecord(record(1)), states: [] });
        const third = await dieAt(6, [keep(3), send(5), log(secondEntry), keep(4)], [send(6), keep(5)]);
        expect(third).toEqual({
          segments: logOf(firstEntry, secondEntry),
          record: encodeRecord(record(4)),
          states: [],
        });
        expect(left).toEqual([1, 4, 5, 6]);
      });

      it('has on disk what came before a history that others ask for when that leaves', async () => {
        await driver.start();
        // it may have a certificate with a vote of this peer's, which must not be forgotten
        await give(keep(1), log(firstEntry), keep(2));
        expect(await driver.askHistory(2, 1)).toEqual(history.told);
        driver.kill();
        await driver.start();
        expect(script.of('start')[0]!.restart).toEqual({
          segments: logOf(firstEntry),
          record: encodeRecord(record(2)),
          states: [],
        });
      });

      it('keeps of the history as many segments as it is told to, and what comes after in the newest', async () => {
        await driver.start();
        const { round: _, ...facts } = factsAt(firstHead(genesis, run));
        const head = { ...facts, places: null, committee: null, changes: [], unfinalTokens: 0 };
        const beginning = {
          anchors: [{ head, entry: secondEntry }],
          passed: { core: [neighbour.self], largest: 3 },
          pinned: run,
        };
        const begin = (entry: Entry, count: number): Effect => {
          return { type: 'append', entry, segment: { ...beginning, keep: count } };
        };
        const { say } = effects;
        const two = await dieAt(1, [log(firstEntry), begin(secondEntry, 2), log(firstEntry), say(1)]);
        const newest = { ...beginning, entries: [secondEntry, firstEntry] };
        expect(two!.segments).toEqual([...logOf(firstEntry), newest]);
        const one = await dieAt(2, [log(secondEntry), begin(firstEntry, 1), say(2)]);
        expect(one!.segments).toEqual([{ ...beginning, entries: [firstEntry] }]);
      });

      it('gives a restart everything persisted and appended, and the newest agreed state', async () => {
        await driver.start();
        const [restored] = await answers('restored', 1, [effects.initialize()]);
        driver.kill();
        await driver.start();
        const [first] = script.of('start');
        expect(first!.restart).toMatchObject({ segments: [], record: null });
        const initial = { block: run, state: { snapshot: restored!.snapshot, round: 0 } };
        expect(first!.restart!.states).toMatchObject([initial]);
        const payload = validPayload(genesis);
        const entry = entryWith(payload);
        const headers = await receive(headerOf(payload, payload));
        await answers('taken', 1, [keep(8), log(entry), { type: 'take', headers }]);
        // dies in the very moment at which it says that the state is on disk
        script.onEvent = ({ type }) => type === 'saved' && driver.kill();
        await answers('saved', 1, [effects.apply(entry, BLOCK)]);
        const [applied] = script.of('applied');
        await driver.start();
        const { snapshot, snapshotBytes } = applied!;
        const newest = { block: BLOCK, state: { ...target, snapshot, snapshotBytes } };
        const restart = { segments: logOf(entry), record: encodeRecord(record(8)), states: [initial, newest] };
        expect(script.of('start')[0]).toMatchObject({ type: 'start', restart });
        expect(await driver.serves(snapshot)).toBe(true);
        expect(await driver.serves(restored!.snapshot)).toBe(true);
      });
    }

    function describeAnswers(): void {
      it('answers initialize', async () => {
        await driver.start();
        const [restored] = await answers('restored', 1, [effects.initialize()]);
        const snapshot = snapshotAfter(run);
        expect(restored).toMatchObject({ snapshot: idOf(snapshot), snapshotBytes: snapshot.length, error: null });
        expect(await driver.serves(idOf(snapshot))).toBe(true);
      });

      it('answers fetch: from the neighbour, and what nobody has', async () => {
        await driver.start();
        const [remote, nowhere] = [1, 2].map((value) => validPayload(genesis, value)) as [Uint8Array, Uint8Array];
        await driver.provide(remote);
        const told = await answers('payload', 2, [effects.fetch(remote), effects.fetch(nowhere)]);
        const verdicts = new Map(told.map(({ update, error }) => [update.payload, error]));
        expect(verdicts.get(idOf(remote))).toBeNull();
        expect(verdicts.get(idOf(nowhere))).toBe('E_BLOB_UNAVAILABLE');
        expect([await driver.serves(idOf(remote)), await driver.serves(idOf(nowhere))]).toEqual([true, false]);
      });

      it('refuses what the codec refuses, and a payload of another size than is said', async () => {
        await driver.start();
        const good = validPayload(genesis);
        const infinite = infinitePayload(good);
        const short = good.slice(4);
        for (const bytes of [good, infinite, short]) await driver.provide(bytes);
        const verdict = async (effect: Effect, count: number) =>
          (await answers('payload', count, [effect])).at(-1)!.error;
        expect(await verdict(effects.fetch(infinite), 1)).toBe('E_PAYLOAD_NOT_FINITE');
        expect(await verdict(effects.fetch(short), 2)).toBe('E_PAYLOAD_SIZE');
        expect(await verdict(effects.fetch(good, good.length - 1), 3)).toBe('E_BLOB_UNAVAILABLE');
        expect(await verdict(effects.fetch(good), 4)).toBeNull();
        expect(await verdict(effects.fetch(good, good.length - 1), 5)).toBe('E_BLOB_UNAVAILABLE');
      });

      it('answers take with what came inside headers, and what the codec refuses of it', async () => {
        await driver.start();
        const [first, second] = [1, 2].map((value) => validPayload(genesis, value)) as [Uint8Array, Uint8Array];
        const bytes = [first, infinitePayload(first), second, first.slice(4)];
        const headers = await receive(...bytes.map((each) => headerOf(each, each)));
        const [taken] = await answers('taken', 1, [{ type: 'take', headers }]);
        expect(taken!.headers).toEqual(headers);
        const codes = headers.map((header) => taken!.refused.get(header) ?? null);
        expect(codes).toEqual([null, 'E_PAYLOAD_NOT_FINITE', null, 'E_PAYLOAD_SIZE']);
        expect([await driver.serves(idOf(first)), await driver.serves(idOf(second))]).toEqual([true, true]);
      });

      it('keeps nothing that rides in a header that names something else, and fetches what it names', async () => {
        await driver.start();
        const [named, other, nowhere, good] = [1, 2, 3, 4].map((value) => validPayload(genesis, value)) as Bytes4;
        await driver.provide(named);
        const wrong = [headerOf(named, other), headerOf(nowhere, other), headerOf(nowhere, new Uint8Array(0))];
        const headers = await receive(...wrong, headerOf(good, good));
        const told = await answers('payload', 3, [{ type: 'take', headers }]);
        await until(() => script.of('taken').length === 1, 'the answer for the one that is right');
        expect(script.of('taken')[0]!.headers).toEqual(headers.slice(3));
        expect(script.of('taken')[0]!.refused.size).toBe(0);
        const verdicts = new Map(told.map(({ update, error }) => [update.payload, error]));
        expect([...verdicts].sort()).toEqual(
          [
            [idOf(named), null],
            [idOf(nowhere), 'E_BLOB_UNAVAILABLE'],
          ].sort(),
        );
        const served = [named, other, nowhere, good].map((bytes) => driver.serves(idOf(bytes)));
        expect(await Promise.all(served)).toEqual([true, false, false, true]);
        // not refused for good: somebody may have it later
        await driver.provide(nowhere);
        expect((await answers('payload', 4, [effects.fetch(nowhere)]))[3]!.error).toBeNull();
      });

      it('answers train with an update that others can fetch', async () => {
        await driver.start();
        const [trained] = await answers('trained', 1, [effects.train(3)]);
        expect(trained).toMatchObject({ base: firstEntry.block.base, update: { steps: 3 } });
        const { payload, size } = trained!.update;
        expect(trained!.inline?.length).toBe(size);
        expect(idOf(trained!.inline!)).toBe(payload);
        expect(await driver.serves(payload)).toBe(true);
      });

      it('answers train with what there is when asked to finish', async () => {
        await driver.start();
        const [trained] = await answers('trained', 1, [effects.train(1000), { type: 'finish' }]);
        expect(trained!.update.steps).toBeLessThan(1000);
      });

      it('answers train-on', async () => {
        await driver.start();
        await answers('trained', 1, [effects.train(3)]);
        const [on] = await answers('trained-on', 1, [effects.trainOn(3)]);
        expect(on).toMatchObject({ base: firstEntry.block.base });
      });

      it('does not answer a train-on that apply overtakes', async () => {
        await driver.start();
        const payload = validPayload(genesis);
        const headers = await receive(headerOf(payload, payload));
        await answers('taken', 1, [{ type: 'take', headers }]);
        await answers('applied', 1, [effects.trainOn(40), effects.apply(entryWith(payload), BLOCK)]);
        await answers('trained', 1, [effects.train(400)]);
        expect(script.events.filter(({ type }) => type === 'trained-on')).toEqual([]);
      });

      it('answers apply, and does not answer a training that it overtakes', async () => {
        await driver.start();
        const payload = validPayload(genesis);
        const headers = await receive(headerOf(payload, payload));
        await answers('taken', 1, [{ type: 'take', headers }]);
        const apply = effects.apply(entryWith(payload), BLOCK);
        const [applied] = await answers('applied', 1, [effects.train(40), apply]);
        const snapshot = snapshotAfter(BLOCK);
        expect(applied).toMatchObject({ block: BLOCK, snapshot: idOf(snapshot), snapshotBytes: snapshot.length });
        // longer than the one before, so that an answer to that would come first
        const trained = await answers('trained', 1, [effects.train(400)]);
        expect(trained.map(({ update }) => update.steps)).toEqual([400]);
      });

      it('says that an applied state is saved after it is applied, once others can have it', async () => {
        await driver.start();
        const payload = validPayload(genesis);
        const headers = await receive(headerOf(payload, payload));
        await answers('taken', 1, [{ type: 'take', headers }]);
        let served: Promise<boolean> | undefined;
        script.onEvent = ({ type }) => {
          if (type === 'saved') served = driver.serves(idOf(snapshotAfter(BLOCK)));
        };
        const [saved] = await answers('saved', 1, [effects.apply(entryWith(payload), BLOCK)]);
        expect(saved).toMatchObject({ block: BLOCK });
        expect(await served).toBe(true);
        const order = script.events.map(({ type }) => type).filter((type) => type === 'applied' || type === 'saved');
        expect(order).toEqual(['applied', 'saved']);
      });

      it('says what is saved though it is through all rounds before: others ask it for that', async () => {
        await driver.start();
        const payload = validPayload(genesis);
        const headers = await receive(headerOf(payload, payload));
        await answers('taken', 1, [{ type: 'take', headers }]);
        const done: Effect = { type: 'report', report: { kind: 'done', reason: 'rounds' } };
        script.next.push([effects.apply(entryWith(payload), BLOCK)], [done]);
        await driver.hear(message(heard++));
        await until(() => script.of('saved').length === 1, 'what was saved');
        expect(script.events.slice(-2).map(({ type }) => type)).toEqual(['applied', 'saved']);
      });

      it('answers restore: the state, one that nobody has, one that cannot be loaded', async () => {
        await driver.start();
        const [there, bad, nowhere] = ['a state', UNLOADABLE, 'lost'].map((text) => new TextEncoder().encode(text));
        await driver.provide(there!);
        await driver.provide(bad!);
        const [restored] = await answers('restored', 1, [effects.restore(there!)]);
        expect(restored).toMatchObject({ snapshot: idOf(there!), snapshotBytes: there!.length, error: null });
        expect(await driver.serves(restored!.snapshot)).toBe(true);
        const [, lost] = await answers('restored', 2, [effects.restore(nowhere!)]);
        expect(lost).toMatchObject({ snapshot: idOf(nowhere!), error: 'E_BLOB_UNAVAILABLE' });
        const [, , refused] = await answers('restored', 3, [effects.restore(bad!)]);
        expect(refused).toMatchObject({ snapshot: idOf(bad!), error: 'E_SNAPSHOT_SIZE' });
      });

      it('gives up what it fetches for a restore when told so, and not what it has', async () => {
        await driver.start();
        const [held, there] = ['held back', 'a state'].map((text) => new TextEncoder().encode(text));
        driver.withhold(held!);
        await driver.provide(there!);
        await give(effects.restore(held!));
        const [given] = await answers('restored', 1, [{ type: 'abandon' }]);
        expect(given).toMatchObject({ snapshot: idOf(held!), error: expect.stringMatching(/^E_/) });
        const [, restored] = await answers('restored', 2, [effects.restore(there!)]);
        await give({ type: 'abandon' });
        expect(restored).toMatchObject({ snapshot: idOf(there!), error: null });
        expect(script.of('restored')).toHaveLength(2);
      });

      it('answers request-history, also for a peer that is not there', async () => {
        await driver.start();
        const [there] = await answers('history', 1, [effects.ask(neighbour.self)]);
        expect(there).toMatchObject({ peer: neighbour.self, history: history.told });
        const stranger = testSigner('a stranger').self;
        const [, gone] = await answers('history', 2, [effects.ask(stranger)]);
        expect(gone).toMatchObject({ peer: stranger, history: null });
      });
    }
  });
}

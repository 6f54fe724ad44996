import { createHash } from 'node:crypto';
import { type ChainContext, headHash } from '../../protocol/chain.ts';
import { isCoded } from '../../protocol/errors.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import { branchFromLog, GENESIS } from '../../protocol/history.ts';
import type { PeerId, Signer } from '../../protocol/identity.ts';
import type { Machine } from '../../protocol/machine.ts';
import {
  decodeHistory,
  encodeHistory,
  encodeMessage,
  type Message,
  type MessageOf,
  type Proposal,
  statusFields,
  type Vote,
} from '../../protocol/messages.ts';
import type { RandomStream } from '../../protocol/random.ts';
import { blockHash, joinBytes, proposalBytes, statusBytes, updateBytes, voteBytes } from '../../protocol/signing.ts';
import type { Block, Certificate, Update, VoteKind } from '../../protocol/wire.ts';
import type { BlobLibrary } from '../blob-library.ts';
import { falsified, unjustEviction } from './falsified.ts';
import { Fuzzer } from './fuzzer.ts';
import type { Habit } from './lies.ts';
import { pick } from './plan.ts';
import { Remembered } from './remembered.ts';

export interface LiarComponents {
  signer: Signer;
  library: BlobLibrary;
  random: RandomStream;
  /** an identity out of nothing */
  mint: (label: string) => Signer;
  /** the liar's own, which follows the run as a correct peer does */
  machine: () => Machine | undefined;
  /** @param onHeard each time that it has reached the other's decoder */
  say: (to: number, bytes: Uint8Array, onHeard?: () => void) => void;
}

export interface LiarInit {
  index: number;
  peers: number;
  run: Hash;
  genesis: Genesis;
  habits: ReadonlySet<Habit>;
}

/** Of any height that a message can name. */
const HEIGHT_MAX = 2 ** 40;
/** The most that an update can say. */
const TOKENS_MAX = 2 ** 40;
/** Strangers in whose names a flood endorses the same block. */
const ENDORSERS = 6;
/** Messages that a liar which fuzzes says at once. */
const FUZZED = 8;
/** Lies about what a block follows and has in it. */
const BLOCK_LIES = 8;
/** Chance that a habit shows when it could. */
const OFTEN = 0.5;
/** And of a lie about a block, which a liar can tell only when it leads. */
const MOSTLY = 0.9;

/**
 * A peer that breaks the rules. It runs the same machine as a correct one, so that it knows what to lie about; what that
 * says is twisted on its way out, and more is said beside it. It holds its own key alone.
 */
export class Liar {
  readonly #c: LiarComponents;
  readonly #init: LiarInit;
  /** whom it treats as the one half */
  readonly #half: boolean[];
  readonly #fuzzer: Fuzzer;
  readonly #past: Remembered;
  readonly #twins = new Map<Hash, Block>();
  readonly #lies = new WeakMap<Proposal, Proposal>();
  #header: MessageOf<'header'> | undefined;
  #about: { height: number; view: number; block: Hash } | undefined;
  /** by author, round and base: headers that it has forged already */
  readonly #outrunNames = new Set<string>();
  #minted = 0;
  /** which of the lies about a block comes next: drawn each time, some would hardly ever be told in a short run */
  #turn: number;
  /** lies told, by habit; what was fuzzed counts where it arrives */
  readonly told: Partial<Record<Habit, number>> = {};

  constructor(components: LiarComponents, init: LiarInit) {
    this.#c = components;
    this.#init = init;
    this.#past = new Remembered(components.random);
    this.#fuzzer = new Fuzzer(components, init.run);
    this.#turn = components.random.below(BLOCK_LIES);
    this.#half = Array.from({ length: init.peers }, () => components.random.below(2) === 0);
  }

  get withholds(): boolean {
    return this.#does('withholds');
  }

  /** How long an answer is held back. @param patienceMs about when the asker gives up, or asks others too */
  dawdleMs(patienceMs: number): number {
    const { random } = this.#c;
    if (!this.#does('dawdles') || random.unit() > OFTEN) return 0;
    this.#count('dawdles');
    return random.below(patienceMs);
  }

  hear(message: Message): void {
    const isNew = this.#past.note(message);
    if (isNew && message.type === 'header' && this.#does('poisons')) this.#outrun(message);
    if (message.type === 'proposal') {
      this.#about = { height: message.height, view: message.view, block: blockHash(message.block) };
    } else if (message.type === 'vote' && message.block) {
      this.#about = { height: message.height, view: message.view, block: message.block };
    }
  }

  /** What the other is told where the machine wanted to say this. */
  say(to: number, message: Message): Uint8Array[] {
    const { random } = this.#c;
    this.#past.note(message);
    if (message.type === 'header') this.#header = message;
    if (this.#does('withholds') && (this.#half[to] || random.unit() < 0.2)) {
      this.#count('withholds');
      return [];
    }
    if (this.#does('poisons') && message.type === 'header' && random.unit() < OFTEN) {
      return [encodeMessage(this.#poisoned(message))];
    }
    const lie = message.type === 'proposal' ? this.#lieAbout(message) : message;
    if (lie !== message) return [encodeMessage(lie)];
    return (this.#does('equivocates') ? this.#doubled(to, message) : [message]).map(encodeMessage);
  }

  /** The same to all, for only then a quorum could fall for it. */
  #lieAbout(message: Proposal): Proposal {
    const known = this.#lies.get(message);
    if (known || !this.#does('looks back')) return known ?? message;
    // one that equivocates as well shows both
    const chance = this.#does('equivocates') ? OFTEN : MOSTLY;
    const lie = this.#c.random.unit() < chance ? this.#lookingBack(message) : message;
    this.#lies.set(message, lie);
    return lie;
  }

  /** What a question for the history is answered with. */
  answer(honest: Uint8Array): Uint8Array | undefined {
    const { random } = this.#c;
    if (this.#does('boasts') && random.unit() < OFTEN) return undefined;
    if (this.#does('babbles') && random.unit() < OFTEN) return this.#garbled(honest);
    try {
      if (this.#does('fuzzes') && random.unit() < OFTEN) {
        this.#count('fuzzes');
        return this.#fuzzer.history(honest);
      }
      if (!this.#does('falsifies')) return honest;
      const history = decodeHistory(honest, this.#init.run);
      this.#count('falsifies');
      const { library } = this.#c;
      return encodeHistory(falsified(history, { random, library, index: this.#init.index, context: this.#context }));
    } catch (error) {
      if (!isCoded(error)) throw error;
      return honest;
    }
  }

  /** Speaks without being asked; called every now and then. */
  babble(): void {
    const { random } = this.#c;
    const to = random.below(this.#init.peers);
    if (to === this.#init.index || !this.#c.machine()) return;
    for (const habit of this.#init.habits) {
      if (random.unit() < OFTEN) continue;
      for (const bytes of this.#unasked(habit)) {
        if (habit === 'fuzzes') this.#c.say(to, bytes, () => this.#count(habit));
        else {
          this.#count(habit);
          this.#c.say(to, bytes);
        }
      }
    }
  }

  #unasked(habit: Habit): Uint8Array[] {
    switch (habit) {
      case 'votes for all':
        return this.#votesForAll().map(encodeMessage);
      case 'replays':
        return this.#past.messages.length === 0 ? [] : [encodeMessage(this.#again())];
      case 'babbles':
        return this.#past.messages.length === 0
          ? []
          : [this.#garbled(encodeMessage(pick(this.#c.random, this.#past.messages)))];
      case 'fuzzes':
        if (this.#past.messages.length === 0) return [];
        return Array.from({ length: FUZZED }, () => this.#fuzzer.message(this.#past.messages));
      case 'boasts':
      case 'falsifies': // to be asked
        return [encodeMessage(this.#boast())];
      case 'poisons': {
        const header = this.#past.messages.findLast((each): each is MessageOf<'header'> => each.type === 'header');
        return header ? [encodeMessage(this.#forged(header))] : [];
      }
      case 'secedes':
        return this.#seceded().map(encodeMessage);
      case 'floods':
        return this.#flood().map(encodeMessage);
      case 'dawdles':
      case 'equivocates':
      case 'looks back':
      case 'withholds':
        return [];
      default:
        return habit satisfies never;
    }
  }

  // --- votes and blocks -----------------------------------------------------------------------------------------------

  /** The one half hears something else than the other; now and then a peer hears both, as by way of others. */
  #doubled(to: number, message: Message): Message[] {
    const twisted = this.#twisted(to, message);
    if (twisted === message || this.#c.random.unit() < MOSTLY) return [twisted];
    return this.#c.random.below(2) === 0 ? [message, twisted] : [twisted, message];
  }

  #twisted(to: number, message: Message): Message {
    if (!this.#half[to]) return message;
    if (message.type === 'proposal' && !message.block.members) {
      const block = this.#twinOf(message.block);
      if (!block) return message;
      this.#count('equivocates');
      return this.#proposal({ ...message, block });
    }
    const twin = message.type === 'vote' && message.block ? this.#twins.get(message.block) : undefined;
    if (message.type !== 'vote' || !twin) return message;
    return this.#vote(message.kind, message.height, message.view, blockHash(twin));
  }

  /** Another block that is as good: one update fewer. */
  #twinOf(block: Block): Block | undefined {
    const known = this.#twins.get(blockHash(block));
    if (known || block.updates.length < 2) return known;
    const left = this.#c.random.below(block.updates.length);
    const twin = { ...block, updates: block.updates.filter((_, i) => i !== left) };
    this.#twins.set(blockHash(block), twin);
    return twin;
  }

  #votesForAll(): Vote[] {
    if (!this.#about) return [];
    const { height, view, block } = this.#about;
    return [
      this.#vote('notarize', height, view, block),
      this.#vote('nullify', height, view, null),
      this.#vote('finalize', height, view, block),
    ];
  }

  /**
   * A block on the state or the block of a round before, with updates that are not as their authors signed them, or with a
   * request to come or go that was taken up before.
   */
  #lookingBack(message: Proposal): Proposal {
    const unjust = this.#c.random.below(4) === 0 ? unjustEviction(this.#past.messages) : undefined;
    const request = unjust ? { evictions: [unjust] } : this.#oldRequests();
    if (request && (unjust || this.#c.random.unit() < OFTEN)) {
      this.#count('looks back');
      return this.#proposal({ ...message, block: { ...message.block, ...request } });
    }
    const past = this.#past.messages.findLast((each): each is Proposal => {
      return each.type === 'proposal' && each.block.kind === 'round' && each.block.round < message.block.round;
    });
    if (!past) return message;
    this.#count('looks back');
    const { base: oldBase, updates, previous } = past.block;
    const { round, base, updates: present } = message.block;
    switch (this.#turn++ % BLOCK_LIES) {
      case 0: {
        const { payload, size } = updates[0]!;
        const update = this.#update(round, oldBase, payload, size);
        const block = { ...message.block, base: oldBase, updates: [update] };
        return this.#proposal({ ...message, block });
      }
      case 1:
        return this.#proposal({ ...message, block: { ...message.block, previous } });
      case 2: {
        const resized = present.map((update) => (this.#isOwn(update) ? this.#resized(round, base, update) : update));
        return this.#proposal({ ...message, block: { ...message.block, updates: resized } });
      }
      case 3:
        // follows the same block, and has another account of what came before
        return this.#proposal({ ...message, block: { ...message.block, head: past.block.head } });
      case 4: {
        // somebody else is to go, who did not say so
        const [author] = (this.#c.machine()?.standing.roster ?? []).filter((peer) => peer !== this.#c.signer.self);
        if (!author) return message;
        const leave = { author, height: message.height, signature: this.#c.signer.sign(Uint8Array.of(0)) };
        return this.#proposal({ ...message, block: { ...message.block, leaves: [leave] } });
      }
      case 5: {
        // somebody is to come who did not ask
        const { self: author } = this.#c.mint(`unwilling ${this.#init.index}`);
        const signature = this.#c.signer.sign(Uint8Array.of(0));
        const join = { author, height: message.height, attempt: 0, signature };
        return this.#proposal({ ...message, block: { ...message.block, joins: [join] } });
      }
      case 6: {
        // its own update counts for more than can be in it
        const heavier = present.map((update) => {
          const { payload, size } = update;
          return this.#isOwn(update) ? this.#update(round, base, payload, size, TOKENS_MAX) : update;
        });
        return this.#proposal({ ...message, block: { ...message.block, updates: heavier } });
      }
      default: {
        // what others said, but for a word
        const changed = present.map((update) => ({ ...update, loss: update.loss / 2 }));
        return this.#proposal({ ...message, block: { ...message.block, updates: changed } });
      }
    }
  }

  /** Something said long ago; every other time a request that would change who is a member now. */
  #again(): Message {
    const request = this.#c.random.below(2) === 0 ? this.#oldRequest() : undefined;
    return request ?? pick(this.#c.random, this.#past.messages);
  }

  /** Somebody who has left comes back, or who has come back leaves, without having asked again. */
  #oldRequests(): Pick<Block, 'joins' | 'leaves'> | undefined {
    const request = this.#oldRequest();
    if (!request) return undefined;
    return request.type === 'join' ? { joins: [request.join], leaves: [] } : { joins: [], leaves: [request.leave] };
  }

  #oldRequest(): MessageOf<'join' | 'leave'> | undefined {
    const roster = this.#c.machine()?.standing.roster ?? [];
    return this.#past.requests.find((request) => {
      return request.type === 'join' ? !roster.includes(request.join.author) : roster.includes(request.leave.author);
    });
  }

  #seceded(): Message[] {
    const header = this.#header;
    const machine = this.#c.machine();
    if (!header || !machine || machine.standing.root !== header.base) return [];
    const { run } = this.#init;
    const { self } = this.#c.signer;
    const { anchors, entries, more } = machine.history({ fromHeight: 0, skip: 0, anchors: 0 });
    if (more) return [];
    const { head } = branchFromLog(this.#context, [{ ...GENESIS, anchors, entries }]);
    const height = head.height + 1;
    const block: Block = {
      height,
      previous: head.tip,
      kind: 'round',
      round: header.round,
      base: header.base,
      head: headHash(head),
      members: [self],
      updates: [header.update],
      joins: [],
      leaves: [],
      evictions: [],
    };
    const hash = blockHash(block);
    const signatures: Certificate['signatures'] = [[0, this.#vote('endorse', height, 0, hash).signature]];
    const certificate: Certificate = { kind: 'endorse', height, view: 0, block: hash, signatures };
    return [{ type: 'certificate', run, certificate, block }];
  }

  // --- updates --------------------------------------------------------------------------------------------------------

  #poisoned(message: MessageOf<'header'>): Message {
    const { random, library } = this.#c;
    this.#count('poisons');
    const { round, base } = message;
    if (random.below(3) === 0) return { ...message, update: this.#resized(round, base, message.update) };
    const junk = Uint8Array.from({ length: 8 + random.below(200) }, () => random.below(256));
    const payload = createHash('sha256').update(junk).digest('hex');
    const known = random.below(2) === 0;
    if (known) library.put(this.#init.index, payload, junk);
    const update = this.#update(round, base, payload, junk.length);
    return { ...message, update, inline: known && random.below(2) === 0 ? junk : null };
  }

  /** To everybody at once, some of whom have not heard the true one. What is a forgery itself is left. */
  #outrun(header: MessageOf<'header'>): void {
    const { random, say } = this.#c;
    const { round, base, update } = header;
    const name = `${update.author}/${round}/${base}`;
    if (this.#outrunNames.has(name) || this.#isOwn(update) || random.unit() > OFTEN) return;
    this.#outrunNames.add(name);
    const bytes = encodeMessage(this.#forged(header));
    this.#count('poisons');
    for (let to = 0; to < this.#init.peers; to++) if (to !== this.#init.index) say(to, bytes);
  }

  /** Another peer's header, truly signed by it, with a payload inside that is not the one it names; or its payload as one's own. */
  #forged(header: MessageOf<'header'>): Message {
    const { random } = this.#c;
    if (random.below(3) === 0) {
      const { round, base, update } = header;
      return { ...header, update: this.#update(round, base, update.payload, update.size) };
    }
    const length = random.below(2) === 0 ? header.update.size : 1 + random.below(99);
    const inline = Uint8Array.from({ length: Math.min(length, 4096) }, () => random.below(256));
    return { ...header, inline };
  }

  #isOwn({ author }: Update): boolean {
    return author === this.#c.signer.self;
  }

  /** The same payload, and said to be larger. */
  #resized(round: number, base: Hash, { payload, size }: Update): Update {
    return this.#update(round, base, payload, size + 1);
  }

  #update(round: number, base: Hash, payload: Hash, size = 944, tokens = 4): Update {
    const { signer } = this.#c;
    const unsigned = { author: signer.self, payload, size, tokens, steps: 1, loss: 1 };
    return { ...unsigned, signature: signer.sign(updateBytes(this.#init.run, round, base, unsigned)) };
  }

  // --- sync -----------------------------------------------------------------------------------------------------------

  #boast(): Message {
    const { signer, random } = this.#c;
    const { round } = this.#c.machine()!.standing;
    const height = pick(random, [round, round + 1, 2 ** 40]);
    const tip = createHash('sha256').update(`${random.uint32()}`).digest('hex');
    return this.#status(signer, { height, unfinalTokens: pick(random, [0, 2 ** 50]), round: round + 1, tip });
  }

  #status(signer: Signer, standing: { height: number; unfinalTokens: number; round: number; tip: Hash }): Message {
    const { run } = this.#init;
    const fields = statusFields({ author: signer.self, ...standing });
    return { type: 'status', run, ...fields, signature: signer.sign(statusBytes(run, fields)) };
  }

  // --- noise ----------------------------------------------------------------------------------------------------------

  #garbled(bytes: Uint8Array): Uint8Array {
    const { random } = this.#c;
    this.#count('babbles');
    const length = random.below(3) === 0 ? random.below(bytes.length + 1) : bytes.length;
    // a copy also of a Buffer, whose slice is not: the encoding is everybody's
    const garbled = new Uint8Array(bytes.subarray(0, length));
    if (garbled.length > 0) garbled[random.below(garbled.length)]! ^= 1 << random.below(8);
    return random.below(4) === 0 ? Uint8Array.from({ length: random.below(99) }, () => random.below(256)) : garbled;
  }

  #flood(): Message[] {
    const { random, mint } = this.#c;
    const { run } = this.#init;
    const strangers = Array.from({ length: ENDORSERS }, () =>
      mint(`stranger ${this.#init.index} ${this.#minted++ % 500}`),
    );
    const stranger = strangers[0]!;
    const { round, root } = this.#c.machine()!.standing;
    const about = createHash('sha256').update(`${random.uint32()}`).digest('hex');
    const height = Math.min(HEIGHT_MAX, (this.#about?.height ?? 1) + pick(random, [0, 0, 1, 2 ** 30]));
    // a fresh join would be let in: that identities cost nothing is a limit of the protocol, and said
    const endorsed = pick(random, [about, root ?? about]);
    const view = pick(random, [0, 1, 15, 16, random.below(2 ** 20)]);
    const join = { author: this.#c.signer.self, height, attempt: this.#minted };
    const certificate: Certificate = { kind: 'nullify', height, view, block: null, signatures: [] };
    const update = { ...this.#update(round, about, about) };
    return [
      { type: 'join', run, join: { ...join, signature: this.#c.signer.sign(joinBytes(run, join)) } },
      ...strangers.map((each) => this.#vote('endorse', height, 0, endorsed, each)),
      this.#vote('notarize', height, view, about),
      { type: 'certificate', run, certificate, block: null },
      { type: 'header', run, round: round + random.below(3), base: about, update, inline: null },
      this.#status(stranger, { height: 0, unfinalTokens: 0, round: 0, tip: about }),
    ];
  }

  // --- tools ----------------------------------------------------------------------------------------------------------

  get #context(): ChainContext {
    const { genesis, run } = this.#init;
    return { genesis, run, signer: this.#c.signer };
  }

  #vote(kind: VoteKind, height: number, view: number, block: Hash | null, signer = this.#c.signer): Vote {
    const { run } = this.#init;
    const signature = signer.sign(voteBytes(run, kind, height, view, block));
    return { type: 'vote', run, author: signer.self as PeerId, kind, height, view, block, signature };
  }

  #proposal(fields: Proposal): Proposal {
    const { run, height, view, parentView, block } = fields;
    const signature = this.#c.signer.sign(proposalBytes(run, height, view, parentView, blockHash(block)));
    return { ...fields, signature };
  }

  #does(habit: Habit): boolean {
    return this.#init.habits.has(habit);
  }

  #count(habit: Habit): void {
    this.told[habit] = (this.told[habit] ?? 0) + 1;
  }
}

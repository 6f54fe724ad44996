import { type ChainContext, type Head, rootOf } from './chain.ts';
import type { Effect, Keep, StateOnDisk } from './events.ts';
import type { Hash } from './hash.ts';
import {
  Branch,
  type BranchStanding,
  branchFromLog,
  SEGMENT_SIZE,
  SEGMENTS_KEPT,
  type Segment,
  type SegmentSize,
} from './history.ts';
import type { PeerId, Signer } from './identity.ts';
import { statesKept } from './kept-states.ts';
import { LIMITS } from './limits.ts';
import {
  type Beginning,
  type History,
  type Message,
  type MessageOf,
  type PageRequest,
  STATES_TOLD_MAX,
  stateBytes,
  statusFields,
} from './messages.ts';
import type { OwnHistory } from './own-updates.ts';
import { blockHash, statusBytes } from './signing.ts';
import type { AgreedState, Block, Entry } from './wire.ts';

/** The agreed state that this peer holds, and where on its branch that is. */
export interface Applied {
  /** position on the branch: blocks up to here are in the state */
  position: number;
  head: Head;
  state: AgreedState;
  root: Hash;
}

/** The blocks of an agreement; see there. */
interface OpenBlocks {
  candidates(): readonly Block[];
  supported(): readonly Block[];
}

/** What the parts of the machine share: the branch followed, the state reached, the clock and the effects to be. */
export class Core {
  readonly context: ChainContext;
  branch: Branch;
  applied: Applied | undefined;
  /** states that can still be restored or served, newest last, by the hash of the block that led to them */
  readonly states = new Map<Hash, AgreedState>();
  readonly #segmentSize: SegmentSize;
  /** of a block that the user knows: no branch is followed that has neither it nor what it stands on (`trusts`) */
  #pinned: Hash | undefined;
  /** branches that this peer has left, though it helped on blocks that follow them and may yet be decided */
  #left: Branch[] = [];
  /** unfinal blocks that were given up since nobody had what they name: how often, and until when */
  readonly #lost = new Map<Hash, { times: number; untilMs: number }>();
  /** the branch has not had the pinned block yet */
  #pinIsMissing = false;
  nowMs = 0;
  /** with what the driver was told to keep when it was to save this state */
  #unsaved: (StateOnDisk & { kept: ReadonlySet<Hash> }) | undefined;
  /** what the next height may yet be decided with */
  open: () => OpenBlocks = () => NONE_OPEN;
  /** tips of the states that the driver was told to keep */
  #kept: ReadonlySet<Hash> = new Set();
  #effects: Effect[] = [];
  #status: { standing: string; message: Message } | undefined;
  #wakeAtMs = Number.POSITIVE_INFINITY;
  /** when the driver will wake us, as far as it was asked */
  #plannedMs = Number.POSITIVE_INFINITY;
  /** payloads that came inside headers in this step */
  #taken: MessageOf<'header'>[] | undefined;

  constructor(context: ChainContext, segmentSize: SegmentSize = SEGMENT_SIZE) {
    this.context = context;
    this.#segmentSize = segmentSize;
    this.branch = new Branch(context);
  }

  get self(): PeerId {
    return this.context.signer.self;
  }

  emit(effect: Effect): void {
    this.#effects.push(effect);
  }

  /** The payload inside this header is to be stored and checked: one effect for all headers of a step. @returns their list */
  take(header: MessageOf<'header'>): readonly MessageOf<'header'>[] {
    if (!this.#taken) {
      this.#taken = [];
      this.emit({ type: 'take', headers: this.#taken });
    }
    this.#taken.push(header);
    return this.#taken;
  }

  warn(code: string, message: string): void {
    this.emit({ type: 'report', report: { kind: 'warning', code, message } });
  }

  /** Asks to be woken no later than this; a time that has passed means soon, never at once. */
  wakeAt(atMs: number): void {
    this.#wakeAtMs = Math.min(this.#wakeAtMs, Math.max(atMs, this.nowMs + WAKE_MS_MIN));
  }

  /** The driver has woken us. */
  woken(): void {
    this.#plannedMs = Number.POSITIVE_INFINITY;
  }

  takeEffects(): readonly Effect[] {
    const asks = this.#wakeAtMs !== Number.POSITIVE_INFINITY && this.#wakeAtMs !== this.#plannedMs;
    if (asks) {
      this.#plannedMs = this.#wakeAtMs;
      this.emit({ type: 'wake', atMs: this.#wakeAtMs });
    }
    this.#taken = undefined;
    this.#wakeAtMs = Number.POSITIVE_INFINITY;
    const effects = this.#effects;
    if (effects.length === 0) return NO_EFFECTS;
    this.#effects = [];
    return effects;
  }

  /** Takes up what is on disk: the newest state is the one that is applied, if it is of this branch. */
  resume(segments: readonly Segment[], saved: readonly StateOnDisk[]): void {
    this.branch = branchFromLog(this.context, segments, this.#left);
    for (const { block, state } of saved) this.states.set(block, state);
    const newest = saved.at(-1);
    const position = newest ? this.branch.find(newest.block) : -1;
    if (newest && position >= 0) this.#setApplied(position, newest.state);
  }

  /** @param saved the state is on disk, and can be fetched from this peer */
  setApplied(position: number, state: AgreedState, saved: boolean): Applied {
    const { tip } = this.branch.heads[position]!;
    this.states.delete(tip);
    this.#unsaved = { block: tip, state, kept: this.#kept };
    if (saved) this.markSaved(tip);
    return this.#setApplied(position, state);
  }

  #setApplied(position: number, state: AgreedState): Applied {
    this.applied = { position, head: this.branch.heads[position]!, state, root: rootOf(state) };
    return this.applied;
  }

  /** A page of the history and, with the last, the states that can be fetched: the newest, if they are too large for all. */
  tell(request: PageRequest): Omit<History, 'run'> {
    const states: AgreedState[] = [];
    let bytes = 0;
    for (const state of [...this.states.values()].reverse().slice(0, STATES_TOLD_MAX)) {
      if (bytes + stateBytes(state) > LIMITS.historyBytesMax / 2) break;
      bytes += stateBytes(state);
      states.unshift(state);
    }
    const page = this.branch.page(request, PAGE_BYTES);
    return { ...page, states: page.more ? [] : states };
  }

  /** Of states that were told of earlier, those that can be fetched now. */
  stillHeld(states: readonly AgreedState[]): AgreedState[] {
    const held = new Set([...this.states.values()].map(({ snapshot }) => snapshot));
    return states.filter(({ snapshot }) => held.has(snapshot));
  }

  /** The branch grows at its head. */
  append(entry: Entry): void {
    this.branch.append(entry);
    if (entry.block.members === null) this.#left = [];
    const beginning = this.branch.beginSegment(this.#segmentSize, this.pinBehind);
    if (beginning) this.#forget();
    this.#record(entry, beginning);
  }

  /** Goes back to a position of the branch. */
  truncate(position: number): void {
    if (position === this.branch.entries.length) return;
    this.#leave((tip) => this.branch.find(tip) <= position);
    this.#tellOverruled(this.branch, position);
    this.branch.truncate(position);
  }

  /**
   * Goes back to a position whose unfinal block cannot be applied. What has it is not followed for some time, each time for
   * twice as long, unless the block is certified: who has what it names may only be cut off.
   */
  giveUp(position: number, forMs: number): void {
    const { tip } = this.branch.heads[position + 1]!;
    const times = this.#lost.get(tip)?.times ?? 0;
    if (this.#lost.size >= LOST_MAX) this.#lost.clear();
    this.#lost.set(tip, { times: times + 1, untilMs: this.nowMs + forMs * 2 ** Math.min(times, LOST_DOUBLINGS) });
    this.truncate(position);
  }

  /** Somebody has come who may have what nobody had. */
  lookAgain(): void {
    this.#lost.clear();
  }

  /** Whether it has an unfinal block that was given up. */
  isLost(fork: Branch): boolean {
    const certified = fork.certifiedLength();
    return [...this.#lost].some(([tip, { untilMs }]) => this.nowMs < untilMs && fork.find(tip) > certified);
  }

  /** One of the branches that were left, up to a block that a decided one follows. */
  branchLeft(tip: Hash): Branch | undefined {
    const left = this.#left.find((branch) => branch.find(tip) >= 0);
    return left?.fork(left.find(tip));
  }

  /** @param stays whether what follows a block is not left by that */
  #leave(stays: (tip: Hash) => boolean): void {
    const { branch } = this;
    const isNeeded = ({ previous }: Block): boolean => {
      return branch.find(previous) >= 0 && !stays(previous) && this.#left.every((left) => left.find(previous) < 0);
    };
    if (this.open().supported().some(isNeeded)) this.#left.push(branch.fork(branch.entries.length));
  }

  /** Another branch, which is trusted, takes the place of this one. */
  follow(fork: Branch): void {
    const before = this.branch;
    if (fork.head.height > before.head.height) this.#left = [];
    else this.#leave((tip) => fork.find(tip) >= 0);
    this.#pinIsMissing = false;
    const pinned = this.pinBehind;
    this.branch = fork;
    const begins = before.find(fork.heads[0]!.tip) < 0 ? { ...fork.beginning, pinned } : undefined;
    const common = begins ? 0 : commonLength(before.entries, fork.entries);
    this.#tellOverruled(before, begins ? undefined : common);
    for (const [i, entry] of fork.entries.slice(common).entries()) this.#record(entry, i === 0 ? begins : undefined);
  }

  /**
   * @param from position from which on that branch is followed no more; undefined where the history that is followed begins
   * later, so that nobody can tell what it has of that
   */
  #tellOverruled(branch: Branch, from: number | undefined): void {
    const left = branch.entries.slice(Math.max(from ?? 0, branch.certifiedLength()), this.applied?.position);
    const rounds = left.flatMap(({ block: { kind, round } }) => (kind === 'round' ? [round + 1] : []));
    const [first, last] = [rounds[0], rounds.at(-1)];
    if (!this.applied || first === undefined) return;
    const which = first === last ? `round ${first}, which was` : `rounds ${first} to ${last}, which were`;
    const what =
      from === undefined
        ? 'gave way to a history that begins later: whether it has them nobody can tell, and own work in them is given up'
        : 'gave way to what others have; own work that is not in it returns';
    this.warn('W_OVERRULED', `${which} unfinal, ${what}`);
  }

  #record(entry: Entry, beginning: Beginning | undefined): void {
    const segment = beginning ? { ...beginning, keep: this.branch.segments } : null;
    this.emit({ type: 'append', entry, segment });
  }

  /** All but the newest segments, if the state that this peer is at does not lie before them. */
  #forget(): void {
    const { branch, applied } = this;
    if (!applied || applied.position < branch.beginningOf(SEGMENTS_KEPT)) return;
    this.applied = { ...applied, position: applied.position - branch.forget(SEGMENTS_KEPT) };
  }

  /** The state that was last applied can be served and restored from now on, if this is the block that led to it. */
  markSaved(block: Hash): void {
    if (this.#unsaved?.block !== block) return;
    const { state, kept } = this.#unsaved;
    this.#unsaved = undefined;
    const before = [...this.states].map(([tip, known]) => ({ block: tip, state: known }));
    const after = statesKept(before, { block, state }, (each) => kept.has(each.block));
    this.states.clear();
    for (const each of after) this.states.set(each.block, each.state);
  }

  /**
   * For states that this peer, or others, may have to come back to: the newest that is final; those that blocks which may
   * yet be decided build on, for of such a block's voters more than f are correct and were at that state when they voted;
   * and the newest two on the part of the branch that others can follow, for a state counts only where a block after it
   * names its root. Rounds that were given up since may be newer than all of these. And for the payloads of what comes
   * after them, as far as it may be applied.
   */
  keepNeeded(): Keep {
    const { branch } = this;
    const open = this.open();
    const credible = branch.credibleLength();
    const followable = this.#newestStates(branch, credible, 2);
    const final = branch.certifiedLength();
    const tipsOf = (positions: readonly number[]): Hash[] => positions.map((position) => branch.heads[position]!.tip);
    const mayBeDecided = [...open.candidates(), ...open.supported().toReversed()].map(({ previous }) => previous);
    const ways = [...new Set(mayBeDecided)].slice(0, BUILT_ON_MAX).map((previous) => this.#wayTo(previous));
    const builtOn = ways.flatMap(({ tip }) => tip ?? []);
    this.#kept = new Set([...tipsOf(followable), ...tipsOf(this.#newestStates(branch, final, 1)), ...builtOn]);
    // those of the newest rounds are kept anyway
    const old = branch.head.round + 1 - LIMITS.payloadRoundsKept;
    const after = branch.entries.slice(followable.at(-1) ?? credible, credible).map(({ block }) => block);
    return {
      snapshots: [...this.#kept].map((tip) => this.states.get(tip)!.snapshot),
      payloads: [
        ...after.filter(({ round }) => round <= old),
        ...ways.flatMap(({ blocks }) => blocks),
        ...open.supported(),
      ].flatMap(({ updates }) => updates),
    };
  }

  /** The newest state that leads to a block, on the branch or on one that was left, and the blocks from there on. */
  #wayTo(block: Hash): { tip?: Hash; blocks: readonly Block[] } {
    if (this.states.has(block)) return { tip: block, blocks: [] };
    const branch = [this.branch, ...this.#left].find((each) => each.find(block) >= 0);
    if (!branch) return { blocks: [] };
    const position = branch.find(block);
    const [from] = this.#newestStates(branch, position, 1);
    // from further back nobody can come here: payloads are not kept for so long
    if (from === undefined || position - from > LIMITS.payloadRoundsKept) return { blocks: [] };
    const blocks = branch.entries.slice(from, position).map((entry) => entry.block);
    return { tip: branch.heads[from]!.tip, blocks };
  }

  /** Positions of the newest states on a branch, up to a position, the newest first. */
  #newestStates(branch: Branch, upTo: number, count: number): number[] {
    const found: number[] = [];
    for (let position = upTo; position >= 0 && found.length < count; position--) {
      if (this.states.has(branch.heads[position]!.tip)) found.push(position);
    }
    return found;
  }

  /**
   * @param block that the user knows; the branch so far may have it already
   * @param segments that the branch was read from
   */
  pin(block: Hash | undefined, segments: readonly Segment[]): void {
    this.#pinned = block;
    const known = block === undefined || this.branch.find(block) > 0 || segments.some(({ pinned }) => pinned === block);
    this.#pinIsMissing = !known;
    const { round, height } = this.branch.heads[0]!;
    if (known || height === 0) return;
    const fix = 'if it is older, it has done its work: start without --trust-block';
    this.warn('W_UNTRUSTED', `the history here, kept from round ${round} on, does not have the block to trust; ${fix}`);
  }

  /** There is a block that the user knows, and it was not in the branch so far. */
  get pinIsMissing(): boolean {
    return this.#pinIsMissing;
  }

  /**
   * Whether a branch may be followed. What was certified here is never overruled, however much more another branch has: those
   * who made up a quorum long ago could make one whenever they like, the founder alone. A block names the one before it, so
   * that the last certified one stands for all up to it. What begins after it is vouched for by the committee here. Only the
   * user's word counts for more: a pinned block that the branch here does not have.
   * @param fork that goes on from ours, or that begins later and is proven or has the pinned block
   */
  trusts(fork: Branch): boolean {
    if (this.#pinned !== undefined && this.#pinIsMissing) return fork.find(this.#pinned) > 0;
    const { branch } = this;
    if (fork.heads[0]!.height > branch.head.height) return true;
    return fork.find(branch.heads[branch.certifiedLength()]!.tip) >= 0;
  }

  /** The block that the user knows, or knew, once the branch has had it. */
  get pinBehind(): Hash | null {
    return this.#pinIsMissing ? null : (this.#pinned ?? this.branch.pinned);
  }

  /** What the branch says of this peer's updates, up to a position. */
  ownHistory(position: number): OwnHistory {
    const { branch, self } = this;
    const certified = branch.certifiedLength();
    const included = branch.entries.slice(0, position).flatMap(({ block: { updates } }, i) => {
      const own = updates.find((update) => update.author === self);
      return own ? [{ payload: own.payload, final: i < certified }] : [];
    });
    return { included, begins: branch.heads[0]!.round };
  }

  /** The whole branch is in the state: nothing is left to apply. */
  get atTip(): boolean {
    return this.applied !== undefined && this.applied.position === this.branch.entries.length;
  }

  standing(): BranchStanding {
    const { height, unfinalTokens, round, tip } = this.branch.head;
    return { height, unfinalTokens, round, tip };
  }

  /** Signed once for a standing: it is said to everybody who comes, and again while nothing moves. */
  status(): Message {
    const { run, signer } = this.context;
    const { height, unfinalTokens, round, tip } = this.standing();
    const standing = `${height}/${unfinalTokens}/${round}/${tip}`;
    if (this.#status?.standing === standing) return this.#status.message;
    const message = this.#signedStatus(run, signer);
    this.#status = { standing, message };
    return message;
  }

  #signedStatus(run: Hash, signer: Signer): Message {
    const fields = statusFields({ author: signer.self, ...this.standing() });
    return { type: 'status', run, ...fields, signature: signer.sign(statusBytes(run, fields)) };
  }
}

function commonLength(a: readonly Entry[], b: readonly Entry[]): number {
  let i = 0;
  while (i < a.length && i < b.length && blockHash(a[i]!.block) === blockHash(b[i]!.block)) i++;
  return i;
}

const WAKE_MS_MIN = 20;
/** States that blocks under vote build on: of the one that is locked, and of one that may come back as that. */
const BUILT_ON_MAX = 2;
/** Rounds given up that are remembered. */
const LOST_MAX = 64;
const LOST_DOUBLINGS = 6;
/** Of a page's anchors and entries, beside its states: who waits for one for 15 s asks another peer. */
export const PAGE_BYTES = 512 * 1024;
const NO_EFFECTS: readonly Effect[] = [];
const NONE_OPEN: OpenBlocks = { candidates: () => [], supported: () => [] };

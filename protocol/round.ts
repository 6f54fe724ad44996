import { isPossible } from './chain.ts';
import type { Applied, Core } from './core.ts';
import type { Hash } from './hash.ts';
import type { PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import type { MessageOf } from './messages.ts';
import { updateBytes } from './signing.ts';
import type { Block, Update } from './wire.ts';

/** How much longer than the first peer the others may take, as a share of its time, before the round closes. */
const LATE_SHARE = 0.5;

/** How long before a payload that nobody had is asked for again. */
const RETRY_MS = 500;

/** One round as this peer sees it: who has announced what, which payloads are here, and when it is time to close. */
export class Round {
  readonly round: number;
  readonly base: Hash;
  readonly places: readonly PeerId[];
  readonly startedMs: number;
  /** this peer's header, once trained */
  own: MessageOf<'header'> | undefined;
  readonly #core: Core;
  readonly #payloads: Payloads;
  readonly #updates = new Map<PeerId, Update>();
  readonly #placed: ReadonlySet<PeerId>;
  /** places before this one are held, which stays so: not looked at again */
  #heldUpTo = 0;
  #firstDoneMs: number | undefined;
  #finishAsked = false;

  constructor(core: Core, payloads: Payloads, applied: Applied) {
    this.#core = core;
    this.#payloads = payloads;
    this.round = applied.state.round;
    this.base = applied.root;
    this.places = applied.head.places;
    this.#placed = new Set(this.places);
    this.startedMs = core.nowMs;
  }

  /** A header of this round; the first of an author counts. */
  onHeader(update: Update, inline: Uint8Array | null, from: PeerId): void {
    const known = this.#updates.get(update.author);
    // the first header of an author counts; said again, it is a chance to get what could not be had
    if (!isPossible(this.#core.context.genesis, update)) return;
    if (!this.#placed.has(update.author) || (known && known.payload !== update.payload)) return;
    this.#updates.set(update.author, update);
    this.#firstDoneMs ??= this.#core.nowMs;
    this.#payloads.want(update, inline, [update.author, from]);
  }

  /** Signs and announces this peer's update. */
  announce(unsigned: Omit<Update, 'author' | 'signature'>, inline: Uint8Array | null): MessageOf<'header'> {
    const { run, signer } = this.#core.context;
    const named = { author: signer.self, ...unsigned };
    const update = { ...named, signature: signer.sign(updateBytes(run, this.round, this.base, named)) };
    this.own = { type: 'header', run, round: this.round, base: this.base, update, inline };
    this.adoptOwn(this.own);
    return this.own;
  }

  /** The header that was announced before a restart stands: an author has one update a round. */
  adoptOwn(header: MessageOf<'header'>): void {
    this.own = header;
    this.#payloads.hold(header.update.payload);
    this.onHeader(header.update, header.inline, this.#core.self);
  }

  /** Updates that this peer holds and has checked, in canonical order. */
  held(): Update[] {
    const held = this.places.flatMap((peer) => {
      const update = this.#updates.get(peer);
      return update && this.#payloads.state(update.payload) === 'held' ? [update] : [];
    });
    return held.slice(0, LIMITS.blockUpdatesMax);
  }

  /** When the round closes without those still missing; unknown while nobody is done. */
  deadlineMs(): number {
    if (this.#firstDoneMs === undefined) return Number.POSITIVE_INFINITY;
    const { graceMs } = this.#core.context.genesis.timing;
    return this.#firstDoneMs + graceMs + LATE_SHARE * (this.#firstDoneMs - this.startedMs);
  }

  /** Whether it is time to close: everyone who can be expected has delivered, or the deadline has passed. */
  isComplete(isLive: (peer: PeerId) => boolean): boolean {
    const { places } = this;
    while (this.#heldUpTo < places.length && this.#isHeld(places[this.#heldUpTo]!)) this.#heldUpTo++;
    if (this.#heldUpTo === 0 && !places.some((peer) => this.#isHeld(peer))) return false;
    const deadlineMs = this.deadlineMs();
    if (this.#core.nowMs >= deadlineMs) return true;
    this.#core.wakeAt(deadlineMs);
    for (let i = this.#heldUpTo; i < places.length; i++) {
      if (!this.#isSettled(places[i]!) && isLive(places[i]!)) return false;
    }
    return true;
  }

  /** Half way between the first update and the deadline, a slow peer is told to send what it has. */
  askToFinish(): void {
    if (this.own || this.#finishAsked || this.#firstDoneMs === undefined) return;
    const atMs = this.#firstDoneMs + (this.deadlineMs() - this.#firstDoneMs) / 2;
    if (this.#core.nowMs < atMs) return this.#core.wakeAt(atMs);
    this.#finishAsked = true;
    this.#core.emit({ type: 'finish' });
  }

  #isHeld(peer: PeerId): boolean {
    const update = this.#updates.get(peer);
    return update !== undefined && this.#payloads.state(update.payload) === 'held';
  }

  #isSettled(peer: PeerId): boolean {
    const update = this.#updates.get(peer);
    return update !== undefined && this.#payloads.state(update.payload) !== 'wanted';
  }
}

/** Payloads by hash: on their way, here and checked, or refused. Shared by the round and by blocks yet to be applied. */
export class Payloads {
  readonly #core: Core;
  readonly #states = new Map<Hash, 'wanted' | 'held' | 'refused' | 'unavailable'>();
  readonly #wantedMs = new Map<Hash, number>();

  constructor(core: Core) {
    this.#core = core;
  }

  state(payload: Hash): 'wanted' | 'held' | 'refused' | 'unavailable' | undefined {
    return this.#states.get(payload);
  }

  /** Payloads that are kept track of, for a watcher. */
  get load(): number {
    return this.#states.size;
  }

  hold(payload: Hash): void {
    this.#states.set(payload, 'held');
  }

  want(update: Update, inline: Uint8Array | null, holders: PeerId[]): void {
    const state = this.#states.get(update.payload);
    if (state !== undefined && state !== 'unavailable') return;
    const atMs = (this.#wantedMs.get(update.payload) ?? Number.NEGATIVE_INFINITY) + RETRY_MS;
    if (this.#core.nowMs < atMs) return this.#core.wakeAt(atMs);
    this.#wantedMs.set(update.payload, this.#core.nowMs);
    this.#states.set(update.payload, 'wanted');
    const others = [...new Set(holders)].filter((peer) => peer !== this.#core.self);
    const { payload, size } = update;
    this.#core.emit({ type: 'fetch', payload, size, holders: others, inline });
  }

  onPayload(payload: Hash, error: string | null): void {
    if (error === null) return this.hold(payload);
    // what nobody had may turn up yet; what the codec refused never will be right
    this.#states.set(payload, error === 'E_BLOB_UNAVAILABLE' ? 'unavailable' : 'refused');
    this.#core.warn(error, `payload ${payload.slice(0, 12)} refused`);
  }

  /** The worst state among a block's updates, wanting those not asked for yet. */
  require(block: Block, holders: PeerId[]): 'held' | 'wanted' | 'refused' | 'unavailable' {
    let worst: 'held' | 'wanted' | 'refused' | 'unavailable' = 'held';
    for (const update of block.updates) {
      let state = this.#states.get(update.payload);
      if (state === undefined) {
        this.want(update, null, [update.author, ...holders]);
        state = 'wanted';
      }
      if (state === 'refused' || (state !== 'held' && worst !== 'refused')) {
        if (worst !== 'unavailable' || state === 'refused') worst = state;
      }
    }
    return worst;
  }

  /** Asks again for what nobody had. */
  retry(block: Block, holders: PeerId[]): void {
    for (const update of block.updates) {
      if (this.#states.get(update.payload) === 'unavailable') this.want(update, null, [update.author, ...holders]);
    }
  }

  /** Forgets all but these; called at every new round. */
  keep(payloads: ReadonlySet<Hash>): void {
    for (const payload of this.#states.keys()) if (!payloads.has(payload)) this.#states.delete(payload);
    for (const payload of this.#wantedMs.keys()) if (!payloads.has(payload)) this.#wantedMs.delete(payload);
  }
}

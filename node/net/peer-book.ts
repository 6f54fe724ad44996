import type { CodedError } from '../../protocol/errors.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { usableAddresses } from './addresses.ts';
import { NET_LIMITS } from './limits.ts';
import type { Members } from './members.ts';

export interface Timers {
  set(callback: () => void, ms: number): unknown;
  clear(timer: unknown): void;
}

const SYSTEM_TIMERS: Timers = {
  set: (callback, ms) => setTimeout(callback, ms),
  clear: (timer) => clearTimeout(timer as NodeJS.Timeout),
};

export interface PeerBookComponents {
  self: PeerId;
  members: Members;
  /** Dials and says hello; resolves with who answered. */
  dial: (addresses: readonly string[]) => Promise<PeerId>;
  timers?: Timers;
  /** uniform in [0, 1): keeps two peers that lost each other from dialing at the same moment @default Math.random */
  random?: () => number;
}

interface Entry {
  peer: PeerId | undefined;
  addresses: string[];
  /** given by the user: never forgotten */
  pinned: boolean;
  /** was here, now or in an earlier life of this peer: not forgotten as long as there is room */
  reached: boolean;
  failures: number;
  timer: unknown;
  dialing: boolean;
}

/**
 * Where peers were last seen, and the dialing of those that are not connected: told by other members, gone down, or
 * given by the user. Waits double from one second to a minute. A peer that refuses us is forgotten, and one that never
 * answered; one that was here is dialed for good, now and then, and every minute where nobody else is left.
 */
export class PeerBook {
  readonly #components: Required<PeerBookComponents>;
  readonly #entries: Entry[] = [];
  #stopped = false;

  constructor(components: PeerBookComponents) {
    this.#components = { timers: SYSTEM_TIMERS, random: Math.random, ...components };
    components.members.onChange((peer, change) => (change === 'up' ? this.#onUp(peer) : this.#onDown(peer)));
  }

  get size(): number {
    return this.#entries.length;
  }

  /**
   * Dials a user's address, and again for as long as this peer runs, whenever nobody is there: also after the error
   * that this first attempt may throw. Only a refusal for another run or version ends it.
   */
  dialPinned(address: string, peer: PeerId | undefined): Promise<PeerId> {
    const entry = this.#find(peer, address) ?? this.#add(peer);
    if (!entry) return this.#components.dial([address]);
    entry.addresses = [...new Set([address, ...entry.addresses])].slice(0, NET_LIMITS.addressesPerPeerMax);
    entry.pinned = true;
    return this.#attempt(entry);
  }

  /** As `learn`, of peers that were here before this one was started. */
  remember(addresses: readonly string[]): void {
    this.learn(addresses, true);
  }

  /** Checked addresses, each with its peer id, in a stranger's words: dialed if we have too few connections. */
  learn(addresses: readonly string[], reached = false): void {
    const known = new Set<Entry>();
    for (const { text, peer } of usableAddresses(addresses, addresses.length)) {
      if (!peer || peer === this.#components.self || this.#components.members.has(peer)) continue;
      const entry = this.#find(peer, text) ?? this.#add(peer);
      if (!entry) continue;
      if (!entry.addresses.includes(text)) entry.addresses.push(text);
      if (entry.addresses.length > NET_LIMITS.addressesPerPeerMax) entry.addresses.splice(replaceable(entry), 1);
      entry.reached ||= reached;
      known.add(entry);
    }
    for (const entry of known) if (entry.failures === 0) void this.#dial(entry);
  }

  /** Where everybody that was ever reached may be found again; those who are here first. At most 1024. */
  addresses(): string[] {
    const found = this.#entries.filter(({ reached, pinned }) => reached || pinned);
    found.sort((a, b) => Number(this.#isHere(b)) - Number(this.#isHere(a)));
    return found.flatMap(({ addresses }) => addresses);
  }

  stop(): void {
    this.#stopped = true;
    for (const entry of this.#entries) this.#components.timers.clear(entry.timer);
    this.#entries.length = 0;
  }

  #onUp(peer: PeerId): void {
    const entry = this.#find(peer, '') ?? this.#add(peer);
    if (!entry) return;
    entry.failures = 0;
    entry.reached = true;
    this.#components.timers.clear(entry.timer);
    entry.timer = undefined;
    const { addresses = [] } = this.#components.members.get(peer) ?? {};
    const all = entry.pinned ? [...entry.addresses, ...addresses] : [...addresses, ...entry.addresses];
    entry.addresses = [...new Set(all)].slice(0, NET_LIMITS.addressesPerPeerMax);
  }

  #onDown(peer: PeerId): void {
    const entry = this.#find(peer, '');
    if (entry?.addresses.length === 0) this.#remove(entry);
    else if (entry) this.#later(entry);
    // whoever has just gone may have been the one who answered at a user's address, in another's place
    for (const other of this.#entries) if (other.pinned && !this.#isHere(other) && !other.dialing) this.#later(other);
    if (this.#components.members.size > 0) return;
    for (const seldom of this.#entries.filter(({ failures }) => failures > NET_LIMITS.redialAttemptsMax)) {
      this.#components.timers.clear(seldom.timer);
      if (!seldom.dialing) this.#wait(seldom);
    }
  }

  #isHere({ peer }: Entry): boolean {
    return peer !== undefined && this.#components.members.has(peer);
  }

  async #dial(entry: Entry): Promise<void> {
    if (this.#stopped || entry.dialing || entry.timer !== undefined) return;
    if (this.#isHere(entry)) return;
    if (!entry.pinned && !this.#hasRoomFor(entry)) this.#putOff(entry);
    else await this.#attempt(entry).catch(() => undefined); // counted, and tried again later
  }

  async #attempt(entry: Entry): Promise<PeerId> {
    entry.dialing = true;
    try {
      const peer = await this.#components.dial(entry.addresses);
      entry.failures = 0;
      if (entry.peer === undefined) this.#identify(entry, peer);
      return peer;
    } catch (error) {
      const { code } = error as CodedError;
      if (code === 'E_OTHER_RUN' || code === 'E_OTHER_VERSION') this.#remove(entry);
      else this.#later(entry);
      throw error;
    } finally {
      entry.dialing = false;
    }
  }

  #later(entry: Entry): void {
    if (this.#stopped || entry.timer !== undefined || !this.#entries.includes(entry)) return;
    entry.failures++;
    if (!entry.pinned && !entry.reached && entry.failures > NET_LIMITS.redialAttemptsMax) this.#remove(entry);
    else this.#wait(entry);
  }

  /** There is no room now: no failure of one that was here. */
  #putOff(entry: Entry): void {
    if (!entry.reached) this.#later(entry);
    else if (this.#entries.includes(entry)) this.#wait(entry, NET_LIMITS.redialMaxMs);
  }

  #wait(entry: Entry, leastMs = 0): void {
    const { timers, random, members } = this.#components;
    const seldom = !entry.pinned && entry.failures > NET_LIMITS.redialAttemptsMax && members.size > 0;
    const doublings = Math.max(0, entry.failures - 1);
    const doubled = Math.min(NET_LIMITS.redialMaxMs, NET_LIMITS.redialFirstMs * 2 ** doublings);
    const wait = Math.max(leastMs, seldom ? NET_LIMITS.redialSeldomMs : doubled);
    entry.timer = timers.set(
      () => {
        entry.timer = undefined;
        void this.#dial(entry);
      },
      wait * (0.5 + random()),
    );
  }

  /** A user's address came without a peer id; now it is known who lives there. */
  #identify(entry: Entry, peer: PeerId): void {
    for (const other of this.#entries.filter((e) => e !== entry && e.peer === peer)) {
      entry.addresses = [...new Set([...entry.addresses, ...other.addresses])].slice(0, NET_LIMITS.addressesPerPeerMax);
      this.#remove(other);
    }
    entry.peer = peer;
  }

  #find(peer: PeerId | undefined, address: string): Entry | undefined {
    const byPeer = peer === undefined ? undefined : this.#entries.find((entry) => entry.peer === peer);
    return byPeer ?? this.#entries.find((e) => e.addresses.includes(address) && (!peer || !e.peer));
  }

  #add(peer: PeerId | undefined): Entry | undefined {
    if (this.#stopped) return undefined;
    if (this.#entries.length >= NET_LIMITS.bookPeersMax) this.#evict();
    if (this.#entries.length >= NET_LIMITS.bookPeersMax) return undefined;
    const entry = { peer, addresses: [], pinned: false, reached: false, failures: 0, timer: undefined, dialing: false };
    this.#entries.push(entry);
    return entry;
  }

  #remove(entry: Entry): void {
    this.#components.timers.clear(entry.timer);
    entry.timer = undefined;
    const at = this.#entries.indexOf(entry);
    if (at >= 0) this.#entries.splice(at, 1);
  }

  /** Makes room: who never answered goes first, then who did least, so that made-up addresses do not fill the book. */
  #evict(): void {
    const idle = this.#entries.filter(
      (e) => !e.pinned && !e.dialing && !(e.peer && this.#components.members.has(e.peer)),
    );
    const worst = idle.sort((a, b) => Number(a.reached) - Number(b.reached) || b.failures - a.failures)[0];
    // who has not been tried goes only if there is no room to try it
    if (worst && (worst.failures > 0 || worst.timer !== undefined)) this.#remove(worst);
  }

  /** A crowd of strangers, and addresses that one of them has made up, must not keep us from those who are in the roster. */
  #hasRoomFor(entry: Entry): boolean {
    const { members } = this.#components;
    const most = NET_LIMITS.connectionsWanted;
    const dialing = this.#entries.filter((each) => each.dialing);
    const unknown = members.strangers() + dialing.filter((each) => this.#isUnknown(each)).length;
    if (this.#isUnknown(entry) && unknown >= most / 2) return false;
    return members.size + dialing.length - unknown + Math.min(unknown, most / 2) < most;
  }

  #isUnknown({ peer, pinned, reached }: Entry): boolean {
    return !pinned && !reached && !(peer && this.#components.members.isInRoster(peer));
  }
}

/**
 * Which address gives way to one that others tell. Of those that nobody has proven the newest are kept: old ones have
 * had their turn. The user's own comes first, and stays; of a peer that was here all stay but the last, so that one
 * liar cannot make us forget where it is, and an honest one can tell where it has gone.
 */
function replaceable({ pinned, reached }: Entry): number {
  if (reached) return NET_LIMITS.addressesPerPeerMax - 1;
  return pinned ? 1 : 0;
}

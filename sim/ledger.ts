/** What bytes are moved for. `gossip` is headers, votes, certificates and statuses; `payload` updates too large for one. */
export const BYTE_KINDS = ['gossip', 'direct', 'payload', 'snapshot', 'history'] as const;
export type ByteKind = (typeof BYTE_KINDS)[number];

/** What a peer is doing at a moment, for a timeline. */
export type Activity = 'training' | 'applying' | 'fetching' | 'waiting' | 'down' | 'paused';

export interface Span {
  peer: number;
  activity: Activity;
  fromMs: number;
  toMs: number;
}

/** Bulk on its way from one peer to another: from its first byte to its last, or until it was cut off. */
export interface Carried {
  from: number;
  to: number;
  fromMs: number;
  toMs: number;
}

/** Of spans, and of transfers: more than a report can draw. What comes later is counted in the sums all the same. */
export const SPANS_MAX = 200_000;

/** The books of a run: bytes by peer and kind, and where each peer's virtual time went. Bytes are of the wire. */
export class Ledger {
  readonly sent: Record<ByteKind, Float64Array>;
  readonly received: Record<ByteKind, Float64Array>;
  /** virtual milliseconds by activity and peer, of the spans that have ended */
  readonly spentMs: Record<Activity, Float64Array>;
  readonly spans: Span[] = [];
  /** transfers of bulk, for a timeline */
  readonly carried: Carried[] = [];
  readonly #current: { activity: Activity; sinceMs: number }[];
  /** what peers that are paused will be at when they go on */
  readonly #afterPause: (Activity | undefined)[];

  constructor(peers: number) {
    const vectors = <Key extends string>(keys: readonly Key[]): Record<Key, Float64Array> =>
      Object.fromEntries(keys.map((key) => [key, new Float64Array(peers)])) as Record<Key, Float64Array>;
    this.sent = vectors(BYTE_KINDS);
    this.received = vectors(BYTE_KINDS);
    this.spentMs = vectors(['training', 'applying', 'fetching', 'waiting', 'down', 'paused']);
    this.#current = Array.from({ length: peers }, () => ({ activity: 'down', sinceMs: 0 }));
    this.#afterPause = Array.from({ length: peers });
  }

  move(kind: ByteKind, from: number, to: number, bytes: number): void {
    this.sent[kind][from]! += bytes;
    this.received[kind][to]! += bytes;
  }

  carry(carried: Carried): void {
    if (this.carried.length < SPANS_MAX) this.carried.push(carried);
  }

  /** From now on the peer does this; if it is paused, from when it goes on. */
  turn(peer: number, activity: Activity, nowMs: number): void {
    if (activity === 'down') this.#afterPause[peer] = undefined;
    if (this.#afterPause[peer] === undefined) this.#turn(peer, activity, nowMs);
    else this.#afterPause[peer] = activity;
  }

  pause(peer: number, nowMs: number): void {
    this.#afterPause[peer] ??= this.#current[peer]!.activity;
    this.#turn(peer, 'paused', nowMs);
  }

  resume(peer: number, nowMs: number): void {
    const activity = this.#afterPause[peer];
    this.#afterPause[peer] = undefined;
    if (activity) this.#turn(peer, activity, nowMs);
  }

  /** Ends all spans, at the end of the run. */
  close(nowMs: number): void {
    for (const [peer, { activity }] of this.#current.entries()) {
      this.#end(peer, nowMs);
      this.#current[peer] = { activity, sinceMs: nowMs };
    }
  }

  /** Share of the time in which peers were up that they trained, until now; 0 when none was. */
  trainedShare(nowMs: number): number {
    const sums = Object.fromEntries(
      Object.entries(this.spentMs).map(([activity, ms]) => [activity, ms.reduce((sum, value) => sum + value, 0)]),
    ) as Record<Activity, number>;
    for (const { activity, sinceMs } of this.#current) sums[activity] += Math.max(0, nowMs - sinceMs);
    const upMs = Object.values(sums).reduce((sum, ms) => sum + ms, 0) - sums.down;
    return upMs > 0 ? sums.training / upMs : 0;
  }

  /** All bytes that were sent, which are all that were received but for what was under way to a peer that went down. */
  bytes(): number {
    let sum = 0;
    for (const kind of BYTE_KINDS) for (const bytes of this.sent[kind]) sum += bytes;
    return Math.round(sum);
  }

  bytesByKind(): Record<ByteKind, number> {
    const sumOf = (kind: ByteKind) => Math.round(this.sent[kind].reduce((sum, bytes) => sum + bytes, 0));
    return Object.fromEntries(BYTE_KINDS.map((kind) => [kind, sumOf(kind)])) as Record<ByteKind, number>;
  }

  ofPeer(peer: number): PeerBooks {
    const pick = <Key extends string>(vectors: Record<Key, Float64Array>): Record<Key, number> => {
      const entries = Object.entries<Float64Array>(vectors).map(([key, vector]) => [key, Math.round(vector[peer]!)]);
      return Object.fromEntries(entries) as Record<Key, number>;
    };
    return { sent: pick(this.sent), received: pick(this.received), spentMs: pick(this.spentMs) };
  }

  #turn(peer: number, activity: Activity, nowMs: number): void {
    const current = this.#current[peer]!;
    if (current.activity === activity) return;
    this.#end(peer, nowMs);
    // one may have begun that is planned for later: what came before it is booked up to there
    this.#current[peer] = { activity, sinceMs: Math.max(nowMs, current.sinceMs) };
  }

  #end(peer: number, nowMs: number): void {
    const { activity, sinceMs } = this.#current[peer]!;
    if (nowMs <= sinceMs) return;
    this.spentMs[activity][peer]! += nowMs - sinceMs;
    if (this.spans.length < SPANS_MAX) this.spans.push({ peer, activity, fromMs: sinceMs, toMs: nowMs });
  }
}

export interface PeerBooks {
  sent: Record<ByteKind, number>;
  received: Record<ByteKind, number>;
  spentMs: Record<Activity, number>;
}

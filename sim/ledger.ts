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

/** More than a report can draw; what comes later is counted in the sums all the same. */
const SPANS_MAX = 200_000;

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
  /** standstills that are not over, or lie in the span under way: in order */
  readonly #pauses: { fromMs: number; toMs: number }[][];

  constructor(peers: number) {
    const vectors = <Key extends string>(keys: readonly Key[]): Record<Key, Float64Array> =>
      Object.fromEntries(keys.map((key) => [key, new Float64Array(peers)])) as Record<Key, Float64Array>;
    this.sent = vectors(BYTE_KINDS);
    this.received = vectors(BYTE_KINDS);
    this.spentMs = vectors(['training', 'applying', 'fetching', 'waiting', 'down', 'paused']);
    this.#current = Array.from({ length: peers }, () => ({ activity: 'down', sinceMs: 0 }));
    this.#pauses = Array.from({ length: peers }, () => []);
  }

  move(kind: ByteKind, from: number, to: number, bytes: number): void {
    this.sent[kind][from]! += bytes;
    this.received[kind][to]! += bytes;
  }

  carry(carried: Carried): void {
    if (this.carried.length < SPANS_MAX) this.carried.push(carried);
  }

  /** From now on the peer does this. */
  turn(peer: number, activity: Activity, nowMs: number): void {
    const current = this.#current[peer]!;
    if (current.activity === activity) return;
    this.#end(peer, nowMs);
    this.#current[peer] = { activity, sinceMs: nowMs };
  }

  /** Whatever the peer does goes on after it. */
  pause(peer: number, fromMs: number, toMs: number): void {
    this.#pauses[peer]!.push({ fromMs, toMs });
  }

  /** Ends all spans, at the end of the run. */
  close(nowMs: number): void {
    for (const [peer, { activity }] of this.#current.entries()) {
      this.#end(peer, nowMs);
      this.#current[peer] = { activity, sinceMs: nowMs };
    }
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

  #end(peer: number, nowMs: number): void {
    const { activity, sinceMs } = this.#current[peer]!;
    let fromMs = sinceMs;
    const pauses = this.#pauses[peer]!;
    for (const pause of activity === 'down' ? [] : pauses) {
      const [begin, end] = [Math.max(fromMs, pause.fromMs), Math.min(nowMs, pause.toMs)];
      if (end <= begin) continue;
      this.#add({ peer, activity, fromMs, toMs: begin });
      this.#add({ peer, activity: 'paused', fromMs: begin, toMs: end });
      fromMs = end;
    }
    this.#add({ peer, activity, fromMs, toMs: nowMs });
    while (pauses[0] && pauses[0].toMs <= nowMs) pauses.shift();
  }

  #add(span: Span): void {
    const lengthMs = span.toMs - span.fromMs;
    if (lengthMs <= 0) return;
    this.spentMs[span.activity][span.peer]! += lengthMs;
    if (this.spans.length < SPANS_MAX) this.spans.push(span);
  }
}

export interface PeerBooks {
  sent: Record<ByteKind, number>;
  received: Record<ByteKind, number>;
  spentMs: Record<Activity, number>;
}

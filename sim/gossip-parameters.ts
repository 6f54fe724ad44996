/**
 * What the real network costs, as numbers. Measured on the real node where a measurement is named; the others follow
 * from its configuration (`node/net/gossip-options.ts`, `node/net/limits.ts`), which the simulator may not import.
 */
export const NETWORK_PARAMETERS = {
  /** Neighbours that a message is forwarded to (gossipsub's D as configured). */
  meshDegree: 4,
  /**
   * Copies of a gossiped message that a peer receives, the first included. Measured with @libp2p/gossipsub 17.1.1: 5.4
   * at D = 6 (12 nodes, 50 Mbit/s, 40 ms), 2.1 at D = 3; D = 4 lies on the line between them.
   */
  copiesReceived: 3.2,
  /** Messages up to this size go to every connected peer at once (floodPublish by size). Bytes. */
  floodBytesMax: 4 * 1024,
  /** What the mesh missed is asked for after a heartbeat. Milliseconds. */
  heartbeatMs: 700,
  /** The same bytes published again by the same peer within this time go nowhere. Milliseconds. */
  seenMs: 120_000,
  /** gossipsub's envelope: author, sequence number, topic with the run id, Ed25519 signature, protobuf. Bytes. */
  gossipEnvelopeBytes: 290,
  /** yamux header, noise length and tag, for every message on a stream. Bytes. */
  frameBytes: 30,
  /** Connections that a peer opens: a full mesh for small swarms. */
  connectionsWanted: 64,
  /**
   * From the first packet to an admitted member, in round trips: 2.1 for TCP, noise, yamux (416 to 453 ms dial at 100 ms
   * one way), one for hello.
   */
  dialRoundTrips: 3.1,
  /** A peer on the far side of a cut is given up when its connection stalls so long. Milliseconds. */
  cutNoticedMs: 10_000,
  /** Redialing begins a second after a loss and backs off; when a cut heals, the next try is so far away at most. */
  redialMsMax: 4000,
  /** Opening a stream that is then kept: one negotiation. Round trips. */
  streamOpenRoundTrips: 1,
  /** Chunks asked of one provider before the first has come, and providers of one blob at the same time. */
  chunksAskedPerProvider: 4,
  providersAtOnceMax: 8,
  /** A request for a chunk, and what an answer has besides the chunk. Bytes. */
  chunkRequestBytes: 32 + 30,
  chunkAnswerBytes: 1 + 4 + 30,
  /** A question for the history, with its frame. Bytes. */
  historyRequestBytes: 80 + 30,
  /** Payload of a TCP segment. Bytes. */
  segmentBytes: 1448,
  /** Linux's smallest retransmission timeout. Milliseconds. */
  retransmitMsMin: 200,
} as const;

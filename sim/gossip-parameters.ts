/**
 * What the real network costs, as numbers. Those with "measured" are of real nodes (@libp2p/gossipsub 17.1.1, libp2p 3.3)
 * on loopback behind shaped links, by `npm run calibrate:sim`; the others follow from the nodes' configuration
 * (`node/net/gossip-options.ts`, `node/net/limits.ts`), which the simulator may not import.
 */
export const NETWORK_PARAMETERS = {
  /**
   * Neighbours that a message is forwarded to: twice what each peer grafts. A peer wants D = 4 and takes up to Dhi = 8 who
   * want it; measured 3 of 4 peers, 3.5 to 4.2 of 6, 4.1 to 4.8 of 8, 5.2 to 6.1 of 12, 5.8 to 6.3 of 24.
   */
  meshDegree: 6,
  /**
   * Copies of a gossiped message that a peer receives, the first included, for each neighbour in its mesh. Measured at 6 to
   * 24 peers: relayed 0.90 to 1.2, mean 1.0; flooded by their author 1.08 to 1.28, mean 1.14.
   */
  copiesAMeshNeighbour: { relayed: 1, flooded: 1.14 },
  /** Messages up to this size go to every connected peer at once (floodPublish by size). Bytes. */
  floodBytesMax: 4 * 1024,
  /** What the mesh missed is asked for after a heartbeat. Milliseconds. */
  heartbeatMs: 700,
  /** The same bytes published again by the same peer within this time are not gossiped again. Milliseconds. */
  seenMs: 120_000,
  /**
   * Around a gossiped message: author, sequence number, topic with the run id, Ed25519 signature, protobuf, yamux, noise;
   * and what it makes the receiver say. Measured 308 to 311 bytes, for messages of 400 and 12 000.
   */
  gossipEnvelopeBytes: 310,
  /** Around a direct message: its length and body are two frames of yamux and noise, and a window is given back. Measured. */
  frameBytes: 121,
  /** Connections that a peer opens: a full mesh for small swarms. */
  connectionsWanted: 64,
  /**
   * From the first packet to an admitted member, in round trips: 4.1 to 4.3 measured for noise, yamux and hello (0.1 to 0.2
   * of it computing), and TCP's own, which loopback does not show.
   */
  dialRoundTrips: 5.1,
  /** A peer on the far side of a cut is given up when its connection stalls so long. Milliseconds. */
  cutNoticedMs: 10_000,
  /** Redialing begins a second after a loss and backs off; when a cut heals, the next try is so far away at most. */
  redialMsMax: 4000,
  /** Opening a stream that is then kept: one negotiation, measured 1.06. Round trips. */
  streamOpenRoundTrips: 1,
  /** Chunks asked of one provider before the first has come (measured 3.7 to 4), and providers of one blob at a time. */
  chunksAskedPerProvider: 4,
  providersAtOnceMax: 8,
  /**
   * What the asker sends for a chunk, the windows that it gives back included, and what comes besides the chunk, in whole
   * frames of 64 KiB. Measured. Bytes.
   */
  chunkRequestBytes: 174,
  chunkAnswerBytes: 249,
  /** A question for the history, with what is around it. Bytes. */
  historyRequestBytes: 80 + 121,
  /** Payload of a TCP segment. Bytes. */
  segmentBytes: 1448,
  /** Linux's smallest retransmission timeout. Milliseconds. */
  retransmitMsMin: 200,
} as const;

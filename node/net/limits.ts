import { LIMITS } from '../../protocol/limits.ts';

/**
 * Bounds of the network that do not change what peers agree on, each with its reason; those that do are in
 * `protocol/limits.ts`. Bytes and milliseconds unless said otherwise.
 */
export const NET_LIMITS = {
  /** A hello with sixteen peers of four addresses each, and a genesis: about 25 KB. */
  helloBytesMax: 64 * 1024,
  /** From the open connection to a passed hello. Longer than a stalled event loop on a busy machine. */
  helloMs: 10_000,
  /** A refusal or an error in a stranger's words, as far as it is repeated to the user. Characters. */
  textMax: 300,
  /** Name and version of the other side's program. Characters. */
  softwareMax: 64,
  /** One multiaddr. Characters; the longest sensible one (a long host name and a peer id) has about 200. */
  addressMax: 256,
  /** Addresses of its own that a peer tells: interfaces of one machine. */
  ownAddressesMax: 8,
  /** Other members whose addresses are told in one hello, with as many addresses each. */
  exchangePeersMax: 16,
  addressesPerPeerMax: 4,

  /** Connections we dial on our own account: a full mesh for the swarms this program is built for. */
  connectionsWanted: 64,
  /** Connections in all: the others may dial us too. */
  connectionsMax: 192,
  /** Two peers that dial each other at once have two, and two more where neither hello was through in time. */
  connectionsPerPeerMax: 4,
  /** Of these, peers that are in no roster, who cost nothing: the others must find room when they come back. */
  strangersMax: 96,
  /** And connections of such peers: they may have two each for a moment, where both sides have dialed. */
  strangerConnectionsMax: 128,
  /** Per address and second. The default of 5 refuses honest peers behind one NAT or on one machine. */
  inboundPerSecondMax: 128,
  /** Connections in the middle of their handshake; the default of 10 refuses a swarm that starts at once. */
  pendingInboundMax: 64,
  dialMs: 10_000,
  /** What libp2p notes of peers that connect: of all who may be connected, and some who were. */
  peerEntriesMax: 512,
  /** One of at most ten messages in which a peer says to libp2p what it speaks: a dozen protocols, about 500 bytes. */
  identifyBytesMax: 4096,
  /** Keeps idle sockets from libp2p's timeout of two minutes. */
  pingEveryMs: 30_000,
  /** A connection on which a ping is not answered for so long is given up; as patient as with a chunk, see there. */
  silentMs: 120_000,
  /** Pings on one connection that are not answered yet: what fits into the above, and as much again. */
  pingsUnderWayMax: 8,
  /** Known peers that are not connected. */
  bookPeersMax: 256,
  redialFirstMs: 1_000,
  redialMaxMs: 60_000,
  /** After about eight minutes a peer that never answered is forgotten. */
  redialAttemptsMax: 12,
  /** From then on, for one that was here once, as long as others are: it may be in another part of a split swarm. */
  redialSeldomMs: 600_000,

  /**
   * One gossip frame. gossipsub puts several messages into one frame, and a receiver that meets a frame over its limit
   * drops the sender from gossip for good, in silence; so the limit is the sender's own cap, and every single message
   * is checked against `LIMITS.gossipBytesMax` where it is read.
   */
  gossipFrameBytesMax: 4 * 1024 * 1024,
  /** Gossip waiting for a slow peer. Beyond it gossipsub drops messages; without it memory grows without end. */
  gossipBacklogBytesMax: 16 * 1024 * 1024,
  /** Messages up to this size go to every peer at once: votes are small and each hop costs a round trip. */
  floodBytesMax: 4 * 1024,

  /** Of a chunk that is asked for at once: what else is said waits for no more than this, 26 ms at 10 Mbit/s. */
  pieceBytes: 32 * 1024,
  /** Pieces asked of one provider before the first has come: hides the round trip, up to 100 Mbit/s at 160 ms. */
  piecesAskedPerProvider: 64,
  /** Chunks that are one provider's to give, those that its pieces are asked of and the next. */
  chunksAskedPerProvider: 9,
  /** Providers of one blob that are asked at the same time; with the above, 16 MB in flight. */
  providersAtOnceMax: 8,
  /** Chunks read for a peer that has asked for little of them yet: as many as pieces it may ask for at once. */
  chunksReadInVainMax: 64,
  /** Requests on one blob stream that wait for their turn at the server. */
  pieceRequestsQueuedMax: 128,
  /** Inbound streams for each protocol and connection. One is used; a second one while the first is being replaced. */
  streamsPerPeerMax: 2,
  /** Chunks on their way to peers that are in no roster, who cost nothing; and where one that is in it is given some. */
  strangersServedMax: 8,
  strangersServedBesides: 1,
  /** From when on a chunk on its way keeps nobody waiting: whom it goes to may not want to read it. */
  blobTurnMs: 500,
  /** A provider that gave no chunk for so long has its chunks asked of a second one too, if that has nothing else to do. */
  blobPatienceMs: 3_000,
  /** A provider that gave no chunk for so long has them asked again of those who lacked them, and once more after as long. */
  blobAgainMs: 10_000,
  /** A provider that owes us a chunk and sends no byte for so long is dropped. */
  blobStallMs: 10_000,
  /** A provider that drips is dropped when one chunk takes so long (256 KiB at 17 kbit/s). */
  blobChunkMs: 120_000,
  /**
   * A state that more peers lack than give is given up after so long, where the rest would take as long as the second says: there may be
   * a newer one, and what came of it stays. */
  snapshotRareMs: 60_000,
  snapshotLongMs: 300_000,

  syncMs: 30_000,
  /** Requests of one peer that are worked on, or whose answers wait to be read, at the same time. */
  syncRequestsPerPeerMax: 4,
  /** Of all strangers together, some 3 MB each; the one that has not read its answer for longest goes. */
  syncStrangersMax: 16,
  /** What a stream may bring before its sender has said hello: two of the largest messages with their prefixes. */
  unheardBytesMax: 2 * (LIMITS.gossipBytesMax + 4),
  /** Direct messages to one peer that wait to be sent. */
  messagesQueuedMax: 64,

  /** `stop()` is done after this, whatever peers do. */
  stopMs: 2_000,
} as const;

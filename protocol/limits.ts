/**
 * Every bound on what a peer may send us, hold in our queues or make us keep, with its reason. Bytes unless said
 * otherwise. What is too large is refused with a code; where a queue is full, some of it is passed over.
 */
export const LIMITS = {
  /** Peers in a roster; of more than genesis has in its committee, that many are drawn to vote. */
  rosterMax: 4096,
  /** A gossiped message. js-libp2p drops frames over 4 MiB silently; small messages keep votes ahead of bulk. */
  gossipBytesMax: 256 * 1024,
  /** A payload up to this size rides inside its header, larger ones are fetched by hash: saves a round trip. */
  inlinePayloadBytesMax: 32 * 1024,
  /** A genesis has about thirty small fields; a kilobyte is usual. */
  genesisBytesMax: 16 * 1024,
  /** One chunk of a blob, what is checked at once: small enough that little is lost with one that is wrong. */
  chunkBytes: 256 * 1024,
  /** A blob: its manifest (32 bytes a chunk) must itself fit in one chunk. */
  blobBytesMax: 2_000_000_000,
  /**
   * An answer of the sync protocol: some hundred certified blocks; a longer history is asked for in pages. The largest anchor
   * fits: a full roster, most of it just come and gone, and a block of `gossipBytesMax` with its certificate.
   */
  historyBytesMax: 3 * 1024 * 1024,
  /** A question for a history: a run, three numbers. */
  historyRequestBytesMax: 256,
  /** Entries of a history in one answer. */
  historyEntriesMax: 512,
  /**
   * Peers that are in the roster or have lately gone, as long as an old request of theirs could be taken for a new one: as
   * many as come in by `blockJoinsMax` in each of 65 blocks, and a whole roster.
   */
  changesMax: 65 * 128 + 4096,
  /** Anchors that prove where a history begins: one more each time that most who voted since the last but one are gone. */
  anchorsMax: 1024,
  /** Updates that a block lists: at some 230 bytes each, with all else that a proposal may have they fit in a gossiped message. */
  blockUpdatesMax: 768,
  /** Joins in one block, at some 150 bytes each; the rest comes in with the next. */
  blockJoinsMax: 128,
  /** Leaves in one block, at some 140 bytes each. */
  blockLeavesMax: 128,
  /** Evictions in one block, at some 400 bytes each. */
  blockEvictionsMax: 32,
  /** Peers that go on in one unfinal round, at some 130 bytes each with their signatures: as many as vote where all are there. */
  blockMembersMax: 200,
  /** Certificates inside a proposal: three of 200 voters. The others that it needs go before it, as messages of their own. */
  justificationBytesMax: 28 * 1024,
  /** Peers that ask to join and wait for a certificate; a stranger can mint identities for nothing. */
  pendingJoinsMax: 1024,
  /** Messages for the next heights that are kept until this peer gets there. */
  futureMessagesMax: 1024,
  /** Proposals and certificates among them: decoded, one may take 2 MB, and anybody can make one up. */
  futureBlocksMax: 32,
  /** Views of one height for which votes are kept: beyond it the sender is far ahead and will send certificates. */
  viewsAheadMax: 16,
  /** Blocks of one member that are heard of for one unfinal round: it begins again without those who did not sign. */
  unfinalProposalsMax: 16,
  /** Unfinal rounds in a row, since only what is certified can be forgotten: a month and a half of a round a minute. */
  unfinalRoundsMax: 65_536,
  /** Places in the rosters after them, summed up, since each takes time, disk and memory: as many rounds of four peers. */
  unfinalPlacesMax: 262_144,
  /** Rounds after which a member whose updates never arrived is evicted. */
  evictAfterRounds: 20,
  /** Rounds' worth of late work that an update may carry beside its own: it weighs as much, and nobody should weigh more. */
  lateRoundsMax: 4,
  /** Rounds whose payloads are kept: a peer that was away catches up without a snapshot, and one that fetched a state from there. */
  payloadRoundsKept: 12,
  /** Blocks after the one whose turn it is whose payloads who catches up fetches already; they are on the disk until then. */
  blocksFetchedAhead: 2,
  /** Agreed states kept on disk, so that a joiner can finish fetching one while rounds go on. */
  snapshotsKept: 4,
} as const;

import * as z from 'zod';
import { bytesToHex, type Hash, hexToBytes } from './hash.ts';
import { interned } from './interned.ts';
import { LIMITS } from './limits.ts';

/** Field types of the wire format, each bounded. A hash is 32 raw bytes on the wire and hexadecimal in memory. */

/** What is wrong once is looked at no further: an answer may hold some million fields that are, and each would be told. */
const STOP = { abort: true };

const bytes = (min: number, max: number) =>
  z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length >= min && value.length <= max, {
    error: `must be ${min} to ${max} bytes`,
    ...STOP,
  });

export const wireHash = z.codec(bytes(32, 32), z.string().length(64), {
  decode: (raw) => interned(bytesToHex(raw)),
  encode: (hex: Hash) => hexToBytes(hex),
});
export const wireSignature = bytes(64, 64);
export const wirePeer = z.string().min(46, STOP).max(64, STOP).overwrite(interned);
export const wireCount = (max: number, min = 0) => z.number().int(STOP).min(min, STOP).max(max, STOP);
export const wireRound = wireCount(2 ** 40);
export const wireInline = bytes(0, LIMITS.inlinePayloadBytesMax);

/** A greater one is told as this one: nobody learns anything there. */
export const LOSS_MAX = 1e6;

/** What an author says of its update: everything but the round and root it belongs to. */
export const wireUpdate = z.strictObject({
  author: wirePeer,
  payload: wireHash,
  /** bytes of the payload */
  size: wireCount(LIMITS.blobBytesMax, 1),
  /** tokens trained on for all that is in it: it weighs by them, up to a round's; bounded so that sums stay exact */
  tokens: wireCount(2 ** 40, 1),
  /** inner steps taken in this round */
  steps: wireCount(1_000_000, 1),
  /** mean training loss over those steps, for reports only */
  loss: z.number().min(0, STOP).max(LOSS_MAX, STOP),
  signature: wireSignature,
});
export type Update = z.infer<typeof wireUpdate>;

export const wireJoin = z.strictObject({
  author: wirePeer,
  /** the height at which the joiner asked; an old request cannot be replayed */
  height: wireRound,
  /** how often it asked before: gossip carries the same bytes only once, so each time they are others */
  attempt: wireCount(1_000_000),
  signature: wireSignature,
});
export type Join = z.infer<typeof wireJoin>;

export const wireLeave = z.strictObject({
  author: wirePeer,
  /** the height at which the leaver asked */
  height: wireRound,
  signature: wireSignature,
});
export type Leave = z.infer<typeof wireLeave>;

const VOTE_KINDS = ['notarize', 'nullify', 'finalize', 'endorse'] as const;
export type VoteKind = (typeof VOTE_KINDS)[number];
export const wireVoteKind = z.enum(VOTE_KINDS).overwrite((kind) => interned(kind) as VoteKind);

/** Two contradicting votes of one voter; see `evidence.ts`. */
export const wireEvidence = z.strictObject({
  author: wirePeer,
  height: wireRound,
  view: wireRound,
  votes: z
    .array(z.strictObject({ kind: wireVoteKind, block: wireHash.nullable(), signature: wireSignature }))
    .length(2),
});
export type Evidence = z.infer<typeof wireEvidence>;

export const wireBlock = z.strictObject({
  /** number of certified blocks before this one, plus one; an unfinal block has the height that it could not certify */
  height: wireCount(2 ** 40, 1),
  /** hash of the block that this one follows on its branch; the run id for the first */
  previous: wireHash,
  kind: z.enum(['round', 'membership']),
  /** the round whose updates it lists, or in which the membership changes */
  round: wireRound,
  /** root of the agreed state at the start of that round */
  base: wireHash,
  /** hash of all that the rules for this block depend on: `wireHead` */
  head: wireHash,
  /** null when certified by the roster; else the peers, in order, that went on without a quorum and all sign */
  members: z.array(wirePeer).min(1).max(LIMITS.blockMembersMax).nullable(),
  updates: z.array(wireUpdate).max(LIMITS.blockUpdatesMax),
  joins: z.array(wireJoin).max(LIMITS.blockJoinsMax),
  leaves: z.array(wireLeave).max(LIMITS.blockLeavesMax),
  /** members that are put out for having contradicted themselves */
  evictions: z.array(wireEvidence).max(LIMITS.blockEvictionsMax),
});
export type Block = z.infer<typeof wireBlock>;

export const wireCertificate = z.strictObject({
  kind: wireVoteKind,
  height: wireRound,
  view: wireRound,
  /** null for a nullification */
  block: wireHash.nullable(),
  /** signers' places in the committee, ascending, with their signatures */
  signatures: z.array(z.tuple([wireCount(LIMITS.rosterMax), wireSignature])).max(LIMITS.rosterMax),
});
export type Certificate = z.infer<typeof wireCertificate>;

export const wireMember = z.strictObject({
  peer: wirePeer,
  /** last round with an update of this peer in it, or the round in which it joined */
  lastRound: wireRound,
});
export type Member = z.infer<typeof wireMember>;

export const wireState = z.strictObject({
  round: wireRound,
  /** blob id of the parameters followed by the outer optimizer's state */
  snapshot: wireHash,
  snapshotBytes: wireCount(LIMITS.blobBytesMax),
  roster: z.array(wireMember).min(1).max(LIMITS.rosterMax),
  /** sequences handed out so far */
  cursor: wireCount(Number.MAX_SAFE_INTEGER),
  /** tokens trained on so far */
  tokens: wireCount(Number.MAX_SAFE_INTEGER),
});
/** The agreed state after a round, but for the vectors themselves, which `snapshot` names. */
export type AgreedState = z.infer<typeof wireState>;

/** A block with the certificate that makes it part of the history. */
export const wireEntry = z.strictObject({ block: wireBlock, certificate: wireCertificate });
export type Entry = z.infer<typeof wireEntry>;

/** What later blocks depend on beside the height, round and tip that the next one says itself: it names this by its hash. */
export const wireHead = z.strictObject({
  roster: z.array(wireMember).min(1).max(LIMITS.rosterMax),
  /** who trains in the round, in order; null where that is the whole roster */
  places: z.array(wirePeer).max(LIMITS.rosterMax).nullable(),
  /** who votes, after unfinal rounds: in these others may have come and gone; null where it follows from the roster */
  committee: z.array(wirePeer).min(1).max(LIMITS.rosterMax).nullable(),
  cursor: wireCount(Number.MAX_SAFE_INTEGER),
  tokens: wireCount(Number.MAX_SAFE_INTEGER),
  /** tokens in unfinal rounds since the last certified one */
  unfinalTokens: wireCount(Number.MAX_SAFE_INTEGER),
  /** heights of the blocks at which peers came or went, as far back as a request may be, in order of the peers */
  changes: z.array(z.tuple([wirePeer, wireRound])).max(LIMITS.changesMax),
});
export type HeadFacts = z.infer<typeof wireHead>;

/** Where a history can begin that does not begin at genesis: a certified entry, and what its block names. See `anchors.ts`. */
export const wireAnchor = z.strictObject({ head: wireHead, entry: wireEntry });
export type Anchor = z.infer<typeof wireAnchor>;

import * as z from 'zod';
import { decodeCanonical, encodeCanonical } from './encoding.ts';
import { CodedError } from './errors.ts';
import type { Hash } from './hash.ts';
import type { PeerId, Signer } from './identity.ts';
import { LIMITS } from './limits.ts';
import {
  blockHash,
  joinBytes,
  leaveBytes,
  proposalBytes,
  signedBy,
  statusBytes,
  updateBytes,
  voteBytes,
} from './signing.ts';
import {
  type AgreedState,
  type Anchor,
  type Entry,
  wireAnchor,
  wireBlock,
  wireCertificate,
  wireCount,
  wireEntry,
  wireHash,
  wireInline,
  wireJoin,
  wireLeave,
  wirePeer,
  wireRound,
  wireSignature,
  wireState,
  wireUpdate,
  wireVoteKind,
} from './wire.ts';

const literal = <Type extends string>(type: Type) => z.literal(type).overwrite(() => type);

/** Every gossiped message names its run; `decodeMessage` refuses those of another. */
const messageSchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: literal('header'),
    run: wireHash,
    round: wireRound,
    base: wireHash,
    update: wireUpdate,
    /** the payload itself when it is small */
    inline: wireInline.nullable(),
  }),
  z.strictObject({ type: literal('join'), run: wireHash, join: wireJoin }),
  z.strictObject({ type: literal('leave'), run: wireHash, leave: wireLeave }),
  z.strictObject({
    type: literal('proposal'),
    run: wireHash,
    author: wirePeer,
    height: wireRound,
    view: wireRound,
    /** the view whose notarized block this one repeats; -1 when the block is new */
    parentView: z
      .number()
      .int()
      .min(-1)
      .max(2 ** 40),
    block: wireBlock,
    /** the certificates that let the leader propose this: notarization of parentView, nullifications since */
    justification: z.array(wireCertificate).max(LIMITS.viewsAheadMax),
    signature: wireSignature,
  }),
  z.strictObject({
    type: literal('vote'),
    run: wireHash,
    author: wirePeer,
    kind: wireVoteKind,
    height: wireRound,
    view: wireRound,
    block: wireHash.nullable(),
    signature: wireSignature,
  }),
  z.strictObject({
    type: literal('certificate'),
    run: wireHash,
    certificate: wireCertificate,
    block: wireBlock.nullable(),
  }),
  z.strictObject({
    type: literal('status'),
    run: wireHash,
    author: wirePeer,
    height: wireRound,
    /** tokens in the unfinal rounds since the last certified block */
    unfinalTokens: wireCount(Number.MAX_SAFE_INTEGER),
    round: wireRound,
    /** hash of the last block of the branch that the sender follows */
    tip: wireHash,
    signature: wireSignature,
  }),
]);

export type Message = z.infer<typeof messageSchema>;
export type MessageOf<T extends Message['type']> = Extract<Message, { type: T }>;
export type Vote = MessageOf<'vote'>;
export type Proposal = MessageOf<'proposal'>;

/** A message is never changed once made, and is encoded for the record, for sending and for repeating: once. */
export function encodeMessage(message: Message): Uint8Array {
  const known = encodings.get(message);
  if (known) return known;
  const bytes = encodeCanonical(z.encode(messageSchema, message));
  encodings.set(message, bytes);
  return bytes;
}
const encodings = new WeakMap<Message, Uint8Array>();

/**
 * Decodes and authenticates a gossiped message: length, then canonical CBOR, then every field's range, then the run,
 * then the signature. Whatever passes is well formed and really said by its author; whether it makes sense now is the
 * machine's to judge. Certificates are checked by the machine, which knows the committee.
 * @throws CodedError `E_TOO_LARGE`, `E_MALFORMED`, `E_OTHER_RUN`, `E_SIGNATURE`
 */
export function decodeMessage(bytes: Uint8Array, run: Hash, signer: Signer): Message {
  const message = parse(messageSchema, decodeCanonical(bytes, LIMITS.gossipBytesMax));
  if (message.run !== run) throw new CodedError('E_OTHER_RUN', 'message of another run');
  const signed = signedPart(message);
  if (signed && !signedBy(signer, signed.author, signed.bytes, signed.signature)) {
    throw new CodedError('E_SIGNATURE', `${message.type} is not signed by its author`);
  }
  return message;
}

/** At the first thing that is wrong; it is all that is told. */
export const EARLY: z.core.ParseContextInternal<z.core.$ZodIssue> = { abortEarly: true };

function parse<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value, EARLY);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new CodedError('E_MALFORMED', `field ${issue?.path.join('.') || '(root)'}: ${issue?.message}`);
}

function signedPart(message: Message): { author: PeerId; bytes: Uint8Array; signature: Uint8Array } | undefined {
  const { run } = message;
  switch (message.type) {
    case 'header': {
      const { update, round, base } = message;
      return { author: update.author, bytes: updateBytes(run, round, base, update), signature: update.signature };
    }
    case 'join':
      return { ...message.join, bytes: joinBytes(run, message.join) };
    case 'leave':
      return { ...message.leave, bytes: leaveBytes(run, message.leave) };
    case 'proposal': {
      const { height, view, parentView, block } = message;
      return { ...message, bytes: proposalBytes(run, height, view, parentView, blockHash(block)) };
    }
    case 'vote':
      return { ...message, bytes: voteBytes(run, message.kind, message.height, message.view, message.block) };
    case 'status':
      return { ...message, bytes: statusBytes(run, statusFields(message)) };
    case 'certificate':
      return undefined;
    default:
      return message satisfies never;
  }
}

export function statusFields(status: Omit<MessageOf<'status'>, 'signature' | 'type' | 'run'>) {
  const { author, height, unfinalTokens, round, tip } = status;
  return { author, height, unfinalTokens, round, tip };
}

/** Question and answer of the sync protocol: the history from a height on, and the states that can be fetched. */
const historyRequestSchema = z.strictObject({
  run: wireHash,
  /** certified blocks on the asker's branch */
  fromHeight: wireRound,
  /** entries after that height's certified block that the asker already has */
  skip: wireCount(2 ** 40),
  /** anchors that it has been told on this question */
  anchors: wireCount(LIMITS.anchorsMax),
});
/** States that a peer keeps beside the newest: the last final one, two that open blocks build on, two to go back to. */
const STATES_NEEDED_MAX = 5;
export const STATES_TOLD_MAX = LIMITS.snapshotsKept + STATES_NEEDED_MAX;
const historySchema = z.strictObject({
  run: wireHash,
  /** where the answerer's history begins, if that is later than what was asked for */
  anchors: z.array(wireAnchor).max(LIMITS.anchorsMax),
  entries: z.array(wireEntry).max(LIMITS.historyEntriesMax),
  /** whether anchors or entries were left out for size: ask again from the last of them */
  more: z.boolean(),
  /** that can be fetched; with the last entries */
  states: z.array(wireState).max(STATES_TOLD_MAX),
});
export type History = z.infer<typeof historySchema>;
/** What is asked of a history, but for the run. */
export type PageRequest = Omit<z.infer<typeof historyRequestSchema>, 'run'>;

export function encodeHistoryRequest(run: Hash, request: PageRequest): Uint8Array {
  const { fromHeight, skip, anchors } = request;
  return encodeCanonical(z.encode(historyRequestSchema, { run, fromHeight, skip, anchors }));
}

/** @throws CodedError `E_TOO_LARGE`, `E_MALFORMED`, `E_OTHER_RUN`, `E_SIGNATURE` */
export function decodeHistoryRequest(bytes: Uint8Array, run: Hash): PageRequest {
  const request = parse(historyRequestSchema, decodeCanonical(bytes, LIMITS.historyRequestBytesMax));
  if (request.run !== run) throw new CodedError('E_OTHER_RUN', 'request for another run');
  return request;
}

export function encodeHistory(history: History): Uint8Array {
  return encodeCanonical(z.encode(historySchema, history));
}

/** @throws CodedError `E_TOO_LARGE`, `E_MALFORMED`, `E_OTHER_RUN`, `E_SIGNATURE` */
export function decodeHistory(bytes: Uint8Array, run: Hash): History {
  const history = parse(historySchema, decodeCanonical(bytes, LIMITS.historyBytesMax));
  if (history.run !== run) throw new CodedError('E_OTHER_RUN', 'history of another run');
  return history;
}

/** Where a segment of the history begins. On disk before its entries; only the anchors are told to others. */
const beginningSchema = z.strictObject({
  /** prove it, the last of them there; none at genesis */
  anchors: z.array(wireAnchor).max(LIMITS.anchorsMax).readonly(),
  /**
   * of the committees between the last two of them, or since the founder: who is in all, and how large the largest is; null at
   * genesis, and where others told the last
   */
  passed: z
    .strictObject({ core: z.array(wirePeer).max(LIMITS.rosterMax).readonly(), largest: wireCount(LIMITS.rosterMax) })
    .nullable(),
  /** a block that the user knew, and that lies before */
  pinned: wireHash.nullable(),
});
export type Beginning = z.infer<typeof beginningSchema>;

export function encodeBeginning({ anchors, passed, pinned }: Beginning): Uint8Array {
  return encodeCanonical(z.encode(beginningSchema, { anchors, passed, pinned }));
}

/** @throws CodedError `E_TOO_LARGE`, `E_MALFORMED` */
export function decodeBeginning(bytes: Uint8Array): Beginning {
  return parse(beginningSchema, decodeCanonical(bytes, LIMITS.anchorsMax * LIMITS.historyBytesMax));
}

export function encodeEntry(entry: Entry): Uint8Array {
  return encodeCanonical(z.encode(wireEntry, entry));
}

/** @throws CodedError `E_TOO_LARGE`, `E_MALFORMED` */
export function decodeEntry(bytes: Uint8Array): Entry {
  return parse(wireEntry, decodeCanonical(bytes, LIMITS.historyBytesMax));
}

export function encodeAnchor(anchor: Anchor): Uint8Array {
  return encodeCanonical(z.encode(wireAnchor, anchor));
}

/** About the bytes of a state in an answer, and no less. */
export function stateBytes({ roster }: AgreedState): number {
  return 512 + 90 * roster.length;
}

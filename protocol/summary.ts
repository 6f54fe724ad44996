import type { Report } from './events.ts';
import type { Hash } from './hash.ts';
import type { PeerId } from './identity.ts';
import { blockHash } from './signing.ts';
import type { Block } from './wire.ts';

/** What a round came to, for reports. */
interface Summary {
  tokens: number;
  /** mean over the tokens, as their authors say */
  trainLoss: number;
  contributors: PeerId[];
}

/** Made once for a block: in a simulation all peers report the same one. */
function summaryOf(block: Block): Summary {
  let summary = summaries.get(block);
  if (!summary) {
    const tokens = block.updates.reduce((sum, update) => sum + update.tokens, 0);
    const trainLoss = block.updates.reduce((sum, update) => sum + update.loss * update.tokens, 0) / tokens;
    summary = { tokens, trainLoss, contributors: block.updates.map((update) => update.author) };
    summaries.set(block, summary);
  }
  return summary;
}
const summaries = new WeakMap<Block, Summary>();

/**
 * What a peer is told of a round that it has applied.
 * @param own.announced payload of the update that it announced for it
 * @param own.hadPlace it could have had an update in it
 */
export function roundReport(
  block: Block,
  root: Hash,
  own: { self: PeerId; announced: Hash | undefined; hadPlace: boolean },
): Report & { kind: 'round' } {
  const included = block.updates.find(({ author }) => author === own.self);
  const isLate = own.announced !== undefined || own.hadPlace;
  return {
    kind: 'round',
    round: block.round + 1,
    root,
    block: blockHash(block),
    final: block.members === null,
    ...summaryOf(block),
    own: included ? 'included' : isLate ? 'late' : 'none',
    ownPayload: included?.payload ?? own.announced ?? null,
  };
}

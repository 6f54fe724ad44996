import type { PeerId } from './identity.ts';
import type { Block } from './wire.ts';

/** What a round came to, for reports. */
export interface Summary {
  tokens: number;
  /** mean over the tokens, as their authors say */
  trainLoss: number;
  contributors: PeerId[];
}

/** Made once for a block: in a simulation all peers report the same one. */
export function summaryOf(block: Block): Summary {
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

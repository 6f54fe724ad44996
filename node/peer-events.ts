import type { Receipt } from '../protocol/receipts.ts';

/**
 * What a running peer tells whoever started it. Printed one object a line with `--json`; `progress` only
 * with `--progress` too.
 */
export type PeerEvent =
  | {
      event: 'ready';
      runId: string;
      peerId: string;
      addresses: string[];
      /** name, and kernels or device */
      backend: string;
      /** of the model */
      parameters: number;
      /** where this peer keeps everything */
      directory: string;
      /** from genesis, for people; a stranger may have written it */
      title: string;
      /** went on with what `directory` held */
      resumed: boolean;
    }
  | { event: 'synced'; round: number; root: string; bytes: number; ms: number }
  | {
      event: 'round';
      /** how many rounds the agreed state now has behind it */
      round: number;
      root: string;
      /** that ended the round; see --trust-block */
      block: string;
      /** certified by a quorum; unfinal ones may still be replaced by a certified history */
      final: boolean;
      /** peer ids whose updates were averaged */
      contributors: string[];
      /** nats */
      trainLoss: number;
      /** nats; null when it was not measured after this round */
      valLoss: number | null;
      /** trained on in this round, by all contributors */
      tokens: number;
      /** since the round before, all protocols */
      bytesSent: number;
      bytesReceived: number;
      /** part of the round's time spent in inner steps, 0 to 1 */
      computeFraction: number;
    }
  | ({ event: 'receipt' } & Receipt)
  | { event: 'peer'; id: string; change: 'connected' | 'disconnected' }
  /** members of the run after it; this peer itself, where it is one already when it starts, has `resumed` */
  | { event: 'peer'; id: string; change: 'joined' | 'left' | 'evicted' | 'resumed'; members: number }
  | { event: 'warning'; code: string; message: string }
  | { event: 'done'; reason: 'rounds' | 'left' | 'stopped' }
  | {
      event: 'progress';
      phase: 'loading' | 'fetching' | 'waiting' | 'training' | 'gathering' | 'applying';
      /** rounds behind the state that is trained from, or that is being fetched or applied */
      round: number;
      /** in the whole run; null goes on until stopped */
      rounds: number | null;
      /** inner steps done and planned in this round */
      step?: number;
      steps?: number;
      /** of the last inner step, nats */
      loss?: number;
      /** of this peer */
      tokensPerSecond?: number;
      /** while gathering: members whose updates are here, of all */
      updates?: { here: number; of: number };
      /** others that this one is connected to */
      peers: number;
      detail?: string;
    };

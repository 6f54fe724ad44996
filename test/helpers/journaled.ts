import { join } from 'node:path';
import { Journal, type JournalLimits } from '../../node/journal/journal.ts';
import { ChainLog } from '../../node/store/chain-log.ts';
import { encodeGenesis } from '../../protocol/genesis.ts';
import type { Cluster } from './cluster.ts';

export interface Journaled {
  folder: string;
  warnings: string[];
  close(): Promise<void>;
}

/** Lets a peer of a cluster write a journal, as a real one does. To be called before it starts. */
export function journaled(cluster: Cluster, index: number, folder: string, limits: JournalLimits = {}): Journaled {
  const peer = cluster.peers[index]!;
  const chain = new ChainLog(join(folder, 'chain'));
  const warnings: string[] = [];
  const files = join(folder, 'journal');
  const onWarning = (code: string): void => void warnings.push(code);
  const genesisBytes = encodeGenesis(cluster.genesis);
  const journal = new Journal({ folder: files, genesisBytes, chain, signer: peer.signer, onWarning }, limits);
  peer.watcher = {
    signer: journal.signer,
    step(event, effects) {
      journal.step(event, effects);
      for (const effect of effects) if (effect.type === 'append') chain.append(effect);
    },
  };
  const close = async (): Promise<void> => {
    await journal.close();
    chain.close();
  };
  return { folder: files, warnings, close };
}

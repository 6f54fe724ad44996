import { createHash } from 'node:crypto';
import { evidenceOf } from '../../protocol/evidence.ts';
import type { History, Message, Vote } from '../../protocol/messages.ts';
import type { RandomStream } from '../../protocol/random.ts';
import type { Evidence } from '../../protocol/wire.ts';
import type { BlobLibrary } from '../blob-library.ts';

/** A history that is cut, changed or ended early, or states that no history names. */
export function falsified(
  history: History,
  { random, library, index }: { random: RandomStream; library: BlobLibrary; index: number },
): History {
  const { entries, states } = history;
  switch (random.below(5)) {
    case 0:
      return { ...history, entries: entries.slice(random.below(entries.length + 1)) };
    case 1:
      return { ...history, entries: entries.slice(0, random.below(entries.length + 1)) };
    case 2: {
      const changed = entries.map((entry) => ({ ...entry, block: { ...entry.block, joins: [], leaves: [] } }));
      return { ...history, entries: changed };
    }
    case 3:
      return { ...history, more: true, entries: entries.slice(0, 1) };
    default: {
      const other = Uint8Array.from({ length: states[0]?.snapshotBytes ?? 4 }, (_, i) => (i % 4 === 3 ? 0x3f : 1));
      const snapshot = createHash('sha256').update(other).digest('hex');
      library.put(index, snapshot, other);
      return { ...history, states: states.map((state) => ({ ...state, snapshot })) };
    }
  }
}

/** Two true votes of somebody that do not contradict each other, called a contradiction. */
export function unjustEviction(heard: readonly Message[]): Evidence | undefined {
  const votes = heard.filter((each): each is Vote => each.type === 'vote' && each.kind !== 'endorse');
  const one = votes.at(-1);
  const other = votes.findLast(({ author, block }) => author === one?.author && block !== one.block);
  return one && other && evidenceOf(one, other);
}

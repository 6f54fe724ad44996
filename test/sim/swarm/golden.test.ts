import { expect, test } from 'vitest';
import type { Fault, Plan } from '../../../sim/swarm/plan.ts';
import { Swarm } from '../../../sim/swarm/swarm.ts';
import { calm, cut } from './calm.ts';

/**
 * What the machines of a small swarm hear and do, line by line, on the main paths. A change of the protocol shows here as a
 * diff to be read; `npx vitest run test/sim/swarm/golden.test.ts -u` accepts it.
 */
const PATHS: Record<string, Plan> = {
  'a peer comes late': swarm([{ kind: 'late', peer: 2, atMs: 1200 }], { peers: 3 }),
  'a peer leaves': swarm([{ kind: 'leave', peer: 2, atMs: 1000, backAfterMs: null }], { peers: 4 }),
  'a peer is killed and comes back': swarm([{ kind: 'crash', peer: 1, atMs: 1000, forMs: 1500, lastWrite: 'lost' }], {
    peers: 4,
  }),
  'a leader is gone': swarm([{ kind: 'crash', peer: 2, atMs: 1000, forMs: 4000, lastWrite: 'lost' }], { peers: 4 }),
  'two and two are cut apart': swarm(
    [
      cut(
        [
          [0, 1],
          [2, 3],
        ],
        900,
        4000,
      ),
    ],
    { safetyMs: 5500 },
  ),
  'a voter contradicts itself': swarm([{ kind: 'lie', atMs: 0, peer: 4, habit: 'votes for all' }], {
    peers: 5,
    liars: 1,
  }),
};

function swarm(faults: Fault[], options: Partial<Plan>): Plan {
  const { genesis } = calm([]);
  const late = faults.filter(({ kind }) => kind === 'late').length;
  const waitFor = (options.peers ?? 4) - (options.liars ?? 0) - late;
  return calm(faults, { safetyMs: 3000, genesis: { ...genesis, waitFor }, ...options });
}

test.each(Object.keys(PATHS))('%s', async (name) => {
  const { failure, diary } = await new Swarm(PATHS[name]!).run();
  expect(failure).toBeUndefined();
  const file = `./golden/${name.replaceAll(' ', '-')}.txt`;
  await expect(`${named(diary).join('\n')}\n`).toMatchFileSnapshot(file);
});

/** Peers and hashes get names in the order in which they come up, so that a trace tells what happened and nothing else. */
function named(lines: readonly string[]): string[] {
  const [peers, hashes] = [new Map<string, string>(), new Map<string, string>()];
  const nameIn = (names: Map<string, string>, prefix: string, each: string): string => {
    const name = names.get(each) ?? `${prefix}${names.size}`;
    names.set(each, name);
    return name;
  };
  return lines.map((line) =>
    line
      .replace(
        /\b(of|tell|from|ask|up|down|in|out|evicts) ([1-9A-HJ-NP-Za-km-z]{5})\b/g,
        (_, word: string, peer: string) => {
          return `${word} ${nameIn(peers, 'P', peer)}`;
        },
      )
      .replace(/\b[0-9a-f]{6}\b/g, (hash) => nameIn(hashes, '#', hash)),
  );
}

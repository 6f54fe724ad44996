import { expect, onTestFinished, test } from 'vitest';
import { runCampaign } from '../../../node/chaos/campaign.ts';
import type { Links } from '../../../node/chaos/links.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** What runs instead of a peer: says that it ended a round, and then ends by itself, or does not. */
function program(peer: number, falls: boolean): string[] {
  const lines = [
    { event: 'ready', peerId: `peer ${peer}`, addresses: ['here'] },
    { event: 'round', round: 1, root: 'root', final: true, tokens: 10, contributors: [] },
  ];
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  // both lines at once: the founder's round is known before another peer is begun
  const code = `process.stdout.write(${JSON.stringify(text)}); ${falls ? '' : 'setInterval(() => undefined, 1e6);'}`;
  return [process.execPath, '--eval', code];
}

/** Two peers of which the second falls once both have ended a round; the links are there to put them in their places. */
function links(): Links {
  return {
    place: async (peer) => ({ options: [], command: program(peer, peer === 1) }),
    cut: () => undefined,
    heal: () => undefined,
    close: () => undefined,
  };
}

const HOUR_MS = 3_600_000;

test.each([
  ['without an end but the number of faults', { everyMs: HOUR_MS, durationMs: Number.POSITIVE_INFINITY, faultsMax: 1 }],
  ['before the first fault', { everyMs: HOUR_MS, durationMs: 2 * HOUR_MS, baselineRate: 1 }],
  ['after the last', { everyMs: 3 * HOUR_MS, durationMs: 2 * HOUR_MS, baselineRate: 1 }],
])('a campaign ends when a peer has fallen, %s', async (_, asked) => {
  const phases: string[] = [];
  const abort = new AbortController();
  // ends the peers of a campaign that does not
  onTestFinished(() => abort.abort());
  const { failures } = await runCampaign(
    {
      peers: 2,
      dir: temporaryFolder(),
      seed: 1,
      kinds: ['kill'],
      least: 0.5,
      links,
      runOptions: [],
      machineOptions: [],
      ...asked,
    },
    { phase: (text) => phases.push(text), fault: () => undefined },
    abort.signal,
  );
  expect(failures).toEqual([expect.stringMatching(/^peer 1 ended by itself/)]);
  // and nothing is trained to compare with
  expect(phases).toEqual(['starting 2 peers, and then the faults', 'waiting until all peers have got over it']);
});

import { expect, onTestFinished, test } from 'vitest';
import { runCampaign } from '../../../node/chaos/campaign.ts';
import type { Links } from '../../../node/chaos/links.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** What runs instead of a peer: says that it ended a round, and then ends by itself, or does not. */
function program(peer: number, falls: boolean, root = 'root'): string[] {
  const lines = [
    { event: 'ready', peerId: `peer ${peer}`, addresses: ['here'] },
    { event: 'round', round: 1, root, final: true, tokens: 10, contributors: [] },
  ];
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  // both lines at once: the founder's round is known before another peer is begun
  const code = `process.stdout.write(${JSON.stringify(text)}); ${falls ? '' : 'setInterval(() => undefined, 1e6);'}`;
  return [process.execPath, '--eval', code];
}

/** The links are there to put the programs in the places of peers. */
function links(programOf: (peer: number) => string[]): Links {
  return {
    place: async (peer) => ({ options: [], command: programOf(peer) }),
    cut: () => undefined,
    heal: () => undefined,
    close: () => undefined,
  };
}

/** Of two peers the second falls once both have ended a round. */
const falling = () => links((peer) => program(peer, peer === 1));
/** The two tell different roots of the same round. */
const differing = () => links((peer) => program(peer, false, `root of ${peer}`));

const ASKED = { peers: 2, seed: 1, kinds: ['kill' as const], runOptions: [], machineOptions: [] };
const VIEW = { phase: () => undefined, fault: () => undefined };

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
      ...ASKED,
      dir: temporaryFolder(),
      least: 0.5,
      links: falling,
      ...asked,
    },
    { phase: (text) => phases.push(text), fault: () => undefined },
    abort.signal,
  );
  expect(failures).toEqual([expect.stringMatching(/^peer 1 ended by itself/)]);
  // and nothing is trained to compare with
  expect(phases).toEqual(['starting 2 peers, and then the faults', 'waiting until all peers have got over it']);
});

test('a peer that falls without faults, to compare with, ends it as well', async () => {
  const asked = { ...ASKED, dir: temporaryFolder(), links: falling, everyMs: HOUR_MS, durationMs: 2 * HOUR_MS };
  await expect(runCampaign(asked, VIEW, new AbortController().signal)).rejects.toMatchObject({
    code: 'E_PEER_ENDED',
    message: expect.stringMatching(/^without faults, peer 1 ended by itself/),
  });
});

test('peers that differ without faults have failed', async () => {
  // the half before is over at once, the faults end when a peer falls
  let begun = 0;
  const turns = () => (begun++ === 0 ? differing() : falling());
  const asked = { ...ASKED, dir: temporaryFolder(), links: turns, everyMs: 2, durationMs: 1, least: 0 };
  const { failures } = await runCampaign(asked, VIEW, new AbortController().signal);
  expect(failures).toEqual([
    expect.stringMatching(/^peer 1 ended by itself/),
    'without faults, round 1 has more than one root',
  ]);
});

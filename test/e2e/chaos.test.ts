import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { type CampaignInit, type CampaignView, runCampaign } from '../../node/chaos/campaign.ts';
import type { FaultKind, FaultReport } from '../../node/chaos/faults.ts';
import { namespacesMissing } from '../../node/chaos/namespace-links.ts';
import { ProxyLinks } from '../../node/chaos/proxy-links.ts';
import { noFacts } from '../../node/journal/facts.ts';
import { journalFiles } from '../../node/journal/journal.ts';
import { replay } from '../../node/journal/replay.ts';
import { loadWhereabouts } from '../../node/store/whereabouts.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

/** Real processes that are killed, frozen, restarted and cut off. */

const linux = process.platform === 'linux';
const MINUTES = 60_000;

function campaign(
  asked: Pick<CampaignInit, 'dir' | 'peers' | 'kinds'> & Partial<CampaignInit>,
  view: Partial<CampaignView> = {},
) {
  return runCampaign(
    {
      seed: 5,
      everyMs: 2000,
      durationMs: Number.POSITIVE_INFINITY,
      faultsMax: 3,
      links: linux ? () => new ProxyLinks() : null,
      runOptions: ['--model', 'micro', '--inner-steps', '20'],
      machineOptions: [],
      ...asked,
    },
    { phase: () => undefined, fault: () => undefined, ...view },
    new AbortController().signal,
  );
}

test.each<[number, FaultKind[]]>([
  [4, ['kill', 'restart']],
  [3, linux ? ['cut', 'stop'] : ['stop']],
])(
  '%i peers get over three faults of %j with the same roots, and each journal can be replayed',
  async (peers, kinds) => {
    const dir = temporaryFolder();
    const reports: FaultReport[] = [];
    const result = await campaign(
      { dir, peers, kinds, baselineRate: null },
      { fault: (report) => reports.push(report) },
    );
    expect(result.failures).toEqual([]);
    expect(result.diverged).toEqual([]);
    expect(result.faults).toHaveLength(3);
    expect(reports).toHaveLength(3);
    for (const { kind, readyMs, rounds } of reports) {
      expect(kinds).toContain(kind);
      expect(readyMs === null).toBe(kind === 'cut' || kind === 'stop');
      expect(rounds).toBeGreaterThan(0);
    }
    expect(result.tokens).toBeGreaterThan(0);
    expect(result.rate).toBeCloseTo((1000 * result.tokens) / result.ms);
    expect([result.baselineRate, result.machineSpeed, result.share]).toEqual([null, null, null]);
    expect(result.compared).toBeGreaterThan(result.rounds);
    expect(result.work.accepted).toBeGreaterThan(0);
    const folders = Array.from({ length: peers }, (_, peer) => join(dir, 'chaos', `peer-${peer}`));
    for (const folder of folders) {
      for (const path of journalFiles(join(folder, 'journal'))) {
        const { difference } = replay(readFileSync(path), noFacts());
        expect([path, difference]).toEqual([path, null]);
      }
    }
    if (!linux) return;
    // nobody knows a way around the links: what a peer listens on is known to itself alone
    const known = folders.map((folder) => loadWhereabouts(join(folder, 'whereabouts.json')));
    const listening = known.flatMap(({ listen }) => listen);
    expect(listening).toHaveLength(peers);
    for (const address of known.flatMap((each) => each.peers)) {
      expect(listening).not.toContain(address.replace(/\/p2p\/.*$/, ''));
    }
  },
  5 * MINUTES,
);

test(
  'what is trained without faults is measured before and after, and how fast the machine is all along',
  async () => {
    const phases: string[] = [];
    const asked = { peers: 2, kinds: ['stop'], durationMs: 4000, least: 1e6 } as const;
    const result = await campaign({ ...asked, dir: temporaryFolder() }, { phase: (text) => phases.push(text) });
    expect(phases).toEqual([
      '2 peers without faults, for 2 s',
      'starting 2 peers, and then the faults',
      'waiting until all peers have got over it',
      expect.stringMatching(/^2 peers without faults, for \d+ s$/),
    ]);
    const { rate, baselineRate, machineSpeed, share, failures } = result;
    expect(baselineRate).toBeGreaterThan(0);
    expect(machineSpeed).toBeGreaterThan(0);
    expect(share).toBeCloseTo(rate / (Number(baselineRate) * Number(machineSpeed)));
    expect(failures).toEqual([expect.stringMatching(/ % of the tokens without faults were trained, /)]);
  },
  MINUTES,
);

const missing = linux ? namespacesMissing() : 'not Linux';

test.skipIf(missing !== undefined)(
  `peers in network namespaces of their own get over a link whose packets vanish${missing ? ` (SKIPPED: ${missing})` : ''}`,
  async () => {
    const program = fileURLToPath(new URL('../../start.js', import.meta.url));
    const options = [
      '--namespaces',
      '--peers',
      '4',
      '--kinds',
      'cut',
      '--every',
      '4s',
      '--faults',
      '2',
      '--no-baseline',
    ];
    const argv = [program, 'chaos', '--json', '--model', 'micro', '--dir', temporaryFolder(), ...options];
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines: { event: string }[] = [];
    for await (const line of createInterface({ input: child.stdout })) lines.push(JSON.parse(line));
    expect(lines.map(({ event }) => event)).toEqual(['fault', 'fault', 'chaos']);
    expect(lines.at(-1)).toMatchObject({ passed: true, failures: [], diverged: [] });
  },
  5 * MINUTES,
);

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Results } from '../../../sim/results.ts';
import { begin, eventsIn } from '../../helpers/program.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** Whole processes: what is typed, what is said, what is left on disk. */

const FILES = ['report.html', 'report.md', 'results.csv', 'results.json'];
const SYNTHETIC = ['sim', '--trainer', 'synthetic', '--peers', '4', '--rounds', '6', '--inner-steps', '20'];
const ENDLESS = [...SYNTHETIC, '--rounds', '1000000', '--json'];

const readResults = (out: string) => JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')) as Results;
const read = (out: string, name: string) => readFileSync(join(out, name), 'utf8');
const filesIn = (out: string) =>
  readdirSync(out)
    .filter((name) => name !== '.lock')
    .sort();

describe('outerloop sim', () => {
  it.each([
    [['--peers', '0'], 2, /--peers takes a whole number from 1 .*\[E_OPTION\]/],
    [['--latency=-5ms'], 2, /--latency: -5ms is negative.*\[E_OPTION\]/],
    [['--stragglers', '10%x3'], 2, /--stragglers: 10% of 4 peers is nobody.*\[E_OPTION\]/],
    [['--scenario', '/nowhere.json'], 1, /cannot read the scenario .*\[E_SCENARIO_FILE\]/],
    [['--backend', 'webgpu'], 2, /webgpu does not give the same bits .* give auto, wasm or cpu \[E_OPTION\]/],
    [['--backend', 'abacus'], 2, /--backend takes auto, wasm or cpu, not "abacus" \[E_OPTION\]/],
    [['--out', '/dev/null'], 2, /--out takes a folder.*\[E_OPTION\]/],
  ])('%j ends in one line', async (argv, exitCode, line) => {
    const { code, stdout, stderr } = await begin([...SYNTHETIC, ...argv]).ended;
    const lines = stderr.trimEnd().split('\n').length;
    expect({ code, stdout, lines }).toEqual({ code: exitCode, stdout: '', lines: 1 });
    expect(stderr).toMatch(line);
  });

  it('ends --json with what a program needs, the same for the same seed', async () => {
    const runs = await Promise.all([begin([...SYNTHETIC, '--json']).ended, begin([...SYNTHETIC, '--json']).ended]);
    const [first, second] = runs.map(({ code, stdout }) => {
      expect(code).toBe(0);
      const events = eventsIn(stdout);
      expect(events.map(({ event }) => event)).toEqual(['config', ...Array(6).fill('round'), 'done']);
      expect(events[0]).toMatchObject({ seed: 1337, trainer: 'synthetic', peers: 4, scenario: { latency: '40ms' } });
      return events.at(-1)!;
    });
    const numbers = { virtualSeconds: expect.any(Number), events: expect.any(Number), bytes: expect.any(Number) };
    const done = { event: 'done', reason: 'rounds', traceHash: expect.stringMatching(/^[0-9a-f]{64}$/), ...numbers };
    expect(first).toMatchObject({ ...done, wallSeconds: expect.any(Number) });
    expect({ ...second, wallSeconds: 0 }).toEqual({ ...first, wallSeconds: 0 });
  });

  it('leaves what a comparison leaves, and says on the screen what was asked', async () => {
    const out = temporaryFolder();
    const world = join(temporaryFolder(), 'world.json');
    const events = [{ at: '3s', do: 'pause', peers: [1], for: '2s' }];
    writeFileSync(world, JSON.stringify({ regions: ['us-east', 'eu-west'], peers: { 3: { step: '200ms' } }, events }));
    const { code, stdout } = await begin([...SYNTHETIC, '--scenario', world, '--out', out]).ended;
    expect(code).toBe(0);
    expect(stdout).toMatch(/regions us-east, eu-west, peer 3: step 200ms, pause 1 at 3s for 2s$/m);
    expect(stdout).toMatch(/seed 1337, commit /);
    expect(filesIn(out)).toEqual(FILES);
    const { kind, command, seed, rounds, curve, carried, timeline, configuration, traceHash } = readResults(out);
    expect({ kind, seed, rounds: rounds.length, points: curve.length }).toEqual({
      kind: 'sim',
      seed: 1337,
      rounds: 6,
      points: 2,
    });
    expect(configuration).toMatchObject({ scenario: { events }, microBatch: 'auto', genesis: { innerSteps: 20 } });
    expect(timeline.some(([peer, activity]) => peer === 1 && activity === 'paused')).toBe(true);
    expect(Array.isArray(carried)).toBe(true);
    expect(stdout).toContain(traceHash);
    expect(read(out, 'results.csv').trimEnd().split('\n')).toHaveLength(7);
    const page = read(out, 'report.html');
    for (const text of ['outerloop sim', 'lane-paused', 'training batches', 'kind-gossip', 'pause 1 at 3s', command]) {
      expect(page).toContain(text);
    }
    expect(page).not.toMatch(/https?:|\bsrc=|\bhref=|@import|url\((?!#)|<script|<link|<img|<iframe/i);
    expect(page).not.toMatch(/NaN|Infinity|undefined|\[object|Against centralized|Time to target/);
    expect(read(out, 'report.md')).toContain('| `swarm` |');
  });

  it('leaves the results so far when it is stopped', async () => {
    const out = temporaryFolder();
    const { child, ended } = begin([...ENDLESS, '--out', out]);
    let stopped = false;
    child.stdout.on('data', (text: string) => {
      // a second signal would kill it
      if (!stopped && text.includes('"round":7,')) stopped = child.kill('SIGINT');
    });
    const { code, stdout } = await ended;
    expect(code).toBe(0);
    expect(eventsIn(stdout).at(-1)).toMatchObject({ event: 'done', reason: 'stopped' });
    expect(filesIn(out)).toEqual(FILES);
    expect(readResults(out).rounds.length).toBeGreaterThanOrEqual(3);
    expect(read(out, 'report.html')).toContain('results so far');
    expect(read(out, 'report.html')).toContain('so far, over a sample');
  });

  it('keeps finished results when the same simulation is begun again and stopped', async () => {
    const out = temporaryFolder();
    const argv = [...ENDLESS, '--rounds', '400', '--out', out];
    expect((await begin(argv).ended).code).toBe(0);
    const { child, ended } = begin(argv);
    let stopped = false;
    child.stdout.on('data', (text: string) => {
      if (!stopped && text.includes('"round":2,')) stopped = child.kill('SIGINT');
    });
    const { stdout } = await ended;
    expect(eventsIn(stdout).at(-1)).toMatchObject({ event: 'done', reason: 'stopped' });
    expect(readResults(out)).toMatchObject({ reason: 'rounds', rounds: expect.objectContaining({ length: 400 }) });
  });

  it('fails where no round comes any more, and says so in the report', async () => {
    const out = temporaryFolder();
    const { code, stdout } = await begin([...SYNTHETIC, '--bandwidth', '1bit', '--out', out]).ended;
    expect(code).toBe(1);
    expect(stdout).toContain('stuck: ');
    expect(read(out, 'report.md')).toMatch(/^- `swarm`: \*\*stuck: /m);
    expect(read(out, 'report.html')).toContain('Nothing was measured');
    expect(read(out, 'report.html')).not.toMatch(/NaN|Infinity|undefined/);
  });
});

describe('the folder of outerloop sim', () => {
  it('is not taken from another simulation or from a comparison, and may be written again by the same', async () => {
    const out = temporaryFolder();
    const run = [...SYNTHETIC, '--json', '--out', out];
    expect((await begin(run).ended).code).toBe(0);
    expect((await begin(run).ended).code).toBe(0);
    const before = read(out, 'results.json');
    const other = await begin([...run, '--latency', '10ms', '--seed', '7']).ended;
    expect({ code: other.code, stdout: other.stdout }).toEqual({ code: 1, stdout: '' });
    expect(other.stderr).toMatch(/another simulation \(with other seed, scenario, genesis\).*E_RESULTS/);
    const compared = await begin(['compare', '--trainer', 'synthetic', '--tokens', '800', '--out', out]).ended;
    expect(compared.stderr).toMatch(/results.json is of outerloop sim.*E_RESULTS/);
    expect(read(out, 'results.json')).toBe(before);
  });

  it('that cannot be written is refused before anything is computed', async () => {
    const out = temporaryFolder();
    writeFileSync(join(out, '.lock'), 'in the way');
    const { code, stdout, stderr } = await begin([...SYNTHETIC, '--json', '--out', out]).ended;
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/use another --out \[E_DIR_UNWRITABLE\]/);
  });

  it('that fails at the end loses nothing that could be shown', async () => {
    const out = temporaryFolder();
    mkdirSync(join(out, 'report.html'));
    const { code, stdout, stderr } = await begin([...SYNTHETIC, '--out', out]).ended;
    expect(code).toBe(1);
    expect(stdout).toMatch(/trace [0-9a-f]{64}/);
    expect(stderr).toMatch(/cannot write .*report.html.*use another --out \[E_DIR_UNWRITABLE\]/);
  });

  it('is for one process at a time', async () => {
    const out = temporaryFolder();
    const { child, ended } = begin([...ENDLESS, '--out', out]);
    await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
    const second = await begin([...SYNTHETIC, '--out', out]).ended;
    expect({ code: second.code, stdout: second.stdout }).toEqual({ code: 1, stdout: '' });
    expect(second.stderr).toMatch(/in use by process \d+; .*another --out \[E_DIR_LOCKED\]/);
    child.kill('SIGINT');
    expect((await ended).code).toBe(0);
  });
});

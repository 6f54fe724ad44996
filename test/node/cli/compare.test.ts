import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Report } from '../../../sim/report/report.ts';
import { begin as beginProgram, eventsIn } from '../../helpers/program.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** Whole processes: what is typed, what is said, what is left on disk. */
const begin = (argv: string[]) => beginProgram(['compare', ...argv]);
const readReport = (out: string) => JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')) as Report;
const SYNTHETIC = ['--trainer', 'synthetic', '--peers', '2', '--tokens', '800', '--inner-steps', '20'];

describe('outerloop compare', () => {
  it.each([
    [['--strategies', 'diloco,nope'], 2, /--strategies: there is no strategy "nope"; known are .*\[E_OPTION\]/],
    [['--tokens', 'many'], 2, /--tokens takes a number of tokens .*\[E_OPTION\]/],
    [['--strategies', 'diloco:H=7', '--tokens', '8'], 1, /give at least .*\[E_COMPARISON\]/],
    [['--latency=-5ms'], 2, /--latency: -5ms is negative.*\[E_OPTION\]/],
    [['--bandwidth', '0mbit'], 2, /--bandwidth: nothing ever arrives.*\[E_OPTION\]/],
    [['--strategy-file', 'nowhere.ts'], 1, /cannot load nowhere.ts \(Cannot find module '\S+'\); .*\[E_STRATEGY\]/],
  ])('%j ends in one line', async (argv, exitCode, line) => {
    const { code, stdout, stderr } = await begin([...SYNTHETIC, '--out', temporaryFolder(), ...argv]).ended;
    const lines = stderr.trimEnd().split('\n').length;
    expect({ code, stdout, lines }).toEqual({ code: exitCode, stdout: '', lines: 1 });
    expect(stderr).toMatch(line);
  });

  it('says in its help that it needs a folder', async () => {
    expect((await begin(['--help']).ended).stdout).toMatch(/--out <folder> +\(required\)/);
  });

  it('runs a strategy from a file', async () => {
    const out = temporaryFolder();
    const own = ['--strategy-file', 'docs/strategy-example.ts', '--strategies', 'ddp,patient'];
    const { code, stdout } = await begin([...SYNTHETIC, ...own, '--out', out]).ended;
    expect(code).toBe(0);
    expect(stdout).toMatch(/^patient +seed 1337 +val /m);
    expect(readdirSync(out).sort()).toEqual(['.lock', 'report.html', 'report.md', 'results.csv', 'results.json']);
    const { command, complete, runs } = readReport(out);
    expect(command).toContain('outerloop compare --trainer synthetic --peers 2');
    expect(complete).toBe(true);
    expect(runs.map(({ series }) => series)).toEqual(['centralized', 'one-peer', 'ddp', 'patient']);
  });

  it('runs a strategy from a folder that is no module package, though --strategies does not name it', async () => {
    const out = temporaryFolder();
    const file = join(temporaryFolder(), 'own.ts');
    writeFileSync(file, "const about: string = 'of mine';\nexport default { name: 'own', about };\n");
    const { code } = await begin([...SYNTHETIC, '--strategy-file', file, '--out', out]).ended;
    expect(code).toBe(0);
    expect(readReport(out).runs.map(({ series }) => series)).toContain('own');
  });

  it('leaves a report of what was done when it is stopped', async () => {
    const out = temporaryFolder();
    const { child, ended } = begin([
      ...SYNTHETIC,
      '--strategies',
      'diloco:H=1',
      '--seeds',
      '1000',
      '--workers',
      '1',
      '--json',
      '--out',
      out,
    ]);
    child.stdout.on('data', (text: string) => {
      if (text.includes('"diloco:H=1"') && text.includes('"run"')) child.kill('SIGINT');
    });
    const { code, stdout } = await ended;
    expect(code).toBe(0);
    expect(eventsIn(stdout).at(-1)).toMatchObject({ event: 'done', complete: false });
    const { complete, runs } = readReport(out);
    expect(complete).toBe(false);
    expect(runs.some(({ series, loss }) => series === 'diloco:H=1' && loss !== null)).toBe(true);
  });

  it('goes on from what is in the folder, and does not overwrite another comparison', async () => {
    const out = temporaryFolder();
    const run = [...SYNTHETIC, '--strategies', 'diloco:H=10', '--json', '--out', out];
    expect((await begin(run).ended).code).toBe(0);
    const again = await begin(run).ended;
    expect(again.code).toBe(0);
    expect(eventsIn(again.stdout).map(({ event }) => event)).toEqual(['config', 'resumed', 'done']);
    const more = [...run, '--seeds', '2', '--strategies', 'fedavg:H=10,diloco:H=10'];
    expect((await begin(more).ended).code).toBe(0);
    const names = ['centralized', 'one-peer', 'fedavg:H=10', 'diloco:H=10'];
    expect(readReport(out).runs.map(({ series }) => series)).toEqual(names.flatMap((name) => [name, name]));
    const left = await begin([...more, '--strategies', 'fedavg:H=10']).ended;
    expect(left.stderr).toMatch(/another comparison \(with other strategies.*E_RESULTS/);
    const other = await begin([...more, '--peers', '3']).ended;
    expect(other.code).toBe(1);
    expect(other.stderr).toMatch(/another comparison \(with other peers.*E_RESULTS/);
    expect(readReport(out).complete).toBe(true);
  });

  it('may go on without a strategy of which no run was finished', async () => {
    const out = temporaryFolder();
    const run = [...SYNTHETIC, '--json', '--out', out, '--strategies'];
    expect((await begin([...run, 'diloco:H=10']).ended).code).toBe(0);
    const report = readReport(out);
    const runs = report.runs.map((each) => (each.series === 'diloco:H=10' ? { ...each, reason: 'stopped' } : each));
    writeFileSync(join(out, 'results.json'), JSON.stringify({ ...report, runs }));
    expect((await begin([...run, 'fedavg:H=10']).ended).code).toBe(0);
    expect(readReport(out).runs.map(({ series }) => series)).toEqual(['centralized', 'one-peer', 'fedavg:H=10']);
  });

  it('does not go on with results of other settings', async () => {
    const out = temporaryFolder();
    const file = join(temporaryFolder(), 'own.ts');
    const own = (learningRate: number) =>
      `export default { name: 'own', about: 'mine', outer: { name: 'nesterov', learningRate: ${learningRate}, momentum: 0.9 } };`;
    const run = [...SYNTHETIC, '--strategy-file', file, '--strategies', 'own', '--json', '--out', out];
    writeFileSync(file, own(0.7));
    const first = await begin(run).ended;
    expect(first.code).toBe(0);
    const settings = { innerSteps: 20, codec: { name: 'int8' }, outer: { learningRate: 0.7 } };
    const config = { seeds: [1337], configuration: { trainer: 'synthetic', microBatch: 'auto' } };
    expect(eventsIn(first.stdout)[0]).toMatchObject({ ...config, strategies: [{ name: 'own', settings }] });
    expect(readReport(out)).toMatchObject({ ...config, strategies: [{ name: 'own', settings }] });
    writeFileSync(file, own(0.4));
    expect((await begin(run).ended).stderr).toMatch(/another comparison \(with other strategies\).*E_RESULTS/);
    writeFileSync(file, own(0.7));
    const batches = await begin([...run, '--micro-batch', '1']).ended;
    expect(batches.stderr).toMatch(/another comparison \(with other microBatch\).*E_RESULTS/);
    expect((await begin(run).ended).code).toBe(0);
  });

  it('keeps to a folder of its own while it runs, and shows what it cannot write', async () => {
    const out = temporaryFolder();
    const run = [...SYNTHETIC, '--strategies', 'diloco:H=10', '--out', out];
    const { child, ended } = begin([...run, '--seeds', '1000']);
    await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
    expect((await begin(run).ended).stderr).toMatch(/in use by process.*another --out.*E_DIR_LOCKED/);
    child.kill('SIGINT');
    expect((await ended).code).toBe(0);
    const blocked = temporaryFolder();
    mkdirSync(join(blocked, 'results.csv'));
    const { code, stdout, stderr } = await begin([...run, '--out', blocked]).ended;
    expect(code).toBe(1);
    expect(stdout).toMatch(/^centralized +\S+ +– /m);
    expect(stderr).toMatch(/cannot write .*results.csv.*another --out \[E_DIR_UNWRITABLE\]/);
  });

  it('really trains', async () => {
    const [out, text] = [temporaryFolder(), join(temporaryFolder(), 'text.txt')];
    writeFileSync(text, 'The quick brown fox jumps over the lazy dog.\n'.repeat(200));
    const run = [
      '--model',
      'micro',
      '--data',
      text,
      '--peers',
      '2',
      '--batch',
      '4',
      '--tokens',
      '5120',
      '--points',
      '2',
    ];
    const { code, stdout } = await begin([...run, '--strategies', 'ddp,diloco:H=10', '--out', out]).ended;
    expect(code).toBe(0);
    expect(stdout).toMatch(/learning rate 0.001 to 0.0001, warmup \d+ of 20 steps/);
    const { runs, configuration } = readReport(out);
    expect(configuration).toMatchObject({ trainer: 'real', genesis: { batch: 4 } });
    for (const { loss, points, series } of runs) {
      expect(loss, series).toBeGreaterThan(1);
      expect(loss, series).toBeLessThan(Math.log(128));
      expect(points.at(-1)?.loss, series).toBeLessThan(points[0]!.loss);
    }
  }, 60_000);
});

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

function count(report: object): { status: number | null; stdout: string } {
  const path = join(temporaryFolder(), 'report.json');
  writeFileSync(path, JSON.stringify(report));
  const { status, stdout } = spawnSync(process.execPath, ['scripts/count-tests.js', path], { encoding: 'utf8' });
  return { status, stdout };
}

const report = { numPassedTests: 5, numFailedTests: 0, numPendingTests: 2, numTodoTests: 1, testResults: [] };

describe('count-tests', () => {
  it('sums up in one plain line', () => {
    expect(count(report)).toEqual({ status: 0, stdout: '5 passed, 0 failed, 3 skipped\n' });
  });

  it('fails when tests failed, a file did not load, or there were none', () => {
    expect(count({ ...report, numFailedTests: 1 })).toEqual({ status: 1, stdout: '5 passed, 1 failed, 3 skipped\n' });
    const testResults = [{ status: 'failed', assertionResults: [] }];
    expect(count({ ...report, testResults })).toEqual({ status: 1, stdout: '5 passed, 1 failed, 3 skipped\n' });
    expect(count({ ...report, numPassedTests: 0 }).status).toBe(1);
  });
});

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

describe('stop', () => {
  it('leaves nothing open: a process that stops its networks ends by itself', async () => {
    const fixture = fileURLToPath(new URL('./stop-fixture.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', fixture], { timeout: 60_000 });
    expect(stdout.trim()).toBe('stopped with nothing open');
  }, 70_000);
});

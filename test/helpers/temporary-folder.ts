import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** A new empty folder, removed when the running test is over. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'outerloop-test-'));
  onTestFinished(() => removeFolder(folder));
  return folder;
}

/**
 * A peer that was stopped as if killed may still be writing a file: what comes into a folder while it is being removed
 * makes the removal fail, and is removed with the next try. (`maxRetries` does not look for new files again.)
 */
async function removeFolder(folder: string): Promise<void> {
  for (let triesLeft = 20; ; triesLeft--) {
    try {
      return await rm(folder, { recursive: true, force: true });
    } catch (error) {
      if (triesLeft === 0 || (error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
    }
  }
}

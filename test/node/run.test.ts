import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { openRun, type StartOptions } from '../../node/run.ts';
import { BlobStore } from '../../node/store/blob-store.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

it('finds a run that was cut off before its text was on disk never begun', async () => {
  const dir = join(temporaryFolder(), 'peer');
  const options: StartOptions = {
    bootstrap: [],
    choices: { model: 'micro' },
    dir,
    backend: 'auto',
    deterministic: false,
  };
  vi.spyOn(BlobStore.prototype, 'write').mockRejectedValueOnce(new Error('killed'));
  await expect(openRun(options, () => undefined)).rejects.toThrow('killed');
  vi.restoreAllMocks();
  await expect(openRun(options, () => undefined)).rejects.toMatchObject({
    code: 'E_DIR_INCOMPLETE',
    message: expect.stringContaining('remove the folder and start again'),
  });
});

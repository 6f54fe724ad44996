import { afterEach, expect, it, vi } from 'vitest';
import { doctor } from '../../../node/cli/doctor.ts';
import { Terminal } from '../../../node/cli/terminal.ts';
import { CodedError } from '../../../protocol/errors.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

it('does without a home', async () => {
  vi.stubEnv('HOME', '/nowhere');
  let written = '';
  const write = (text: string) => {
    written += text;
  };
  const trials = { measure: async () => 'fast', reportBackends: async () => [] };
  expect(await doctor(new Terminal({ write }, {}), trials)).toBe(0);
  expect(written).toContain('disk     unknown for /nowhere/.outerloop/runs\n');
});

it('lists the backends also where none of them trains, and says why', async () => {
  let written = '';
  const write = (text: string) => {
    written += text;
  };
  const trials = {
    measure: async () => {
      throw new CodedError('E_BACKEND', 'no backend works on this machine');
    },
    reportBackends: async () => [{ name: 'wasm' as const, available: false, detail: 'no SIMD' }],
  };
  expect(await doctor(new Terminal({ write }, {}), trials)).toBe(1);
  expect(written).toMatch(/no +wasm +no SIMD\n\nstart would not train: no backend works on this machine\n$/);
});

import { Command } from 'commander';
import { expect, it } from 'vitest';
import { refuseEatenOptions } from '../../../node/cli/npm-options.ts';
import { addStart } from '../../../node/cli/start.ts';

function refusalOf(argv: string[], env: NodeJS.ProcessEnv): string {
  const program = new Command();
  addStart(program, () => undefined);
  try {
    refuseEatenOptions(program.commands[0]!, argv, { npm_lifecycle_event: 'start', ...env });
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

it.each([
  // npm start --bootstrap /ip4/...
  [['/ip4/1.2.3.4/tcp/1'], { npm_config_bootstrap: 'true' }, 'npm start -- --bootstrap /ip4/1.2.3.4/tcp/1'],
  [['start'], { npm_config_rounds: '3', npm_config_inner_steps: '5' }, 'npm start -- --inner-steps 5 --rounds 3'],
  [['3', '5'], { npm_config_rounds: 'true', npm_config_inner_steps: 'true' }, '-- --inner-steps … --rounds …'],
  [[], { npm_config_deterministic: 'true', npm_config_journal: '' }, '-- --deterministic --no-journal'],
])('says how to give what npm took for its own: %j %j', (argv, env, line) => {
  expect(refusalOf(argv, env)).toMatch(/^npm kept --.* for itself/);
  expect(refusalOf(argv, env).endsWith(line)).toBe(true);
});

it('is silent about what is npm’s, and outside of npm start', () => {
  expect(refusalOf(['start'], {})).toBe('');
  expect(refusalOf(['start'], { npm_config_json: 'true', npm_config_registry: 'x' })).toBe('');
  expect(refusalOf(['start'], { npm_config_rounds: '3', npm_lifecycle_event: 'test' })).toBe('');
});

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // a process each: tests that take locks, sockets and wasm heaps must not share them
    pool: 'forks',
    // the smallest machine we build on has two cores; more workers only make every test slower there
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});

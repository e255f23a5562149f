import { defineConfig } from 'vitest/config';

/** Suffixes of tests that need PostgreSQL, Temporal or Synapse. What has none of them is pure, and starts at once. */
const SUITES = ['pg', 'workflow', 'federation', 'interop'] as const;
const bySuffix = (suite: string): string => `test/**/*.${suite}.test.ts`;
/** Which starts its own PostgreSQL, as the script of longer runs does. */
const SIMULATION = bySuffix('simulation');
const DIFFERENTIAL = 'test/differential/**/*.test.ts';

/** What is polled for comes soon, but for a machine that has other work. */
const expecting = { poll: { timeout: 10_000 } } as const;
const common = { pool: 'forks', testTimeout: 30_000, hookTimeout: 120_000, expect: expecting } as const;

/** A project a suite, so that scripts/test.ts can run and time each alone; the servers start once for all that run. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [...SUITES.map(bySuffix), SIMULATION, DIFFERENTIAL],
        },
      },
      ...SUITES.map((suite) => ({
        test: { ...common, name: suite, include: [bySuffix(suite)], globalSetup: ['test/support/global-setup.ts'] },
      })),
      { test: { ...common, name: 'simulation', include: [SIMULATION] } },
      { test: { ...common, name: 'differential', include: [DIFFERENTIAL] } },
    ],
  },
});

import { defineConfig } from 'vitest/config';

/** Needs PostgreSQL, Temporal or Synapse: these run in a project of their own, which starts them, so that pure tests start at once. */
const withServices = ['test/**/*.{pg,workflow,federation,interop}.test.ts'];

const common = { pool: 'forks', testTimeout: 30_000, hookTimeout: 120_000 } as const;

export default defineConfig({
  test: {
    projects: [
      { test: { ...common, name: 'pure', include: ['test/**/*.test.ts'], exclude: withServices } },
      { test: { ...common, name: 'services', include: withServices, globalSetup: ['test/support/global-setup.ts'] } },
    ],
  },
});

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { machinesOn, openServer } from './machines.ts';
import { runStays } from './stays.ts';

/** Consecutive seeds; the first ones, so that everybody's runs are the same. `npm run test:simulation -- --stays` plays all 200. */
const RUNS = 24;
/** A machine that is busy besides takes many times as long as the minute of a quiet one. */
const SERIES_MS_MAX = 15 * 60_000;

test(
  `${RUNS} sequences of joins, leaves, kicks, bans, purges and deaths end as they should, and leave nothing behind`,
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rejoinder-stays-'));
    const server = await openServer(folder);
    const machines = machinesOn(server.databaseUrl);
    try {
      const { failed } = await runStays(machines, { first: 1, runs: RUNS, lanes: 2 });
      expect(failed.map(({ plan, differences }) => ({ seed: plan.seed, differences }))).toEqual([]);
    } finally {
      await machines.close();
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    }
  },
  SERIES_MS_MAX,
);

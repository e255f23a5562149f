import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { REQUIRED, RUNS_FOR_COVERAGE } from './coverage.ts';
import { openServer } from './machines.ts';
import { runSeries } from './series.ts';

/** Consecutive seeds; the first ones, so that everybody's runs are the same. */
const RUNS = RUNS_FOR_COVERAGE;
const LANES = 6;
/** A machine that is busy besides takes many times as long as the four minutes of a quiet one; what hangs ends by bounds of its own. */
const SERIES_MS_MAX = 45 * 60_000;

test(
  `${RUNS} simulated rooms end as a classic join would have them`,
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rejoinder-simulation-'));
    const server = await openServer(folder);
    try {
      const { failed, coverage, delivered, crashed } = await runSeries({
        databaseUrl: server.databaseUrl,
        first: 1,
        runs: RUNS,
        lanes: LANES,
      });
      expect(failed.map(({ plan, differences }) => ({ seed: plan.seed, differences }))).toEqual([]);
      const median = delivered.toSorted((a, b) => a - b)[Math.floor(RUNS / 2)];
      expect(median).toBeGreaterThanOrEqual(40);
      expect(crashed).toBeGreaterThanOrEqual(RUNS / 3);
      expect(coverage.counts.get('two stays')).toBeGreaterThanOrEqual(RUNS / 10);
      expect(coverage.lacking(REQUIRED)).toEqual([]);
    } finally {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    }
  },
  SERIES_MS_MAX,
);

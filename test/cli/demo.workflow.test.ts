import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Ran, runCli } from './run-cli.ts';

const self = [process.execPath, fileURLToPath(new URL('../../bin/rejoinder.js', import.meta.url))];
/** It starts a PostgreSQL, a Temporal server, a federation and two processes. */
const DEMO_MS_MAX = 120_000;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const demo = (flags: readonly string[]): Promise<Ran> => {
  const { PATH = '', HOME = '', REJOINDER_CACHE_DIR } = process.env;
  const cache = REJOINDER_CACHE_DIR === undefined ? {} : { REJOINDER_CACHE_DIR };
  return runCli(['demo', '--once', ...flags], { cwd: folder, env: { PATH, HOME, ...cache }, self });
};

describe('the demo', () => {
  test(
    'makes a room of the simulated federation whole by another resident when the first hangs up, and prints the figures',
    async () => {
      const { code, stdout, stderr } = await demo(['--json', '--members=300', '--servers=40', '--fail=hang-up']);
      expect(code, stderr).toBe(0);
      const figures = JSON.parse(stdout) as Record<string, Record<string, number>>;
      expect(figures).toMatchObject({
        room: { members: 300, servers: 40, residents: 3, seed: 1 },
        conditions: { faults: [{ resident: 'resident1.federation.test', fault: 'hang-up', hits: 1 }] },
        attempts: 2,
        fetched: { members: 300, dropped: 0 },
        digest: { equal: true },
      });
      const {
        join_answered: answered = NaN,
        resync_done: done = NaN,
        members_answered: known = NaN,
      } = figures['times_ms'] ?? {};
      expect(answered).toBeGreaterThan(0);
      expect(done).toBeGreaterThan(answered);
      expect(known).toBeGreaterThanOrEqual(answered);
      const asked = figures['requests'] as unknown as { endpoint: string; requests: number; body_bytes: number }[];
      expect(asked.find(({ endpoint }) => endpoint === 'state')).toMatchObject({ requests: 2 });
      expect(asked.reduce((sum, one) => sum + one.body_bytes, 0)).toBe(figures['bytes_total']);
      expect(stderr).toMatch(/^attempt failed .* Attempt 1 at resident1.federation.test failed/m);
      expect(stderr).toMatch(/^Equal to the federation's own state: 333 state events, 301 joined members$/m);
    },
    DEMO_MS_MAX,
  );

  test(
    'makes a classic join of the same room for comparison, which is whole at once',
    async () => {
      const { code, stdout, stderr } = await demo(['--classic', '--members=60']);
      expect(code, stderr).toBe(0);
      expect(stdout).toMatch(/^join answered +\d.* full state: make_join \d+ ms/m);
      expect(stdout).not.toMatch(/^state asked for/m);
      expect(stdout).toMatch(/^\/members answered .* 61 joined/m);
      expect(stdout).toMatch(/^Equal to the federation's own state/m);
      expect(stdout).toMatch(/^Temporal UI +http:/m);
    },
    DEMO_MS_MAX,
  );
});

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
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

/** Shorter than what a client library's timers would hold a process up. */
const ENDS_MS_MAX = 60_000;

/** Of the process that a person starts. */
const environment = (): Readonly<Record<string, string>> => {
  const { PATH = '', HOME = '', REJOINDER_CACHE_DIR } = process.env;
  const cache = REJOINDER_CACHE_DIR === undefined ? {} : { REJOINDER_CACHE_DIR };
  return { PATH, HOME, ...cache };
};

const demo = (flags: readonly string[]): Promise<Ran> =>
  runCli(['demo', '--once', ...flags], { cwd: folder, env: environment(), self });

describe('the demo', () => {
  test(
    'has a client and the room talk while it is partial, shows what turned out otherwise, and explains one such event',
    async () => {
      const { code, stdout, stderr } = await demo(['--members=60']);
      expect(code, stderr).toBe(0);
      expect(stdout).toMatch(/^room talked .* 5 events came, and are judged by the partial state$/m);
      expect(stdout).toMatch(/^client spoke .* @demo:\S+, in the partial room: Hello! Can you hear me\?$/m);
      expect(stdout).toMatch(/^answer shown .* @\S+: Loud and clear\. Make yourself at home\.$/m);
      expect(stdout.indexOf('\nanswer shown')).toBeLessThan(stdout.indexOf('\nresync done'));
      // The client library says nothing of its own.
      expect(stdout.split('\n')[0]).toMatch(/^$|^A simulated room/);
      expect(stdout).toMatch(/^join event full .* judged again with full state: \d+; corrected: 3; left: \d+$/m);
      const corrected = stdout.split('\n').filter((line) => line.startsWith('verdict corrected'));
      expect(corrected).toEqual([
        expect.stringMatching(/ accepted before, rejected now: a message of @visitor:\S+, who has left$/),
        expect.stringMatching(/ accepted before, rejected now: a kick by @moderator:\S+, who has left$/),
        expect.stringMatching(/ rejected before, accepted now: a topic of @\S+, who was kicked$/),
      ]);
      expect(stdout).toMatch(/^Equal to the federation's own state/m);
      const [, explained, story = ''] = /^rejoinder explain '(\$.+)'\n([^]*?)\n\n/m.exec(stdout) ?? [];
      const lines = story.split('\n');
      expect(lines[0]).toContain(`${explained} is a m.room.topic for the room of @`);
      expect(lines).toContain('It is accepted, by the full state.');
      expect(lines).toContainEqual(
        expect.stringMatching(/: it was rejected provisionally, .* \(sender-not-joined\)\.$/),
      );
      expect(story).toMatch(
        /What turned out otherwise: before, (@\S+) was removed by @moderator:\S+ .*; in truth, \1 is joined/,
      );
    },
    DEMO_MS_MAX,
  );

  test(
    'makes a room of the simulated federation whole by another resident when the first hangs up, prints the figures, and ends',
    async () => {
      const [node = '', ...command] = self;
      const flags = ['--once', '--json', '--members=300', '--servers=40', '--fail=hang-up'];
      const options = { cwd: folder, env: { ...environment() }, timeout: ENDS_MS_MAX };
      const { stdout, stderr } = await promisify(execFile)(node, [...command, 'demo', ...flags], options);
      const figures = JSON.parse(stdout) as Record<string, Record<string, number>>;
      expect(figures).toMatchObject({
        room: { members: 300, servers: 40, residents: 3, seed: 1 },
        conditions: { faults: [{ resident: 'resident1.federation.test', fault: 'hang-up', hits: 1 }] },
        attempts: 2,
        fetched: { members: 300, dropped: 0 },
        digest: { equal: true },
        said: 5,
        corrections: [
          { was: 'accepted', is: 'rejected' },
          { was: 'accepted', is: 'rejected' },
          { was: 'rejected', is: 'accepted' },
        ],
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
      expect(stderr).toMatch(/^Equal to the federation's own state: 335 state events, 301 joined members$/m);
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
      // All is judged for good: there is nothing to correct, and nothing to explain.
      expect(stdout).not.toMatch(/^(room talked|client spoke|verdict corrected|rejoinder explain)/m);
      expect(stdout).toMatch(/^\/members answered .* 61 joined/m);
      expect(stdout).toMatch(/^Equal to the federation's own state/m);
      expect(stdout).toMatch(/^Temporal UI +http:/m);
    },
    DEMO_MS_MAX,
  );
});

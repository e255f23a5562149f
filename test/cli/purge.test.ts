import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { RoomError } from '../../src/rooms/error.ts';
import { type PurgeRequest, type PurgeStatus } from '../../src/rooms/purge/contract.ts';
import { type RunningServer, TOKEN, WHOLE, portsOfTest, startServer } from '../operator/rooms-of-test.ts';
import { type Ran, runCli } from './run-cli.ts';

const ALICE = '@alice:ours' as UserId;
const BEGUN: PurgeStatus = {
  ...{ roomId: WHOLE, purgeId: 'p1', step: 'deleting', putOut: [], rows: 0, requestedAt: 0, doneAt: null },
};

let folder: string;
let server: RunningServer;
let requests: PurgeRequest[];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-purge-'));
  requests = [];
  let looks = 0;
  const purges = {
    plan: () =>
      Promise.resolve({
        ...{ roomId: WHOLE, members: [ALICE], openMoves: 2 },
        tables: [
          { table: 'pdus', rows: 12_000 },
          { table: 'rooms', rows: 1 },
        ],
      }),
    request: (request: PurgeRequest) => {
      requests.push(request);
      if (!request.isForced) return Promise.reject(new RoomError('needs-force', `${ALICE} is in it`));
      return Promise.resolve(BEGUN);
    },
    status: () => {
      looks += 1;
      const done = { ...BEGUN, step: 'done' as const, putOut: [ALICE], rows: null, doneAt: 9 };
      return Promise.resolve(looks === 1 ? { ...BEGUN, rows: 5_000 } : done);
    },
    wait: () => Promise.reject(new Error('nobody waits so')),
  };
  server = await startServer(portsOfTest({ purges }), 50);
});
afterEach(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

const purge = (...flags: readonly string[]): Promise<Ran> =>
  runCli(['rooms', 'purge', WHOLE, ...flags], {
    cwd: folder,
    env: { REJOINDER_URL: server.url, REJOINDER_OPERATOR_TOKEN: TOKEN },
  });

test('what a purge would delete is listed, with who is in the room, and nothing is asked to go', async () => {
  const { code, stdout } = await purge('--dry-run');
  expect(code).toBe(0);
  expect(stdout.split('\n').filter((line) => line !== '')).toEqual([
    `A purge of ${WHOLE} would delete:`,
    expect.stringMatching(/^TABLE +ROWS$/),
    expect.stringMatching(/^pdus +12000$/),
    expect.stringMatching(/^rooms +1$/),
    `It asks for --force. Users of this server would be put out: ${ALICE}. Joins and leaves that are not settled: 2.`,
  ]);
  expect(requests).toEqual([]);
});

test('a room that somebody of us is in is purged by force alone', async () => {
  const { code, stdout, stderr } = await purge();
  expect(code).toBe(1);
  expect(stdout).toBe('');
  expect(stderr).toContain(`${ALICE} is in it`);
});

test('a purge is watched until all is gone, whoever was put out counted', async () => {
  const { code, stdout } = await purge('--force');
  expect(code).toBe(0);
  expect(stdout).toContain(`Purging ${WHOLE}; purge p1\n`);
  expect(stdout).toContain('Nothing is left of it. Users of this server who were put out: 1\n');
  const { stdout: json } = await purge('--force', '--json');
  expect(JSON.parse(json)).toMatchObject({ step: 'done', put_out: [ALICE], rows_deleted: null });
  expect(requests.every(({ isForced }) => isForced)).toBe(true);
});

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Store } from '../../src/store/open-store.ts';
import { PartialRoom } from '../rooms/resync/partial-room.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';
import { runCli } from './run-cli.ts';

let folder: string;
let database: TestDatabase;
let store: Store;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-journal-'));
  database = await createTestDatabase();
  store = database.openStore();
});
afterEach(async () => {
  await database.drop();
  rmSync(folder, { recursive: true });
});

test('journal rebuild says that the tables hold what the journal says, and exits with 1 where they do not', async () => {
  const room = new PartialRoom(store);
  await room.join();
  const env = {
    ...{ PATH: process.env['PATH'] ?? '', HOME: folder },
    ...{ DATABASE_URL: database.url, REJOINDER_SERVER_NAME: 'here.test' },
  };
  const rebuild = (...flags: readonly string[]) => runCli(['journal', 'rebuild', ...flags], { cwd: folder, env });
  expect(await rebuild()).toMatchObject({
    code: 0,
    stdout: '1 room(s), 2 journal entries folded again: the tables hold the same.\n',
  });

  await store.query(`UPDATE local_members SET membership = 'ban'`);
  const differs = await rebuild('--room', room.roomId);
  expect(differs).toMatchObject({ code: 1, stderr: expect.stringContaining('in 1 room(s)') as string });
  expect(differs.stdout).toContain('local_members: 1 row(s)');
  expect(differs.stdout).toContain('membership: ban, and join by the journal');
  const json = await rebuild('--json');
  expect(json.code).toBe(1);
  expect(JSON.parse(json.stdout)).toMatchObject({ roomId: room.roomId, differences: [{ table: 'local_members' }] });

  expect(await rebuild('--room', 'lounge')).toMatchObject({ code: 2, stdout: '' });
});

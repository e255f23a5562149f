import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createAccounts } from '../../src/accounts/accounts.ts';
import { type Accounts } from '../../src/accounts/contract.ts';
import { createPasswords } from '../../src/accounts/passwords.ts';
import { systemClock } from '../../src/clock.ts';
import { type RunningServer, TOKEN, portsOfTest, post, startServer } from '../operator/rooms-of-test.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';
import { type Ran, runCli } from './run-cli.ts';

let folder: string;
let database: TestDatabase;
let accounts: Accounts;
let server: RunningServer;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-users-'));
  database = await createTestDatabase();
  accounts = createAccounts({
    store: database.openStore({ serverName: 'ours' }),
    clock: systemClock,
    passwords: createPasswords({ ln: 1, r: 1, p: 1 }),
    accessTokenMs: 300_000,
    devicesMax: 1_000,
  });
  server = await startServer(portsOfTest({ users: accounts }));
});
afterEach(async () => {
  await server.close();
  await database.drop();
  rmSync(folder, { recursive: true });
});

const users = (...args: string[]): Promise<Ran> =>
  runCli(['users', ...args], { cwd: folder, env: { REJOINDER_URL: server.url, REJOINDER_OPERATOR_TOKEN: TOKEN } });
const logIn = (name: string, password: string) =>
  accounts.logIn(name, password, { refreshable: false, address: '192.0.2.1' });

describe('users', () => {
  test('are made with a password that is printed once, or with one from a file', async () => {
    const { code, stdout } = await users('create', 'alice');
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^@alice:ours can log in\n {2}password {2}\S{20}\n$/)]);
    const [, printed = ''] = /password {2}(\S+)/.exec(stdout) ?? [];
    expect(await logIn('alice', printed)).toMatchObject({ userId: '@alice:ours' });
    writeFileSync(join(folder, 'password'), 'correct horse\n');
    const made = await users('create', '@bob:ours', '--admin', '--password-file', join(folder, 'password'), '--json');
    expect(JSON.parse(made.stdout)).toEqual({ user_id: '@bob:ours' });
    expect(await logIn('bob', 'correct horse')).toMatchObject({ userId: '@bob:ours' });
    const { stdout: list } = await users('list');
    expect(list).toMatch(/^USER +ROLE +CREATED +DEACTIVATED\n@alice:ours +\d{4}-.*\n@bob:ours +admin +\d{4}-.*\n$/);
  });

  test('get another password, and are logged out everywhere', async () => {
    await users('create', 'alice');
    const { stdout } = await users('reset-password', 'alice', '--json');
    const { password } = JSON.parse(stdout) as { password: string };
    const { accessToken } = await logIn('alice', password);
    writeFileSync(join(folder, 'password'), 'correct horse');
    const reset = await users('reset-password', '@alice:ours', '--password-file', join(folder, 'password'));
    expect(reset.stdout).toBe('@alice:ours is logged out everywhere and has another password\n');
    await expect(accounts.authenticate(accessToken, '192.0.2.1')).rejects.toMatchObject({ kind: 'unknown-token' });
    await expect(logIn('alice', password)).rejects.toMatchObject({ kind: 'forbidden' });
    expect(await logIn('alice', 'correct horse')).toMatchObject({ userId: '@alice:ours' });
  });

  test('are deactivated for good', async () => {
    await users('create', 'alice');
    expect(await users('deactivate', 'alice')).toMatchObject({ code: 0 });
    expect(await users('create', 'alice')).toMatchObject({ code: 2, stderr: expect.stringContaining('is taken') });
    expect(await users('deactivate', 'alice')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('M_NOT_FOUND'),
    });
    const [line] = (await users('list', '--json')).stdout.trimEnd().split('\n');
    expect(JSON.parse(line ?? '')).toMatchObject({ user_id: '@alice:ours', deactivated_at: expect.any(String) });
  });

  test('that cannot be are refused with the reason', async () => {
    expect((await users('list')).stdout).toBe('No users. Make one: rejoinder users create NAME\n');
    expect((await users('create', 'Alice')).stderr).toContain('a name is made of');
    expect((await users('create', '@a:elsewhere')).stderr).toContain('a name is made of');
    expect((await users('deactivate', '@a:elsewhere')).stderr).toContain('expected a user of ours');
    writeFileSync(join(folder, 'password'), '1');
    expect((await users('create', 'a', '--password-file', join(folder, 'password'))).stderr).toContain('at least 6');
    expect((await users('create', 'a', '--password-file', join(folder, 'none'))).stderr).toContain('cannot be read');
    for (const body of [
      { name: 5, password: 'correct horse' },
      { name: 'a' },
      { name: 'a', password: 'x', more: 1 },
      '[]',
    ]) {
      expect((await post(server, '/users', body)).body).toMatchObject({ errcode: 'M_INVALID_PARAM' });
    }
  });

  test('are listed a thousand at a time, each once', async () => {
    const store = database.openStore({ serverName: 'ours' });
    await store.query(
      `INSERT INTO users (user_id, is_admin, created_at) SELECT '@u' || n || ':ours', false, 0 FROM generate_series(1, 2500) n`,
    );
    const lines = (await users('list', '--json')).stdout.trimEnd().split('\n');
    expect(new Set(lines.map((line) => (JSON.parse(line) as { user_id: string }).user_id)).size).toBe(2500);
    expect(lines).toHaveLength(2500);
  });
});

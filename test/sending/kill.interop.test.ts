/** A `rejoinder serve` that is killed while another server has its transaction. Needs the build (`npm run build`). */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, inject, onTestFinished, test, vi } from 'vitest';
import { createAccounts } from '../../src/accounts/accounts.ts';
import { createPasswords } from '../../src/accounts/passwords.ts';
import { systemClock } from '../../src/clock.ts';
import { type Child, startChild } from '../../src/launch/child.ts';
import { freePort } from '../../src/launch/ports.ts';
import { startTlsServer, testAuthority } from '../federation/tls-server.ts';
import { PartialRoom, member } from '../rooms/resync/partial-room.ts';
import { createTestDatabase } from '../support/postgres.ts';

const BINARY = fileURLToPath(new URL('../../bin/rejoinder.js', import.meta.url));
const SOON = { timeout: 60_000, interval: 50 };

test('a transaction that a process was killed over is sent by another under the same id, and once more only', async () => {
  const database = await createTestDatabase();
  onTestFinished(() => database.drop());
  const store = database.openStore();
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-kill-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const answers: ServerResponse[] = [];
  const remote = await startTlsServer((_request, response) => void answers.push(response));

  const room = new PartialRoom(store);
  await room.join();
  await room.push(
    member('remote', '@user:remote.test', 'join', { prev: ['join'], auth: ['create', 'power', 'rules'] }),
  );
  const passwords = createPasswords({ ln: 1, r: 1, p: 1 });
  const accounts = createAccounts({ store, clock: systemClock, passwords, accessTokenMs: 300_000, devicesMax: 1_000 });
  const userId = await accounts.createUser({ name: 'me', password: 'correct horse', isAdmin: false });
  const session = { deviceId: 'DEVICE', refreshable: false, address: '192.0.2.1' };
  const { accessToken } = await accounts.startSession(userId, session);

  const authorityFile = join(folder, 'authority.pem');
  await writeFile(authorityFile, (await testAuthority()).certificatePem);
  const port = await freePort();
  const settings = {
    server_name: 'here.test',
    data_directory: folder,
    listeners: {
      federation: { host: '127.0.0.1', port: 0 },
      client: { host: '127.0.0.1', port },
      operator: { host: '127.0.0.1', port: 0 },
    },
    operator: { token: randomBytes(24).toString('hex') },
    database: { url: database.url, pool_size: 5 },
    temporal: {
      address: inject('temporalAddress'),
      namespace: inject('temporalNamespace'),
      task_queue: `kill-${randomBytes(6).toString('hex')}`,
    },
    trusted_key_servers: [],
    federation: {
      custom_ca_path: authorityFile,
      allowed_ip_ranges: ['127.0.0.0/8'],
      static_addresses: { 'remote.test': `127.0.0.1:${remote.port}` },
    },
  };
  const configFile = join(folder, 'rejoinder.yaml');
  // JSON is YAML.
  await writeFile(configFile, JSON.stringify(settings));
  const serve = async (stopSignal: 'KILL' | 'TERM'): Promise<Child> => {
    const logFile = join(folder, `${stopSignal}.log`);
    const child = await startChild({
      ...{ name: 'rejoinder serve', command: process.execPath, args: [BINARY, '--config', configFile, 'serve'] },
      ...{ env: { PATH: process.env['PATH'], HOME: folder }, logFile, stopSignal, cwd: folder },
    });
    onTestFinished(() => child.stop());
    await child.waitUntil(async () => (await readFile(logFile, 'utf8')).includes('"msg":"serving"'), SOON.timeout);
    return child;
  };

  const first = await serve('KILL');
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room.roomId)}/send/m.room.message/one`;
  const sent = await fetch(`http://127.0.0.1:${port}${path}`, {
    ...{ method: 'PUT', body: JSON.stringify({ msgtype: 'm.text', body: 'said before the kill' }) },
    headers: { authorization: `Bearer ${accessToken}` },
  });
  expect(sent.status).toBe(200);
  await vi.waitFor(() => expect(answers).toHaveLength(1), SOON);
  await first.stop();
  expect(await first.ended).toBe('exited with 137');

  // Its lease goes on for minutes by PostgreSQL's clock, which the test does not wait for.
  await store.query(`UPDATE deliveries SET leased_until = 0 WHERE server_name = 'remote.test'`);
  await serve('TERM');
  await vi.waitFor(() => expect(answers).toHaveLength(2), SOON);
  const [before, again] = remote.received;
  expect(before?.url).toMatch(/^\/_matrix\/federation\/v1\/send\/[^/]+$/);
  expect(again).toMatchObject({ method: 'PUT', url: before?.url });
  const pdusOf = (body = '{}'): unknown => (JSON.parse(body) as { pdus: unknown }).pdus;
  expect(pdusOf(again?.body)).toEqual(pdusOf(before?.body));
  expect(JSON.stringify(pdusOf(again?.body))).toContain('said before the kill');
  answers[1]?.writeHead(200, { 'content-type': 'application/json' }).end('{"pdus":{}}');
  await vi.waitFor(
    async () =>
      expect(await store.query(`SELECT txn_id FROM deliveries WHERE server_name = 'remote.test'`)).toEqual([
        { txn_id: null },
      ]),
    SOON,
  );
  expect(answers).toHaveLength(2);
}, 150_000);

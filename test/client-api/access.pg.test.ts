import { expect, onTestFinished, test } from 'vitest';
import { OPEN_ENDPOINTS, USER_ENDPOINTS } from '../../src/client-api/server.ts';
import { startPurging } from '../../src/rooms/purge/purges.ts';
import { openTestStore } from '../support/postgres.ts';
import { TestClock, roomsContextOf, startClientApi } from './client.ts';

const { store } = await openTestStore();

const PLACES: Readonly<Record<string, string>> = {
  receiptType: 'm.read',
  userId: '@victim:here.test',
  roomId: '!victim:elsewhere.test',
  roomIdOrAlias: '!victim:elsewhere.test',
  eventId: '$victim:elsewhere.test',
  roomAlias: '%23victim:here.test',
  kind: 'override',
};

/** A path with something in each place. */
const filled = (path: string): string =>
  path.replace(/:(\w+)/g, (_, name: string) => PLACES[name] ?? 'VICTIM') +
  (/\/(messages|timestamp_to_event)$/.test(path) ? '?dir=b&ts=1' : '');

test('every endpoint for users refuses who shows no token, or one that is not known, whatever he sends', async () => {
  const client = await startClientApi(store);
  expect(USER_ENDPOINTS.length).toBeGreaterThan(20);
  for (const { method, path } of USER_ENDPOINTS) {
    const body = method === 'GET' ? undefined : '{"no": JSON';
    const none = await client.ask(method, filled(path), body);
    expect([path, none.status, none.body['errcode']]).toEqual([path, 401, 'M_MISSING_TOKEN']);
    const bad = await client.ask(method, filled(path), body, 'a-token-that-nobody-has');
    expect([path, bad.status, bad.body['errcode']]).toEqual([path, 401, 'M_UNKNOWN_TOKEN']);
    const scheme = await client.ask(method, filled(path), body, undefined, { authorization: 'Basic YTpi' });
    expect([path, scheme.status]).toEqual([path, 401]);
  }
});

test("no endpoint lets a user or an administrator at what is another user's", async () => {
  const purges = startPurging(roomsContextOf(store, new TestClock()));
  onTestFinished(() => purges.close());
  const client = await startClientApi(store, { purges });
  const victim = await client.user('victim', { deviceId: 'VICTIM' });
  const look = async (): Promise<unknown> => [
    await store.query(`SELECT * FROM users WHERE user_id = '@victim:here.test'`),
    await store.query(`SELECT device_id, display_name FROM devices WHERE user_id = '@victim:here.test'`),
    await store.query(`SELECT access_hash FROM sessions WHERE user_id = '@victim:here.test'`),
  ];
  const before = await look();
  const body = {
    display_name: 'x',
    displayname: 'x',
    avatar_url: 'x',
    devices: ['VICTIM'],
    new_password: 'another one',
    actions: [],
    enabled: true,
    user_id: '@victim:here.test',
    new_version: '11',
    VICTIM: 'x',
    room_id: '!victim:elsewhere.test',
    auth: { type: 'm.login.password', password: 'correct horse' },
  };
  for (const { method, path } of USER_ENDPOINTS) {
    for (const isAdmin of [false, true]) {
      // Another one each time: some of these end him.
      const name =
        `other${USER_ENDPOINTS.findIndex((endpoint) => endpoint.path === path)}${method}${isAdmin}`.toLowerCase();
      const token = await client.user(name, { isAdmin });
      const { status } = await client.ask(method, filled(path), method === 'GET' ? undefined : body, token);
      // Push rules are the caller's, of whatever name, and so is what he sends to devices.
      const isOwn = /\/(pushrules|sendToDevice)\//.test(path);
      const isAboutVictim =
        path.includes(':') && (method !== 'DELETE' || /\/(rooms|profile|directory)\//.test(path)) && !isOwn;
      const isRefused = isAboutVictim || (path.startsWith('/_synapse/admin/') && !isAdmin);
      expect([method, path, isRefused ? [403, 404] : [200, 400, 404]]).toEqual([
        method,
        path,
        expect.arrayContaining([status]),
      ]);
    }
  }
  expect(await look()).toEqual(before);
  expect((await client.ask('GET', '/_matrix/client/v3/account/whoami', undefined, victim)).status).toBe(200);
});

test('every path refuses methods that it has not with 405, before anybody shows a token, and tells web pages that they may ask', async () => {
  const client = await startClientApi(store);
  const endpoints = [...OPEN_ENDPOINTS, ...USER_ENDPOINTS];
  for (const path of new Set(endpoints.map((endpoint) => endpoint.path))) {
    const served = new Set<string>(endpoints.filter((endpoint) => endpoint.path === path).map(({ method }) => method));
    for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH'].filter((name) => !served.has(name))) {
      const { status, body } = await client.ask(method, filled(path));
      expect([method, path, status, body['errcode']]).toEqual([method, path, 405, 'M_UNRECOGNIZED']);
    }
    const { status, headers } = await client.ask('OPTIONS', filled(path));
    expect([path, status, headers.get('access-control-allow-origin')]).toEqual([path, 204, '*']);
  }
});

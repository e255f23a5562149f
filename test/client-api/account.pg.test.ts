import { describe, expect, test } from 'vitest';
import { openTestStore } from '../support/postgres.ts';
import { PASSWORD, type TestClient, startClientApi } from './client.ts';

const { store } = await openTestStore();

const V3 = '/_matrix/client/v3';
const logIn = (client: TestClient, user: string, password: string) =>
  client.ask('POST', `${V3}/login`, { type: 'm.login.password', identifier: { type: 'm.id.user', user }, password });
const isKnown = async (client: TestClient, token: unknown) =>
  (await client.ask('GET', `${V3}/account/whoami`, undefined, String(token))).status === 200;
const auth = (password: string, user?: string) => ({
  type: 'm.login.password',
  password,
  ...(user === undefined ? {} : { identifier: { type: 'm.id.user', user } }),
});

describe('devices', () => {
  test('are listed, told, named and renamed, each user his own', async () => {
    const client = await startClientApi(store);
    const token = await client.user('amy', { deviceId: 'FRY' });
    await client.user('leela', { deviceId: 'FRY' });
    const device = { device_id: 'FRY', last_seen_ip: '192.0.2.1', last_seen_ts: client.clock.at };
    expect((await client.ask('GET', `${V3}/devices`, undefined, token)).body).toEqual({ devices: [device] });
    const name = 'a phone \u0000 with a NUL';
    expect((await client.ask('PUT', `${V3}/devices/FRY`, { display_name: name }, token)).body).toEqual({});
    const renamed = { ...device, display_name: name };
    expect((await client.ask('GET', `${V3}/devices/FRY`, undefined, token)).body).toEqual(renamed);
    // A client that has nothing to change says so.
    expect((await client.ask('PUT', `${V3}/devices/FRY`, {}, token)).status).toBe(200);
    expect((await client.ask('GET', `${V3}/devices/FRY`, undefined, token)).body).toEqual(renamed);
    expect(await store.query(`SELECT display_name FROM devices WHERE user_id = '@leela:here.test'`)).toEqual([
      { display_name: null },
    ]);
  });

  test.each(['OTHER', '%00', '%F0%9F%98%80', 'x'.repeat(300)])('that are not there are not found: %s', async (id) => {
    const client = await startClientApi(store);
    await client.user('zoidberg', { deviceId: 'OTHER' }).catch(() => undefined);
    const token = await client.user(`hermes${id.length}${id.charCodeAt(1)}`);
    for (const [method, body] of [
      ['GET', undefined],
      ['PUT', { display_name: 'x' }],
      ['PUT', {}],
    ] as const) {
      const answer = await client.ask(method, `${V3}/devices/${id}`, body, token);
      expect(answer).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
    }
  });

  test('are deleted by whoever knows the password, and only his own', async () => {
    const client = await startClientApi(store);
    const token = await client.user('kif', { deviceId: 'HERE' });
    const other = (await logIn(client, 'kif', PASSWORD)).body;
    const strangers = await client.user('zapp', { deviceId: 'HERE' });
    const path = `${V3}/devices/${String(other['device_id'])}`;
    const asked = await client.ask('DELETE', path, undefined, token);
    expect(asked).toMatchObject({ status: 401, body: { flows: [{ stages: ['m.login.password'] }] } });
    expect(asked.body).not.toHaveProperty('errcode');
    const { session } = asked.body;
    for (const wrong of [auth('wrong horse'), auth(PASSWORD, '@zapp:here.test'), auth(PASSWORD, 'zapp')]) {
      const refused = await client.ask('DELETE', path, { auth: { ...wrong, session } }, token);
      expect(refused).toMatchObject({ status: 401, body: { errcode: 'M_FORBIDDEN', session } });
      expect(refused.body).toHaveProperty('flows');
    }
    const unknown = await client.ask('DELETE', path, { auth: { type: 'm.login.dummy', session } }, token);
    expect(unknown).toMatchObject({ status: 401, body: { errcode: 'M_UNRECOGNIZED' } });
    expect(await isKnown(client, other['access_token'])).toBe(true);
    const deleted = await client.ask('DELETE', path, { auth: { ...auth(PASSWORD, '@kif:here.test'), session } }, token);
    expect([deleted.status, deleted.body]).toEqual([200, {}]);
    expect(await isKnown(client, other['access_token'])).toBe(false);
    // Several at once; what is not there is gone already.
    const devices = ['HERE', 'GONE', '\u0000'];
    const all = await client.ask('POST', `${V3}/delete_devices`, { devices, auth: auth(PASSWORD) }, token);
    expect(all.status).toBe(200);
    expect(await isKnown(client, token)).toBe(false);
    expect(await isKnown(client, strangers)).toBe(true);
  });

  test('a list of devices is a list of strings', async () => {
    const client = await startClientApi(store);
    const token = await client.user('nibbler');
    for (const devices of ['HERE', [1], [['HERE']], null, Array.from({ length: 1001 }, () => 'X')]) {
      const answer = await client.ask('POST', `${V3}/delete_devices`, { devices, auth: auth(PASSWORD) }, token);
      expect(answer).toMatchObject({ status: 400, body: { errcode: 'M_BAD_JSON' } });
    }
  });
});

describe('an account', () => {
  test('gets a new password by whoever knows the old one, and logs the other devices out', async () => {
    const client = await startClientApi(store);
    const token = await client.user('bender');
    const other = (await logIn(client, 'bender', PASSWORD)).body['access_token'];
    const change = (password: string, over: object = {}) =>
      client.ask('POST', `${V3}/account/password`, { new_password: password, ...over }, token);
    expect((await change('shiny metal')).status).toBe(401);
    expect((await change('tiny', { auth: auth(PASSWORD) })).body).toMatchObject({ errcode: 'M_WEAK_PASSWORD' });
    expect((await change('shiny metal', { auth: auth(PASSWORD), logout_devices: false })).status).toBe(200);
    expect(await isKnown(client, other)).toBe(true);
    expect((await change('shinier metal', { auth: auth('shiny metal') })).status).toBe(200);
    expect([await isKnown(client, token), await isKnown(client, other)]).toEqual([true, false]);
    expect((await logIn(client, 'bender', PASSWORD)).status).toBe(403);
    expect((await logIn(client, 'bender', 'shinier metal')).status).toBe(200);
  });

  test('is closed for good by whoever knows the password, and nobody gets its name', async () => {
    const client = await startClientApi(store);
    const token = await client.user('calculon');
    await client.ask('PUT', `${V3}/profile/@calculon:here.test/displayname`, { displayname: 'C' }, token);
    expect((await client.ask('POST', `${V3}/account/deactivate`, {}, token)).status).toBe(401);
    const closed = await client.ask('POST', `${V3}/account/deactivate`, { auth: auth(PASSWORD) }, token);
    expect(closed).toMatchObject({ status: 200, body: { id_server_unbind_result: 'no-support' } });
    expect(await isKnown(client, token)).toBe(false);
    expect((await logIn(client, 'calculon', PASSWORD)).status).toBe(403);
    expect((await client.ask('GET', `${V3}/profile/@calculon:here.test`)).status).toBe(404);
    const again = { username: 'calculon', password: PASSWORD, auth: { type: 'm.login.dummy' } };
    expect((await client.ask('POST', `${V3}/register`, again)).body).toMatchObject({ errcode: 'M_USER_IN_USE' });
  });

  test('that is closed while somebody logs in has no session left', async () => {
    const client = await startClientApi(store);
    const token = await client.user('roberto');
    await Promise.all([
      ...Array.from({ length: 5 }, () => logIn(client, 'roberto', PASSWORD)),
      client.ask('POST', `${V3}/account/deactivate`, { auth: auth(PASSWORD) }, token),
    ]);
    expect(await store.query(`SELECT FROM sessions WHERE user_id = '@roberto:here.test'`)).toEqual([]);
  });

  test('learns what this server can do, and the room version it proposes', async () => {
    const client = await startClientApi(store, { defaultRoomVersion: '10' });
    const token = await client.user('farnsworth');
    const { body } = await client.ask('GET', `${V3}/capabilities`, undefined, token);
    expect(body).toMatchObject({
      capabilities: {
        'm.room_versions': { default: '10', available: expect.objectContaining({ 1: 'stable', 12: 'stable' }) },
        'm.change_password': { enabled: true },
        'm.3pid_changes': { enabled: false },
      },
    });
  });
});

describe('a profile', () => {
  test('is what its user says, for anybody to read; an empty name is none', async () => {
    const client = await startClientApi(store);
    const token = await client.user('scruffy');
    const path = `${V3}/profile/@scruffy:here.test`;
    expect((await client.ask('GET', path)).body).toEqual({});
    const name = 'Scruffy \u0000 😀';
    expect((await client.ask('PUT', `${path}/displayname`, { displayname: name }, token)).body).toEqual({});
    await client.ask('PUT', `${path}/avatar_url`, { avatar_url: 'mxc://here.test/a' }, token);
    expect((await client.ask('GET', path)).body).toEqual({ displayname: name, avatar_url: 'mxc://here.test/a' });
    expect((await client.ask('GET', `${path}/avatar_url`)).body).toEqual({ avatar_url: 'mxc://here.test/a' });
    await client.ask('PUT', `${path}/displayname`, { displayname: '' }, token);
    expect((await client.ask('GET', `${path}/displayname`)).body).toEqual({});
  });

  test('of somebody else is not to be changed, and of nobody not known', async () => {
    const client = await startClientApi(store);
    const token = await client.user('hattie', { isAdmin: true });
    await client.user('scruffy2');
    const path = `${V3}/profile/@scruffy2:here.test/displayname`;
    const refused = await client.ask('PUT', path, { displayname: 'x' }, token);
    expect(refused).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
    expect(await client.ask('GET', `${V3}/profile/@nobody:here.test`)).toMatchObject({
      status: 404,
      body: { errcode: 'M_NOT_FOUND' },
    });
    expect((await client.ask('GET', `${V3}/profile/rubbish`)).body).toMatchObject({ errcode: 'M_INVALID_PARAM' });
  });

  test.each([
    ['a number', { displayname: 5 }, 'M_BAD_JSON'],
    ['nothing', {}, 'M_MISSING_PARAM'],
    ['more than a thousand bytes', { displayname: 'ü'.repeat(501) }, 'M_INVALID_PARAM'],
    ['a lone surrogate', '{"displayname": "\\ud800"}', 'M_BAD_JSON'],
    ['one member twice', '{"displayname": "a", "displayname": "b"}', 'M_BAD_JSON'],
    ['no JSON', '{"displayname": ', 'M_NOT_JSON'],
    ['a list', '[]', 'M_BAD_JSON'],
    ['bytes that are no UTF-8', Buffer.from('{"displayname": "\xff"}', 'latin1'), 'M_NOT_JSON'],
    ['no body', undefined, 'M_NOT_JSON'],
    ['a body a hundred thousand deep', `{"displayname": ${'['.repeat(1e5)}${']'.repeat(1e5)}}`, 'M_BAD_JSON'],
  ])('is not changed by %s', async (_what, body, errcode) => {
    const client = await startClientApi(store);
    await client.user('linda').catch(() => undefined);
    const token = (await logIn(client, 'linda', PASSWORD)).body['access_token'];
    const path = `${V3}/profile/@linda:here.test`;
    const answer = await client.ask('PUT', `${path}/displayname`, body, String(token));
    expect(answer).toMatchObject({ status: 400, body: { errcode } });
    expect((await client.ask('GET', path)).body).toEqual({});
  });
});

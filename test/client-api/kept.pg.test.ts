import { describe, expect, test } from 'vitest';
import { readKeyCounts } from '../../src/store/tables/device-keys.ts';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { openTestStore } from '../support/postgres.ts';
import { PASSWORD, startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const GET_TOKEN = '/_matrix/client/v1/login/get_token';

const { store } = await openTestStore();

describe('a filter', () => {
  test('is kept under an id that is the same for the same filter, and given back', async () => {
    const client = await startClientApi(store);
    const token = await client.user('fry');
    const path = `${V3}/user/@fry:here.test/filter`;
    const keep = async (filter: unknown) => (await client.ask('POST', path, filter, token)).body['filter_id'];
    const first = await keep({ room: { timeline: { limit: 5 } }, event_fields: ['\u0000', '😀'] });
    expect(first).toMatch(/^[\w-]+$/);
    expect(await keep('{ "event_fields" : ["\\u0000", "😀"], "room": {"timeline": {"limit": 5} } }')).toBe(first);
    const other = await keep({ room: { timeline: { limit: 6 } } });
    expect(other).not.toBe(first);
    const got = await client.ask('GET', `${path}/${String(first)}`, undefined, token);
    expect(got).toMatchObject({
      status: 200,
      body: { room: { timeline: { limit: 5 } }, event_fields: ['\u0000', '😀'] },
    });
    expect(await store.query(`SELECT FROM filters WHERE user_id = '@fry:here.test'`)).toHaveLength(2);
  });

  test('of another user is forbidden, and one that is not there is not found', async () => {
    const client = await startClientApi(store);
    const [leela, zapp] = [await client.user('leela'), await client.user('zapp')];
    const path = `${V3}/user/@leela:here.test/filter`;
    const id = String((await client.ask('POST', path, {}, leela)).body['filter_id']);
    for (const [method, url] of [
      ['GET', `${path}/${id}`],
      ['POST', path],
    ] as const) {
      const answer = await client.ask(method, url, method === 'GET' ? undefined : {}, zapp);
      expect(answer).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
    }
    for (const unknown of ['nothing', '%00', '0']) {
      const answer = await client.ask('GET', `${path}/${unknown}`, undefined, leela);
      expect(answer).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
    }
    const ofZapp = `${V3}/user/@zapp:here.test/filter/${id}`;
    expect((await client.ask('GET', ofZapp, undefined, zapp)).status).toBe(404);
  });

  test.each([
    ['no JSON', '{', 400, 'M_NOT_JSON'],
    ['a list', [], 400, 'M_BAD_JSON'],
    ['a lone surrogate', '{"a": "\\udc00"}', 400, 'M_BAD_JSON'],
    ['more than 64 KiB', { not_rooms: Array(70).fill('x'.repeat(1000)) }, 400, 'M_INVALID_PARAM'],
    ['ten megabytes', { not_rooms: ['x'.repeat(10 * 1024 * 1024)] }, 413, 'M_TOO_LARGE'],
    ['lists a hundred thousand deep', `{"a": ${'['.repeat(1e5)}${']'.repeat(1e5)}}`, 400, 'M_BAD_JSON'],
  ])('that is %s is refused, and nothing is kept', async (what, filter, status, errcode) => {
    const client = await startClientApi(store);
    const name = `u${what.replace(/\W/g, '')}`.toLowerCase();
    const token = await client.user(name);
    const answer = await client.ask('POST', `${V3}/user/@${name}:here.test/filter`, filter, token);
    expect(answer).toMatchObject({ status, body: { errcode } });
    expect(await store.query(`SELECT FROM filters WHERE user_id = $1`, [`@${name}:here.test`])).toEqual([]);
  });

  test('is refused where its user has a thousand others, and one of these is still given', async () => {
    const client = await startClientApi(store);
    const token = await client.user('mom');
    const path = `${V3}/user/@mom:here.test/filter`;
    const { body } = await client.ask('POST', path, {}, token);
    await store.query(
      `INSERT INTO filters SELECT '@mom:here.test', 'other' || i, '{}', 0 FROM generate_series(1, 999) AS i`,
    );
    expect(await client.ask('POST', path, { room: {} }, token)).toMatchObject({
      status: 429,
      body: { errcode: 'M_LIMIT_EXCEEDED' },
    });
    expect(await client.ask('POST', path, {}, token)).toMatchObject({ status: 200, body });
  });
});

describe('a login token', () => {
  const auth = { type: 'm.login.password', password: PASSWORD };

  test('is given to whoever knows the password once more, and logs one more device in, once', async () => {
    const client = await startClientApi(store);
    const token = await client.user('amy');
    const flows = (await client.ask('GET', `${V3}/login`)).body['flows'];
    expect(flows).toContainEqual({ type: 'm.login.token', get_login_token: true });
    expect((await client.ask('POST', GET_TOKEN, {}, token)).status).toBe(401);
    const given = await client.ask('POST', GET_TOKEN, { auth }, token);
    expect(given.body).toEqual({ login_token: expect.any(String), expires_in_ms: 120_000 });
    const login = { type: 'm.login.token', token: given.body['login_token'] };
    const logged = await client.ask('POST', `${V3}/login`, login);
    expect(logged).toMatchObject({ status: 200, body: { user_id: '@amy:here.test' } });
    const { body } = await client.ask('GET', `${V3}/account/whoami`, undefined, String(logged.body['access_token']));
    expect(body).toMatchObject({ user_id: '@amy:here.test', device_id: logged.body['device_id'] });
    const again = await client.ask('POST', `${V3}/login`, login);
    expect(again).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
  });

  test('is good for one of two who use it at the same time', async () => {
    const client = await startClientApi(store);
    const token = await client.user('kif');
    const { body } = await client.ask('POST', GET_TOKEN, { auth }, token);
    const login = { type: 'm.login.token', token: body['login_token'] };
    const answers = await Promise.all([1, 2].map(() => client.ask('POST', `${V3}/login`, login)));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 403]);
  });

  test.each([
    ['after two minutes', 120_000, undefined],
    ['after the password was changed', 0, '/account/password'],
    ['after the account was closed', 0, '/account/deactivate'],
  ])('is good for nothing %s', async (when, laterMs, path) => {
    const client = await startClientApi(store);
    const name = `user${when.replace(/\W/g, '')}`;
    const token = await client.user(name);
    const { body } = await client.ask('POST', GET_TOKEN, { auth }, token);
    client.clock.at += laterMs;
    if (path !== undefined) {
      const change = { auth, new_password: 'another one', logout_devices: false };
      expect((await client.ask('POST', `${V3}${path}`, change, token)).status).toBe(200);
    }
    const login = { type: 'm.login.token', token: body['login_token'] };
    expect((await client.ask('POST', `${V3}/login`, login)).status).toBe(403);
  });

  test.each([
    ['nobody gave', { token: 'rj_login_nothing' }, 403, 'M_FORBIDDEN'],
    ['is not there', {}, 400, 'M_MISSING_PARAM'],
    ['is a number', { token: 5 }, 400, 'M_BAD_JSON'],
    ['holds NUL', { token: '\u0000' }, 403, 'M_FORBIDDEN'],
  ])('that %s logs nobody in', async (_what, over, status, errcode) => {
    const client = await startClientApi(store);
    const answer = await client.ask('POST', `${V3}/login`, { type: 'm.login.token', ...over });
    expect(answer).toMatchObject({ status, body: { errcode } });
  });
});

describe('keys of a device', () => {
  const signed = (key: string, over: object = {}) => ({
    key,
    signatures: { '@hermes:here.test': { 'ed25519:LIMBO': 'c2lnbmF0dXJl' } },
    ...over,
  });
  const identity = (userId: string, deviceId: string) => ({
    user_id: userId,
    device_id: deviceId,
    algorithms: ['m.olm.v1.curve25519-aes-sha2', 'm.megolm.v1.aes-sha2'],
    keys: { [`curve25519:${deviceId}`]: 'abc', [`ed25519:${deviceId}`]: 'def' },
    signatures: { [userId]: { [`ed25519:${deviceId}`]: 'ghi' } },
  });

  test('are kept, and one-time keys are counted by their algorithms', async () => {
    const client = await startClientApi(store);
    const token = await client.user('hermes', { deviceId: 'LIMBO' });
    const upload = (body: unknown) => client.ask('POST', `${V3}/keys/upload`, body, token);
    expect((await upload({})).body).toEqual({ one_time_key_counts: {} });
    const keys = {
      'curve25519:A': 'one',
      'signed_curve25519:A': signed('two'),
      'signed_curve25519:B': signed('three'),
    };
    const all = await upload({
      device_keys: identity('@hermes:here.test', 'LIMBO'),
      one_time_keys: keys,
      fallback_keys: { 'signed_curve25519:F': signed('four', { fallback: true }) },
    });
    const counts = { one_time_key_counts: { curve25519: 1, signed_curve25519: 2 } };
    expect(all).toMatchObject({ status: 200, body: counts });
    // A client that did not hear the answer sends them again.
    expect(await upload({ one_time_keys: keys })).toMatchObject({ status: 200, body: counts });
    expect(await readKeyCounts(store, { userId: '@hermes:here.test' as UserId, deviceId: 'LIMBO' })).toEqual({
      oneTimeKeys: { curve25519: 1, signed_curve25519: 2 },
      unusedFallbackKeys: ['signed_curve25519'],
    });
  });

  test('that were uploaded with another content are refused, with all that came with them', async () => {
    const client = await startClientApi(store);
    const token = await client.user('dwight', { deviceId: 'D' });
    const upload = (body: unknown) => client.ask('POST', `${V3}/keys/upload`, body, token);
    await upload({ one_time_keys: { 'curve25519:A': 'one' } });
    const refused = await upload({ one_time_keys: { 'curve25519:B': 'two', 'curve25519:A': 'another' } });
    expect(refused).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
    expect((await upload({})).body).toEqual({ one_time_key_counts: { curve25519: 1 } });
  });

  test('go with their device', async () => {
    const client = await startClientApi(store);
    const token = await client.user('labarbara', { deviceId: 'L' });
    const body = {
      device_keys: identity('@labarbara:here.test', 'L'),
      one_time_keys: { 'curve25519:A': 'one' },
      fallback_keys: { 'curve25519:F': 'two' },
    };
    expect((await client.ask('POST', `${V3}/keys/upload`, body, token)).status).toBe(200);
    await client.ask('POST', `${V3}/logout`, {}, token);
    for (const table of ['device_keys', 'one_time_keys', 'fallback_keys']) {
      expect(await store.query(`SELECT FROM ${table} WHERE user_id = '@labarbara:here.test'`)).toEqual([]);
    }
  });

  test.each([
    ['of another device', { device_keys: identity('@barbados:here.test', 'OTHER') }],
    ['of another user', { device_keys: identity('@victim:here.test', 'SLIM') }],
    ['without keys', { device_keys: { ...identity('@barbados:here.test', 'SLIM'), keys: {} } }],
    ['signed by a number', { device_keys: { ...identity('@barbados:here.test', 'SLIM'), signatures: 5 } }],
    ['without an algorithm', { one_time_keys: { A: 'one' } }],
    ['called by NUL', { one_time_keys: { 'curve25519:\u0000': 'one' } }],
    ['that are numbers', { one_time_keys: { 'curve25519:A': 5 } }],
    ['without a signature', { one_time_keys: { 'signed_curve25519:A': { key: 'one' } } }],
    ['two of which are the fallback', { fallback_keys: { 'curve25519:A': 'one', 'curve25519:B': 'two' } }],
    [
      'a thousand and one',
      { one_time_keys: Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`c:${i}`, 'k'])) },
    ],
    ['in a list', { one_time_keys: [] }],
  ])('%s are refused, and nothing is kept', async (_what, body) => {
    const client = await startClientApi(store);
    await client.user('barbados').catch(() => undefined);
    const login = { type: 'm.login.password', user: 'barbados', password: PASSWORD, device_id: 'SLIM' };
    const token = String((await client.ask('POST', `${V3}/login`, login)).body['access_token']);
    expect((await client.ask('POST', `${V3}/keys/upload`, body, token)).status).toBe(400);
    for (const table of ['device_keys', 'one_time_keys', 'fallback_keys']) {
      expect(await store.query(`SELECT FROM ${table} WHERE user_id = '@barbados:here.test'`)).toEqual([]);
    }
  });
});

test('whoever is in no room is told of none', async () => {
  const client = await startClientApi(store);
  const { body } = await client.ask('GET', `${V3}/joined_rooms`, undefined, await client.user('nobody'));
  expect(body).toEqual({ joined_rooms: [] });
});

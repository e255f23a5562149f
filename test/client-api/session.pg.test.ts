import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { openTestStore } from '../support/postgres.ts';
import { PASSWORD, SECRET, type TestClient, startClientApi } from './client.ts';

const { store } = await openTestStore();

const dummy = { type: 'm.login.dummy' };
const whoami = (client: TestClient, token: unknown) =>
  client.ask('GET', '/_matrix/client/v3/account/whoami', undefined, String(token));
const logIn = (client: TestClient, user: string, over: object = {}) =>
  client.ask('POST', '/_matrix/client/v3/login', {
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user },
    password: PASSWORD,
    ...over,
  });

describe('registering', () => {
  test.each(['r0', 'v3'])('in one stage, under %s, gives a token that opens the door', async (form) => {
    const client = await startClientApi(store);
    const path = `/_matrix/client/${form}/register`;
    const name = `newcomer-${form}`;
    const asked = await client.ask('POST', path, { username: name, password: 's3kr1t' });
    expect(asked.status).toBe(401);
    expect(asked.body).toMatchObject({
      flows: [{ stages: ['m.login.dummy'] }],
      params: {},
      session: expect.any(String),
    });
    expect(asked.body).not.toHaveProperty('errcode');
    const auth = { ...dummy, session: asked.body['session'] };
    const made = await client.ask('POST', path, { username: name, password: 's3kr1t', auth });
    expect(made.status).toBe(200);
    expect(made.body).toMatchObject({ user_id: `@${name}:here.test`, device_id: expect.stringMatching(/^[A-Z]{10}$/) });
    expect((await whoami(client, made.body['access_token'])).body).toEqual({
      user_id: `@${name}:here.test`,
      device_id: made.body['device_id'],
      is_guest: false,
    });
  });

  test('without a name gives one, and without a login no token', async () => {
    const client = await startClientApi(store);
    const body = { password: 's3kr1t', auth: dummy, inhibit_login: true };
    const { status, body: answer } = await client.ask('POST', '/_matrix/client/v3/register', body);
    expect(status).toBe(200);
    expect(answer).toEqual({ user_id: expect.stringMatching(/^@[a-z]{16}:here\.test$/), home_server: 'here.test' });
  });

  test('a name that is taken is refused before anything else is asked, and told when asked for', async () => {
    const client = await startClientApi(store);
    await client.user('taken');
    const answer = await client.ask('POST', '/_matrix/client/v3/register', { username: 'taken', password: 's3kr1t' });
    expect(answer).toMatchObject({ status: 400, body: { errcode: 'M_USER_IN_USE' } });
    const available = (name: string) => client.ask('GET', `/_matrix/client/v3/register/available?username=${name}`);
    expect(await available('taken')).toMatchObject({ status: 400, body: { errcode: 'M_USER_IN_USE' } });
    expect(await available('free')).toMatchObject({ status: 200, body: { available: true } });
  });

  test('of two who ask for one name at once, one gets it', async () => {
    const client = await startClientApi(store);
    const body = { username: 'race', password: 's3kr1t', auth: dummy };
    const both = await Promise.all([1, 2].map(() => client.ask('POST', '/_matrix/client/v3/register', body)));
    expect(both.map(({ status }) => status).sort()).toEqual([200, 400]);
  });

  test('a name that has memberships without an account is for nobody but whoever runs the server', async () => {
    const client = await startClientApi(store);
    await store.query(
      `INSERT INTO local_members (room_id, user_id, membership, event_id) VALUES ('!r:x', '@bot:here.test', 'join', '$e')`,
    );
    const body = { username: 'bot', password: 's3kr1t', auth: dummy };
    const answer = await client.ask('POST', '/_matrix/client/v3/register', body);
    expect(answer).toMatchObject({ status: 400, body: { errcode: 'M_USER_IN_USE' } });
    expect((await whoami(client, await client.user('bot'))).body).toMatchObject({ user_id: '@bot:here.test' });
  });

  test.each([
    ['capitals', 'Alice'],
    ['a NUL', 'ali\u0000ce'],
    ['a colon', 'ali:ce'],
    ['nothing in it', ''],
    ['another server', '@alice:elsewhere.test'],
    ['more than 255 bytes', 'a'.repeat(250)],
  ])('a name with %s is refused', async (_what, username) => {
    const client = await startClientApi(store);
    const answer = await client.ask('POST', '/_matrix/client/v3/register', {
      username,
      password: 's3kr1t',
      auth: dummy,
    });
    expect(answer).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_USERNAME' } });
  });

  test('a password that is too short is refused', async () => {
    const client = await startClientApi(store);
    const answer = await client.ask('POST', '/_matrix/client/v3/register', {
      username: 'weak',
      password: 'a',
      auth: dummy,
    });
    expect(answer).toMatchObject({ status: 400, body: { errcode: 'M_WEAK_PASSWORD' } });
  });

  test('is refused where it is closed, and guests always', async () => {
    const client = await startClientApi(store, { isRegistrationOpen: false });
    const body = { username: 'late', password: 's3kr1t', auth: dummy };
    const closed = { status: 403, body: { errcode: 'M_FORBIDDEN' } };
    expect(await client.ask('POST', '/_matrix/client/v3/register', body)).toMatchObject(closed);
    expect(await client.ask('GET', '/_matrix/client/v3/register/available?username=late')).toMatchObject(closed);
    const guest = await client.ask('POST', '/_matrix/client/v3/register?kind=guest', {});
    expect(guest).toMatchObject({ status: 403, body: { errcode: 'M_GUEST_ACCESS_FORBIDDEN' } });
  });
});

describe('registering by a shared secret', () => {
  const path = '/_synapse/admin/v1/register';
  const mac = (...parts: string[]) => createHmac('sha1', SECRET).update(parts.join('\0')).digest('hex');
  const nonceOf = async (client: TestClient) => String((await client.ask('GET', path)).body['nonce']);

  test('makes a user or an administrator, whether registration is closed or not', async () => {
    const client = await startClientApi(store, { isRegistrationOpen: false });
    const nonce = await nonceOf(client);
    const body = {
      nonce,
      username: 'tool',
      password: 'a password',
      admin: true,
      mac: mac(nonce, 'tool', 'a password', 'admin'),
    };
    const { status, body: answer } = await client.ask('POST', path, body);
    expect([status, answer['user_id']]).toEqual([200, '@tool:here.test']);
    expect((await whoami(client, answer['access_token'])).status).toBe(200);
    expect(await store.query(`SELECT is_admin FROM users WHERE user_id = '@tool:here.test'`)).toEqual([
      { is_admin: true },
    ]);
    // The same request again registers nothing.
    expect(await client.ask('POST', path, body)).toMatchObject({ status: 400, body: { errcode: 'M_USER_IN_USE' } });
  });

  test('a signature by another secret, or of something else, is refused', async () => {
    const client = await startClientApi(store);
    const nonce = await nonceOf(client);
    const body = { nonce, username: 'liar', password: 'a password', admin: true };
    for (const wrong of [mac(nonce, 'liar', 'a password', 'notadmin'), 'ab', '']) {
      const answer = await client.ask('POST', path, { ...body, mac: wrong });
      expect(answer).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
    }
  });

  test('a nonce that is too old or not ours is refused', async () => {
    const client = await startClientApi(store);
    const old = await nonceOf(client);
    client.clock.at += 60_001;
    for (const nonce of [old, 'rubbish', `${client.clock.at + 1000}.abc.abc`]) {
      const body = {
        nonce,
        username: 'late',
        password: 'a password',
        mac: mac(nonce, 'late', 'a password', 'notadmin'),
      };
      expect(await client.ask('POST', path, body)).toMatchObject({ status: 400, body: { errcode: 'M_UNKNOWN' } });
    }
  });

  test('is not there without a secret', async () => {
    const client = await startClientApi(store, { secretRegistration: null });
    for (const method of ['GET', 'POST']) {
      const answer = await client.ask(method, path, method === 'GET' ? undefined : {});
      expect(answer).toMatchObject({ status: 404, body: { errcode: 'M_UNRECOGNIZED' } });
    }
  });
});

describe('logging in', () => {
  test('by local part, by whole id or by the old member, on a device of that name', async () => {
    const client = await startClientApi(store);
    await client.user('lisa');
    for (const over of [
      {},
      { identifier: { type: 'm.id.user', user: '@lisa:here.test' } },
      { identifier: undefined, user: 'lisa' },
    ]) {
      const { status, body } = await logIn(client, 'lisa', {
        device_id: 'LISA',
        initial_device_display_name: 'phone',
        ...over,
      });
      expect([status, body['user_id'], body['device_id']]).toEqual([200, '@lisa:here.test', 'LISA']);
      expect(body).not.toHaveProperty('refresh_token');
      expect((await whoami(client, body['access_token'])).status).toBe(200);
    }
  });

  test('tells which ways there are', async () => {
    const client = await startClientApi(store);
    expect((await client.ask('GET', '/_matrix/client/r0/login')).body).toEqual({
      flows: [
        { type: 'm.login.password' },
        { type: 'm.login.token', get_login_token: true },
        { type: 'm.login.application_service' },
      ],
    });
  });

  test('a wrong password and a name that is not there are refused by the same words', async () => {
    const client = await startClientApi(store);
    await client.user('marge');
    const wrong = await logIn(client, 'marge', { password: 'wrong horse' });
    expect(wrong).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
    for (const name of ['nobody', 'mar\u0000ge', '@marge:elsewhere.test', '']) {
      expect([name, (await logIn(client, name)).body]).toEqual([name, wrong.body]);
    }
  });

  test.each([
    ['another kind of login', { type: 'm.login.sso' }, 'M_UNKNOWN'],
    ['another kind of identifier', { identifier: { type: 'm.id.phone', phone: '1' } }, 'M_UNKNOWN'],
    ['no password', { password: undefined }, 'M_MISSING_PARAM'],
    ['a number for a password', { password: 5 }, 'M_BAD_JSON'],
    ['no user', { identifier: { type: 'm.id.user' } }, 'M_MISSING_PARAM'],
    ['no type', { type: undefined }, 'M_MISSING_PARAM'],
    ['a device id with a NUL', { device_id: 'a\u0000' }, 'M_INVALID_PARAM'],
    ['an empty device id', { device_id: '' }, 'M_INVALID_PARAM'],
    ['a device id that is too long', { device_id: 'x'.repeat(256) }, 'M_INVALID_PARAM'],
    ['a device name that is too long', { initial_device_display_name: 'x'.repeat(501) }, 'M_INVALID_PARAM'],
  ])('with %s is refused', async (_what, over, errcode) => {
    const client = await startClientApi(store);
    // Once, by the first of these.
    await client.user('bart').catch(() => undefined);
    expect(await logIn(client, 'bart', over)).toMatchObject({ status: 400, body: { errcode } });
  });

  test('on a device that is logged in ends what its old token opened', async () => {
    const client = await startClientApi(store);
    const old = await client.user('homer', { deviceId: 'SOFA' });
    const { body } = await logIn(client, 'homer', { device_id: 'SOFA' });
    expect(await whoami(client, old)).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNKNOWN_TOKEN', soft_logout: false },
    });
    expect((await whoami(client, body['access_token'])).status).toBe(200);
  });

  test('on more devices than a user may have is refused, until one is logged out; the others go on', async () => {
    const client = await startClientApi(store);
    await client.user('gatherer', { deviceId: 'FIRST' });
    await store.query(
      `INSERT INTO devices (user_id, device_id, display_name, created_at, last_seen_at, last_seen_address)
       SELECT '@gatherer:here.test', 'OLD' || n, NULL, 1, 1, NULL FROM generate_series(1, 998) AS n`,
    );
    // Of two who come at once for the last place one gets it.
    const both = await Promise.all(['ONE', 'TWO'].map((id) => logIn(client, 'gatherer', { device_id: id })));
    expect(both.map(({ status }) => status).sort()).toEqual([200, 403]);
    expect(both.find(({ status }) => status === 403)?.body).toMatchObject({ errcode: 'M_FORBIDDEN' });
    const again = await logIn(client, 'gatherer', { device_id: 'OLD5' });
    expect(again.status).toBe(200);
    expect((await logIn(client, 'gatherer')).status).toBe(403);
    await client.ask('POST', '/_matrix/client/v3/logout', {}, String(again.body['access_token']));
    expect((await logIn(client, 'gatherer')).status).toBe(200);
    expect(await store.query(`SELECT FROM devices WHERE user_id = '@gatherer:here.test'`)).toHaveLength(1_000);
  });

  test('is counted by address and by account, where there are limits', async () => {
    const limit = { perMinute: 60, burst: 2 };
    const byAccount = { loginByAddress: null, loginByAccount: limit, registration: null, sending: null, joining: null };
    const client = await startClientApi(store, { rateLimits: byAccount });
    await client.user('ned');
    for (const name of ['ned', '@ned:here.test']) {
      expect((await logIn(client, name, { password: 'x' })).status).toBe(403);
    }
    const refused = await logIn(client, 'ned');
    expect(refused).toMatchObject({ status: 429, body: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 1000 } });
    expect(refused.headers.get('retry-after')).toBe('1');
    client.clock.at += 1000;
    expect((await logIn(client, 'ned')).status).toBe(200);
    const byAddress = {
      loginByAddress: limit,
      loginByAccount: null,
      registration: limit,
      sending: null,
      joining: null,
    };
    const other = await startClientApi(store, { rateLimits: byAddress });
    for (const name of ['a', 'b']) expect((await logIn(other, name)).status).toBe(403);
    expect((await logIn(other, 'ned')).status).toBe(429);
  });

  test('no password and no token is kept or logged as it is', async () => {
    const client = await startClientApi(store);
    const token = await client.user('maggie');
    await whoami(client, token);
    await client.ask('GET', `/_matrix/client/v3/account/whoami?access_token=${token}`);
    const dump = JSON.stringify([
      await store.query('SELECT * FROM users'),
      await store.query(`SELECT encode(access_hash, 'escape'), encode(refresh_hash, 'escape'), s.* FROM sessions s`),
    ]);
    for (const secret of [PASSWORD, token]) {
      expect(dump).not.toContain(secret);
      expect(client.log.join('')).not.toContain(secret);
    }
  });
});

describe('a token', () => {
  test('may come in the query, as older clients send it; the header counts', async () => {
    const client = await startClientApi(store);
    const token = await client.user('abe');
    const path = `/_matrix/client/v3/account/whoami?access_token=${token}`;
    expect((await client.ask('GET', path)).status).toBe(200);
    expect((await client.ask('GET', path, undefined, 'other')).status).toBe(401);
  });

  test('that can be refreshed expires, softly, and the next one opens the door', async () => {
    const client = await startClientApi(store);
    await client.user('milhouse');
    const { body } = await logIn(client, 'milhouse', { refresh_token: true });
    expect(body['expires_in_ms']).toBe(300_000);
    client.clock.at += 300_000;
    const late = await whoami(client, body['access_token']);
    expect(late).toMatchObject({ status: 401, body: { errcode: 'M_UNKNOWN_TOKEN', soft_logout: true } });
    const next = await client.ask('POST', '/_matrix/client/v3/refresh', { refresh_token: body['refresh_token'] });
    expect(next.status).toBe(200);
    expect(await whoami(client, next.body['access_token'])).toMatchObject({
      status: 200,
      body: { user_id: '@milhouse:here.test', device_id: body['device_id'] },
    });
  });

  test('of an answer that got lost is asked for again; when the new one is used the old ones end', async () => {
    const client = await startClientApi(store);
    await client.user('nelson');
    const { body: first } = await logIn(client, 'nelson', { refresh_token: true });
    const refresh = (token: unknown) => client.ask('POST', '/_matrix/client/v3/refresh', { refresh_token: token });
    const { body: lost } = await refresh(first['refresh_token']);
    const { body: second } = await refresh(first['refresh_token']);
    // Nobody has it but a thief.
    expect((await whoami(client, lost['access_token'])).status).toBe(401);
    expect((await whoami(client, first['access_token'])).status).toBe(200);
    expect((await whoami(client, second['access_token'])).status).toBe(200);
    expect((await whoami(client, first['access_token'])).status).toBe(401);
    expect(await refresh(first['refresh_token'])).toMatchObject({ status: 401, body: { errcode: 'M_UNKNOWN_TOKEN' } });
    // Refreshing with the new refresh token is using it, too.
    const { body: third } = await refresh(second['refresh_token']);
    const { body: fourth } = await refresh(third['refresh_token']);
    expect((await whoami(client, second['access_token'])).status).toBe(401);
    expect((await whoami(client, fourth['access_token'])).status).toBe(200);
  });

  test('ends when its device is logged out, and with it its refresh token', async () => {
    const client = await startClientApi(store);
    await client.user('otto');
    const { body } = await logIn(client, 'otto', { refresh_token: true });
    const { body: other } = await logIn(client, 'otto');
    expect(
      (await client.ask('POST', '/_matrix/client/v3/logout', undefined, String(body['access_token']))).status,
    ).toBe(200);
    expect((await whoami(client, body['access_token'])).body).toMatchObject({ soft_logout: false });
    const refreshed = await client.ask('POST', '/_matrix/client/v3/refresh', { refresh_token: body['refresh_token'] });
    expect(refreshed.status).toBe(401);
    expect((await whoami(client, other['access_token'])).status).toBe(200);
    const all = await client.ask('POST', '/_matrix/client/v3/logout/all', {}, String(other['access_token']));
    expect(all.status).toBe(200);
    expect((await whoami(client, other['access_token'])).status).toBe(401);
    expect(await store.query(`SELECT FROM sessions WHERE user_id = '@otto:here.test'`)).toEqual([]);
  });

  test('costs one look at the database a request, and a note once a minute', async () => {
    const client = await startClientApi(store);
    const token = await client.user('patty');
    const before = await store.query(`SELECT last_seen_at FROM devices WHERE user_id = '@patty:here.test'`);
    client.clock.at += 59_999;
    await whoami(client, token);
    expect(await store.query(`SELECT last_seen_at FROM devices WHERE user_id = '@patty:here.test'`)).toEqual(before);
    client.clock.at += 1;
    await whoami(client, token);
    expect(
      await store.query(`SELECT last_seen_at, last_seen_address FROM devices WHERE user_id = '@patty:here.test'`),
    ).toEqual([{ last_seen_at: client.clock.at, last_seen_address: '127.0.0.1' }]);
  });
});

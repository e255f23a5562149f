import { createHmac } from 'node:crypto';
import { type AddressInfo, createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { createAppServices } from '../../src/app-services/app-services.ts';
import { createMatching } from '../../src/app-services/matching.ts';
import { createServiceClient } from '../../src/app-services/ask-service.ts';
import { providingAliases } from '../../src/app-services/provide-aliases.ts';
import { createDirectory } from '../../src/rooms/directory/directory.ts';
import { silent } from '../federation/tls-server.ts';
import { openTestStore } from '../support/postgres.ts';
import { type TestService, serviceOf, startTestService } from '../app-services/service-of-tests.ts';
import { type Answer, SECRET, SERVER_NAME, type TestClient, TestClock, startClientApi } from './client.ts';

const { store } = await openTestStore();

const V3 = '/_matrix/client/v3';
const AS = 'as-secret';
const GHOST = '@ghost_a:here.test';

interface Bridged extends TestClient {
  readonly remote: TestService;
  readonly retried: string[];
  /** Makes a user of the service. */
  ghost(name: string): Promise<Answer>;
}

/** A listener with a bridge, and a service that has reserved other names. */
async function startBridged(changes: Readonly<Record<string, unknown>> = {}, over: object = {}): Promise<Bridged> {
  const remote = await startTestService();
  const namespaces = {
    users: [{ exclusive: true, regex: '@ghost_.*:here\\.test' }],
    aliases: [{ exclusive: true, regex: '#bridged_.*:here\\.test' }],
  };
  const bridge = serviceOf(SERVER_NAME, { url: remote.url, namespaces, ...changes });
  const other = serviceOf(SERVER_NAME, {
    ...{ id: 'other', as_token: 'other-secret', sender_localpart: 'otherbot' },
    namespaces: { users: [{ exclusive: true, regex: '@other_' }, { regex: '@otherwise_' }] },
  });
  const client = createServiceClient('tests');
  onTestFinished(() => client.close());
  const clock = new TestClock();
  const retried: string[] = [];
  const appServices = createAppServices({
    ...{ serverName: SERVER_NAME, services: [bridge, other], client, clock, logger: silent },
    matching: createMatching([bridge, other]),
    retry: (id) => void retried.push(id),
  });
  const directory = providingAliases(createDirectory({ serverName: SERVER_NAME, store, clock }), appServices);
  const api = await startClientApi(store, { appServices, directory, ...over });
  const ghost = (name: string): Promise<Answer> =>
    api.ask('POST', `${V3}/register`, { type: 'm.login.application_service', username: name }, AS);
  for (const [name, token] of [
    ['bot', AS],
    ['otherbot', 'other-secret'],
  ] as const) {
    await api.ask(
      'POST',
      `${V3}/register`,
      { type: 'm.login.application_service', username: name, inhibit_login: true },
      token,
    );
  }
  return { ...api, remote, retried, ghost };
}

const codeOf = ({ status, body }: Answer): unknown => [status, body['errcode']];
const whoami = async (api: Bridged, query: string, token = AS): Promise<Answer> =>
  api.ask('GET', `${V3}/account/whoami${query}`, undefined, token);

test('a service acts as itself, or as the user of its namespace whom it names, and as nobody else', async () => {
  const api = await startBridged();
  expect((await api.ghost('ghost_a')).status).toBe(200);
  expect((await whoami(api, '')).body).toEqual({ user_id: '@bot:here.test', is_guest: false });
  expect((await whoami(api, `?user_id=${GHOST}`)).body).toEqual({ user_id: GHOST, is_guest: false });
  await api.user('alice');
  for (const named of [
    '@alice:here.test',
    '@otherbot:here.test',
    '@ghost_x:elsewhere.test',
    '@ghost_none:here.test',
    'rubbish',
  ]) {
    expect([named, codeOf(await whoami(api, `?user_id=${named}`))]).toEqual([named, [403, 'M_FORBIDDEN']]);
  }
  // To who is no service it says nothing.
  const alice = await api.login('alice2');
  expect((await whoami(api, `?user_id=${GHOST}`, alice)).body['user_id']).toBe('@alice2:here.test');
  expect(codeOf(await whoami(api, '', 'as-secreT'))).toEqual([401, 'M_UNKNOWN_TOKEN']);
});

test('a service with a wide namespace acts as and logs in nobody whom another has reserved, nor its sender', async () => {
  const api = await startBridged({ namespaces: { users: [{ exclusive: false, regex: '@.*' }] } });
  const theirs = { type: 'm.login.application_service', username: 'other_x' };
  expect((await api.ask('POST', `${V3}/register`, theirs, 'other-secret')).status).toBe(200);
  await api.user('alice_wide');
  const login = (user: string): Promise<Answer> =>
    api.ask(
      'POST',
      `${V3}/login`,
      { type: 'm.login.application_service', identifier: { type: 'm.id.user', user } },
      AS,
    );
  for (const user of ['@other_x:here.test', '@otherbot:here.test']) {
    expect([user, codeOf(await whoami(api, `?user_id=${user}`))]).toEqual([user, [403, 'M_EXCLUSIVE']]);
    expect([user, codeOf(await login(user))]).toEqual([user, [403, 'M_EXCLUSIVE']]);
  }
  expect((await whoami(api, '?user_id=@other_x:here.test', 'other-secret')).body['user_id']).toBe('@other_x:here.test');
  expect((await whoami(api, '?user_id=@alice_wide:here.test')).body['user_id']).toBe('@alice_wide:here.test');
  expect((await login('alice_wide')).status).toBe(200);
});

test('a service names a device of its user, and one that is not there is refused', async () => {
  const api = await startBridged();
  const body = { type: 'm.login.application_service', username: 'ghost_device', device_id: 'LINK' };
  const made = await api.ask('POST', `${V3}/register`, body, AS);
  expect(made.body).toMatchObject({ user_id: '@ghost_device:here.test', device_id: 'LINK' });
  const as = (device: string): string => `?user_id=@ghost_device:here.test&device_id=${device}`;
  expect((await whoami(api, as('LINK'))).body).toMatchObject({ device_id: 'LINK' });
  expect(codeOf(await whoami(api, as('NONE')))).toEqual([400, 'M_UNKNOWN_DEVICE']);
});

test('what only a device can do is refused to a service that names none, which is told so, and done where it names one', async () => {
  const api = await startBridged();
  const body = { type: 'm.login.application_service', username: 'ghost_keys', device_id: 'LINK' };
  expect((await api.ask('POST', `${V3}/register`, body, AS)).status).toBe(200);
  for (const [method, path, content] of [
    ['POST', '/keys/upload', {}],
    ['PUT', '/sendToDevice/m.custom/1', { messages: {} }],
  ] as const) {
    const ask = (device: string): Promise<Answer> =>
      api.ask(method, `${V3}${path}?user_id=@ghost_keys:here.test${device}`, content, AS);
    const refused = await ask('');
    expect([path, codeOf(refused)]).toEqual([path, [400, 'M_MISSING_PARAM']]);
    expect(refused.body['error']).toMatch(/^device_id: /);
    expect([path, (await ask('&device_id=LINK')).status]).toEqual([path, 200]);
  }
});

test('two services that act as one user without a device have their transaction ids apart, and each its own once', async () => {
  const api = await startBridged({ namespaces: { users: [{ exclusive: false, regex: '@otherwise_' }] } });
  const both = await api.ask(
    'POST',
    `${V3}/register`,
    { type: 'm.login.application_service', username: 'otherwise_x' },
    AS,
  );
  expect(both.status).toBe(200);
  const as = '?user_id=@otherwise_x:here.test';
  const { body } = await api.ask('POST', `${V3}/createRoom${as}`, {}, AS);
  const room = `${V3}/rooms/${encodeURIComponent(body['room_id'] as string)}`;
  const send = async (token: string): Promise<unknown> =>
    (await api.ask('PUT', `${room}/send/m.room.message/one${as}`, { body: 'x' }, token)).body['event_id'];
  const sent = [await send(AS), await send('other-secret'), await send(AS), await send('other-secret')];
  expect(sent).toEqual([sent[0], sent[1], sent[0], sent[1]]);
  expect(sent[0]).toMatch(/^\$/);
  expect(sent[1]).toMatch(/^\$/);
  expect(sent[1]).not.toBe(sent[0]);
  const read = await api.ask('GET', `${room}/messages${as}&dir=b&limit=2`, undefined, 'other-secret');
  const chunk = read.body['chunk'] as { event_id: string; unsigned?: { transaction_id?: string } }[];
  expect(chunk.map(({ event_id: id, unsigned }) => [id, unsigned?.transaction_id])).toEqual([
    [sent[1], 'one'],
    [sent[0], undefined],
  ]);
});

test('names that a service has reserved are for it alone, and it gets no others', async () => {
  const api = await startBridged();
  const auth = { type: 'm.login.dummy' };
  const register = (username: string): Promise<Answer> =>
    api.ask('POST', `${V3}/register`, { username, password: 'correct horse', auth });
  expect(codeOf(await register('ghost_mine'))).toEqual([400, 'M_EXCLUSIVE']);
  expect(codeOf(await api.ask('GET', `${V3}/register/available?username=ghost_mine`))).toEqual([400, 'M_EXCLUSIVE']);
  const { nonce } = (await api.ask('GET', '/_synapse/admin/v1/register')).body;
  const signed = [nonce, 'ghost_mine', 'correct horse', 'notadmin'].join('\0');
  const mac = createHmac('sha1', SECRET).update(signed).digest('hex');
  const byTool = { nonce, username: 'ghost_mine', password: 'correct horse', admin: false, mac };
  expect(codeOf(await api.ask('POST', '/_synapse/admin/v1/register', byTool))).toEqual([400, 'M_EXCLUSIVE']);
  expect(codeOf(await api.ghost('mine'))).toEqual([400, 'M_EXCLUSIVE']);
  expect(codeOf(await api.ghost('other_x'))).toEqual([400, 'M_EXCLUSIVE']);
  expect((await api.ghost('ghost_mine')).status).toBe(200);
  expect(codeOf(await api.ghost('ghost_mine'))).toEqual([400, 'M_USER_IN_USE']);
  const typed = { type: 'm.login.application_service', username: 'ghost_other' };
  expect(codeOf(await api.ask('POST', `${V3}/register`, typed))).toEqual([401, 'M_MISSING_TOKEN']);
  expect(codeOf(await api.ask('POST', `${V3}/register`, typed, await api.login('alice')))).toEqual([
    401,
    'M_UNKNOWN_TOKEN',
  ]);
});

test('a service logs its users in, and nobody by their passwords, for they have none', async () => {
  const api = await startBridged();
  await api.ghost('ghost_login');
  const login = (user: string, token?: string): Promise<Answer> =>
    api.ask(
      'POST',
      `${V3}/login`,
      { type: 'm.login.application_service', identifier: { type: 'm.id.user', user } },
      token,
    );
  const { body } = await login('ghost_login', AS);
  expect((await whoami(api, '', body['access_token'] as string)).body['user_id']).toBe('@ghost_login:here.test');
  expect(codeOf(await login('alice', AS))).toEqual([403, 'M_EXCLUSIVE']);
  expect(codeOf(await login('ghost_none', AS))).toEqual([403, 'M_FORBIDDEN']);
  expect(codeOf(await login('ghost_login'))).toEqual([401, 'M_MISSING_TOKEN']);
  const byPassword = { type: 'm.login.password', user: 'ghost_login', password: '' };
  expect(codeOf(await api.ask('POST', `${V3}/login`, byPassword))).toEqual([403, 'M_FORBIDDEN']);
  expect((await api.ask('GET', `${V3}/login`)).body['flows']).toContainEqual({ type: 'm.login.application_service' });
});

test('what a service sends is of the time that it says unless that is yet to come, and what others send is not', async () => {
  const api = await startBridged();
  await api.ghost('ghost_ts');
  const as = `?user_id=@ghost_ts:here.test`;
  const { body } = await api.ask('POST', `${V3}/createRoom${as}`, { preset: 'public_chat' }, AS);
  const room = `${V3}/rooms/${encodeURIComponent(body['room_id'] as string)}`;
  const at = async (path: string, token: string, query: string): Promise<unknown> => {
    const sent = await api.ask('PUT', `${room}${path}?${query}`, { body: 'x' }, token);
    if (sent.status !== 200) return codeOf(sent);
    const event = await api.ask(
      'GET',
      `${room}/event/${encodeURIComponent(sent.body['event_id'] as string)}${as}`,
      undefined,
      AS,
    );
    return event.body['origin_server_ts'];
  };
  expect(await at('/send/m.room.message/1', AS, `user_id=@ghost_ts:here.test&ts=1234`)).toBe(1234);
  expect(await at('/state/m.custom/', AS, `user_id=@ghost_ts:here.test&ts=0`)).toBe(0);
  expect(await at('/send/m.room.message/2', AS, `user_id=@ghost_ts:here.test`)).toBe(api.clock.now());
  for (const ts of ['-1', '1.5', 'x', '99999999999999999999']) {
    expect(await at('/send/m.room.message/3', AS, `user_id=@ghost_ts:here.test&ts=${ts}`)).toEqual([
      400,
      'M_INVALID_PARAM',
    ]);
  }
  const [soon, later] = [api.clock.now() + 60_000, api.clock.now() + 3_600_000];
  expect(await at('/send/m.room.message/5', AS, `user_id=@ghost_ts:here.test&ts=${soon}`)).toBe(soon);
  for (const path of ['/send/m.room.message/6', '/state/m.custom/']) {
    const refused = await at(path, AS, `user_id=@ghost_ts:here.test&ts=${later}`);
    expect(refused).toEqual([400, 'M_INVALID_PARAM']);
  }
  const alice = await api.login('alice_ts');
  await api.ask('POST', `${room}/join`, {}, alice);
  expect(await at('/send/m.room.message/4', alice, 'ts=1234')).toBe(api.clock.now());
});

test('users of a service are held by no limit where it says so, and its sender never is', async () => {
  const one = { perMinute: 0.001, burst: 1 };
  const rateLimits = { loginByAddress: null, loginByAccount: null, registration: null, sending: null, joining: one };
  const make = async (api: Bridged, name: string | null): Promise<number[]> => {
    const as = name === null ? '' : `?user_id=@${name}:here.test`;
    const statuses = [];
    for (let i = 0; i < 3; i += 1) statuses.push((await api.ask('POST', `${V3}/createRoom${as}`, {}, AS)).status);
    return statuses;
  };
  const free = await startBridged({ rate_limited: false }, { rateLimits });
  await free.ghost('ghost_free');
  expect(await make(free, 'ghost_free')).toEqual([200, 200, 200]);
  const held = await startBridged({}, { rateLimits });
  await held.ghost('ghost_held');
  expect(await make(held, 'ghost_held')).toEqual([200, 429, 429]);
  expect(await make(held, null)).toEqual([200, 200, 200]);
});

test('an alias that a service has reserved is for it alone, and a service gives out no others', async () => {
  const api = await startBridged();
  const alice = await api.login('alice_alias');
  const room = async (token: string, body: object = {}): Promise<Answer> =>
    api.ask('POST', `${V3}/createRoom`, body, token);
  expect(codeOf(await room(alice, { room_alias_name: 'bridged_x' }))).toEqual([400, 'M_EXCLUSIVE']);
  expect(codeOf(await room(AS, { room_alias_name: 'mine' }))).toEqual([400, 'M_EXCLUSIVE']);
  expect((await room(AS, { room_alias_name: 'bridged_y' })).status).toBe(200);
  const { body } = await room(alice);
  const put = (alias: string, token: string): Promise<Answer> =>
    api.ask('PUT', `${V3}/directory/room/${encodeURIComponent(alias)}`, { room_id: body['room_id'] }, token);
  expect(codeOf(await put('#bridged_z:here.test', alice))).toEqual([400, 'M_EXCLUSIVE']);
  const away = await api.ask(
    'DELETE',
    `${V3}/directory/room/${encodeURIComponent('#bridged_y:here.test')}`,
    undefined,
    alice,
  );
  expect(codeOf(away)).toEqual([400, 'M_EXCLUSIVE']);
});

test('who looks for a user or a room of a service has it made, where the service knows it', async () => {
  const api = await startBridged();
  const alice = await api.login('alice_query');
  api.remote.answer = async ({ path, authorization }) => {
    expect(authorization).toBe('Bearer hs-secret');
    const name = decodeURIComponent(path.split('/').at(-1) ?? '');
    if (name === '@ghost_made:here.test') return (await api.ghost('ghost_made')).status;
    if (name !== '#bridged_made:here.test') return 404;
    const body = { room_alias_name: 'bridged_made', preset: 'public_chat' };
    return (await api.ask('POST', `${V3}/createRoom`, body, AS)).status;
  };
  const profile = (userId: string): Promise<Answer> => api.ask('GET', `${V3}/profile/${encodeURIComponent(userId)}`);
  expect((await profile('@ghost_made:here.test')).status).toBe(200);
  expect(codeOf(await profile('@ghost_unmade:here.test'))).toEqual([404, 'M_NOT_FOUND']);
  const joined = await api.ask('POST', `${V3}/join/${encodeURIComponent('#bridged_made:here.test')}`, {}, alice);
  expect(joined.status).toBe(200);
  const looked = await api.ask('GET', `${V3}/directory/room/${encodeURIComponent('#bridged_made:here.test')}`);
  expect(looked.body['room_id']).toBe(joined.body['room_id']);
  const none = await api.ask('GET', `${V3}/directory/room/${encodeURIComponent('#bridged_none:here.test')}`);
  expect(codeOf(none)).toEqual([404, 'M_NOT_FOUND']);
  const asked = api.remote.asked.length;
  await profile('@nobody:here.test');
  expect(api.remote.asked).toHaveLength(asked);
});

test('a service pings itself through us, and is told why where it does not hear us', async () => {
  const api = await startBridged();
  const ping = (id = 'bridge', token = AS): Promise<Answer> =>
    api.ask('POST', `/_matrix/client/v1/appservice/${id}/ping`, { transaction_id: 'mine' }, token);
  expect((await ping()).body).toEqual({ duration_ms: 0 });
  expect(api.remote.asked.at(-1)).toMatchObject({
    ...{ method: 'POST', path: '/_matrix/app/v1/ping', body: '{"transaction_id":"mine"}' },
  });
  expect(api.retried).toEqual(['bridge']);
  api.remote.answer = () => 418;
  const bad = await ping();
  expect(codeOf(bad)).toEqual([502, 'M_BAD_STATUS']);
  expect(bad.body).toMatchObject({ status: 418, body: '{}' });
  expect(codeOf(await ping('other', 'other-secret'))).toEqual([400, 'M_URL_NOT_SET']);
  expect(codeOf(await ping('other'))).toEqual([403, 'M_FORBIDDEN']);
  expect(codeOf(await ping('bridge', await api.login('alice_ping')))).toEqual([403, 'M_FORBIDDEN']);
  const free = createServer();
  await new Promise<void>((resolve) => free.listen(0, '127.0.0.1', resolve));
  const { port } = free.address() as AddressInfo;
  await new Promise((resolve) => free.close(resolve));
  const unreachable = await startBridged({ url: `http://127.0.0.1:${port}` });
  const answer = await unreachable.ask('POST', '/_matrix/client/v1/appservice/bridge/ping', {}, AS);
  expect(codeOf(answer)).toEqual([502, 'M_CONNECTION_FAILED']);
});

test('a service logs out a device that it names, and its own token by none; all sessions of its user end when it says so', async () => {
  const api = await startBridged();
  const body = { type: 'm.login.application_service', username: 'ghost_out', device_id: 'LINK' };
  const { access_token: token } = (await api.ask('POST', `${V3}/register`, body, AS)).body as { access_token: string };
  const out = (query: string, path = '/logout'): Promise<Answer> =>
    api.ask('POST', `${V3}${path}?user_id=@ghost_out:here.test${query}`, {}, AS);
  expect(codeOf(await out(''))).toEqual([400, 'M_MISSING_PARAM']);
  expect((await whoami(api, '', token)).status).toBe(200);
  expect((await out('&device_id=LINK')).status).toBe(200);
  expect(codeOf(await whoami(api, '', token))).toEqual([401, 'M_UNKNOWN_TOKEN']);
  expect(codeOf(await out('&device_id=LINK'))).toEqual([400, 'M_UNKNOWN_DEVICE']);
  const login = { type: body.type, identifier: { type: 'm.id.user', user: 'ghost_out' } };
  const again = (await api.ask('POST', `${V3}/login`, login, AS)).body as { access_token: string };
  expect((await out('', '/logout/all')).status).toBe(200);
  expect(codeOf(await whoami(api, '', again.access_token))).toEqual([401, 'M_UNKNOWN_TOKEN']);
  expect((await whoami(api, '')).status).toBe(200);
});

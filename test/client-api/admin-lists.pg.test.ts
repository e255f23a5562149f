/** Users and rooms are listed as tools for administrators of Synapse ask for them. */
import { expect, test } from 'vitest';
import { openTestStore } from '../support/postgres.ts';
import { startClientApi } from './client.ts';

const { store } = await openTestStore();
const USERS = '/_synapse/admin/v2/users';
const ROOMS = '/_synapse/admin/v1/rooms';

test('users and rooms are listed page by page, for administrators only', async () => {
  const client = await startClientApi(store);
  const admin = await client.user('chief', { isAdmin: true });
  const [alice, bob] = [await client.user('alice'), await client.user('bob')];
  await client.ask('PUT', '/_matrix/client/v3/profile/@bob:here.test/displayname', { displayname: 'Robert' }, bob);
  const makeRoom = async (name: string): Promise<string> =>
    (await client.ask('POST', '/_matrix/client/v3/createRoom', { name, preset: 'public_chat' }, alice)).body[
      'room_id'
    ] as string;
  const [first, second] = [await makeRoom('Alpha'), await makeRoom('Beta')];
  await client.ask('POST', `/_matrix/client/v3/join/${encodeURIComponent(second)}`, {}, bob);
  const get = async (path: string): Promise<Record<string, unknown>> =>
    (await client.ask('GET', path, undefined, admin)).body;

  const page = await get(`${USERS}?limit=2`);
  expect(page).toMatchObject({ total: 3, next_token: '2', users: [{ name: '@alice:here.test', admin: false }, {}] });
  expect(await get(`${USERS}?limit=2&from=2`)).toEqual({
    total: 3,
    users: [expect.objectContaining({ name: '@chief:here.test', admin: true, deactivated: false })],
  });
  expect(await get(`${USERS}?name=rober`)).toMatchObject({ total: 1, users: [{ name: '@bob:here.test' }] });

  const byName = await get(ROOMS);
  expect(byName).toMatchObject({
    offset: 0,
    total_rooms: 2,
    rooms: [{ room_id: first, name: 'Alpha' }, { name: 'Beta' }],
  });
  expect(await get(`${ROOMS}?order_by=joined_members&limit=1`)).toMatchObject({
    next_batch: 1,
    rooms: [{ room_id: second, joined_members: 2, joined_local_members: 2, join_rules: 'public', public: false }],
  });
  expect(await get(`${ROOMS}?from=1&dir=b`)).toMatchObject({ prev_batch: 0, rooms: [{ room_id: first }] });
  expect(await get(`${ROOMS}?search_term=BET`)).toMatchObject({ total_rooms: 1, rooms: [{ room_id: second }] });

  for (const path of [USERS, ROOMS]) {
    expect(await client.ask('GET', path, undefined, alice)).toMatchObject({
      status: 403,
      body: { errcode: 'M_FORBIDDEN' },
    });
    expect((await client.ask('GET', path)).status).toBe(401);
  }
  for (const bad of [
    `${USERS}?limit=x`,
    `${USERS}?deactivated=maybe`,
    `${ROOMS}?from=-1`,
    `${ROOMS}?order_by=colour`,
    `${ROOMS}?dir=up`,
  ]) {
    const answer = await client.ask('GET', bad, undefined, admin);
    expect([bad, answer.status, answer.body['errcode']]).toEqual([bad, 400, 'M_INVALID_PARAM']);
  }
});

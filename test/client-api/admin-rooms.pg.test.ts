/** Rooms are deleted as tools for administrators of Synapse ask for it. */
import { expect, onTestFinished, test } from 'vitest';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { startPurging } from '../../src/rooms/purge/purges.ts';
import { readTombstone } from '../../src/store/journal/tombstones.ts';
import { openTestStore } from '../support/postgres.ts';
import { type TestClient, roomsContextOf, startClientApi } from './client.ts';

const { store } = await openTestStore();
const V3 = '/_matrix/client/v3';
const ADMIN_API = '/_synapse/admin';
let made = 0;

interface Situation {
  readonly client: TestClient;
  readonly user: string;
  readonly userId: string;
  readonly admin: string;
  readonly roomId: RoomId;
}

/** A room that a user has made, and an administrator. Nothing is sent to other servers, for there are none. */
async function situation(): Promise<Situation> {
  // Whenever somebody looks the time for telling others is over.
  let looks = 0;
  const clock = { now: () => 1_700_000_000_000 + 61_000 * looks++ };
  const purges = startPurging(roomsContextOf(store, clock));
  onTestFinished(() => purges.close());
  const client = await startClientApi(store, { purges });
  const name = `user${(made += 1)}`;
  const user = await client.user(name);
  const admin = await client.user(`admin${made}`, { isAdmin: true });
  const { body } = await client.ask('POST', `${V3}/createRoom`, { preset: 'private_chat' }, user);
  return { client, user, userId: `@${name}:here.test`, admin, roomId: body['room_id'] as RoomId };
}

const shutdown = (kicked: readonly string[]) => ({
  ...{ kicked_users: kicked, failed_to_kick_users: [], local_aliases: [], new_room_id: null },
});

test('v1 answers when all is gone, and says who was put out', async () => {
  const { client, userId, admin, roomId } = await situation();
  const answer = client.ask('DELETE', `${ADMIN_API}/v1/rooms/${roomId}`, { message: 'so', force_purge: true }, admin);
  expect(await answer).toMatchObject({ status: 200, body: shutdown([userId]) });
  expect(await readTombstone(store, roomId)).toBeDefined();
});

test('v2 answers at once, and tells how far it is by either path, when it is done as well', async () => {
  const { client, user, userId, admin, roomId } = await situation();
  const { body } = await client.ask('GET', `${V3}/sync`, undefined, user);
  const since = body['next_batch'] as string;
  const begun = await client.ask('DELETE', `${ADMIN_API}/v2/rooms/${roomId}`, {}, admin);
  expect(begun).toMatchObject({ status: 200, body: { delete_id: expect.any(String) as string } });
  const deleteId = begun.body['delete_id'] as string;
  const byId = () => client.ask('GET', `${ADMIN_API}/v2/rooms/delete_status/${deleteId}`, undefined, admin);
  expect(['shutting_down', 'purging', 'complete']).toContain((await byId()).body['status']);
  await expect
    .poll(async () => (await byId()).body)
    .toEqual({ delete_id: deleteId, room_id: roomId, status: 'complete', shutdown_room: shutdown([userId]) });
  const byRoom = await client.ask('GET', `${ADMIN_API}/v2/rooms/${roomId}/delete_status`, undefined, admin);
  const result = { delete_id: deleteId, status: 'complete', shutdown_room: shutdown([userId]) };
  expect(byRoom.body).toEqual({ results: [result] });

  // His client is told that he is out, by a token of before, once; and a room of which nothing is left is one that nobody knows.
  const told = (await client.ask('GET', `${V3}/sync?since=${since}`, undefined, user)).body;
  expect(told['rooms']).toMatchObject({ leave: { [roomId]: { timeline: { events: [] } } } });
  const next = (await client.ask('GET', `${V3}/sync?since=${told['next_batch'] as string}`, undefined, user)).body;
  expect(next['rooms'] ?? {}).not.toHaveProperty('leave');
  expect((await client.ask('GET', `${V3}/rooms/${roomId}/state`, undefined, user)).status).toBe(403);
  expect((await client.ask('DELETE', `${ADMIN_API}/v2/rooms/${roomId}`, {}, admin)).status).toBe(404);
});

test('only who is an administrator may, and what would do something else is refused and changes nothing', async () => {
  const { client, user, admin, roomId } = await situation();
  const ask = (token: string, body: object = {}) =>
    client.ask('DELETE', `${ADMIN_API}/v2/rooms/${roomId}`, body, token);
  expect(await ask(user)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
  for (const body of [{ block: true }, { purge: false }, { new_room_user_id: '@a:here.test' }, { purge: 'yes' }]) {
    expect([body, await ask(admin, body)]).toEqual([body, expect.objectContaining({ status: 400 })]);
  }
  for (const [path, status] of [
    [`/v2/rooms/${roomId}/delete_status`, 404],
    ['/v2/rooms/delete_status/nothing', 404],
    ['/v2/rooms/no-room/delete_status', 400],
  ] as const) {
    expect([path, (await client.ask('GET', ADMIN_API + path, undefined, admin)).status]).toEqual([path, status]);
    expect((await client.ask('GET', ADMIN_API + path, undefined, user)).status).toBe(403);
  }
  expect(await store.query(`SELECT FROM room_purges WHERE room_id = $1`, [roomId])).toEqual([]);
});

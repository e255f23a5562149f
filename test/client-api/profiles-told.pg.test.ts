import { expect, onTestFinished, test, vi } from 'vitest';
import { type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { startTellingProfiles } from '../../src/rooms/send/tell-profile.ts';
import { lockRoom, readJoinedRooms } from '../../src/store/journal/rooms.ts';
import { withTransaction } from '../../src/store/open-store.ts';
import { leaseUntoldProfiles, settleUntoldProfile } from '../../src/store/tables/untold-profiles.ts';
import { openTestStore } from '../support/postgres.ts';
import { SERVER_NAME, TestClock, actsOf, roomsContextOf, startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const { store } = await openTestStore({ serverName: SERVER_NAME });
const context = roomsContextOf(store, new TestClock());
let users = 0;

/** A user in two rooms, in the order in which they are told, on a server that ends before it tells of anything. */
async function userInRooms() {
  users += 1;
  const name = `user${users}`;
  const userId = `@${name}:${SERVER_NAME}` as UserId;
  const client = await startClientApi(store, { acts: actsOf(store, new TestClock(), { poke: () => undefined }) });
  const token = await client.login(name);
  for (let i = 0; i < 2; i += 1) await client.ask('POST', `${V3}/createRoom`, {}, token);
  const rooms = (await readJoinedRooms(store, userId)) as [RoomId, RoomId];
  const call = async (displayname: string) =>
    expect((await client.ask('PUT', `${V3}/profile/${userId}/displayname`, { displayname }, token)).status).toBe(200);
  /** What he has been called in the room, from the beginning on. */
  const calledIn = async (roomId: RoomId) =>
    (
      await store.query<{ name: string | null }>(
        `SELECT json::json -> 'content' ->> 'displayname' AS name FROM pdus
          WHERE room_id = $1 AND sender = $2 AND membership = 'join' ORDER BY depth`,
        [roomId, userId],
      )
    ).map((row) => row.name);
  return { userId, rooms, call, calledIn };
}

const untold = async () => (await store.query('SELECT FROM untold_profiles')).length;

function startTeller() {
  const teller = startTellingProfiles(context);
  onTestFinished(() => teller.close());
  return teller;
}

test('a name that was not told when the server ended is told by the next, once, however many there are', async () => {
  const { rooms, call, calledIn } = await userInRooms();
  await call('Early');
  await call('Late');
  const tellers = [startTeller(), startTeller()];
  await vi.waitFor(async () => expect(await untold()).toBe(0), { timeout: 10_000 });
  await Promise.all(tellers.map((teller) => teller.close()));
  for (const roomId of rooms) expect(await calledIn(roomId)).toEqual([null, 'Late']);
});

test('who ends between two rooms leaves the second one to the next, and nothing is said twice', async () => {
  const { rooms, call, calledIn } = await userInRooms();
  const [first, second] = rooms;
  await call('A name');
  let closed: Promise<void> | undefined;
  await withTransaction(store, async (tx) => {
    await lockRoom(tx, first);
    const teller = startTeller();
    // It waits for the first room.
    await vi.waitFor(async () => {
      const [row] = await store.query<{ waits: boolean }>(
        `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()) AS waits`,
      );
      expect(row).toEqual({ waits: true });
    });
    closed = teller.close();
  });
  await closed;
  expect(await calledIn(first)).toEqual([null, 'A name']);
  expect(await calledIn(second)).toEqual([null]);
  expect(await untold()).toBe(1);
  startTeller();
  await vi.waitFor(async () => expect(await untold()).toBe(0), { timeout: 10_000 });
  for (const roomId of rooms) expect(await calledIn(roomId)).toEqual([null, 'A name']);
});

test('who was overtaken does not take a later change for told', async () => {
  const { userId, call } = await userInRooms();
  await call('Early');
  const [early] = await leaseUntoldProfiles(store, { limit: 10, leaseMs: 0 });
  const [again] = await leaseUntoldProfiles(store, { limit: 10, leaseMs: 0 });
  expect(again).toEqual(early);
  expect(await settleUntoldProfile(store, again!)).toBe(true);
  await call('Late');
  expect(await settleUntoldProfile(store, early!)).toBe(false);
  expect(await untold()).toBe(1);
  await store.query('DELETE FROM untold_profiles WHERE user_id = $1', [userId]);
});

test('what a killed process was at is left alone for its time, and is told then', async () => {
  const { rooms, call, calledIn } = await userInRooms();
  await call('A name');
  expect(await leaseUntoldProfiles(store, { limit: 10, leaseMs: 600_000 })).toHaveLength(1);
  const teller = startTeller();
  expect(await leaseUntoldProfiles(store, { limit: 10, leaseMs: 1 })).toEqual([]);
  expect(await calledIn(rooms[0])).toEqual([null]);
  await store.query('UPDATE untold_profiles SET leased_until = 0');
  teller.poke();
  await vi.waitFor(async () => expect(await untold()).toBe(0), { timeout: 10_000 });
  for (const roomId of rooms) expect(await calledIn(roomId)).toEqual([null, 'A name']);
});

/** A join of ours from before this stay, of whose end we do not know yet. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type UserId } from '../../../src/matrix/identifiers.ts';
import { joinRoom } from '../../../src/rooms/join/join.ts';
import { readLocalMembers } from '../../../src/store/journal/rooms.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { type VerificationPool, createVerificationPool } from '../../../src/verification/pool.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { A, ALICE, openPushedRoom, signal } from '../receive/pushed-room.ts';

let database: TestDatabase;
let store: Store;
let verification: VerificationPool;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
  verification = createVerificationPool({ threads: 1 });
});
afterAll(async () => {
  await verification.close();
  await database.drop();
});

const OTHER = '@other:here.test' as UserId;

test('a user whose old join stands in a partial room joins by an event of his own, and is in by that', async () => {
  const here = openPushedRoom(store, verification);
  const { room, context } = here;
  const parent = room.message(ALICE, 'before');
  const { roomId } = room;
  await here.join();
  const about = { stateKey: OTHER, prev: [parent], auth: [room.create, room.power, room.joinRules] };
  const old = room.say(OTHER, 'm.room.member', { membership: 'join' }, about);
  await here.push(A, [old]);
  await here.taken(old);
  expect(await readLocalMembers(store, roomId)).toContainEqual({ userId: OTHER, membership: 'join', eventId: old });

  const joinAgain = () => joinRoom(context, { room: roomId, userId: OTHER, via: [A], signal, omitMembers: true });
  const joined = await joinAgain();
  expect(joined.eventId).not.toBe(old);
  expect(here.asked.filter((asked) => asked.startsWith('sendJoin'))).toHaveLength(2);
  expect((await joinAgain()).eventId).toBe(joined.eventId);
  expect(here.asked.filter((asked) => asked.startsWith('sendJoin'))).toHaveLength(2);
});

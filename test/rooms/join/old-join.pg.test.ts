/** A join of ours from before this stay, of whose end we do not know yet. */
import { expect, test } from 'vitest';
import { type UserId } from '../../../src/matrix/identifiers.ts';
import { joinRoom } from '../../../src/rooms/join/join.ts';
import { readLocalMembers } from '../../../src/store/journal/rooms.ts';
import { openTestStore, openTestThreads } from '../../support/postgres.ts';
import { A, ALICE, openPushedRoom, signal } from '../receive/pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();

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
  expect(await readLocalMembers(store, roomId)).toContainEqual({
    userId: OTHER,
    membership: 'join',
    eventId: old,
    isSilent: false,
  });

  const joinAgain = () => joinRoom(context, { room: roomId, userId: OTHER, via: [A], signal, omitMembers: true });
  const joined = await joinAgain();
  expect(joined.eventId).not.toBe(old);
  expect(here.asked.filter((asked) => asked.startsWith('sendJoin'))).toHaveLength(2);
  expect((await joinAgain()).eventId).toBe(joined.eventId);
  expect(here.asked.filter((asked) => asked.startsWith('sendJoin'))).toHaveLength(2);
});

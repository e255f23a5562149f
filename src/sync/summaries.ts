/**
 * How many are in a room, and by whom a room without a name is called. Of a partial room both are what is known of it.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync (RoomSummary)
 */
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { readFirstMembers } from '../store/journal/first-members.ts';
import { type Transaction } from '../store/open-store.ts';
import { readStates } from '../store/snapshots/many-snapshots.ts';
import { type RoomSpan } from './read-spans.ts';

const HEROES_MAX = 5;
/** Of a nameless room with more members nobody is named: its members would be gone through for five names. */
const MEMBERS_READ_MAX = 1_000;
/** Of all rooms of a response together: of the rooms beyond, nobody is named. */
const MEMBERS_IN_ALL_MAX = 50_000;

/** The heroes of nameless rooms, by room: who came first, and if nobody is there any more, who was. */
export async function readHeroes(
  tx: Transaction,
  spans: readonly RoomSpan[],
  userId: UserId,
): Promise<ReadonlyMap<RoomId, readonly UserId[]>> {
  let inAll = 0;
  const nameless = spans.filter(({ section, room }) => {
    const members = (room.joined ?? 0) + (room.invited ?? 0);
    if (section !== 'join' || room.isNamed || members > MEMBERS_READ_MAX) return false;
    inAll += members;
    return inAll <= MEMBERS_IN_ALL_MAX;
  });
  const states = await readStates(
    tx,
    nameless.map(({ roomId, now }) => ({ roomId, state: now, selection: { members: true } })),
  );
  const lists = states.map((places) => [...places].flatMap(([key, nid]) => (key % 2 === 1 ? [nid] : [])));
  // One more of each, who may be the user himself.
  const first = await readFirstMembers(tx, lists, HEROES_MAX + 1);
  return new Map(
    nameless.map(({ roomId }, i) => {
      const members = (first[i] ?? []).filter((member) => member.userId !== userId);
      const there = members.filter(({ isThere }) => isThere);
      return [roomId, (there.length > 0 ? there : members).slice(0, HEROES_MAX).map((member) => member.userId)];
    }),
  );
}

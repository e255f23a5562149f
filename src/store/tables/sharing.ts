/** With whom a user of this server shares a room, as far as it is known. */
import { type UserId, domainOf } from '../../matrix/identifiers.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { readJoinedAmong } from '../journal/seen-by-clients.ts';
import { type Sql } from '../open-store.ts';
import { readStates } from '../snapshots/many-snapshots.ts';
import { readStateKeys } from '../snapshots/state-keys.ts';
import { readRoomsOfUsers } from './told-device-lists.ts';

const MEMBER = 'm.room.member';

/**
 * Those of the users who are joined to a room that `viewer` is in. Whom a partial room says nothing of is believed to be in it where his
 * server is. The statements do not grow with rooms or users.
 */
export async function readSharing(sql: Sql, viewer: UserId, userIds: readonly UserId[]): Promise<ReadonlySet<UserId>> {
  const rooms = await readRoomsOfUsers(sql, [viewer]);
  if (userIds.length === 0 || rooms.length === 0) return new Set();
  const keys = await readStateKeys(
    sql,
    userIds.map((stateKey) => ({ type: MEMBER, stateKey })),
  );
  const selection = { keys: new Set(keys.values()) };
  const states = await readStates(
    sql,
    rooms.map(({ roomId, state }) => ({ roomId, state, selection })),
  );
  const joined = await readJoinedAmong(
    sql,
    states.flatMap((state) => [...state.values()]),
  );
  const partial = rooms.flatMap(({ roomId, partial: isPartial }) => (isPartial ? [roomId] : []));
  const believed = await sql.query<{ roomId: string; serverName: string }>(
    `SELECT room_id AS "roomId", server_name AS "serverName" FROM room_servers
      WHERE room_id = ANY ($1::text[]) AND server_name = ANY ($2::text[])`,
    [partial, [...new Set(userIds.map((userId) => domainOf(userId)))]],
  );
  const believedIn = new Set(believed.map(({ roomId, serverName }) => `${serverName} ${roomId}`));
  return new Set(
    userIds.filter((userId) => {
      const key = keys.get(stateMapKey(MEMBER, userId)) ?? -1;
      return rooms.some(({ roomId }, i) => {
        const nid = states[i]?.get(key);
        return nid === undefined ? believedIn.has(`${domainOf(userId)} ${roomId}`) : joined.has(nid);
      });
    }),
  );
}

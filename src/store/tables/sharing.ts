/** With whom a user of this server shares a room, as far as it is known. */
import { type RoomId, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readJoinedAmong } from '../journal/seen-by-clients.ts';
import { type Sql } from '../open-store.ts';
import { readStates } from '../snapshots/many-snapshots.ts';
import { readStateKeys } from '../snapshots/state-keys.ts';
import { readRoomsOfUsers } from './told-device-lists.ts';

const MEMBER = 'm.room.member';

/** A room that somebody of ours is in, and what its state says of some users: the membership of each of whom it says anything. */
export interface RoomBeside {
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly partial: boolean;
  readonly memberships: ReadonlyMap<UserId, number>;
}

/** The rooms that `viewer` is in, and which of the memberships there are joins. The statements do not grow with rooms or users. */
export async function readRoomsBeside(
  sql: Sql,
  viewer: UserId,
  userIds: readonly UserId[],
): Promise<{ readonly rooms: readonly RoomBeside[]; readonly joined: ReadonlySet<number> }> {
  const rooms = userIds.length === 0 ? [] : await readRoomsOfUsers(sql, [viewer]);
  const { ofRooms, joined } = await readMemberships(sql, rooms, userIds);
  return {
    rooms: rooms.map(({ roomId, epoch, partial }, i) => ({
      ...{ roomId, epoch, partial },
      memberships: ofRooms[i] ?? new Map<UserId, number>(),
    })),
    joined,
  };
}

/** What the states of rooms say of users, for each room, and which of these memberships are joins. The statements do not grow. */
export async function readMemberships(
  sql: Sql,
  rooms: readonly { readonly roomId: RoomId; readonly state: SnapshotId }[],
  userIds: readonly UserId[],
): Promise<{ readonly ofRooms: readonly ReadonlyMap<UserId, number>[]; readonly joined: ReadonlySet<number> }> {
  if (rooms.length === 0 || userIds.length === 0) return { ofRooms: rooms.map(() => new Map()), joined: new Set() };
  const keys = await readMemberKeys(sql, userIds);
  const selection = { keys: new Set(keys.values()) };
  const states = await readStates(
    sql,
    rooms.map(({ roomId, state }) => ({ roomId, state, selection })),
  );
  const joined = await readJoinedAmong(
    sql,
    states.flatMap((state) => [...state.values()]),
  );
  const membershipsIn = (state: ReadonlyMap<number, number>): ReadonlyMap<UserId, number> =>
    new Map(
      [...keys].flatMap(([userId, key]) => {
        const nid = state.get(key);
        return nid === undefined ? [] : [[userId, nid] as const];
      }),
    );
  return { ofRooms: states.map(membershipsIn), joined };
}

/** The places of users in states; of whom no state says anything there is none. */
export async function readMemberKeys(sql: Sql, userIds: readonly UserId[]): Promise<ReadonlyMap<UserId, number>> {
  const keys = await readStateKeys(
    sql,
    userIds.map((stateKey) => ({ type: MEMBER, stateKey })),
  );
  return new Map(
    userIds.flatMap((userId) => {
      const key = keys.get(stateMapKey(MEMBER, userId));
      return key === undefined ? [] : [[userId, key] as const];
    }),
  );
}

/**
 * Those of the users who are joined to a room that `viewer` is in. Whom a partial room says nothing of is believed to be in it where his
 * server is.
 */
export async function readSharing(sql: Sql, viewer: UserId, userIds: readonly UserId[]): Promise<ReadonlySet<UserId>> {
  const { rooms, joined } = await readRoomsBeside(sql, viewer, userIds);
  if (rooms.length === 0) return new Set();
  const partial = rooms.flatMap(({ roomId, partial: isPartial }) => (isPartial ? [roomId] : []));
  const believed = await sql.query<{ roomId: string; serverName: string }>(
    `SELECT room_id AS "roomId", server_name AS "serverName" FROM room_servers
      WHERE room_id = ANY ($1::text[]) AND server_name = ANY ($2::text[])`,
    [partial, [...new Set(userIds.map((userId) => domainOf(userId)))]],
  );
  const believedIn = new Set(believed.map(({ roomId, serverName }) => `${serverName} ${roomId}`));
  return new Set(
    userIds.filter((userId) =>
      rooms.some(({ roomId, memberships }) => {
        const nid = memberships.get(userId);
        return nid === undefined ? believedIn.has(`${domainOf(userId)} ${roomId}`) : joined.has(nid);
      }),
    ),
  );
}

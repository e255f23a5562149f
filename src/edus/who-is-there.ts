/** Of which users another server may say something in rooms: its own who are in them with us. */
import { type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type AclReader } from '../rooms/receive/server-acl.ts';
import { type Sql } from '../store/open-store.ts';
import { readRoomsOfOurs } from '../store/tables/shared-rooms.ts';
import { readMemberships } from '../store/tables/sharing.ts';

export interface UserInRoom {
  readonly roomId: RoomId;
  readonly userId: UserId;
}

/** Something said of a user; `isBelieved`: a partial room says nothing of him, so that anybody may be named. */
export type SaidOf<Said> = Said & { readonly isBelieved: boolean };

/**
 * Those that may be about who is there: rooms that we are in and whose ACL lets the origin take part, and users who are joined to them. Whom
 * a partial room says nothing of is believed to be where his server is. A fixed number of statements, but for ACLs that are not remembered.
 */
export async function amongThose<Said extends UserInRoom>(
  { store, isAllowed }: { readonly store: Sql; readonly isAllowed: AclReader },
  origin: ServerName,
  said: readonly Said[],
): Promise<SaidOf<Said>[]> {
  if (said.length === 0) return [];
  const rooms = await readRoomsOfOurs(store, [...new Set(said.map(({ roomId }) => roomId))], origin);
  const allowed: typeof rooms = [];
  for (const room of rooms) {
    if (await isAllowed({ roomId: room.roomId, currentState: room.state }, origin)) allowed.push(room);
  }
  if (allowed.length === 0) return [];
  const users = [...new Set(said.map(({ userId }) => userId))];
  const { ofRooms, joined } = await readMemberships(store, allowed, users);
  const standing = new Map(allowed.map((room, i) => [room.roomId, { ...room, members: ofRooms[i] }]));
  return said.flatMap((one) => {
    const room = standing.get(one.roomId);
    if (room === undefined) return [];
    const nid = room.members?.get(one.userId);
    const isBelieved = nid === undefined;
    const isThere = isBelieved ? room.partial && room.isBelievedIn : joined.has(nid);
    return isThere ? [{ ...one, isBelieved }] : [];
  });
}

/** Rooms of ours in which users are seen. */
import { type RoomId, type UserId, domainOf } from '../matrix/identifiers.ts';
import { type Store } from '../store/open-store.ts';
import { readSharedRooms } from '../store/tables/room-servers.ts';
import { readMemberships } from '../store/tables/sharing.ts';
import { readRoomsOfUsers } from '../store/tables/told-device-lists.ts';

/** Looked through of each server's rooms, and of all; who is in others is told there with what is told next. */
const ROOMS_OF_SERVER_MAX = 200;
const ROOMS_MAX = 500;
/** Servers at a time. */
const SERVERS_MAX = 50;

/**
 * Those that some of the users are joined to. Whom a partial room says nothing of is believed to be there where his server is. The statements
 * do not grow with users or rooms.
 */
export async function readRoomsShowing(store: Store, userIds: readonly UserId[]): Promise<RoomId[]> {
  const isOurs = (userId: UserId): boolean => domainOf(userId) === store.serverName;
  const ours = userIds.filter(isOurs);
  const showing = new Set(ours.length === 0 ? [] : (await readRoomsOfUsers(store, ours)).map(({ roomId }) => roomId));
  const others = userIds.filter((userId) => !isOurs(userId));
  const servers = [...new Set(others.map((userId) => domainOf(userId)))].slice(0, SERVERS_MAX);
  if (servers.length === 0) return [...showing];
  const shared = await readSharedRooms(store, servers, ROOMS_OF_SERVER_MAX);
  const believed = new Set(shared.map(({ serverName, roomId }) => `${serverName} ${roomId}`));
  const rooms = [...new Map(shared.map((room) => [room.roomId, room])).values()]
    .flatMap((room) =>
      room.currentState === null || showing.has(room.roomId) ? [] : [{ ...room, state: room.currentState }],
    )
    .slice(0, ROOMS_MAX);
  const { ofRooms, joined } = await readMemberships(store, rooms, others);
  for (const [i, { roomId, partial }] of rooms.entries()) {
    const members = ofRooms[i] ?? new Map<UserId, number>();
    const isSeen = [...members.values()].some((nid) => joined.has(nid));
    const isBelieved = (userId: UserId): boolean =>
      !members.has(userId) && believed.has(`${domainOf(userId)} ${roomId}`);
    if (isSeen || (partial && others.some(isBelieved))) showing.add(roomId);
  }
  return [...showing];
}

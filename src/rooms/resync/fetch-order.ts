/** Which of the rooms whose states are to be fetched goes first: one that somebody waits for, then encrypted ones, then small ones. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { readRoom } from '../../store/journal/rooms.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { countRoomServers } from '../../store/tables/room-servers.ts';
import { type RoomsContext } from '../context.ts';

/** As `urgency` in `Waiting`: smaller goes first. Nobody waits for it that is known of. */
const [ENCRYPTED, OTHER] = [1, 2] as const;
/** What somebody waits for. */
export const WANTED = 0;
/** Servers of a room by which its size is told, since its members are not known yet. */
const SERVERS_MAX = 10_000;

/** The place of a partial room among others while nobody is known to wait for it; in [1, 3). Looked up once an attempt. */
export async function urgencyOf({ store }: Pick<RoomsContext, 'store'>, roomId: RoomId): Promise<number> {
  const state = (await readRoom(store, roomId))?.currentState ?? null;
  const encryption = [{ type: 'm.room.encryption', stateKey: '' }];
  const isEncrypted = state !== null && (await readSnapshot(store, roomId, state, { keys: encryption })).length > 0;
  const servers = await countRoomServers(store, roomId);
  // Nobody can send in an encrypted room before its members are known.
  return (isEncrypted ? ENCRYPTED : OTHER) + Math.min(servers, SERVERS_MAX - 1) / SERVERS_MAX;
}

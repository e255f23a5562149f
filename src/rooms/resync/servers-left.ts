/** Servers that have left a room, as far as we have seen them leave: what is known of a partial room's members is what was said since. */
import { type RoomId, type ServerName, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { hasOtherServers } from '../../store/tables/room-servers.ts';

export interface ServersLeft {
  /** Those whose known members have all left or were put out. */
  readonly left: ReadonlySet<ServerName>;
  /** Whether these are all that are believed to be in the room, ourselves apart. */
  readonly isOrphaned: boolean;
}

/** By the memberships in a state of the room. */
export async function serversLeft(sql: Sql, roomId: RoomId, state: SnapshotId): Promise<ServersLeft> {
  const joined = new Set<ServerName>();
  const out = new Set<ServerName>();
  for (const { type, stateKey, membership } of await readSnapshot(sql, roomId, state)) {
    const server = type === 'm.room.member' ? domainOf(stateKey as UserId) : undefined;
    if (server === undefined || server === sql.serverName) continue;
    if (membership === 'join') joined.add(server);
    else if (membership === 'leave' || membership === 'ban') out.add(server);
  }
  const left = new Set([...out].filter((server) => !joined.has(server)));
  return { left, isOrphaned: left.size > 0 && !(await hasOtherServers(sql, roomId, [...left])) };
}

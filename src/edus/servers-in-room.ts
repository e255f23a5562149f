/** Who is told what passes in a room: the servers of those who are joined, and while it is partial those that were said to be in it, too. */
import { type ServerName } from '../matrix/identifiers.ts';
import { type Sql } from '../store/open-store.ts';
import { type JoinedServers } from '../store/snapshots/joined-servers.ts';
import { readServersOfStays } from '../store/tables/deliveries.ts';
import { type RoomOfOurs } from '../store/tables/shared-rooms.ts';

/** All but this one. */
export async function serversInRoom(
  sql: Sql,
  joined: JoinedServers,
  { roomId, state, partial, epoch }: RoomOfOurs,
): Promise<ReadonlySet<ServerName>> {
  const servers = new Set(await joined.of(sql, roomId, state));
  if (partial) {
    const said = await readServersOfStays(sql, roomId, [epoch]);
    for (const server of said.get(epoch) ?? []) servers.add(server);
  }
  servers.delete(sql.serverName);
  return servers;
}

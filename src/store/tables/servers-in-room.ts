/** Who is told what passes in a room: the servers of those who are joined, and while it is partial those that were said to be in it, too. */
import { type ServerName } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { type JoinedServers } from '../snapshots/joined-servers.ts';
import { readServersOfStays } from './deliveries.ts';
import { type RoomOfOurs } from './shared-rooms.ts';

/** All but this one. */
export async function serversInRoom(
  sql: Sql,
  joined: JoinedServers,
  { roomId, state, partial, epoch }: Pick<RoomOfOurs, 'roomId' | 'state' | 'partial' | 'epoch'>,
): Promise<ReadonlySet<ServerName>> {
  const servers = new Set(await joined.of(sql, roomId, state));
  if (partial) {
    const said = await readServersOfStays(sql, roomId, [epoch]);
    for (const server of said.get(epoch) ?? []) servers.add(server);
  }
  servers.delete(sql.serverName);
  return servers;
}

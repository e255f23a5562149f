/**
 * Who has something to say to us: servers that are believed to be in a room that somebody of ours is in, and that its ACL does not
 * deny. Of others nothing is taken in, so that little is spent on finding out whether they are who they say.
 */
import { type ServerName } from '../../matrix/identifiers.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSharedRooms } from '../../store/tables/room-servers.ts';
import { createAclReader } from './server-acl.ts';

/** Of each server; one of these will do, and who is denied in so many is denied. */
const ROOMS_LOOKED_AT = 20;

/** Gives those of the servers that are welcome. */
export function createWelcome(sql: Sql): (serverNames: readonly ServerName[]) => Promise<ReadonlySet<ServerName>> {
  const isAllowed = createAclReader(sql);
  return async (serverNames) => {
    const welcome = new Set<ServerName>();
    for (const { serverName, ...room } of await readSharedRooms(sql, serverNames, ROOMS_LOOKED_AT)) {
      if (!welcome.has(serverName) && (await isAllowed(room, serverName))) welcome.add(serverName);
    }
    return welcome;
  };
}

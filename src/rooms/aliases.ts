/** What an alias means: we know of our own, other servers are asked, and fail in the words of a use case; for joins and reads alike. */
import { FederationError } from '../federation/error.ts';
import { type RoomAlias, type RoomId, type ServerName, domainOf } from '../matrix/identifiers.ts';
import { readAlias } from '../store/tables/room-aliases.ts';
import { type RoomsContext } from './context.ts';
import { RoomError } from './error.ts';

export interface AliasedRoom {
  readonly roomId: RoomId;
  /** Servers that may be in the room: the alias's own first, then those it names. */
  readonly servers: readonly ServerName[];
}

/** @throws RoomError `unknown-alias`: its server, or we, do not know it; `no-resident`: it could not be asked. */
export async function resolveAlias(
  { serverName, federation, store }: Pick<RoomsContext, 'serverName' | 'federation' | 'store'>,
  alias: RoomAlias,
  signal: AbortSignal,
): Promise<AliasedRoom> {
  const domain = domainOf(alias);
  if (domain === serverName) {
    const roomId = await readAlias(store, alias);
    if (roomId !== undefined) return { roomId, servers: [] };
    throw new RoomError('unknown-alias', `${alias} is not an alias of this server`);
  }
  try {
    const answer = await federation.queryDirectory(domain, alias, { signal });
    return { roomId: answer.roomId, servers: [...new Set([domain, ...answer.servers])] };
  } catch (error) {
    if (!(error instanceof FederationError)) throw error;
    if (error.kind === 'not-found') {
      throw new RoomError('unknown-alias', `${domain} does not know ${alias}`, { cause: error });
    }
    throw new RoomError('no-resident', `the server of ${alias} could not be asked: ${error.message}`, { cause: error });
  }
}

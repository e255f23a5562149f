/** Asks an alias's server what it means, and tells its failure in the words of a use case; for joins and reads alike. */
import { FederationError } from '../federation/error.ts';
import { type RoomAlias, type RoomId, type ServerName, domainOf } from '../matrix/identifiers.ts';
import { type RoomsContext } from './context.ts';
import { RoomError } from './error.ts';

export interface AliasedRoom {
  readonly roomId: RoomId;
  /** Servers that may be in the room: the alias's own first, then those it names. */
  readonly servers: readonly ServerName[];
}

/** @throws RoomError `unknown-alias`: it is one of ours or its server does not know it; `no-resident`: it could not be asked. */
export async function askAliasServer(
  { serverName, federation }: Pick<RoomsContext, 'serverName' | 'federation'>,
  alias: RoomAlias,
  signal: AbortSignal,
): Promise<AliasedRoom> {
  const domain = domainOf(alias);
  if (domain === serverName) throw new RoomError('unknown-alias', `${alias} is not an alias of this server`);
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

/** What requests about rooms name in their paths and bodies, read once. */
import { MatrixError } from '../http/matrix-error.ts';
import {
  type EventId,
  type RoomId,
  type ServerName,
  type UserId,
  parseEventId,
  parseRoomId,
  parseServerName,
  parseUserId,
} from '../matrix/identifiers.ts';
import { memberContent } from '../matrix/member-content.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type ClientRequest, type UserRequest } from './client-request.ts';
import { type ClientQuery } from '../rooms/client-contract.ts';
import { type ClientContext } from './context.ts';

const TXN_ID_CHARS_MAX = 255;
/** Servers that a client may name to be asked. */
const VIA_MAX = 20;

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}

/** Throws a `MatrixError`, as all of these. */
export function roomIdOf({ params }: Pick<ClientRequest, 'params'>): RoomId {
  const roomId = parseRoomId(params['roomId']);
  // A NUL could not even be looked up.
  if (roomId === undefined || roomId.includes('\0')) throw invalid('that is not a room id');
  return roomId;
}

/** Who asks, and for which room. */
export function clientQueryOf(request: UserRequest, { stateWaitMaxMs }: ClientContext): ClientQuery {
  const { userId } = request.requester;
  return { roomId: roomIdOf(request), userId, waitMs: stateWaitMaxMs, signal: request.caller };
}

/** The event that the path names. */
export function eventIdOf({ params }: Pick<ClientRequest, 'params'>): EventId {
  const eventId = parseEventId(params['eventId']);
  if (eventId === undefined || eventId.includes('\0')) throw invalid('that is not an event id');
  return eventId;
}

/** A user that a body names. */
export function userIdIn(value: string, name: string): UserId {
  const userId = parseUserId(value);
  if (userId === undefined) throw invalid(`${name}: expected a user id`);
  return userId;
}

/** The transaction id, under which a device sends the same once. */
export function txnIdOf({ params }: Pick<ClientRequest, 'params'>): string {
  const txnId = params['txnId'] ?? '';
  if (txnId === '' || txnId.length > TXN_ID_CHARS_MAX || txnId.includes('\0')) {
    throw invalid(`a transaction id has 1 to ${TXN_ID_CHARS_MAX} characters, and no NUL`);
  }
  return txnId;
}

/** `via`, and `server_name` as it was called before; each may be given many times. */
export function viaOf({ query }: Pick<ClientRequest, 'query'>): ServerName[] {
  const named = [query['via'], query['server_name']].flat().filter((name) => name !== undefined);
  const servers = named.slice(0, VIA_MAX).map((name) => parseServerName(name));
  if (servers.includes(undefined)) throw invalid('via: expected server names');
  return [...new Set(servers as ServerName[])];
}

/** What a user calls himself, as his memberships say it. */
export async function profileOf(
  { requester }: Pick<UserRequest, 'requester'>,
  { accounts }: ClientContext,
): Promise<JsonObject> {
  return memberContent(await accounts.profile(requester.userId));
}

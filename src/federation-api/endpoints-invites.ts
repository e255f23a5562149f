/**
 * Invites of users of ours, by users of other servers.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#inviting-to-a-room
 */
import { MatrixError } from '../http/matrix-error.ts';
import { parseEventId, parseRoomId } from '../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type AuthenticatedRequest } from './authenticated.ts';
import { type SignedContext, type SignedEndpoint } from './endpoint.ts';
import { refuseByStatus } from './partial-rooms.ts';

/** What the first version of the endpoint is about, which does not say it: the rules for invites are the same in both. */
const VERSION_OF_V1 = '1';

export const INVITE_ENDPOINTS: readonly SignedEndpoint[] = [
  {
    method: 'PUT',
    path: '/_matrix/federation/v1/invite/:roomId/:eventId',
    answer: async (request, context) => {
      const event = bodyOf(request);
      const unsigned = event['unsigned'];
      const told = isJsonObject(unsigned) ? unsigned['invite_room_state'] : undefined;
      return [200, { event: await receive(request, context, { roomVersion: VERSION_OF_V1, event, told }) }];
    },
  },
  {
    method: 'PUT',
    path: '/_matrix/federation/v2/invite/:roomId/:eventId',
    answer: async (request, context) => {
      const { room_version: roomVersion, event, invite_room_state: told } = bodyOf(request);
      if (typeof roomVersion !== 'string') throw badJson('room_version: expected a string');
      if (!isJsonObject(event)) throw badJson('event: expected an object');
      return { event: await receive(request, context, { roomVersion, event, told }) };
    },
  },
];

interface Invite {
  readonly roomVersion: string;
  readonly event: JsonObject;
  readonly told: Json | undefined;
}

async function receive(
  { params, origin, ended }: AuthenticatedRequest,
  { ports }: SignedContext,
  invite: Invite,
): Promise<JsonObject> {
  const { invites } = ports;
  if (invites === undefined) throw refuseByStatus('full');
  const roomId = parseRoomId(params['roomId']);
  const eventId = parseEventId(params['eventId']);
  // A NUL could not even be looked up.
  if (roomId === undefined || roomId.includes('\0')) throw invalid('that is not a room id');
  if (eventId === undefined) throw invalid('that is not an event id');
  if ((await ports.roomStatus(roomId, origin)) === 'denied') throw refuseByStatus('denied');
  return invites.receiveInvite({ ...invite, roomId, eventId, server: origin, signal: ended });
}

/** Throws a `MatrixError`, as all of these. */
function bodyOf({ raw }: AuthenticatedRequest): JsonObject {
  const read = parseJsonObject(raw);
  if (!read.ok) throw new MatrixError(400, 'M_NOT_JSON', `the body is ${read.reason}`);
  return read.value;
}

function badJson(message: string): MatrixError {
  return new MatrixError(400, 'M_BAD_JSON', message);
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}

/**
 * Invites of users of ours, by users of other servers; and of whoever has bound a third-party identifier that was invited.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#inviting-to-a-room and #third-party-invites
 */
import { type Endpoint } from '../http/endpoint.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type RoomId, type UserId, domainOf, parseEventId, parseRoomId, parseUserId } from '../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type AuthenticatedRequest } from './authenticated.ts';
import { type SignedContext, type SignedEndpoint } from './endpoint.ts';
import { type OpenBodyRequest } from './open-bodies.ts';
import { refuseByStatus } from './partial-rooms.ts';
import { type FederationServerPorts } from './ports.ts';

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
  {
    method: 'PUT',
    path: '/_matrix/federation/v1/exchange_third_party_invite/:roomId',
    answer: async (request, context) => {
      const { invites } = context.ports;
      if (invites === undefined) throw refuseByStatus('full');
      const { origin, ended: signal } = request;
      const event = bodyOf(request);
      const roomId = await roomOf(request, context);
      const { content } = event;
      const invite = isJsonObject(content) ? content['third_party_invite'] : undefined;
      const signed = isJsonObject(invite) ? invite['signed'] : undefined;
      const sender = parseUserId(event['sender']);
      const userId = parseUserId(event['state_key']);
      const isInvite = isJsonObject(content) && content['membership'] === 'invite' && event['type'] === 'm.room.member';
      if (!isInvite || !isJsonObject(signed) || sender === undefined || userId === undefined) {
        throw badJson('expected an invite with third_party_invite.signed, and its sender and state_key as users');
      }
      if (event['room_id'] !== roomId) throw badJson('room_id: expected the room of the path');
      if (domainOf(userId) !== origin) throw new MatrixError(403, 'M_FORBIDDEN', 'that user is not yours to invite');
      await invites.exchangeInvite({ roomId, sender, userId, signed, signal });
      return {};
    },
  },
];

/** Invites of one notice; whoever has bound an identifier has been invited to a few rooms by it. */
const BOUND_INVITES_MAX = 50;

export interface OpenInviteContext {
  readonly ports: Pick<FederationServerPorts, 'invites'>;
}

/** Identity servers sign nothing of what they ask. */
export const OPEN_INVITE_ENDPOINTS: readonly Endpoint<OpenBodyRequest, OpenInviteContext>[] = [
  {
    method: 'PUT',
    path: '/_matrix/federation/v1/3pid/onbind',
    answer: async (request, { ports: { invites } }) => {
      const { mxid, invites: listed } = bodyOf(request);
      const userId = parseUserId(mxid);
      if (userId === undefined || userId.includes('\0')) throw badJson('mxid: expected a user');
      if (!Array.isArray(listed)) throw badJson('invites: expected a list');
      if (listed.length > BOUND_INVITES_MAX) throw invalid(`invites: expected ${BOUND_INVITES_MAX} at the most`);
      const bound = (listed as readonly Json[]).map((invite) => boundInvite(invite, userId));
      if (invites === undefined) throw refuseByStatus('full');
      await invites.boundIdentifier({ sentFrom: request.ip, userId, invites: bound, signal: request.ended });
      return {};
    },
  },
];

function boundInvite(invite: Json, userId: UserId) {
  const { room_id: room, sender: by, signed } = isJsonObject(invite) ? invite : {};
  const roomId = parseRoomId(room);
  const sender = parseUserId(by);
  if (roomId === undefined || roomId.includes('\0') || sender === undefined || !isJsonObject(signed)) {
    throw badJson('invites: expected room_id, sender and signed of each');
  }
  if (signed['mxid'] !== userId) throw badJson('invites: expected what is signed to be for the user of mxid');
  return { roomId, sender, signed };
}

interface Invite {
  readonly roomVersion: string;
  readonly event: JsonObject;
  readonly told: Json | undefined;
}

async function receive(request: AuthenticatedRequest, context: SignedContext, invite: Invite): Promise<JsonObject> {
  const { params, origin, ended } = request;
  const { invites } = context.ports;
  if (invites === undefined) throw refuseByStatus('full');
  const eventId = parseEventId(params['eventId']);
  if (eventId === undefined) throw invalid('that is not an event id');
  const roomId = await roomOf(request, context);
  return invites.receiveInvite({ ...invite, roomId, eventId, server: origin, signal: ended });
}

/** The room of the path, where the server that asks is not denied it. */
async function roomOf({ params, origin }: AuthenticatedRequest, { ports }: SignedContext): Promise<RoomId> {
  const roomId = parseRoomId(params['roomId']);
  // A NUL could not even be looked up.
  if (roomId === undefined || roomId.includes('\0')) throw invalid('that is not a room id');
  if ((await ports.roomStatus(roomId, origin)) === 'denied') throw refuseByStatus('denied');
  return roomId;
}

/** Throws a `MatrixError`, as all of these. */
function bodyOf({ raw }: Pick<AuthenticatedRequest, 'raw'>): JsonObject {
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

/**
 * How users of other servers get into rooms, knock at them and get out of them through us. While a room is partial here its state is
 * not known well enough to let anybody in or out: 404, by which servers ask another resident (MSC3902).
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#joining-rooms, #knocking-upon-a-room and #leaving-rooms-rejecting-invites
 */
import { MatrixError } from '../http/matrix-error.ts';
import { type RoomId, parseEventId, parseRoomId, parseUserId } from '../matrix/identifiers.ts';
import { type OwnChange, type ResidentMemberships, type SentMembership } from '../rooms/resident-contract.ts';
import { type AuthenticatedRequest } from './authenticated.ts';
import { type SignedContext, type SignedEndpoint } from './endpoint.ts';
import { asTexts, streamArrays } from './event-arrays.ts';
import { type FederationServerPorts } from './ports.ts';
import { refuseByStatus } from './partial-rooms.ts';

/** Room versions that a request names. */
const VERSIONS_MAX = 100;

export const MEMBERSHIP_ENDPOINTS: readonly SignedEndpoint[] = [
  template('join'),
  template('knock'),
  template('leave'),
  sending('/v1/send_join', async (request, context) => sendJoin(request, context, false, ['[200,', ']'])),
  sending('/v2/send_join', async (request, context) => {
    return sendJoin(request, context, request.query['omit_members'] === 'true', ['', '']);
  }),
  sending('/v1/send_leave', async (request, context) => [200, await sendLeave(request, context)]),
  sending('/v2/send_leave', sendLeave),
  sending('/v1/send_knock', async (request, { ports }) => {
    const sent = await sentIn(request, ports, 'knock');
    return { knock_room_state: await openTo(ports).sendKnock(sent) };
  }),
];

function template(change: OwnChange): SignedEndpoint {
  return {
    method: 'GET',
    path: `/_matrix/federation/v1/make_${change}/:roomId/:userId`,
    answer: async ({ params, query, origin }, { ports }) => {
      const roomId = await roomIn(params['roomId'], ports, origin);
      const userId = parseUserId(params['userId']);
      if (userId === undefined) throw invalid('that is not a user id');
      const versions = query['ver'] === undefined ? null : [query['ver']].flat().slice(0, VERSIONS_MAX).map(String);
      const { roomVersion, event } = await openTo(ports).template({ change, roomId, userId, server: origin, versions });
      return { room_version: roomVersion, event };
    },
  };
}

function sending(path: string, answer: SignedEndpoint['answer']): SignedEndpoint {
  return { method: 'PUT', path: `/_matrix/federation${path}/:roomId/:eventId`, answer };
}

async function sendJoin(
  request: AuthenticatedRequest,
  { ports, serverName }: SignedContext,
  omitMembers: boolean,
  around: readonly [string, string],
) {
  const sent = await sentIn(request, ports, 'join');
  const { event, state, authChain, serversInRoom } = await openTo(ports).sendJoin({ ...sent, omitMembers });
  const head = {
    origin: serverName,
    members_omitted: serversInRoom !== null,
    ...(serversInRoom === null ? {} : { servers_in_room: serversInRoom }),
  };
  return streamArrays({ state, auth_chain: authChain }, { ...asTexts(head), event }, around);
}

async function sendLeave(request: AuthenticatedRequest, { ports }: SignedContext): Promise<Record<string, never>> {
  const sent = await sentIn(request, ports, 'leave');
  await openTo(ports).sendLeave(sent);
  return {};
}

/** Throws a `MatrixError`, as all of these. */
async function sentIn(
  { params, origin, raw, ended }: AuthenticatedRequest,
  ports: FederationServerPorts,
  change: OwnChange,
): Promise<SentMembership> {
  const roomId = await roomIn(params['roomId'], ports, origin);
  const eventId = parseEventId(params['eventId']);
  if (eventId === undefined) throw invalid('that is not an event id');
  if (raw.length === 0) throw new MatrixError(400, 'M_NOT_JSON', 'there is no body');
  return { change, roomId, eventId, server: origin, raw, signal: ended };
}

async function roomIn(
  named: string | undefined,
  ports: FederationServerPorts,
  origin: AuthenticatedRequest['origin'],
): Promise<RoomId> {
  const roomId = parseRoomId(named);
  // A NUL could not even be looked up.
  if (roomId === undefined || roomId.includes('\0')) throw invalid('that is not a room id');
  const status = await ports.roomStatus(roomId, origin);
  if (status === 'full') return roomId;
  throw status === 'denied' ? refuseByStatus(status) : notHere();
}

function notHere(): MatrixError {
  return new MatrixError(404, 'M_NOT_FOUND', 'this server cannot help with that room');
}

function openTo({ memberships }: FederationServerPorts): ResidentMemberships {
  if (memberships === undefined) throw refuseByStatus('full');
  return memberships;
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}

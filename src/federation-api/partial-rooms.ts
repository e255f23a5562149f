/**
 * What other servers are told when they ask about rooms. While a room is partial, its state is not known well
 * enough to let anybody in or out through us, or to hand it on; servers that know the errcode try another resident.
 *
 * Source: MSC3895, https://github.com/matrix-org/matrix-spec-proposals/pull/3895
 */
import { parseEventId, parseRoomId } from '../matrix/identifiers.ts';
import { MatrixError } from './errors.ts';
import { type FederationServerPorts } from './ports.ts';
import { type RoomStatus } from '../rooms/contract.ts';

const PREFIX = '/_matrix/federation';

/** Endpoints by which servers get users into or out of a room through us. */
export const MEMBERSHIP_ENDPOINTS: readonly (readonly ['GET' | 'PUT', string])[] = [
  ['GET', `${PREFIX}/v1/make_join/:roomId/:userId`],
  ['PUT', `${PREFIX}/v1/send_join/:roomId/:eventId`],
  ['PUT', `${PREFIX}/v2/send_join/:roomId/:eventId`],
  ['GET', `${PREFIX}/v1/make_knock/:roomId/:userId`],
  ['PUT', `${PREFIX}/v1/send_knock/:roomId/:eventId`],
  ['PUT', `${PREFIX}/v1/send_leave/:roomId/:eventId`],
  ['PUT', `${PREFIX}/v2/send_leave/:roomId/:eventId`],
];

/** Endpoints that hand out a room's state or events. */
export const STATE_ENDPOINTS: readonly (readonly ['GET', string])[] = [
  ['GET', `${PREFIX}/v1/state/:roomId`],
  ['GET', `${PREFIX}/v1/state_ids/:roomId`],
  ['GET', `${PREFIX}/v1/event_auth/:roomId/:eventId`],
  ['GET', `${PREFIX}/v1/get_extremities/:roomId`],
];

export const EVENT_ENDPOINT = ['GET', `${PREFIX}/v1/event/:eventId`] as const;

/** The error for a request about getting into or out of a room. */
export async function refuseMembership(ports: FederationServerPorts, roomId: unknown): Promise<MatrixError> {
  const status = await statusOfRoom(ports, roomId);
  return status === 'full'
    ? notServed()
    : new MatrixError(404, 'M_NOT_FOUND', 'this server cannot help with that room');
}

/** The error for a request for a room's state or events. */
export async function refuseState(ports: FederationServerPorts, roomId: unknown): Promise<MatrixError> {
  return refuseByStatus(await statusOfRoom(ports, roomId));
}

/** The error for a request for one event. */
export async function refuseEvent(ports: FederationServerPorts, eventId: unknown): Promise<MatrixError> {
  const id = parseEventId(eventId);
  if (id === undefined) throw new MatrixError(400, 'M_INVALID_PARAM', 'that is not an event id');
  return refuseByStatus(await ports.statusOfEventsRoom(id));
}

async function statusOfRoom(ports: FederationServerPorts, roomId: unknown): Promise<RoomStatus> {
  const id = parseRoomId(roomId);
  if (id === undefined) throw new MatrixError(400, 'M_INVALID_PARAM', 'that is not a room id');
  return ports.roomStatus(id);
}

function refuseByStatus(status: RoomStatus): MatrixError {
  switch (status) {
    case 'absent':
      return new MatrixError(404, 'M_NOT_FOUND', 'this server knows nothing of that');
    case 'partial':
      return new MatrixError(
        403,
        'ORG.MATRIX.MSC3895_UNABLE_DUE_TO_PARTIAL_STATE',
        'this server is still fetching the state of that room',
      );
    case 'full':
      return notServed();
  }
}

/** Of rooms that we hold in full nothing is handed out. */
function notServed(): MatrixError {
  return new MatrixError(404, 'M_UNRECOGNIZED', 'this server does not serve that');
}

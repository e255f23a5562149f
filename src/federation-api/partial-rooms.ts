/**
 * What other servers are told when they ask about rooms. While a room is partial, its state is not known well
 * enough to let anybody in or out through us, or to hand it on; servers that know the errcode try another resident.
 *
 * Source: MSC3895, https://github.com/matrix-org/matrix-spec-proposals/pull/3895
 */
import { parseRoomId } from '../matrix/identifiers.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type AuthenticatedRequest } from './authenticated.ts';
import { type SignedEndpoint } from './endpoint.ts';
import { type FederationServerPorts } from './ports.ts';
import { type RoomStatus } from '../rooms/contract.ts';

/** Endpoints by which nothing is handed out yet. */
export const STATE_ENDPOINTS: readonly SignedEndpoint[] = [refusing('GET', '/v1/get_extremities/:roomId', refuseState)];

type Refuse = (ports: FederationServerPorts, request: AuthenticatedRequest) => Promise<MatrixError>;

function refusing(method: SignedEndpoint['method'], path: string, refuse: Refuse): SignedEndpoint {
  return {
    method,
    path: `/_matrix/federation${path}`,
    answer: async (request, { ports }) => {
      throw await refuse(ports, request);
    },
  };
}

/** The error for a request for a room's state or events. */
async function refuseState(ports: FederationServerPorts, request: AuthenticatedRequest): Promise<MatrixError> {
  return refuseByStatus(await statusOfRoom(ports, request));
}

async function statusOfRoom(
  ports: FederationServerPorts,
  { params, origin }: AuthenticatedRequest,
): Promise<RoomStatus> {
  const id = parseRoomId(params['roomId']);
  if (id === undefined) throw new MatrixError(400, 'M_INVALID_PARAM', 'that is not a room id');
  return ports.roomStatus(id, origin);
}

/** What is answered where a room's status decides. */
export function refuseByStatus(status: RoomStatus): MatrixError {
  switch (status) {
    case 'absent':
      return new MatrixError(404, 'M_NOT_FOUND', 'this server knows nothing of that');
    case 'denied':
      return denied();
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

/** Source: https://spec.matrix.org/v1.16/server-server-api/#server-access-control-lists-acls */
function denied(): MatrixError {
  return new MatrixError(403, 'M_FORBIDDEN', 'the ACL of that room denies your server');
}

/** Of rooms that we hold in full nothing is handed out. */
function notServed(): MatrixError {
  return new MatrixError(404, 'M_UNRECOGNIZED', 'this server does not serve that');
}

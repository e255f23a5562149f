/**
 * Spaces, and rooms as they are seen from outside.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv1roomsroomidhierarchy and #get_matrixclientv1room_summaryroomidoralias
 */
import { MatrixError } from '../../http/matrix-error.ts';
import { type RoomAlias, type RoomId, parseRoomAlias, parseRoomId } from '../../matrix/identifiers.ts';
import { type UserRequest, queryText } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { roomIdOf, viaOf } from '../room-request.ts';
import { limitOf } from './messages.ts';

const ROOMS_DEFAULT = 50;
const DEPTH_MAX = 999_999;

export const SPACE_ENDPOINTS: readonly UserEndpoint[] = [
  {
    method: 'GET',
    path: '/_matrix/client/v1/rooms/:roomId/hierarchy',
    answer: async (request, { directory }) => {
      const { rooms, next } = await directory.hierarchy({
        roomId: roomIdOf(request),
        userId: request.requester.userId,
        maxDepth: depthOf(request),
        suggestedOnly: flagOf(request, 'suggested_only'),
        limit: limitOf(request, ROOMS_DEFAULT),
        from: queryText(request, 'from') ?? null,
        signal: request.signal,
      });
      return { rooms, ...(next === null ? {} : { next_batch: next }) };
    },
  },
  {
    method: 'GET',
    path: '/_matrix/client/v1/room_summary/:roomIdOrAlias',
    answer: async (request, { directory }) =>
      directory.summary({
        room: roomIn(request),
        userId: request.requester.userId,
        via: viaOf(request),
        signal: request.signal,
      }),
  },
];

function roomIn({ params: { roomIdOrAlias } }: UserRequest): RoomId | RoomAlias {
  const room = parseRoomId(roomIdOrAlias) ?? parseRoomAlias(roomIdOrAlias);
  if (room !== undefined && !room.includes('\0')) return room;
  throw invalid('that is no room id and no alias');
}

function depthOf(request: UserRequest): number | null {
  const text = queryText(request, 'max_depth');
  if (text === undefined) return null;
  if (/^\d{1,9}$/.test(text)) return Math.min(Number(text), DEPTH_MAX);
  throw invalid('max_depth: expected a count');
}

function flagOf(request: UserRequest, name: string): boolean {
  const text = queryText(request, name) ?? 'false';
  if (text === 'true' || text === 'false') return text === 'true';
  throw invalid(`${name}: expected true or false`);
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}

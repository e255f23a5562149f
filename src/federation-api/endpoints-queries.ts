/**
 * What other servers ask of our directories and of our users.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#querying-for-information and #public-room-directory
 */
import { MatrixError } from '../http/matrix-error.ts';
import { ownValue } from '../matrix/content.ts';
import { domainOf, parseRoomAlias, parseRoomId, parseUserId } from '../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type PublicRoomsPage, type PublicRoomsQuery } from '../rooms/directory-contract.ts';
import { type AuthenticatedRequest } from './authenticated.ts';
import { type SignedContext, type SignedEndpoint } from './endpoint.ts';
import { refuseByStatus } from './partial-rooms.ts';

const ROOMS_MAX = 100;

export const QUERY_ENDPOINTS: readonly SignedEndpoint[] = [
  {
    method: 'GET',
    path: '/_matrix/federation/v1/query/directory',
    answer: async ({ query }, context) => {
      const alias = parseRoomAlias(query['room_alias']);
      if (alias === undefined) throw invalid('room_alias: expected an alias');
      const { roomId, servers } = await directoryOf(context).ownAlias(alias);
      return { room_id: roomId, servers };
    },
  },
  {
    method: 'GET',
    path: '/_matrix/federation/v1/query/profile',
    answer: async ({ query }, { ports, serverName }) => {
      const userId = parseUserId(query['user_id']);
      if (userId === undefined) throw invalid('user_id: expected a user id');
      const { field } = query;
      if (field !== undefined && typeof field !== 'string') throw invalid('field: given more than once');
      const profile = domainOf(userId) === serverName ? await ports.profileOf?.(userId) : undefined;
      if (profile === undefined) throw new MatrixError(404, 'M_NOT_FOUND', `${userId} is no user of this server`);
      const { displayName, avatarUrl, fields = {} } = profile;
      const all: JsonObject = {
        ...fields,
        ...(displayName === null ? {} : { displayname: displayName }),
        ...(avatarUrl === null ? {} : { avatar_url: avatarUrl }),
      };
      if (field === undefined) return all;
      const value = ownValue(all, field);
      return value === undefined ? {} : { [field]: value };
    },
  },
  {
    method: 'GET',
    path: '/_matrix/federation/v1/publicRooms',
    answer: async ({ query }, context) => {
      const { since } = query;
      const limit = query['limit'] === undefined ? ROOMS_MAX : Number(query['limit']);
      return roomsOf(context, { limit: limitOf(limit), since: textOf(since, 'since'), search: null, roomTypes: null });
    },
  },
  {
    method: 'POST',
    path: '/_matrix/federation/v1/publicRooms',
    answer: async (request, context) => roomsOf(context, queryIn(request)),
  },
];

/** Source: https://spec.matrix.org/v1.16/server-server-api/#spaces */
export const SPACE_ENDPOINTS: readonly SignedEndpoint[] = [
  {
    method: 'GET',
    path: '/_matrix/federation/v1/hierarchy/:roomId',
    answer: async ({ params, query, origin }, context) => {
      const roomId = parseRoomId(params['roomId']);
      if (roomId === undefined || roomId.includes('\0')) throw invalid('that is not a room id');
      const { suggested_only: suggested = 'false' } = query;
      if (suggested !== 'true' && suggested !== 'false') throw invalid('suggested_only: expected true or false');
      const status = await context.ports.roomStatus(roomId, origin);
      if (status === 'absent' || status === 'denied') throw refuseByStatus(status);
      const answer = await directoryOf(context).hierarchyFor?.(origin, roomId, suggested === 'true');
      if (answer !== undefined) return answer;
      throw new MatrixError(404, 'M_NOT_FOUND', 'that room is not here, or not for your server to see');
    },
  },
];

function directoryOf({ ports }: SignedContext): NonNullable<SignedContext['ports']['directory']> {
  if (ports.directory === undefined) throw new MatrixError(404, 'M_UNRECOGNIZED', 'this server does not serve that');
  return ports.directory;
}

async function roomsOf(context: SignedContext, query: PublicRoomsQuery): Promise<JsonObject> {
  const { chunk, next, prev, total }: PublicRoomsPage = await directoryOf(context).publicRooms(query);
  return {
    ...{ chunk: [...chunk], total_room_count_estimate: total },
    ...(next === null ? {} : { next_batch: next }),
    ...(prev === null ? {} : { prev_batch: prev }),
  };
}

function queryIn({ raw }: AuthenticatedRequest): PublicRoomsQuery {
  const read = parseJsonObject(raw);
  if (!read.ok) throw new MatrixError(400, 'M_NOT_JSON', `the body is ${read.reason}`);
  const { limit = ROOMS_MAX, since, filter = {} } = read.value;
  if (!isJsonObject(filter)) throw invalid('filter: expected an object');
  const { generic_search_term: search, room_types: types } = filter;
  const areTypes =
    types == null || (Array.isArray(types) && types.every((type) => type === null || typeof type === 'string'));
  if (!areTypes) throw invalid('filter.room_types: expected a list of types');
  return {
    limit: limitOf(limit),
    since: textOf(since, 'since'),
    search: textOf(search ?? undefined, 'filter.generic_search_term'),
    roomTypes: (types ?? null) as PublicRoomsQuery['roomTypes'],
  };
}

/** As many as one answer gives, where more are wanted. */
function limitOf(limit: unknown): number {
  if (Number.isSafeInteger(limit) && (limit as number) >= 1) return Math.min(limit as number, ROOMS_MAX);
  throw invalid('limit: expected a number of at least 1');
}

function textOf(value: unknown, name: string): string | null {
  if (value === undefined || value === '') return null;
  if (typeof value === 'string') return value;
  throw invalid(`${name}: expected a text`);
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}

/**
 * Aliases of rooms, and lists of rooms that anybody may look for.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-aliases and #listing-rooms
 */
import { z } from 'zod';
import { MatrixError } from '../../http/matrix-error.ts';
import { type RoomAlias, parseRoomAlias, parseRoomId, parseServerName } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type PublicRoomsPage, type PublicRoomsQuery } from '../../rooms/directory-contract.ts';
import { type ClientRequest, bodyOf, bodyOrNone, queryText, readBody, readMembers } from '../client-request.ts';
import { type ClientContext, type OpenEndpoint, type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { requireFreeAlias } from '../reserved.ts';
import { takeFor } from '../rate-limits.ts';
import { roomIdOf } from '../room-request.ts';
import { limitOf } from './messages.ts';

const aliasBody = z.object({ room_id: z.string({ error: 'a room id' }) });
const listBody = z.object({
  visibility: z.enum(['public', 'private'], { error: 'public or private' }).default('public'),
});
const roomsBody = z.object({
  limit: z.int({ error: 'a number' }).min(1, { error: 'a number of at least 1' }).optional(),
  since: z.string({ error: 'a token' }).optional(),
  filter: z
    .object(
      {
        generic_search_term: z.string({ error: 'a string' }).nullish(),
        room_types: z.array(z.string({ error: 'a string' }).nullable(), { error: 'a list' }).nullish(),
      },
      { error: 'an object' },
    )
    .default({}),
});
const ROOMS_MAX = 100;
const PATH = '/directory/room/:roomAlias';

/** For anybody, as the specification has them. */
export const OPEN_DIRECTORY_ENDPOINTS: readonly OpenEndpoint[] = [
  ...inForms<ClientRequest, ClientContext>(R0_AND_V3, {
    method: 'GET',
    path: PATH,
    answer: async (request, { directory }) => {
      const { roomId, servers } = await directory.alias(aliasOf(request), request.signal);
      return { room_id: roomId, servers };
    },
  }),
  ...inForms<ClientRequest, ClientContext>(R0_AND_V3, {
    method: 'GET',
    path: '/directory/list/room/:roomId',
    answer: async (request, { directory }) => {
      return { visibility: (await directory.isListed(roomIdOf(request))) ? 'public' : 'private' };
    },
  }),
  ...inForms<ClientRequest, ClientContext>(R0_AND_V3, {
    method: 'GET',
    path: '/publicRooms',
    answer: (request, context) => {
      const since = queryText(request, 'since') ?? null;
      return roomsOf(request, context, { limit: limitOf(request, ROOMS_MAX), since, search: null, roomTypes: null });
    },
  }),
];

export const DIRECTORY_ENDPOINTS: readonly UserEndpoint[] = (
  [
    {
      method: 'PUT',
      path: PATH,
      answer: async (request, { directory, limiters, appServices }) => {
        const alias = aliasOf(request);
        const roomId = parseRoomId(readBody(request, aliasBody).room_id);
        if (roomId === undefined || roomId.includes('\0')) throw invalid('room_id: expected a room id');
        requireFreeAlias(request, { appServices }, alias);
        takeFor(limiters.sending, request.requester);
        await directory.setAlias(request.requester.userId, alias, roomId).catch((error: unknown) => {
          // Here it has a status of its own: https://spec.matrix.org/v1.16/client-server-api/#put_matrixclientv3directoryroomroomalias
          if ((error as { kind?: unknown }).kind !== 'alias-in-use') throw error;
          throw new MatrixError(409, 'M_UNKNOWN', `${alias} means a room already`);
        });
        return {};
      },
    },
    {
      method: 'DELETE',
      path: PATH,
      answer: async (request, context) => {
        const { userId } = request.requester;
        const alias = aliasOf(request);
        requireFreeAlias(request, context, alias);
        await context.directory.deleteAlias(userId, alias, await isAdmin(request.requester, context));
        return {};
      },
    },
    {
      method: 'GET',
      path: '/rooms/:roomId/aliases',
      answer: async (request, { directory }) => ({
        aliases: await directory.aliasesOf(request.requester.userId, roomIdOf(request)),
      }),
    },
    {
      method: 'PUT',
      path: '/directory/list/room/:roomId',
      answer: async (request, context) => {
        const { userId } = request.requester;
        const isListed = readMembers(bodyOrNone(request), listBody).visibility === 'public';
        const roomId = roomIdOf(request);
        await context.directory.setListed(userId, roomId, isListed, await isAdmin(request.requester, context));
        return {};
      },
    },
    {
      method: 'POST',
      path: '/publicRooms',
      answer: (request, context) => {
        const { limit = ROOMS_MAX, since = null, filter } = readMembers(bodyOf(request), roomsBody);
        const search = filter.generic_search_term ?? null;
        const query = { limit: Math.min(limit, ROOMS_MAX), since, roomTypes: filter.room_types ?? null };
        return roomsOf(request, context, { ...query, search: search === '' ? null : search });
      },
    },
  ] satisfies UserEndpoint[]
).flatMap((endpoint: UserEndpoint) => inForms(R0_AND_V3, endpoint));

const usersBody = z.object({
  search_term: z.string({ error: 'a string' }),
  limit: z.int({ error: 'a number' }).min(1, { error: 'a number of at least 1' }).default(10),
});
const USERS_MAX = 50;

/** Source: https://spec.matrix.org/v1.16/client-server-api/#user-directory */
export const USER_DIRECTORY_ENDPOINTS: readonly UserEndpoint[] = inForms(R0_AND_V3, {
  method: 'POST',
  path: '/user_directory/search',
  answer: async (request, { directory }) => {
    const { userId } = request.requester;
    const { search_term: term, limit } = readMembers(bodyOf(request), usersBody);
    const { users, isLimited } = await directory.searchUsers({ userId, term, limit: Math.min(limit, USERS_MAX) });
    return {
      limited: isLimited,
      results: users.map(({ userId: found, displayName, avatarUrl }) => ({
        user_id: found,
        ...(displayName === null ? {} : { display_name: displayName }),
        ...(avatarUrl === null ? {} : { avatar_url: avatarUrl }),
      })),
    };
  },
} satisfies UserEndpoint);

function isAdmin(
  { userId }: { readonly userId: Parameters<ClientContext['accounts']['requireAdmin']>[0] },
  { accounts }: ClientContext,
): Promise<boolean> {
  return accounts.requireAdmin(userId).then(
    () => true,
    () => false,
  );
}

/** Of this server, or of the one that is named. */
async function roomsOf(
  request: ClientRequest,
  { directory, serverName }: ClientContext,
  query: PublicRoomsQuery,
): Promise<JsonObject> {
  const named = queryText(request, 'server');
  if (named !== undefined && named !== serverName) {
    const server = parseServerName(named);
    if (server === undefined) throw invalid('server: expected a server name');
    return directory.publicRoomsOf(server, query, request.signal);
  }
  return publicRoomsAnswer(await directory.publicRooms(query));
}

function publicRoomsAnswer({ chunk, next, prev, total }: PublicRoomsPage): JsonObject {
  return {
    ...{ chunk: [...chunk], total_room_count_estimate: total },
    ...(next === null ? {} : { next_batch: next }),
    ...(prev === null ? {} : { prev_batch: prev }),
  };
}

/** No person could tell such aliases apart, though other servers may give them out. */
const CONTROL = /[\u0000-\u001f\u007f]/;

function aliasOf({ params }: Pick<ClientRequest, 'params'>): RoomAlias {
  const alias = parseRoomAlias(params['roomAlias']);
  if (alias === undefined || CONTROL.test(alias) || alias.startsWith('#:')) throw invalid('that is not an alias');
  return alias;
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}

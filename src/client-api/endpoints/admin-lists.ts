/**
 * Lists of users and rooms, as tools for administrators of Synapse ask for them. For users who are administrators.
 *
 * Source: https://element-hq.github.io/synapse/latest/admin_api/user_admin_api.html#list-accounts and
 * https://element-hq.github.io/synapse/latest/admin_api/rooms.html#list-room-api
 */
import { MatrixError } from '../../http/matrix-error.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { type UserRequest, queryText } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';

const LIMIT_DEFAULT = 100;
const LIMIT_MAX = 1_000;
const OFFSET_MAX = 1_000_000_000;
const ORDERS = {
  name: 'name',
  alphabetical: 'name',
  joined_members: 'members',
  size: 'members',
  version: 'version',
} as const;

export const ADMIN_LIST_ENDPOINTS: readonly UserEndpoint[] = [
  {
    method: 'GET',
    path: '/_synapse/admin/v2/users',
    answer: async (request, context) => {
      await context.accounts.requireAdmin(request.requester.userId);
      const { offset, limit } = pageOf(request);
      const name = queryText(request, 'name') ?? queryText(request, 'user_id') ?? null;
      const isAlsoDeactivated = flagOf(request, 'deactivated');
      const { users, total } = await context.accounts.page({ offset, limit, name, isAlsoDeactivated });
      return withNext({ offset, count: users.length, total }, 'next_token', String, {
        users: users.map(({ userId, isAdmin, createdAt, deactivatedAt, displayName, avatarUrl }) => ({
          ...{ name: userId, admin: isAdmin, deactivated: deactivatedAt !== null, is_guest: false, user_type: null },
          ...{ displayname: displayName, avatar_url: avatarUrl, creation_ts: createdAt, shadow_banned: false },
          ...{ erased: false, locked: false },
        })),
        total,
      });
    },
  },
  {
    method: 'GET',
    path: '/_synapse/admin/v1/rooms',
    answer: async (request, context) => {
      await context.accounts.requireAdmin(request.requester.userId);
      const page = pageOf(request);
      const { offset } = page;
      const order = ORDERS[(queryText(request, 'order_by') ?? 'name') as keyof typeof ORDERS] as
        (typeof ORDERS)[keyof typeof ORDERS] | undefined;
      if (order === undefined) throw invalid(`order_by: expected one of ${Object.keys(ORDERS).join(', ')}`);
      const dir = queryText(request, 'dir') ?? 'f';
      if (dir !== 'f' && dir !== 'b') throw invalid('dir: expected b or f');
      // The biggest come first, as these tools have it.
      const isBackwards = (order === 'members') === (dir === 'f');
      const search = queryText(request, 'search_term') ?? null;
      if (search === '') throw invalid('search_term: expected a text');
      const { rooms, total } = await context.directory.allRooms({ ...page, order, isBackwards, search });
      const count = rooms.length;
      const list: JsonObject = { rooms: [...rooms], offset, total_rooms: total };
      const before = offset === 0 ? {} : { prev_batch: Math.max(0, offset - page.limit) };
      return { ...withNext({ offset, count, total }, 'next_batch', (next) => next, list), ...before };
    },
  },
];

function withNext(
  { offset, count, total }: { readonly offset: number; readonly count: number; readonly total: number },
  name: string,
  write: (next: number) => Json,
  answer: JsonObject,
): JsonObject {
  return offset + count < total && count > 0 ? { ...answer, [name]: write(offset + count) } : answer;
}

function pageOf(request: UserRequest): { readonly offset: number; readonly limit: number } {
  return {
    offset: Math.min(countOf(request, 'from', 0), OFFSET_MAX),
    limit: Math.max(1, Math.min(countOf(request, 'limit', LIMIT_DEFAULT), LIMIT_MAX)),
  };
}

function countOf(request: UserRequest, name: string, otherwise: number): number {
  const text = queryText(request, name);
  if (text === undefined) return otherwise;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw invalid(`${name}: expected a count`);
}

function flagOf(request: UserRequest, name: string): boolean {
  const text = queryText(request, name) ?? 'false';
  if (text === 'true' || text === 'false') return text === 'true';
  throw invalid(`${name}: expected true or false`);
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}

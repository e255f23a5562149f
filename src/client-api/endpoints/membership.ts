/**
 * Which rooms a user is in, and how he gets into and out of them. A join waits for a resident where one has to be asked, and never
 * for the room's full state; all else waits for nobody.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-membership
 */
import { z } from 'zod';
import { MatrixError } from '../../http/matrix-error.ts';
import { type RoomAlias, type RoomId, parseRoomAlias, parseRoomId, parseServerName } from '../../matrix/identifiers.ts';
import { type MembershipChange } from '../../rooms/client-contract.ts';
import { type UserRequest, bodyOf, bodyOrNone, readMembers } from '../client-request.ts';
import { type ClientContext, type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { takeFor } from '../rate-limits.ts';
import { profileOf, roomIdOf, userIdIn, viaOf } from '../room-request.ts';

const reason = z.string({ error: 'a string' }).optional();
const ownBody = z.object({ reason });
/** Insists on leaving a room that is not to be left yet. */
const INSISTS = 'org.rejoinder.force';
const leaveBody = z.object({ reason, [INSISTS]: z.boolean({ error: 'true or false' }).default(false) });
const changeBody = z.object({ reason, user_id: z.string({ error: 'a user id' }) });
/** Longer ones nobody has. */
const ADDRESS_CHARS_MAX = 500;
const identifierText = (what: string) =>
  z
    .string({ error: what })
    .regex(/^[^\s\p{Cc}\p{Cs}]+$/u, { error: what })
    .max(ADDRESS_CHARS_MAX, { error: what });

/** Source: https://spec.matrix.org/v1.16/client-server-api/#thirdparty_post_matrixclientv3roomsroomidinvite */
const identifierBody = z
  .object({
    reason,
    id_server: z.string({ error: 'the name of an identity server' }).transform((text, context) => {
      const name = parseServerName(text);
      if (name !== undefined) return name;
      context.addIssue({ code: 'custom', message: 'the name of an identity server' });
      return z.NEVER;
    }),
    id_access_token: z
      .string({ error: 'a token of the identity server' })
      .regex(/^[\x21-\x7e]{1,1000}$/, { error: 'a token of the identity server' }),
    medium: z.enum(['email', 'msisdn'], { error: 'email or msisdn' }),
    address: identifierText('an address'),
  })
  .transform(({ address, ...rest }) => ({
    ...rest,
    address: rest.medium === 'email' ? address.toLowerCase() : address,
  }));

export const MEMBERSHIP_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path: '/joined_rooms',
    answer: async ({ requester }, { reads }) => ({ joined_rooms: await reads.joinedRooms(requester.userId) }),
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/join/:roomIdOrAlias',
    answer: (request, context) => join(request, context, roomIn(request)),
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/knock/:roomIdOrAlias',
    answer: async (request, context) => {
      const { userId } = request.requester;
      const { reason: why } = readMembers(bodyOrNone(request), ownBody);
      takeFor(context.limiters.joining, request.requester);
      const profile = { ...(await profileOf(request, context)), ...(why === undefined ? {} : { reason: why }) };
      const { signal } = request;
      return {
        room_id: await context.acts.knock({ room: roomIn(request), userId, via: viaOf(request), profile, signal }),
      };
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/rooms/:roomId/join',
    answer: (request, context) => join(request, context, roomIdOf(request)),
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/rooms/:roomId/leave',
    answer: async (request, { acts }) => {
      const roomId = roomIdOf(request);
      const { reason: why, [INSISTS]: isForced } = readMembers(bodyOrNone(request), leaveBody);
      const { userId } = request.requester;
      await acts.changeMembership({ roomId, sender: userId, act: 'leave', userId, reason: why, isForced });
      return {};
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/rooms/:roomId/forget',
    answer: async (request, { acts }) => {
      const roomId = roomIdOf(request);
      if (await acts.forget(request.requester.userId, roomId)) return {};
      throw new MatrixError(400, 'M_UNKNOWN', 'you are in that room, or invited to it: leave it first');
    },
  } satisfies UserEndpoint),
  ...(['kick', 'ban', 'unban', 'invite'] as const).flatMap((act) =>
    inForms(R0_AND_V3, {
      method: 'POST',
      path: `/rooms/:roomId/${act}`,
      answer: (request, context) => change(request, context, act),
    } satisfies UserEndpoint),
  ),
];

function roomIn({ params }: UserRequest): RoomId | RoomAlias {
  const { roomIdOrAlias } = params;
  const room = parseRoomId(roomIdOrAlias) ?? parseRoomAlias(roomIdOrAlias);
  if (room === undefined) throw new MatrixError(400, 'M_INVALID_PARAM', 'that is no room id and no alias');
  return room;
}

/** Older clients send no body where nothing has to be said. */
async function join(request: UserRequest, context: ClientContext, room: RoomId | RoomAlias) {
  const { userId } = request.requester;
  const via = viaOf(request);
  const { reason: why } = readMembers(bodyOrNone(request), ownBody);
  takeFor(context.limiters.joining, request.requester);
  const profile = { ...(await profileOf(request, context)), ...(why === undefined ? {} : { reason: why }) };
  // Looking it up asks the application service that could have it.
  const alias = parseRoomAlias(room);
  if (alias !== undefined && context.appServices.mayProvideAlias(alias)) {
    await context.directory.alias(alias, request.signal);
  }
  return { room_id: await context.acts.join({ room, userId, via, profile, signal: request.signal }) };
}

async function change(
  request: UserRequest,
  { acts, limiters }: ClientContext,
  act: MembershipChange['act'],
): Promise<Record<string, never>> {
  const sender = request.requester.userId;
  const roomId = roomIdOf(request);
  const given = bodyOf(request);
  if (act === 'invite' && given['user_id'] === undefined && given['medium'] !== undefined) {
    const { id_server: idServer, id_access_token: idAccessToken, ...invited } = readMembers(given, identifierBody);
    takeFor(limiters.sending, request.requester);
    await acts.inviteByIdentifier({ roomId, sender, idServer, idAccessToken, ...invited, signal: request.signal });
    return {};
  }
  const body = readMembers(given, changeBody);
  const userId = userIdIn(body.user_id, 'user_id');
  takeFor(limiters.sending, request.requester);
  await acts.changeMembership({ roomId, sender, act, userId, reason: body.reason });
  return {};
}

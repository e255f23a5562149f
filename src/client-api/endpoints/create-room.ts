/**
 * Making rooms.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#creation
 */
import { z } from 'zod';
import { MatrixError } from '../../http/matrix-error.ts';
import { type RoomAlias, type ServerName, domainOf, parseRoomAlias } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { bodyOf, readMembers } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { requireFreeAlias } from '../reserved.ts';
import { takeFor } from '../rate-limits.ts';
import { profileOf, roomIdOf, userIdIn } from '../room-request.ts';

const text = z.string({ error: 'a string' });
const object = z.custom<JsonObject>((value) => isJsonObject(value as JsonObject), { error: 'an object' });

const roomBody = z.object({
  creation_content: object.default({}),
  initial_state: z
    .array(z.object({ type: text, state_key: text.default(''), content: object }, { error: 'an event' }), {
      error: 'a list',
    })
    .default([]),
  invite: z.array(text, { error: 'a list of user ids' }).default([]),
  invite_3pid: z.array(z.unknown(), { error: 'a list' }).default([]),
  is_direct: z.boolean({ error: 'true or false' }).default(false),
  name: text.optional(),
  power_level_content_override: object.default({}),
  preset: z.enum(['private_chat', 'trusted_private_chat', 'public_chat'], { error: 'one of the presets' }).optional(),
  room_alias_name: text.optional(),
  room_version: text.optional(),
  topic: text.optional(),
  visibility: z.enum(['public', 'private'], { error: 'public or private' }).default('private'),
});

export const CREATE_ROOM_ENDPOINTS: readonly UserEndpoint[] = inForms(R0_AND_V3, {
  method: 'POST',
  path: '/createRoom',
  answer: async (request, context) => {
    const { userId } = request.requester;
    const body = readMembers(bodyOf(request), roomBody);
    // What this server has no place for is refused, and not left out in silence.
    if (body.invite_3pid.length > 0) {
      throw new MatrixError(400, 'M_UNKNOWN', 'invite_3pid: nobody can be invited by third-party identifiers here');
    }
    const invite = body.invite.map((user) => userIdIn(user, 'invite'));
    const alias = body.room_alias_name === undefined ? undefined : aliasOf(body.room_alias_name, context.serverName);
    if (alias !== undefined) requireFreeAlias(request, context, alias);
    takeFor(context.limiters.joining, request.requester);
    const roomId = await context.acts.createRoom({
      creator: userId,
      profile: await profileOf(request, context),
      roomVersion: body.room_version ?? context.defaultRoomVersion,
      preset: body.preset ?? (body.visibility === 'public' ? 'public_chat' : 'private_chat'),
      creationContent: body.creation_content,
      powerLevelOverride: body.power_level_content_override,
      initialState: body.initial_state.map(({ type, state_key: stateKey, content }) => ({ type, stateKey, content })),
      name: body.name,
      topic: body.topic,
      alias,
      invite,
      isDirect: body.is_direct,
      isListed: body.visibility === 'public',
    });
    return { room_id: roomId };
  },
} satisfies UserEndpoint);

const upgradeBody = z.object({
  new_version: text,
  additional_creators: z.array(text, { error: 'a list of user ids' }).default([]),
});

/** Source: https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3roomsroomidupgrade */
export const UPGRADE_ENDPOINTS: readonly UserEndpoint[] = inForms(R0_AND_V3, {
  method: 'POST',
  path: '/rooms/:roomId/upgrade',
  answer: async (request, context) => {
    const { userId } = request.requester;
    const roomId = roomIdOf(request);
    const { new_version: roomVersion, additional_creators: creators } = readMembers(bodyOf(request), upgradeBody);
    const additionalCreators = creators.map((user) => userIdIn(user, 'additional_creators'));
    takeFor(context.limiters.joining, request.requester);
    const profile = await profileOf(request, context);
    return {
      replacement_room: await context.acts.upgradeRoom({ roomId, userId, profile, roomVersion, additionalCreators }),
    };
  },
} satisfies UserEndpoint);

/** No person could tell such aliases apart, though other servers may give them out. */
const CONTROL = /[\u0000-\u001f\u007f]/;

function aliasOf(name: string, serverName: ServerName): RoomAlias {
  const alias = parseRoomAlias(`#${name}:${serverName}`);
  if (alias !== undefined && domainOf(alias) === serverName && !CONTROL.test(alias) && name !== '') return alias;
  throw new MatrixError(400, 'M_INVALID_PARAM', 'room_alias_name: expected the local part of an alias');
}

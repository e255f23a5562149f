/**
 * Deleting rooms, as tools for administrators of Synapse ask for it: a purge (src/rooms/purge/), after our users have left. For users who are
 * administrators. Of the body `force_purge` is what is done anyway, and `message` and `room_name` are about a room that none is made of:
 * they are let pass. What would do something else is refused: `block`, `new_room_user_id`, and `purge: false`.
 *
 * Source: https://element-hq.github.io/synapse/latest/admin_api/rooms.html#delete-room-api
 */
import { z } from 'zod';
import { MatrixError } from '../../http/matrix-error.ts';
import { type RoomId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type PurgeStatus, type PurgeStep } from '../../rooms/purge/contract.ts';
import { type UserRequest, bodyOrNone, readMembers } from '../client-request.ts';
import { type ClientContext, type UserEndpoint } from '../context.ts';
import { roomIdOf } from '../room-request.ts';

const flag = z.boolean({ error: 'true or false' });
const deleteBody = z.object({
  block: flag.default(false),
  purge: flag.default(true),
  force_purge: flag.default(false),
  new_room_user_id: z.string({ error: 'a user id' }).nullish(),
});

const STATUS: Readonly<Record<PurgeStep, string>> = {
  leaving: 'shutting_down',
  telling: 'purging',
  deleting: 'purging',
  done: 'complete',
};

export const ADMIN_ROOM_ENDPOINTS: readonly UserEndpoint[] = [
  {
    method: 'DELETE',
    path: '/_synapse/admin/v1/rooms/:roomId',
    answer: async (request, context) => {
      const begun = await beginPurge(request, context);
      return shutdownOf(await context.purges.wait(begun.purgeId, request.signal));
    },
  },
  {
    method: 'DELETE',
    path: '/_synapse/admin/v2/rooms/:roomId',
    answer: async (request, context) => ({ delete_id: (await beginPurge(request, context)).purgeId }),
  },
  {
    method: 'GET',
    path: '/_synapse/admin/v2/rooms/:roomId/delete_status',
    answer: async (request, context) => {
      const roomId = await roomOf(request, context);
      const purges = await context.purges.ofRoom(roomId);
      if (purges.length === 0) throw new MatrixError(404, 'M_NOT_FOUND', `${roomId} was never to be deleted`);
      return { results: purges.map((purge) => ({ delete_id: purge.purgeId, ...progressOf(purge) })) };
    },
  },
  {
    method: 'GET',
    path: '/_synapse/admin/v2/rooms/delete_status/:deleteId',
    answer: async (request, context) => {
      await context.accounts.requireAdmin(request.requester.userId);
      const purge = await context.purges.status(request.params['deleteId'] ?? '');
      return { delete_id: purge.purgeId, room_id: purge.roomId, ...progressOf(purge) };
    },
  },
];

async function roomOf(request: UserRequest, { accounts }: ClientContext): Promise<RoomId> {
  await accounts.requireAdmin(request.requester.userId);
  return roomIdOf(request);
}

async function beginPurge(request: UserRequest, context: ClientContext): Promise<PurgeStatus> {
  const roomId = await roomOf(request, context);
  const body = readMembers(bodyOrNone(request), deleteBody);
  if (body.block) throw refused('block: rooms cannot be blocked here');
  if (!body.purge) throw refused('purge: what is not purged is left by its users, and stays');
  if (body.new_room_user_id != null) {
    throw refused('new_room_user_id: no room is made here in the place of one that is deleted');
  }
  return context.purges.request({ roomId, isForced: true });
}

function refused(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}

function progressOf(purge: PurgeStatus): JsonObject {
  return { status: STATUS[purge.step], shutdown_room: shutdownOf(purge) };
}

function shutdownOf({ putOut }: PurgeStatus): JsonObject {
  return { kicked_users: [...putOut], failed_to_kick_users: [], local_aliases: [], new_room_id: null };
}

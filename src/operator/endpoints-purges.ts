/** Purging rooms, and how far a purge is. */
import { z } from 'zod';
import { type JsonObject } from '../matrix/pdu.ts';
import { type PurgeStatus } from '../rooms/purge/contract.ts';
import { purgeAnswer, purgePlanAnswer } from './answer-forms.ts';
import { type OperatorEndpoint, roomOf } from './endpoints.ts';
import { parsePurge, purgeBody } from './requests.ts';

export const PURGE_ENDPOINTS: readonly OperatorEndpoint[] = [
  {
    method: 'POST',
    path: '/_rejoinder/v1/rooms/:room/purge',
    summary: 'Deletes all that is held of a room; answers at once, or says what would be deleted.',
    body: purgeBody,
    answers: z.union([purgeAnswer, purgePlanAnswer]),
    answer: async (request, { ports }) => {
      const { isForced, isDry } = parsePurge(request.body);
      const roomId = await roomOf(request, ports);
      if (!isDry) return statusAnswer(await ports.purges.request({ roomId, isForced }));
      const { members, openMoves, tables } = await ports.purges.plan(roomId);
      return { room_id: roomId, members, unsettled_moves: openMoves, tables };
    },
  },
  {
    method: 'GET',
    path: '/_rejoinder/v1/purges/:purge',
    summary: 'How far a purge is.',
    answers: purgeAnswer,
    answer: async ({ params }, { ports }) => statusAnswer(await ports.purges.status(params['purge'] ?? '')),
  },
];

function statusAnswer({ roomId, purgeId, step, putOut, rows, requestedAt, doneAt }: PurgeStatus): JsonObject {
  return {
    room_id: roomId,
    purge_id: purgeId,
    step,
    put_out: [...putOut],
    rows_deleted: rows,
    requested_at: new Date(requestedAt).toISOString(),
    done_at: doneAt === null ? null : new Date(doneAt).toISOString(),
  };
}

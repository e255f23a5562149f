/**
 * What a user has read, for his own counts of what he has not, and for others to see.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#receipts and #fully-read-markers
 */
import { z } from 'zod';
import { MatrixError } from '../../http/matrix-error.ts';
import { type EventId, parseEventId } from '../../matrix/identifiers.ts';
import { type ReadMark } from '../../rooms/client-contract.ts';
import { bodyOrNone, readMembers } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { takeFor } from '../rate-limits.ts';
import { eventIdOf, roomIdOf } from '../room-request.ts';

const MARKS: readonly ReadMark[] = ['m.read', 'm.read.private', 'm.fully_read'];

const eventId = z.string({ error: 'an event id' }).optional();
const markersBody = z.object({ 'm.read': eventId, 'm.read.private': eventId, 'm.fully_read': eventId });
const receiptBody = z.object({ thread_id: z.string({ error: 'a string' }).optional() });

export const RECEIPT_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/rooms/:roomId/receipt/:receiptType/:eventId',
    answer: async (request, { acts, limiters }) => {
      const mark = MARKS.find((name) => name === request.params['receiptType']);
      if (mark === undefined) {
        throw new MatrixError(400, 'M_INVALID_PARAM', `receiptType: expected one of ${MARKS.join(', ')}`);
      }
      const { thread_id: threadId } = readMembers(bodyOrNone(request), receiptBody);
      if (threadId !== undefined) requireThread(mark, threadId);
      const marks = new Map([[mark, eventIdOf(request)]]);
      takeFor(limiters.sending, request.requester);
      await acts.markRead(request.requester.userId, roomIdOf(request), marks, threadId ?? null);
      return {};
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/rooms/:roomId/read_markers',
    answer: async (request, { acts, limiters }) => {
      const body = readMembers(bodyOrNone(request), markersBody);
      const marks = MARKS.flatMap((mark) => {
        const named = body[mark];
        return named === undefined ? [] : [[mark, eventIdIn(named, mark)] as const];
      });
      takeFor(limiters.sending, request.requester);
      await acts.markRead(request.requester.userId, roomIdOf(request), new Map(marks), null);
      return {};
    },
  } satisfies UserEndpoint),
];

/** Throws a `MatrixError` for what names no thread, or where none can be meant. */
function requireThread(mark: ReadMark, threadId: string): void {
  if (mark === 'm.fully_read') {
    throw new MatrixError(400, 'M_INVALID_PARAM', 'thread_id: a room is fully read as a whole');
  }
  if (threadId !== 'main') eventIdIn(threadId, 'thread_id');
}

function eventIdIn(value: string, name: string): EventId {
  const parsed = parseEventId(value);
  if (parsed === undefined || parsed.includes('\0')) {
    throw new MatrixError(400, 'M_INVALID_PARAM', `${name}: expected an event id`);
  }
  return parsed;
}

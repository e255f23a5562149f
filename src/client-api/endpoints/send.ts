/**
 * Sending messages, state and redactions. The answer comes when the event is durable; nobody is waited for.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#sending-events-to-a-room and #redactions
 */
import { z } from 'zod';
import { type Clock } from '../../clock.ts';
import { type UserRequest, bodyOf, queryText, readBody } from '../client-request.ts';
import { MatrixError } from '../../http/matrix-error.ts';
import { type ClientContext, type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { takeFor } from '../rate-limits.ts';
import { eventIdOf, roomIdOf, txnIdOf } from '../room-request.ts';

/** How far beyond our time a service may say that an event was sent: its clock may be before ours. */
const AHEAD_MS_MAX = 5 * 60_000;

const redactBody = z.object({ reason: z.string({ error: 'a string' }).optional() });

export const SEND_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'PUT',
    path: '/rooms/:roomId/send/:eventType/:txnId',
    answer: async (request, { acts, clock, limiters }) => {
      const { userId, deviceId } = request.requester;
      const [roomId, txnId, content] = [roomIdOf(request), txnIdOf(request), bodyOf(request)];
      takeFor(limiters.sending, request.requester);
      const type = request.params['eventType'] ?? '';
      const from = { userId, deviceId, txnId, originServerTs: saidAt(request, clock) };
      return { event_id: await acts.sendMessage(from, roomId, type, content) };
    },
  } satisfies UserEndpoint),
  ...['/rooms/:roomId/state/:eventType', '/rooms/:roomId/state/:eventType/:stateKey'].flatMap((path) =>
    inForms(R0_AND_V3, { method: 'PUT', path, answer: sendState } satisfies UserEndpoint),
  ),
  ...inForms(R0_AND_V3, {
    method: 'PUT',
    path: '/rooms/:roomId/redact/:eventId/:txnId',
    answer: async (request, { acts, limiters }) => {
      const { userId, deviceId } = request.requester;
      const [roomId, eventId, txnId] = [roomIdOf(request), eventIdOf(request), txnIdOf(request)];
      const { reason } = readBody(request, redactBody);
      takeFor(limiters.sending, request.requester);
      const content = reason === undefined ? {} : { reason };
      return { event_id: await acts.redact({ userId, deviceId, txnId }, roomId, eventId, content) };
    },
  } satisfies UserEndpoint),
];

async function sendState(
  request: UserRequest,
  { acts, clock, limiters }: ClientContext,
): Promise<{ event_id: string }> {
  const { userId } = request.requester;
  const { eventType: type = '', stateKey = '' } = request.params;
  const [roomId, content] = [roomIdOf(request), bodyOf(request)];
  const originServerTs = saidAt(request, clock);
  takeFor(limiters.sending, request.requester);
  return { event_id: await acts.sendState(userId, roomId, { type, stateKey, originServerTs }, content) };
}

/**
 * When an application service says that an event was sent; of all others it is now. For times to come our keys are not valid, and other
 * servers would refuse the event: https://spec.matrix.org/v1.16/rooms/v5/#signing-key-validity-period.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#timestamp-massaging
 */
function saidAt(request: UserRequest, clock: Clock): number | undefined {
  const ts = request.requester.service === undefined ? undefined : queryText(request, 'ts');
  if (ts === undefined) return undefined;
  const at = Number(ts);
  if (!/^\d{1,16}$/.test(ts) || !Number.isSafeInteger(at)) {
    throw new MatrixError(400, 'M_INVALID_PARAM', 'ts: expected milliseconds since 1970');
  }
  if (at > clock.now() + AHEAD_MS_MAX) throw new MatrixError(400, 'M_INVALID_PARAM', 'ts: that is yet to come');
  return at;
}

/**
 * Whether users are there.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#presence
 */
import { z } from 'zod';
import { type JsonObject } from '../../matrix/pdu.ts';
import { readBody, requireOwn } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { presenceContent } from '../../matrix/client/presence.ts';
import { takeFor } from '../rate-limits.ts';
import { userIdIn } from '../room-request.ts';

const PATH = '/presence/:userId/status';

const presenceBody = z.object({
  presence: z.enum(['online', 'offline', 'unavailable'], { error: 'online, offline or unavailable' }),
  status_msg: z.string({ error: 'a string' }).nullish(),
});

export const PRESENCE_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path: PATH,
    answer: async (request, { passing, clock }): Promise<JsonObject> => {
      const userId = userIdIn(request.params['userId'] ?? '', 'userId');
      return presenceContent(await passing.presenceOf(request.requester.userId, userId), clock.now());
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'PUT',
    path: PATH,
    answer: async (request, { passing, limiters }) => {
      const userId = requireOwn(request);
      const { presence, status_msg: statusMsg = null } = readBody(request, presenceBody);
      takeFor(limiters.sending, request.requester);
      await passing.setPresence(userId, presence, statusMsg);
      return {};
    },
  } satisfies UserEndpoint),
];

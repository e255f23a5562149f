/**
 * Who types.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#typing-notifications
 */
import { z } from 'zod';
import { MatrixError } from '../../http/matrix-error.ts';
import { readBody, requireOwn } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { takeFor } from '../rate-limits.ts';
import { roomIdOf } from '../room-request.ts';

/** Where the client does not say how long. */
const TYPES_MS_DEFAULT = 30_000;

const typingBody = z.object({
  typing: z.boolean({ error: 'true or false' }),
  timeout: z.number({ error: 'milliseconds' }).optional(),
});

export const TYPING_ENDPOINTS: readonly UserEndpoint[] = inForms(R0_AND_V3, {
  method: 'PUT',
  path: '/rooms/:roomId/typing/:userId',
  answer: async (request, { passing, limiters }) => {
    const userId = requireOwn(request);
    const { typing, timeout = TYPES_MS_DEFAULT } = readBody(request, typingBody);
    if (timeout < 0) throw new MatrixError(400, 'M_INVALID_PARAM', 'timeout: expected milliseconds');
    takeFor(limiters.sending, request.requester);
    await passing.setTyping(userId, roomIdOf(request), typing ? Math.ceil(timeout) : null);
    return {};
  },
} satisfies UserEndpoint);

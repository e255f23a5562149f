/**
 * What application services ask for themselves.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#pinging
 */
import { z } from 'zod';
import { type PingOutcome } from '../../app-services/contract.ts';
import { MatrixError } from '../../http/matrix-error.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { bodyOrNone, readMembers } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { inForms } from '../paths.ts';

const pingBody = z.object({
  transaction_id: z.string({ error: 'a string' }).max(255, { error: 'a string of at most 255 characters' }).optional(),
});

export const APP_SERVICE_ENDPOINTS: readonly UserEndpoint[] = inForms(['v1'], {
  method: 'POST',
  path: '/appservice/:appserviceId/ping',
  answer: async (request, { appServices }) => {
    const { service } = request.requester;
    if (service === undefined || service.id !== request.params['appserviceId']) {
      throw new MatrixError(403, 'M_FORBIDDEN', 'that is for the application service itself');
    }
    const { transaction_id: txnId } = readMembers(bodyOrNone(request), pingBody);
    return pingAnswer(await appServices.ping(service, txnId));
  },
} satisfies UserEndpoint);

function pingAnswer(ping: PingOutcome): JsonObject {
  switch (ping.outcome) {
    case 'answered':
      return { duration_ms: ping.durationMs };
    case 'no-url':
      throw new MatrixError(400, 'M_URL_NOT_SET', 'the registration has no url');
    case 'timeout':
      throw new MatrixError(504, 'M_CONNECTION_TIMEOUT', 'the application service did not answer in time');
    case 'unreachable':
      throw new MatrixError(502, 'M_CONNECTION_FAILED', `the application service cannot be reached: ${ping.reason}`);
    case 'bad-status': {
      const details = { status: ping.status, body: ping.body };
      throw new MatrixError(502, 'M_BAD_STATUS', `the application service answered ${ping.status}`, details);
    }
  }
}

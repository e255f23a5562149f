/** Application services: how far each is, and what is done about one that takes no more. */
import { type ServiceDecision, type ServiceStatus } from '../app-services/contract.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { said } from '../rooms/command-contract.ts';
import { retriedServiceAnswer, servicesAnswer, skippedServiceAnswer } from './answer-forms.ts';
import { DEFAULT_BY } from './endpoints-commands.ts';
import { type OperatorEndpoint } from './endpoints.ts';
import { parseSaid, parseServiceParameter, parseSkipService, skipServiceBody } from './requests.ts';

export const SERVICE_ENDPOINTS: readonly OperatorEndpoint[] = [
  {
    method: 'GET',
    path: '/_rejoinder/v1/services',
    summary: 'The application services, how far each has been told, and what it did not take.',
    answers: servicesAnswer,
    answer: async (_request, { ports: { services } }) => ({ services: (await services.list()).map(statusAnswer) }),
  },
  {
    method: 'POST',
    path: '/_rejoinder/v1/services/:service/retry',
    summary: 'Sends an application service at once what it did not take.',
    body: said,
    answers: retriedServiceAnswer,
    answer: async ({ params, body }, { ports: { services } }) => {
      const service = parseServiceParameter(params['service'] ?? '');
      if (!(await services.retry(service, decisionOf(parseSaid(body))))) throw unknownService(service);
      return { service };
    },
  },
  {
    method: 'POST',
    path: '/_rejoinder/v1/services/:service/skip',
    summary: 'Gives up a transaction that an application service does not take, or all that waits for it.',
    body: skipServiceBody,
    answers: skippedServiceAnswer,
    answer: async ({ params, body }, { ports: { services } }) => {
      const service = parseServiceParameter(params['service'] ?? '');
      const { transaction, ...by } = parseSkipService(body);
      if (transaction === undefined) {
        const skipped = await services.skipAll(service, decisionOf(by));
        if (skipped === undefined) throw unknownService(service);
        return { service, skipped: { after: skipped.after, up_to: skipped.upTo } };
      }
      const came = await services.skip(service, transaction, decisionOf(by));
      if (came.outcome === 'unknown') throw unknownService(service);
      if (came.outcome === 'other') {
        const what = came.waiting === null ? 'none does' : `but ${came.waiting}`;
        throw new MatrixError(409, 'REJOINDER_INAPPLICABLE', `that transaction does not wait for ${service}, ${what}`);
      }
      const events = came.events.map(({ eventId, roomId }) => ({ event_id: eventId, room_id: roomId }));
      return { service, skipped: { transaction, events } };
    },
  },
];

function decisionOf({
  by = DEFAULT_BY,
  reason,
}: {
  by?: string | undefined;
  reason?: string | undefined;
}): ServiceDecision {
  return { by, reason };
}

function unknownService(service: string): MatrixError {
  return new MatrixError(404, 'M_NOT_FOUND', `nothing is known of an application service ${service}`);
}

function statusAnswer(status: ServiceStatus): JsonObject {
  const { id, url, state, position, lag, failures, lastFailure, transaction } = status;
  return {
    ...{ id, url, state, position, lag, oldest_at: timeOf(status.oldestAt), failures },
    ...{ failing_since: timeOf(status.failedSince), last_failure: lastFailure, next_try_at: timeOf(status.retryAt) },
    transaction: transaction && {
      ...{ id: transaction.txnId, events: transaction.events, ephemeral: transaction.ephemeral },
      made_at: timeOf(transaction.madeAt),
    },
  };
}

function timeOf(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}

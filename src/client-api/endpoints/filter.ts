/**
 * Filters that a client keeps here.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#filtering
 */
import { bodyOf, requireOwn } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';

export const FILTER_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/user/:userId/filter',
    answer: async (request, { accounts }) => ({
      filter_id: await accounts.saveFilter(requireOwn(request), bodyOf(request)),
    }),
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path: '/user/:userId/filter/:filterId',
    answer: (request, { accounts }) => accounts.filter(requireOwn(request), request.params['filterId'] ?? ''),
  } satisfies UserEndpoint),
];

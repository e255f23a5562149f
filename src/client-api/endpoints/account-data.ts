/**
 * What clients keep here for themselves.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#client-config
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type UserRequest, bodyOf, requireOwn } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { roomIdOf } from '../room-request.ts';

export const ACCOUNT_DATA_ENDPOINTS: readonly UserEndpoint[] = [
  '/user/:userId/account_data/:type',
  '/user/:userId/rooms/:roomId/account_data/:type',
].flatMap((path) => [
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path,
    answer: (request, { accounts }) => accounts.accountData(requireOwn(request), roomOf(request), typeOf(request)),
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'PUT',
    path,
    answer: async (request, { accounts }) => {
      const userId = requireOwn(request);
      await accounts.setAccountData(userId, roomOf(request), typeOf(request), bodyOf(request));
      return {};
    },
  } satisfies UserEndpoint),
]);

function typeOf({ params }: UserRequest): string {
  return params['type'] ?? '';
}

/** `null`: the path names none. */
function roomOf(request: UserRequest): RoomId | null {
  return request.params['roomId'] === undefined ? null : roomIdOf(request);
}

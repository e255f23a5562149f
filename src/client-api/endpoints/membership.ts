/**
 * Which rooms a user is in.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-membership
 */
import { type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';

export const MEMBERSHIP_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path: '/joined_rooms',
    answer: async ({ requester }, { reads }) => ({ joined_rooms: await reads.joinedRooms(requester.userId) }),
  } satisfies UserEndpoint),
];

/**
 * A user's own account: who he is, what this server can do, a new password, the end.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#account-management and #capabilities-negotiation
 */
import { z } from 'zod';
import { ROOM_VERSIONS } from '../../matrix/room-versions.ts';
import { bodyOf, isByDevice, readMembers } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { requirePassword } from '../interactive.ts';
import { R0_AND_V3, inForms } from '../paths.ts';

const AVAILABLE = Object.fromEntries(ROOM_VERSIONS.map((version) => [version, 'stable']));

const passwordBody = z.object({
  new_password: z.string({ error: 'a password' }),
  logout_devices: z.boolean({ error: 'true or false' }).default(true),
});

/** Nothing that other servers hold can be taken back: `erase` is looked at, and changes nothing. */
const deactivateBody = z.object({
  erase: z.boolean({ error: 'true or false' }).optional(),
  id_server: z.string({ error: 'a string' }).optional(),
});

export const ACCOUNT_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path: '/account/whoami',
    answer: ({ requester }) => ({
      user_id: requester.userId,
      ...(isByDevice(requester) ? { device_id: requester.deviceId } : {}),
      is_guest: false,
    }),
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/account/password',
    answer: async (request, context) => {
      const { userId, deviceId } = request.requester;
      const body = bodyOf(request);
      const { new_password: password, logout_devices: isLoggedOut } = readMembers(body, passwordBody);
      await requirePassword(body['auth'], userId, context);
      await context.accounts.setPassword(userId, password, isLoggedOut ? deviceId : undefined);
      return {};
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/account/deactivate',
    answer: async (request, context) => {
      const { userId } = request.requester;
      const body = bodyOf(request);
      readMembers(body, deactivateBody);
      await requirePassword(body['auth'], userId, context);
      await context.accounts.deactivate(userId);
      // There are no third-party identifiers here that could have been unbound.
      return { id_server_unbind_result: 'no-support' };
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path: '/capabilities',
    answer: (_request, { defaultRoomVersion }) => ({
      capabilities: {
        'm.change_password': { enabled: true },
        'm.room_versions': { default: defaultRoomVersion, available: AVAILABLE },
        'm.set_displayname': { enabled: true },
        'm.set_avatar_url': { enabled: true },
        'm.profile_fields': { enabled: true },
        'm.3pid_changes': { enabled: false },
        'm.get_login_token': { enabled: true },
      },
    }),
  } satisfies UserEndpoint),
];

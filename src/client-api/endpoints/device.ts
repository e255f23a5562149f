/**
 * A user's devices.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#device-management
 */
import { z } from 'zod';
import { type Device } from '../../accounts/contract.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { bodyOf, readBody, readMembers } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { requirePassword } from '../interactive.ts';
import { R0_AND_V3, inForms } from '../paths.ts';

/** More than anybody has. */
const DEVICES_AT_ONCE_MAX = 1000;

const renameBody = z.object({ display_name: z.string({ error: 'a name' }).optional() });
const deleteBody = z.object({
  devices: z
    .array(z.string({ error: 'a device id' }), { error: 'a list of device ids' })
    .max(DEVICES_AT_ONCE_MAX, { error: `at most ${DEVICES_AT_ONCE_MAX} device ids` }),
});

export const DEVICE_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path: '/devices',
    answer: async ({ requester }, { accounts }) => ({
      devices: (await accounts.devices(requester.userId)).map(deviceAnswer),
    }),
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path: '/devices/:deviceId',
    answer: async ({ requester, params }, { accounts }) =>
      deviceAnswer(await accounts.device(requester.userId, params['deviceId'] ?? '')),
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'PUT',
    path: '/devices/:deviceId',
    answer: async (request, { accounts }) => {
      const { requester, params } = request;
      const { display_name: name } = readBody(request, renameBody);
      const deviceId = params['deviceId'] ?? '';
      if (name === undefined) await accounts.device(requester.userId, deviceId);
      else await accounts.renameDevice(requester.userId, deviceId, name);
      return {};
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'DELETE',
    path: '/devices/:deviceId',
    answer: async (request, context) => {
      const { requester, params, raw } = request;
      await requirePassword(raw.length === 0 ? undefined : bodyOf(request)['auth'], requester.userId, context);
      await context.accounts.deleteDevices(requester.userId, [params['deviceId'] ?? '']);
      return {};
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/delete_devices',
    answer: async (request, context) => {
      const { userId } = request.requester;
      const body = bodyOf(request);
      const { devices } = readMembers(body, deleteBody);
      await requirePassword(body['auth'], userId, context);
      await context.accounts.deleteDevices(userId, devices);
      return {};
    },
  } satisfies UserEndpoint),
];

function deviceAnswer({ deviceId, displayName, lastSeenAt, lastSeenAddress }: Device): JsonObject {
  return {
    device_id: deviceId,
    ...(displayName === null ? {} : { display_name: displayName }),
    last_seen_ts: lastSeenAt,
    ...(lastSeenAddress === null ? {} : { last_seen_ip: lastSeenAddress }),
  };
}

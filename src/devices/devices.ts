/** Devices and their keys, put together for the edges. */
import { readPublishedKeys } from '../accounts/published-keys.ts';
import { claimKeys } from '../store/tables/device-keys.ts';
import { readStreamIds } from '../store/tables/device-changes.ts';
import { readUser } from '../store/tables/users.ts';
import { type DevicesContext } from './context.ts';
import { type DeviceAnswers, type Devices } from './contract.ts';
import { claimDeviceKeys, queryKeys } from './query-keys.ts';
import { sendToDevice } from './send-to-device.ts';

/** For clients. */
export function createDevices(context: DevicesContext): Devices {
  return {
    query: (viewer, userIds, patience) => queryKeys(context, viewer, userIds, patience),
    claim: (claims, patience) => claimDeviceKeys(context, claims, patience),
    send: (from, message, to) => sendToDevice(context, from, message, to),
  };
}

/** For other servers. */
export function deviceAnswers({ store }: Pick<DevicesContext, 'store'>): DeviceAnswers {
  return {
    devicesOf: async (userId) => {
      if ((await readUser(store, userId)) === undefined) return undefined;
      // Looked at first: what changes meanwhile is told apart.
      const streamId = (await readStreamIds(store, [userId])).get(userId) ?? 0;
      const keys = (await readPublishedKeys(store, [userId], null)).get(userId);
      return { devices: new Map(), crossSigning: new Map(), ...keys, streamId };
    },
    keysOf: (userIds) => readPublishedKeys(store, userIds, null),
    claimOf: (claims) => store.inTransaction((tx) => claimKeys(tx, claims)),
  };
}

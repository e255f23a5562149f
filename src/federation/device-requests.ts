/**
 * Asking for keys of other servers' users and devices.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#device-management and
 * https://spec.matrix.org/v1.16/server-server-api/#end-to-end-encryption
 */
import { type ServerName, type UserId, parseUserId } from '../matrix/identifiers.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type FederationClient, type UserKeys } from './contract.ts';
import { FederationError } from './error.ts';
import { type Requests, malformed, path } from './requests.ts';

type DeviceRequests = Pick<FederationClient, 'userDevices' | 'queryKeys' | 'claimKeys'>;

/** Whoever waits for this thread waits while it is read: some hundred devices. */
const ANSWER_BYTES_MAX = 512 * 1024;

/** The requests of the client for keys. */
export function deviceRequests(requests: Requests): DeviceRequests {
  const post = (destination: ServerName, uri: string, content: JsonObject, options: { readonly signal: AbortSignal }) =>
    requests.json(destination, { method: 'POST', uri, content }, { ...options, bytesMax: ANSWER_BYTES_MAX });
  const queryAtOnce: DeviceRequests['queryKeys'] = async (destination, userIds, options) => {
    const content = { device_keys: Object.fromEntries(userIds.map((userId) => [userId, []])) };
    const answer = await post(destination, '/_matrix/federation/v1/user/keys/query', content, options);
    const { device_keys: devices } = answer;
    if (!isJsonObject(devices)) throw malformed(destination, 'device_keys is not an object');
    const masters = objectIn(answer['master_keys']);
    const selfSigning = objectIn(answer['self_signing_keys']);
    return new Map(
      userIds.map((userId): [UserId, UserKeys] => [
        userId,
        {
          streamId: null,
          devices: objectIn(devices[userId]) ?? {},
          masterKey: objectIn(masters?.[userId]),
          selfSigningKey: objectIn(selfSigning?.[userId]),
        },
      ]),
    );
  };
  const all: DeviceRequests = {
    async userDevices(destination, userId, options) {
      const uri = path`/_matrix/federation/v1/user/devices/${userId}`;
      const answer = await requests.json(destination, { uri }, { ...options, bytesMax: ANSWER_BYTES_MAX });
      const { devices, stream_id: streamId, user_id: of } = answer;
      if (of !== userId) throw malformed(destination, 'user_id is another one');
      if (!Array.isArray(devices)) throw malformed(destination, 'devices is not a list');
      const listed = devices.flatMap((device: Json) => {
        if (!isJsonObject(device) || typeof device['device_id'] !== 'string') return [];
        const { device_id: deviceId, keys } = device;
        return isJsonObject(keys) ? [[deviceId, keys] as const] : [];
      });
      return {
        streamId: Number.isSafeInteger(streamId) ? (streamId as number) : null,
        devices: Object.fromEntries(listed),
        masterKey: objectIn(answer['master_key']),
        selfSigningKey: objectIn(answer['self_signing_key']),
      };
    },

    async queryKeys(destination, userIds, options) {
      try {
        return await queryAtOnce(destination, userIds, options);
      } catch (error) {
        if (!(error instanceof FederationError) || error.kind !== 'too-large' || userIds.length < 2) throw error;
        // Of half as many the answer may fit, and who alone has too many devices costs the others nothing.
        const middle = Math.ceil(userIds.length / 2);
        const halves = [];
        for (const half of [userIds.slice(0, middle), userIds.slice(middle)]) {
          try {
            halves.push(...(await all.queryKeys(destination, half, options)));
          } catch (refused) {
            if (!(refused instanceof FederationError) || refused.kind !== 'too-large') throw refused;
          }
        }
        if (halves.length === 0) throw error;
        return new Map(halves);
      }
    },

    async claimKeys(destination, claims, options) {
      const content = { one_time_keys: claims };
      const answer = await post(destination, '/_matrix/federation/v1/user/keys/claim', content, options);
      const { one_time_keys: keys } = answer;
      if (!isJsonObject(keys)) throw malformed(destination, 'one_time_keys is not an object');
      // Nobody but who was asked for is of interest.
      return Object.fromEntries(
        Object.entries(keys).filter(([user]) => parseUserId(user) !== undefined && Object.hasOwn(claims, user)),
      );
    },
  };
  return all;
}

function objectIn(value: Json | undefined): JsonObject | undefined {
  return isJsonObject(value) ? value : undefined;
}

/**
 * Keys that clients publish of their devices for end-to-end encryption, and how others get them.
 * Signatures are the matter of those who use the keys: here they have the form of signatures, and no more.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#key-management-api
 */
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { lockDevice } from '../store/tables/devices.ts';
import {
  type GivenKey,
  insertOneTimeKeys,
  publishesOther,
  readKeyCounts,
  upsertDeviceKeys,
  upsertFallbackKeys,
} from '../store/tables/device-keys.ts';
import { noteOwnDeviceChanges } from '../store/tables/device-changes.ts';
import { type AccountsContext } from './context.ts';
import { type KeyUpload, type Requester } from './contract.ts';
import { AccountError } from './error.ts';

/** Of a device. Clients keep some fifty of each algorithm. */
const ONE_TIME_KEYS_MAX = 1000;
/** Algorithms and key ids are names, for which the specification has 255 bytes elsewhere. */
const NAME_BYTES_MAX = 255;
const CONTROL = /[\u0000-\u001f\u007f]/;

/** Keeps what is uploaded, all of it or nothing, and gives how many one-time keys are left, by algorithm. */
export async function uploadKeys(
  { store, clock }: AccountsContext,
  requester: Requester,
  { deviceKeys, oneTimeKeys, fallbackKeys }: KeyUpload,
): Promise<Readonly<Record<string, number>>> {
  const identity = deviceKeys && canonicalJson(requireDeviceKeys(deviceKeys, requester));
  const oneTime = givenKeys(oneTimeKeys, 'one_time_keys');
  const fallback = givenKeys(fallbackKeys, 'fallback_keys');
  if (new Set(fallback.map(({ algorithm }) => algorithm)).size < fallback.length) {
    throw new AccountError('invalid', 'fallback_keys: one for each algorithm');
  }
  return store.inTransaction(async (tx) => {
    if (!(await lockDevice(tx, requester.userId, requester.deviceId))) {
      throw new AccountError('unknown-token', 'this device has been logged out');
    }
    const isNew = identity !== undefined && (await publishesOther(tx, requester, identity));
    if (isNew) await upsertDeviceKeys(tx, requester, identity);
    if (oneTime.length > 0) {
      const other = await insertOneTimeKeys(tx, requester, oneTime, clock.now());
      if (other !== undefined) throw new AccountError('invalid', `the one-time key ${other} is another one here`);
    }
    if (fallback.length > 0) await upsertFallbackKeys(tx, requester, fallback);
    const { oneTimeKeys: counts } = await readKeyCounts(tx, requester);
    if (Object.values(counts).reduce((sum, count) => sum + count, 0) > ONE_TIME_KEYS_MAX) {
      throw new AccountError('invalid', `a device has at most ${ONE_TIME_KEYS_MAX} one-time keys`);
    }
    if (isNew) await noteOwnDeviceChanges(tx, requester.userId, [requester.deviceId]);
    return counts;
  });
}

/** Throws unless they are the requester's own, in the form of the specification. */
function requireDeviceKeys(keys: JsonObject, { userId, deviceId }: Requester): JsonObject {
  if (keys['user_id'] !== userId || keys['device_id'] !== deviceId) {
    throw new AccountError('invalid', 'device_keys: not of this user and this device');
  }
  const { algorithms, keys: byName } = keys;
  if (!Array.isArray(algorithms) || !algorithms.every((name) => typeof name === 'string')) {
    throw new AccountError('invalid', 'device_keys.algorithms: expected a list of names');
  }
  const names = isJsonObject(byName) ? Object.entries(byName) : [];
  const areKeys = names.every(([name, key]) => typeof key === 'string' && name.endsWith(`:${deviceId}`));
  if (names.length === 0 || !areKeys) {
    throw new AccountError('invalid', 'device_keys.keys: expected keys by "algorithm:device id"');
  }
  if (!areSignatures(keys['signatures'])) throw new AccountError('invalid', 'device_keys.signatures: not of that form');
  return keys;
}

function givenKeys(keys: JsonObject, member: string): GivenKey[] {
  return Object.entries(keys).map(([name, key]) => {
    const [, algorithm = '', keyId = ''] = /^([^:]+):(.+)$/s.exec(name) ?? [];
    if (algorithm === '' || CONTROL.test(name) || Buffer.byteLength(name) > NAME_BYTES_MAX) {
      throw new AccountError('invalid', `${member}: expected keys by "algorithm:key id"`);
    }
    if (!isKey(key)) {
      throw new AccountError('invalid', `${member}: a key is a string, or an object with its signatures`);
    }
    return { algorithm, keyId, key: canonicalJson(key) };
  });
}

function isKey(key: Json): boolean {
  if (typeof key === 'string') return true;
  if (!isJsonObject(key) || typeof key['key'] !== 'string' || !areSignatures(key['signatures'])) return false;
  return typeof (key['fallback'] ?? false) === 'boolean';
}

/** Texts by key id, by user. */
export function areSignatures(signatures: Json | undefined): boolean {
  if (!isJsonObject(signatures)) return false;
  return Object.values(signatures).every(
    (ofUser) => isJsonObject(ofUser) && Object.values(ofUser).every((signature) => typeof signature === 'string'),
  );
}

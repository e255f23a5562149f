/**
 * Keys that clients publish of their devices and their users, and those that they get of others.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#key-management-api and #cross-signing
 */
import { type PublishedKeys } from '../../accounts/contract.ts';
import { MatrixError } from '../../http/matrix-error.ts';
import { type KeyClaim } from '../../devices/contract.ts';
import { type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { type UserRequest, bodyOf, deviceOf, queryText } from '../client-request.ts';
import { type UserEndpoint } from '../context.ts';
import { requirePassword } from '../interactive.ts';
import { R0_AND_V3, inForms } from '../paths.ts';
import { userIdIn } from '../room-request.ts';

/** How long other servers are waited for where the client does not say, milliseconds. */
const TIMEOUT_MS_DEFAULT = 10_000;
/** Of one request: a client asks for the members of a large room in parts. */
const USERS_MAX = 10_000;
const CLAIMS_MAX = 10_000;
/** As `self_signing_key` of an upload. */
const USAGES = ['master', 'self_signing', 'user_signing'] as const;

export const KEY_ENDPOINTS: readonly UserEndpoint[] = [
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/keys/upload',
    answer: async (request, { accounts }) => {
      const [device, body] = [deviceOf(request), bodyOf(request)];
      const counts = await accounts.uploadKeys(device, {
        deviceKeys: objectOf(body, 'device_keys'),
        oneTimeKeys: objectOf(body, 'one_time_keys') ?? {},
        fallbackKeys: objectOf(body, 'fallback_keys') ?? {},
      });
      return { one_time_key_counts: counts };
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/keys/query',
    answer: async (request, { devices }) => {
      const body = bodyOf(request);
      const wanted = objectOf(body, 'device_keys');
      if (wanted === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'device_keys: expected an object');
      const named = Object.keys(wanted);
      if (named.length > USERS_MAX) throw invalid(`device_keys: at most ${USERS_MAX} users at a time`);
      const userIds = named.map((user) => storableUser(user, 'device_keys'));
      const { userId } = request.requester;
      const { users, failures } = await devices.query(userId, userIds, patienceOf(request, body));
      const ofUsers = (usage: string) =>
        Object.fromEntries([...users].flatMap(([user, keys]) => ofUsage(user, keys, usage)));
      return {
        device_keys: Object.fromEntries(
          [...users].map(([user, keys]) => [user, chosenDevices(keys, wanted[user])] as const),
        ),
        master_keys: ofUsers('master'),
        self_signing_keys: ofUsers('self_signing'),
        user_signing_keys: ofUsers('user_signing'),
        failures: failuresAnswer(failures),
      };
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/keys/claim',
    answer: async (request, { devices }) => {
      const body = bodyOf(request);
      const claims = claimsIn(objectOf(body, 'one_time_keys'));
      const { keys, failures } = await devices.claim(claims, patienceOf(request, body));
      return { one_time_keys: keys, failures: failuresAnswer(failures) };
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path: '/keys/changes',
    answer: async (request, { sync }) => {
      const from = queryText(request, 'from');
      if (from === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'from: expected a token of a sync');
      // Whatever `to` says: what has changed since then is told by a sync once more.
      const { changed, left } = await sync.deviceLists(request.requester.userId, from);
      return { changed, left };
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/keys/device_signing/upload',
    answer: async (request, context) => {
      const { accounts } = context;
      const { userId } = request.requester;
      const body = bodyOf(request);
      const upload = Object.fromEntries(USAGES.map((usage) => [usage, objectOf(body, `${usage}_key`)]));
      // The first keys need no password: nobody relies on any yet.
      if (await accounts.replacesCrossSigningKeys(userId, upload)) {
        await requirePassword(body['auth'], userId, context);
      }
      await accounts.uploadCrossSigningKeys(userId, upload);
      return {};
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'POST',
    path: '/keys/signatures/upload',
    answer: async (request, { accounts }) => {
      const refused = await accounts.uploadSignatures(request.requester.userId, bodyOf(request));
      // The names are the client's own: none reaches into a prototype.
      const failures = Object.create(null) as Record<string, Record<string, JsonObject>>;
      for (const { userId, key, reason } of refused) {
        (failures[userId] ??= Object.create(null) as Record<string, JsonObject>)[key] = {
          errcode: 'M_INVALID_SIGNATURE',
          error: reason,
        };
      }
      return { failures };
    },
  } satisfies UserEndpoint),
  ...inForms(R0_AND_V3, {
    method: 'GET',
    path: '/room_keys/version',
    answer: () => {
      throw new MatrixError(404, 'M_NOT_FOUND', 'there is no backup of keys: this server keeps none');
    },
  } satisfies UserEndpoint),
];

/** A user of any server; a NUL could not even be looked up. */
function storableUser(user: string, name: string): UserId {
  if (user.includes('\0')) throw invalid(`${name}: expected user ids`);
  return userIdIn(user, name);
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}

function patienceOf(request: UserRequest, body: JsonObject): { timeoutMs: number; signal: AbortSignal } {
  const { timeout } = body;
  const timeoutMs = typeof timeout === 'number' && timeout >= 0 ? timeout : TIMEOUT_MS_DEFAULT;
  return { timeoutMs, signal: request.signal };
}

/** Those of the devices that are named; an empty list, or something else that is none: all. */
function chosenDevices({ devices }: PublishedKeys, named: Json | undefined): JsonObject {
  const ids = Array.isArray(named) && named.length > 0 ? new Set<unknown>(named) : undefined;
  return Object.fromEntries([...devices].filter(([deviceId]) => ids === undefined || ids.has(deviceId)));
}

function ofUsage(userId: UserId, { crossSigning }: PublishedKeys, usage: string): [UserId, JsonObject][] {
  const key = crossSigning.get(usage);
  return key === undefined ? [] : [[userId, key]];
}

function failuresAnswer(failures: ReadonlyMap<ServerName, string>): JsonObject {
  return Object.fromEntries([...failures].map(([server, error]) => [server, { errcode: 'M_UNKNOWN', error }]));
}

/** `{user: {device: algorithm}}`. Throws a `MatrixError`. */
function claimsIn(wanted: JsonObject | undefined): KeyClaim[] {
  if (wanted === undefined) throw new MatrixError(400, 'M_MISSING_PARAM', 'one_time_keys: expected an object');
  const claims = Object.entries(wanted).flatMap(([user, devices]) => {
    const userId = storableUser(user, 'one_time_keys');
    if (!isJsonObject(devices)) throw new MatrixError(400, 'M_BAD_JSON', `one_time_keys.${user}: expected an object`);
    return Object.entries(devices).map(([deviceId, algorithm]): KeyClaim => {
      if (typeof algorithm !== 'string' || deviceId.includes('\0')) {
        throw new MatrixError(400, 'M_BAD_JSON', `one_time_keys.${user}: expected algorithms by device id`);
      }
      return { userId, deviceId, algorithm };
    });
  });
  if (claims.length > CLAIMS_MAX) throw invalid(`one_time_keys: at most ${CLAIMS_MAX} devices at a time`);
  return claims;
}

function objectOf(body: JsonObject, name: string): JsonObject | undefined {
  const { [name]: value } = body;
  // Some clients send null for what they have not.
  if (value === undefined || value === null) return undefined;
  if (isJsonObject(value)) return value;
  throw new MatrixError(400, 'M_BAD_JSON', `${name}: expected an object`);
}

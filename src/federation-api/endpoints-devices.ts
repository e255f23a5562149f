/**
 * What our users have published of their devices and themselves, for servers whose users talk to them.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#device-management and #end-to-end-encryption
 */
import { type PublishedKeys } from '../accounts/contract.ts';
import { type KeyClaim } from '../devices/contract.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type UserId, domainOf, parseUserId } from '../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type AuthenticatedRequest } from './authenticated.ts';
import { type SignedContext, type SignedEndpoint } from './endpoint.ts';

/** Of one request. */
const USERS_MAX = 1_000;
const CLAIMS_MAX = 1_000;

export const DEVICE_ENDPOINTS: readonly SignedEndpoint[] = [
  {
    method: 'GET',
    path: '/_matrix/federation/v1/user/devices/:userId',
    answer: async ({ params }, context) => {
      const userId = parseUserId(params['userId']);
      if (userId === undefined || !isOurs(userId, context)) {
        throw new MatrixError(400, 'M_INVALID_PARAM', 'that is not a user of this server');
      }
      const listed = await answersOf(context).devicesOf(userId);
      if (listed === undefined) throw new MatrixError(404, 'M_NOT_FOUND', 'there is no such user');
      const master = listed.crossSigning.get('master');
      const selfSigning = listed.crossSigning.get('self_signing');
      return {
        user_id: userId,
        stream_id: listed.streamId,
        devices: [...listed.devices].map(([deviceId, keys]) => ({ device_id: deviceId, keys })),
        ...(master === undefined ? {} : { master_key: master }),
        ...(selfSigning === undefined ? {} : { self_signing_key: selfSigning }),
      };
    },
  },
  {
    method: 'POST',
    path: '/_matrix/federation/v1/user/keys/query',
    answer: async (request, context) => {
      const wanted = objectIn(request, 'device_keys');
      const named = Object.keys(wanted);
      if (named.length > USERS_MAX) throw invalid(`device_keys: at most ${USERS_MAX} users at a time`);
      const ours = named.flatMap((user) => ourUser(user, context) ?? []);
      const users = [...(await answersOf(context).keysOf(ours))];
      const ofUsage = (usage: string): JsonObject =>
        Object.fromEntries(
          users.flatMap(([user, { crossSigning }]) => {
            const key = crossSigning.get(usage);
            return key === undefined ? [] : [[user, key] as const];
          }),
        );
      return {
        device_keys: Object.fromEntries(users.map(([user, keys]) => [user, chosen(keys, wanted[user])] as const)),
        master_keys: ofUsage('master'),
        self_signing_keys: ofUsage('self_signing'),
      };
    },
  },
  {
    method: 'POST',
    path: '/_matrix/federation/v1/user/keys/claim',
    answer: async (request, context) => {
      const claims = Object.entries(objectIn(request, 'one_time_keys')).flatMap(([user, devices]) => {
        const userId = ourUser(user, context);
        if (userId === undefined || !isJsonObject(devices)) return [];
        return Object.entries(devices).flatMap(([deviceId, algorithm]): KeyClaim[] =>
          typeof algorithm === 'string' && !deviceId.includes('\0') ? [{ userId, deviceId, algorithm }] : [],
        );
      });
      if (claims.length > CLAIMS_MAX) throw invalid(`one_time_keys: at most ${CLAIMS_MAX} devices at a time`);
      // Nobody chooses the names of devices but their users: none reaches into a prototype.
      const keys = Object.create(null) as Record<string, Record<string, Record<string, Json>>>;
      for (const { userId, deviceId, algorithm, keyId, key } of await answersOf(context).claimOf(claims)) {
        ((keys[userId] ??= Object.create(null) as Record<string, Record<string, Json>>)[deviceId] ??= {})[
          `${algorithm}:${keyId}`
        ] = key;
      }
      return { one_time_keys: keys };
    },
  },
];

function answersOf({ ports }: SignedContext) {
  if (ports.devices === undefined) throw new MatrixError(404, 'M_UNRECOGNIZED', 'this server does not serve that');
  return ports.devices;
}

function isOurs(userId: UserId, { serverName }: SignedContext): boolean {
  return domainOf(userId) === serverName && !userId.includes('\0');
}

function ourUser(user: string, context: SignedContext): UserId | undefined {
  const userId = parseUserId(user);
  return userId !== undefined && isOurs(userId, context) ? userId : undefined;
}

/** Those of the devices that are named; an empty list: all. */
function chosen({ devices }: PublishedKeys, named: Json | undefined): JsonObject {
  const ids = Array.isArray(named) && named.length > 0 ? new Set<unknown>(named) : undefined;
  return Object.fromEntries([...devices].filter(([deviceId]) => ids === undefined || ids.has(deviceId)));
}

function invalid(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}

/** A member of the body that is an object. Throws a `MatrixError`. */
function objectIn({ raw }: AuthenticatedRequest, name: string): JsonObject {
  const read = parseJsonObject(raw);
  if (!read.ok) throw new MatrixError(400, 'M_NOT_JSON', `the body is ${read.reason}`);
  const { [name]: member } = read.value;
  if (!isJsonObject(member)) throw new MatrixError(400, 'M_BAD_JSON', `${name}: expected an object`);
  return member;
}

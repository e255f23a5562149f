/**
 * Keys of users and their devices, wherever these are.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3keysquery and #post_matrixclientv3keysclaim
 */
import { type PublishedKeys } from '../accounts/contract.ts';
import { readPublishedKeys, withSignaturesOf } from '../accounts/published-keys.ts';
import { type UserKeys } from '../federation/contract.ts';
import { type ServerName, type UserId, domainOf } from '../matrix/identifiers.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type KeyClaim, claimKeys } from '../store/tables/device-keys.ts';
import { type Question, askServers } from './ask-servers.ts';
import { type DevicesContext } from './context.ts';
import { type ClaimAnswer, type KeysAnswer, type Patience } from './contract.ts';

/** Of one server in one request: their devices fit into an answer. */
const USERS_A_QUESTION = 50;
/** Of one server in one request: a key of each fits into an answer, and no key that was given is lost. */
const CLAIMS_A_QUESTION = 500;

/** What the users have published. Other servers are asked, and what they say is passed on as far as it has the right form. */
export async function queryKeys(
  context: DevicesContext,
  viewer: UserId,
  userIds: readonly UserId[],
  patience: Patience,
): Promise<KeysAnswer> {
  const { store, serverName } = context;
  const ours = userIds.filter((userId) => domainOf(userId) === serverName);
  const users = new Map(await readPublishedKeys(store, ours, viewer));
  const questions = byServer(userIds.filter((userId) => domainOf(userId) !== serverName)).flatMap(
    ([destination, named]) => inParts(named, USERS_A_QUESTION).map((part) => queryQuestion(context, destination, part)),
  );
  const { answers, failures } = await askServers(context, questions, patience);
  const theirs = new Map(
    answers.flatMap(({ keys }) => [...keys].map(([userId, of]) => [userId, publishedBy(userId, of)] as const)),
  );
  for (const [userId, keys] of await withSignaturesOf(store, viewer, theirs)) users.set(userId, keys);
  // What is said of one user alone may be more than is taken: the others of his server are there.
  const cut = answers.flatMap(({ asked, keys }) =>
    asked.filter((userId) => !keys.has(userId)).map((userId) => domainOf(userId)),
  );
  return { users, failures: new Map([...failures, ...cut.map((server) => [server, 'too-large'] as const)]) };
}

function queryQuestion(
  { federation }: DevicesContext,
  serverName: ServerName,
  userIds: readonly UserId[],
): Question<{ readonly asked: readonly UserId[]; readonly keys: ReadonlyMap<UserId, UserKeys> }> {
  return {
    serverName,
    ask: async (signal) => ({ asked: userIds, keys: await federation.queryKeys(serverName, userIds, { signal }) }),
  };
}

/** What a server says of its user, without what is not of him. */
export function publishedBy(userId: UserId, { devices, masterKey, selfSigningKey }: UserKeys): PublishedKeys {
  const isHis = (key: JsonObject | undefined): key is JsonObject => key?.['user_id'] === userId;
  const own = Object.entries(devices).flatMap(([deviceId, keys]) =>
    isJsonObject(keys) && isHis(keys) && keys['device_id'] === deviceId ? [[deviceId, keys] as const] : [],
  );
  const crossSigning = new Map<string, JsonObject>();
  if (isHis(masterKey)) crossSigning.set('master', masterKey);
  if (isHis(selfSigningKey)) crossSigning.set('self_signing', selfSigningKey);
  return { devices: new Map(own), crossSigning };
}

/** Takes a key of each device that is named, here or by its server. */
export async function claimDeviceKeys(
  context: DevicesContext,
  claims: readonly KeyClaim[],
  patience: Patience,
): Promise<ClaimAnswer> {
  const { store, serverName, federation } = context;
  const keys = new Map<string, Map<string, Record<string, Json>>>();
  const ours = claims.filter(({ userId }) => domainOf(userId) === serverName);
  const claimed = ours.length === 0 ? [] : await store.inTransaction((tx) => claimKeys(tx, ours));
  for (const { userId, deviceId, algorithm, keyId, key } of claimed) {
    const ofUser = inMap(keys, userId, () => new Map<string, Record<string, Json>>());
    inMap(ofUser, deviceId, (): Record<string, Json> => ({}))[`${algorithm}:${keyId}`] = key;
  }
  const theirs = new Map<ServerName, KeyClaim[]>();
  for (const claim of claims) {
    const destination = domainOf(claim.userId);
    if (destination !== serverName) inMap(theirs, destination, (): KeyClaim[] => []).push(claim);
  }
  const questions = [...theirs].flatMap(([destination, all]) =>
    inParts(all, CLAIMS_A_QUESTION).map((part) => {
      const named = new Map<UserId, Map<string, string>>();
      for (const { userId, deviceId, algorithm } of part) {
        inMap(named, userId, () => new Map<string, string>()).set(deviceId, algorithm);
      }
      return {
        serverName: destination,
        ask: async (signal: AbortSignal) => ({
          named,
          given: await federation.claimKeys(destination, byUserAndDevice(named), { signal }),
        }),
      };
    }),
  );
  const { answers, failures } = await askServers(context, questions, patience);
  for (const { named, given } of answers) {
    for (const [userId, devices] of named) {
      const ofUser = given[userId];
      if (!isJsonObject(ofUser)) continue;
      for (const deviceId of devices.keys()) {
        const ofDevice = Object.hasOwn(ofUser, deviceId) ? ofUser[deviceId] : undefined;
        if (!isJsonObject(ofDevice)) continue;
        inMap(keys, userId, () => new Map<string, Record<string, Json>>()).set(deviceId, ofDevice);
      }
    }
  }
  return { keys: byUserAndDevice(keys), failures };
}

/** What is there of a key, or is put there. */
function inMap<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}

/** Whatever the names are: no device id reaches into a prototype. */
function byUserAndDevice<Value>(
  users: ReadonlyMap<string, ReadonlyMap<string, Value>>,
): Record<string, Record<string, Value>> {
  return Object.fromEntries([...users].map(([userId, devices]) => [userId, Object.fromEntries(devices)]));
}

function byServer(userIds: readonly UserId[]): (readonly [ServerName, readonly UserId[]])[] {
  const servers = new Map<ServerName, UserId[]>();
  for (const userId of userIds) {
    const server = domainOf(userId);
    const of = servers.get(server);
    if (of === undefined) servers.set(server, [userId]);
    else of.push(userId);
  }
  return [...servers];
}

function inParts<Item>(items: readonly Item[], size: number): (readonly Item[])[] {
  const parts: Item[][] = [];
  for (let i = 0; i < items.length; i += size) parts.push(items.slice(i, i + size));
  return parts;
}

/**
 * Keys of users and their devices, wherever these are.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3keysquery and #post_matrixclientv3keysclaim
 */
import { type PublishedKeys } from '../accounts/contract.ts';
import { readPublishedKeys } from '../accounts/published-keys.ts';
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
    ([destination, named]) => inParts(named).map((part) => queryQuestion(context, destination, part)),
  );
  const { answers, failures } = await askServers(context, questions, patience);
  for (const answer of answers) for (const [userId, keys] of answer) users.set(userId, publishedBy(userId, keys));
  return { users, failures };
}

function queryQuestion(
  { federation }: DevicesContext,
  serverName: ServerName,
  userIds: readonly UserId[],
): Question<ReadonlyMap<UserId, UserKeys>> {
  return { serverName, ask: (signal) => federation.queryKeys(serverName, userIds, { signal }) };
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
  const keys: Record<string, Record<string, Record<string, Json>>> = {};
  const ours = claims.filter(({ userId }) => domainOf(userId) === serverName);
  const claimed = ours.length === 0 ? [] : await store.inTransaction((tx) => claimKeys(tx, ours));
  for (const { userId, deviceId, algorithm, keyId, key } of claimed) {
    ((keys[userId] ??= {})[deviceId] ??= {})[`${algorithm}:${keyId}`] = key;
  }
  const theirs = new Map<ServerName, Record<string, Record<string, string>>>();
  for (const { userId, deviceId, algorithm } of claims) {
    const destination = domainOf(userId);
    if (destination === serverName) continue;
    const named = theirs.get(destination) ?? {};
    theirs.set(destination, { ...named, [userId]: { ...named[userId], [deviceId]: algorithm } });
  }
  const questions = [...theirs].map(([destination, named]) => ({
    serverName: destination,
    ask: async (signal: AbortSignal) => ({ named, given: await federation.claimKeys(destination, named, { signal }) }),
  }));
  const { answers, failures } = await askServers(context, questions, patience);
  for (const { named, given } of answers) {
    for (const [userId, devices] of Object.entries(named)) {
      for (const deviceId of Object.keys(devices)) {
        const ofUser = given[userId];
        const ofDevice = isJsonObject(ofUser) ? ofUser[deviceId] : undefined;
        if (isJsonObject(ofDevice)) (keys[userId] ??= {})[deviceId] = ofDevice;
      }
    }
  }
  return { keys, failures };
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

function inParts(userIds: readonly UserId[]): (readonly UserId[])[] {
  const parts: UserId[][] = [];
  for (let i = 0; i < userIds.length; i += USERS_A_QUESTION) parts.push(userIds.slice(i, i + USERS_A_QUESTION));
  return parts;
}

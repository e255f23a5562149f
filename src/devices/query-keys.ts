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
import { type Tracked, readChangedAt, upsertCachedDevices } from '../store/tables/cached-devices.ts';
import { isKeepable } from './apply-update.ts';
import { type Question, askServers } from './ask-servers.ts';
import { type DevicesContext } from './context.ts';
import { type ClaimAnswer, type KeysAnswer, type Patience } from './contract.ts';
import { readHolding, readTracked } from './tracked-users.ts';

/** Of one server in one request: their devices fit into an answer. */
const USERS_A_QUESTION = 50;
/** Users of one server of whom it is asked one by one: by the number that it gives, later changes are put into what it said. */
const ONE_BY_ONE_MAX = 10;
/** Questions about users that one server is asked at a time; a claim takes keys away, and is answered before the next. */
const QUESTIONS_AT_ONCE = 4;
/** Of one server in one request: a key of each fits into an answer, and no key that was given is lost. */
const CLAIMS_A_QUESTION = 500;

/**
 * What the users have published. Other servers are asked, and what they say is passed on as far as it has the right form; of users who share a
 * room with the viewer for certain it is kept, and they are not asked again until it is something else.
 */
export async function queryKeys(
  context: DevicesContext,
  viewer: UserId,
  userIds: readonly UserId[],
  patience: Patience,
): Promise<KeysAnswer> {
  const { store, serverName } = context;
  const ours = userIds.filter((userId) => domainOf(userId) === serverName);
  const users = new Map(await readPublishedKeys(store, ours, viewer));
  const others = userIds.filter((userId) => domainOf(userId) !== serverName);
  const holding = await readHolding(store, others);
  const asked = others.filter((userId) => !holding.has(userId));
  const tracked = await readTracked(store, viewer, asked);
  // Before they are asked: what changes meanwhile may not be in what they say.
  const changedAt = await readChangedAt(store, [...tracked.keys()]);
  const questions = byServer(asked).flatMap(([destination, named]) =>
    questionsTo(context, destination, named, tracked),
  );
  const { answers, failures } = await askServers(context, questions, patience, QUESTIONS_AT_ONCE);
  const said = answers.flatMap(({ keys }) => [...keys]);
  await keep(context, said, tracked, changedAt);
  const theirs = new Map([
    ...[...holding].map(([userId, { keys }]) => [userId, publishedBy(userId, userKeysOf(keys))] as const),
    ...said.map(([userId, keys]) => [userId, publishedBy(userId, keys)] as const),
  ]);
  for (const [userId, keys] of await withSignaturesOf(store, viewer, theirs)) users.set(userId, keys);
  // What is said of one user alone may be more than is taken: the others of his server are there.
  const cut = answers.flatMap(({ asked: named, keys }) =>
    named.filter((userId) => !keys.has(userId)).map((userId) => domainOf(userId)),
  );
  return { users, failures: new Map([...failures, ...cut.map((server) => [server, 'too-large'] as const)]) };
}

/** Of the users who were asked about, what was said of each. */
interface SaidKeys {
  readonly asked: readonly UserId[];
  readonly keys: ReadonlyMap<UserId, UserKeys>;
}

/** Few whose devices are kept are asked for one by one, and all others together. */
function questionsTo(
  { federation }: DevicesContext,
  serverName: ServerName,
  userIds: readonly UserId[],
  tracked: ReadonlyMap<UserId, Tracked>,
): Question<SaidKeys>[] {
  const kept = userIds.filter((userId) => tracked.has(userId));
  const oneByOne = new Set(kept.length > ONE_BY_ONE_MAX ? [] : kept);
  const together = userIds.filter((userId) => !oneByOne.has(userId));
  return [
    ...[...oneByOne].map((userId): Question<SaidKeys> => ({
      serverName,
      ask: async (signal) => ({
        asked: [userId],
        keys: new Map([[userId, await federation.userDevices(serverName, userId, { signal })]]),
      }),
    })),
    ...inParts(together, USERS_A_QUESTION).map((part): Question<SaidKeys> => ({
      serverName,
      ask: async (signal) => ({ asked: part, keys: await federation.queryKeys(serverName, part, { signal }) }),
    })),
  ];
}

/** Keeps what was said of those of whom every change is told. */
async function keep(
  { store, clock }: DevicesContext,
  said: readonly (readonly [UserId, UserKeys])[],
  tracked: ReadonlyMap<UserId, Tracked>,
  changedAt: ReadonlyMap<UserId, number>,
): Promise<void> {
  const rows = said.flatMap(([userId, { streamId, devices, masterKey, selfSigningKey }]) => {
    const by = tracked.get(userId);
    const keys = {
      devices,
      ...(masterKey === undefined ? {} : { masterKey }),
      ...(selfSigningKey === undefined ? {} : { selfSigningKey }),
    };
    if (by === undefined || !isKeepable(keys)) return [];
    return [{ ...by, streamId, keys, asOf: changedAt.get(userId) ?? 0 }];
  });
  await upsertCachedDevices(store, rows, clock.now());
}

function userKeysOf({ devices, masterKey, selfSigningKey }: JsonObject): UserKeys {
  const objectOf = (value: Json | undefined): JsonObject | undefined => (isJsonObject(value) ? value : undefined);
  return {
    streamId: null,
    devices: objectOf(devices) ?? {},
    masterKey: objectOf(masterKey),
    selfSigningKey: objectOf(selfSigningKey),
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

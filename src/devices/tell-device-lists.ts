/**
 * Tells other servers whose devices here are others: those that are in a room with the user. While a room is partial, those that are said to
 * be in it; and once it is whole, those that turn out to be in it, or of whose users something was said since we came, and that were not told.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#device-management
 */
import { readPublishedKeys } from '../accounts/published-keys.ts';
import { type PublishedKeys } from '../accounts/contract.ts';
import { type ServerName, type UserId } from '../matrix/identifiers.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type Transaction } from '../store/open-store.ts';
import { type JoinedServers } from '../store/snapshots/joined-servers.ts';
import {
  CROSS_SIGNING,
  type UntoldChange,
  lockTelling,
  readUntoldChanges,
  settleUntoldChanges,
} from '../store/tables/device-changes.ts';
import { type OutgoingEdu, insertOutgoingEdus } from '../store/tables/outgoing-edus.ts';
import { serversInRoom } from '../store/tables/servers-in-room.ts';
import {
  noteUntoldInRooms,
  readChangesSince,
  readRoomsOfUsers,
  readServersMovedSince,
  readStayBegun,
  readTold,
  takeUntoldRooms,
  upsertTold,
} from '../store/tables/told-device-lists.ts';
import { type DevicesContext } from './context.ts';

/** In one transaction: each may be for thousands of servers. */
const CHANGES_AT_ONCE = 20;
const ROOMS_AT_ONCE = 20;

/** Whom to tell of whom. */
type ToTell = ReadonlyMap<UserId, ReadonlySet<ServerName>>;

/** Writes down what is to be told, of some changes and of some rooms that became whole; gives whether there was any. */
export async function tellDeviceLists(
  { store }: Pick<DevicesContext, 'store'>,
  joined: JoinedServers,
): Promise<boolean> {
  const [changes, rooms] = [
    await store.inTransaction((tx) => tellChanges(tx, joined)),
    await store.inTransaction((tx) => tellWholeRooms(tx, joined)),
  ];
  return changes || rooms;
}

async function tellChanges(tx: Transaction, joined: JoinedServers): Promise<boolean> {
  await lockTelling(tx);
  const changes = await readUntoldChanges(tx, CHANGES_AT_ONCE);
  if (changes.length === 0) return false;
  const rooms = await readRoomsOfUsers(tx, [...new Set(changes.map(({ userId }) => userId))]);
  const servers = new Map<UserId, Set<ServerName>>();
  for (const room of rooms) {
    const { userId } = room;
    const told = servers.get(userId) ?? new Set();
    servers.set(userId, told);
    for (const server of await serversInRoom(tx, joined, room)) told.add(server);
  }
  await enqueue(tx, changes, servers);
  const since = new Map<UserId, number>();
  for (const { userId, position } of changes) since.set(userId, Math.min(position, since.get(userId) ?? position));
  await noteUntoldInRooms(
    tx,
    rooms.flatMap(({ roomId, userId, partial }) =>
      partial ? [{ roomId, userId, since: since.get(userId) ?? 0 }] : [],
    ),
  );
  await settleUntoldChanges(tx, changes);
  return true;
}

async function tellWholeRooms(tx: Transaction, joined: JoinedServers): Promise<boolean> {
  await lockTelling(tx);
  const rooms = await takeUntoldRooms(tx, ROOMS_AT_ONCE);
  if (rooms.length === 0) return false;
  const servers = new Map<UserId, Set<ServerName>>();
  for (const { userId, roomId, state, epoch } of rooms) {
    const told = servers.get(userId) ?? new Set();
    servers.set(userId, told);
    for (const server of await joined.of(tx, roomId, state)) told.add(server);
    const begun = await readStayBegun(tx, roomId, epoch);
    for (const server of await readServersMovedSince(tx, roomId, begun)) told.add(server);
  }
  await enqueue(tx, await readChangesSince(tx, rooms), servers);
  return true;
}

/** Writes EDUs for those servers that were not told of a change yet. */
async function enqueue(tx: Transaction, changes: readonly UntoldChange[], servers: ToTell): Promise<void> {
  const users = [...new Set(changes.map(({ userId }) => userId))];
  const all = [...new Set(users.flatMap((userId) => [...(servers.get(userId) ?? [])]))];
  if (all.length === 0) return;
  const told = new Map(
    (await readTold(tx, users, all)).map(({ serverName, userId, streamId }) => [placeOf(serverName, userId), streamId]),
  );
  const keys = await readPublishedKeys(tx, users, null);
  const now = new Map(told);
  const edus: OutgoingEdu[] = [];
  for (const change of changes) {
    const { userId, position } = change;
    for (const serverName of servers.get(userId) ?? []) {
      const place = placeOf(serverName, userId);
      if (serverName === tx.serverName || (told.get(place) ?? 0) >= position) continue;
      edus.push(eduOf(serverName, change, keys.get(userId), now.get(place)));
      now.set(place, Math.max(position, now.get(place) ?? 0));
    }
  }
  await insertOutgoingEdus(tx, edus);
  const rows = users.flatMap((userId) =>
    [...(servers.get(userId) ?? [])].flatMap((serverName) => {
      const streamId = now.get(placeOf(serverName, userId));
      return streamId === undefined ? [] : [{ serverName, userId, streamId }];
    }),
  );
  if (rows.length > 0) await upsertTold(tx, rows);
}

function placeOf(serverName: ServerName, userId: UserId): string {
  return `${serverName} ${userId}`;
}

function eduOf(
  serverName: ServerName,
  { userId, deviceId, position }: UntoldChange,
  published: PublishedKeys | undefined,
  before: number | undefined,
): OutgoingEdu {
  const edu =
    deviceId === CROSS_SIGNING
      ? { edu_type: 'm.signing_key_update', content: signingKeyContent(userId, published) }
      : {
          edu_type: 'm.device_list_update',
          content: deviceContent(userId, deviceId, published, position, before),
        };
  return { serverName, key: `devices ${userId} ${deviceId}`, edu: canonicalJson(edu) };
}

function signingKeyContent(userId: UserId, published: PublishedKeys | undefined): JsonObject {
  const master = published?.crossSigning.get('master');
  const selfSigning = published?.crossSigning.get('self_signing');
  return {
    user_id: userId,
    ...(master === undefined ? {} : { master_key: master }),
    ...(selfSigning === undefined ? {} : { self_signing_key: selfSigning }),
  };
}

/** Of one that another has taken the place of before it was sent the number is missing, and whoever misses it asks for all devices. */
function deviceContent(
  userId: UserId,
  deviceId: string,
  published: PublishedKeys | undefined,
  streamId: number,
  before: number | undefined,
): JsonObject {
  const keys = published?.devices.get(deviceId);
  return {
    user_id: userId,
    device_id: deviceId,
    stream_id: streamId,
    prev_id: before === undefined ? [] : [before],
    ...(keys === undefined ? { deleted: true } : { keys }),
  };
}

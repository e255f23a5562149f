/** Plain tables of what goes between devices, here and on other servers. Times are milliseconds since the Unix epoch. */
import { sql } from 'drizzle-orm';
import { bigserial, boolean, index, integer, json, pgTable, primaryKey, text, unique } from 'drizzle-orm/pg-core';
import { type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { int8 } from './columns.ts';

/** Keys by which users of this server vouch for their devices and for one another, as their clients signed them. */
export const crossSigningKeys = pgTable(
  'cross_signing_keys',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    usage: text({ enum: ['master', 'self_signing', 'user_signing'] }).notNull(),
    /** Canonical JSON. */
    keys: json().$type<JsonObject>().notNull(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.usage] })],
);

/** Signatures of users of this server on keys that somebody has published; names as `storable` writes them. */
export const keySignatures = pgTable(
  'key_signatures',
  {
    signerId: text('signer_id').$type<UserId>().notNull(),
    /** In the form `algorithm:key id`. */
    signerKey: text().notNull(),
    targetUserId: text('target_user_id').$type<UserId>().notNull(),
    /** A device id, or the public key of a cross-signing key. */
    targetKey: text().notNull(),
    signature: text().notNull(),
  },
  (table) => [
    primaryKey({
      name: 'key_signatures_pk',
      columns: [table.signerId, table.targetUserId, table.targetKey, table.signerKey],
    }),
    index('key_signatures_by_target').on(table.targetUserId),
  ],
);

/**
 * Whose keys are others since when: of users of this server a row a device, of all others one. The position is the stream id by which
 * other servers know the change.
 */
export const deviceChanges = pgTable(
  'device_changes',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    /** Empty: the keys by which the user vouches; of users of other servers anything. */
    deviceId: text('device_id').notNull(),
    position: int8().notNull(),
    /** Other servers are still to be told. */
    isUntold: boolean().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.userId, table.deviceId] }),
    index('device_changes_by_position').on(table.position),
    index('device_changes_untold')
      .on(table.position)
      .where(sql`is_untold`),
  ],
);

/** What devices of this server are to be told by others; a row goes once its device has shown a token of a later sync. */
export const toDeviceMessages = pgTable(
  'to_device_messages',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    deviceId: text('device_id').notNull(),
    position: int8().notNull(),
    sender: text().$type<UserId>().notNull(),
    /** As `storable` writes it. */
    type: text().notNull(),
    content: json().$type<JsonObject>().notNull(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.deviceId, table.position] })],
);

/** Messages to devices that other servers have sent us, under the ids that they gave them: each is taken once. */
export const receivedMessages = pgTable(
  'received_messages',
  {
    origin: text().$type<ServerName>().notNull(),
    /** As `storable` writes it. */
    messageId: text().notNull(),
    receivedAt: int8().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.origin, table.messageId] }),
    index('received_messages_by_age').on(table.receivedAt),
  ],
);

/** EDUs that other servers are to get, besides events, in the order of their numbers. */
export const outgoingEdus = pgTable(
  'outgoing_edus',
  {
    serverName: text('server_name').$type<ServerName>().notNull(),
    id: bigserial({ mode: 'number' }).notNull(),
    /** What it is about: one that says the same anew takes its place, under a new number. Null: each counts. */
    key: text(),
    edu: json().$type<JsonObject>().notNull(),
    /** From when on it says nothing any more; null: never. */
    expiresAt: int8(),
  },
  (table) => [
    primaryKey({ columns: [table.serverName, table.id] }),
    unique('outgoing_edus_by_key').on(table.serverName, table.key),
  ],
);

/** What other servers were told of the devices of a user of ours last, by its stream id. */
export const toldDeviceLists = pgTable(
  'told_device_lists',
  {
    serverName: text('server_name').$type<ServerName>().notNull(),
    userId: text('user_id').$type<UserId>().notNull(),
    streamId: int8().notNull(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.serverName] })],
);

/**
 * Users of this server whose devices changed while a room that they are in was partial: who was in the room is known when it is whole, and is
 * told then.
 */
export const untoldInPartialRooms = pgTable(
  'untold_in_partial_rooms',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    userId: text('user_id').$type<UserId>().notNull(),
    /** Of the first change. */
    since: int8().notNull(),
  },
  (table) => [primaryKey({ columns: [table.roomId, table.userId] })],
);

/**
 * What other servers have said of the devices of their users who share a room with somebody here. A row is good while `as_of` is the position of
 * the user's last change, and the membership is the one by which he shares the room in that stay.
 */
export const cachedDevices = pgTable(
  'cached_devices',
  {
    userId: text('user_id').$type<UserId>().primaryKey(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    epoch: integer().notNull(),
    memberNid: int8().notNull(),
    /** Of his server's numbers; null: it has not said. */
    streamId: int8(),
    keys: json().$type<JsonObject>().notNull(),
    asOf: int8().notNull(),
    fetchedAt: int8().notNull(),
  },
  (table) => [index('cached_devices_by_room').on(table.roomId), index('cached_devices_by_age').on(table.fetchedAt)],
);

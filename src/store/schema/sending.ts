/** What our users sent. Times are milliseconds since the Unix epoch. */
import { sql } from 'drizzle-orm';
import { bigserial, index, integer, json, pgTable, primaryKey, text, uniqueIndex } from 'drizzle-orm/pg-core';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { int8 } from './columns.ts';

/**
 * What was sent under a transaction id of a client, so that the same request again sends nothing; and by which its sender's
 * device knows its own events again.
 */
export const clientTransactions = pgTable(
  'client_transactions',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    deviceId: text('device_id').notNull(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    /** As `storable` writes it. */
    txnId: text('txn_id').notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    sentAt: int8().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.userId, table.deviceId, table.roomId, table.txnId] }),
    index('client_transactions_by_event').on(table.eventId),
    index('client_transactions_by_age').on(table.sentAt),
  ],
);

/** Our events that other servers are to get, in the order of the journal; written with the entry that takes them in. */
export const outgoingEvents = pgTable(
  'outgoing_events',
  {
    position: int8().primaryKey(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
  },
  (table) => [index('outgoing_events_by_room').on(table.roomId, table.position)],
);

/** Rooms that we said something in, and up to which position it is known who is to get it. */
export const outgoingRooms = pgTable(
  'outgoing_rooms',
  {
    roomId: text('room_id').$type<RoomId>().primaryKey(),
    /** Of the newest entry that concerns other servers. */
    position: int8().notNull(),
    sharedOut: int8().notNull(),
    /** By PostgreSQL's clock; until then somebody is at it. */
    leasedUntil: int8().notNull(),
  },
  (table) => [
    index('outgoing_rooms_due')
      .on(table.roomId)
      .where(sql`shared_out < position`),
  ],
);

/**
 * What passes in rooms, for all servers in each: a row for whatever is said, in the order of the numbers, which is that of the commits.
 */
export const outgoingPassing = pgTable(
  'outgoing_passing',
  {
    id: bigserial({ mode: 'number' }).notNull(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    /** What it is about: one that says the same anew takes its place, under a new number. */
    key: text().notNull(),
    edu: json().$type<JsonObject>().notNull(),
    /** From when on it says nothing any more. */
    expiresAt: int8().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.key] }),
    uniqueIndex('outgoing_passing_by_id').on(table.id),
    index('outgoing_passing_by_age').on(table.expiresAt),
  ],
);

/** What of a room's `outgoing_events` a server is to get: those after `sent`, up to `owed`; and the same of its `outgoing_passing`. */
export const destinationRooms = pgTable(
  'destination_rooms',
  {
    serverName: text('server_name').$type<ServerName>().notNull(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    sent: int8().notNull(),
    owed: int8().notNull(),
    passingSent: int8().notNull().default(0),
    passingOwed: int8().notNull().default(0),
  },
  (table) => [
    primaryKey({ columns: [table.serverName, table.roomId] }),
    index('destination_rooms_due')
      .on(table.serverName)
      .where(sql`sent < owed`),
    index('destination_rooms_due_passing')
      .on(table.serverName)
      .where(sql`passing_sent < passing_owed`),
    index('destination_rooms_by_room').on(table.roomId),
  ],
);

/**
 * Of what `destination_rooms` says that a server is to get, what it is not to: said while it was not in the room, and before it had taken
 * all of what it was owed before that.
 */
export const destinationSkips = pgTable(
  'destination_skips',
  {
    serverName: text('server_name').$type<ServerName>().notNull(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    /** Exclusive. */
    after: int8().notNull(),
    upTo: int8().notNull(),
  },
  (table) => [primaryKey({ columns: [table.serverName, table.roomId, table.after] })],
);

/**
 * Servers that get something from us. Apart from `destinations`, whose rows go when a server answers anything: that it answers
 * questions does not say that it takes transactions.
 */
export const deliveries = pgTable('deliveries', {
  serverName: text('server_name').$type<ServerName>().primaryKey(),
  /** By PostgreSQL's clock; until then one process sends to it. */
  leasedUntil: int8().notNull(),
  /** Transactions that it did not take, in a row, since when, and when the next one is tried. */
  failures: integer().notNull(),
  failedSince: int8(),
  retryAt: int8().notNull(),
  /** The transaction that is under way or was not taken: it is sent again as it was. */
  txnId: text(),
  txnPositions: int8().array(),
  /** Of `outgoing_edus`; null: it holds none. */
  txnEdus: int8().array(),
  /** Up to which number it holds what passes in the server's rooms; null: nothing of it. */
  txnPassing: int8(),
});

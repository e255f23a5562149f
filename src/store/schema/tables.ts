/** Plain tables. Times are milliseconds since the Unix epoch. */
import { sql } from 'drizzle-orm';
import { boolean, index, integer, json, pgTable, primaryKey, text, unique } from 'drizzle-orm/pg-core';
import { type EventId, type RoomAlias, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type FailureClass, type SnapshotId } from '../../resync/events.ts';
import { bytea, hash16, int8, tsvector } from './columns.ts';

/**
 * How far the running state fetch of a room is, for readers only. Unlogged: drizzle has no word for it, so its migration
 * says so by hand.
 */
export const fetchProgress = pgTable('fetch_progress', {
  roomId: text('room_id').$type<RoomId>().primaryKey(),
  epoch: integer().notNull(),
  attemptNo: integer('attempt_no').notNull(),
  wanted: integer().notNull(),
  held: integer().notNull(),
  bytes: int8().notNull(),
  at: int8().notNull(),
});

/**
 * The pass over the snapshot chunks of a room that is under way, and how far it is (snapshots/collect-chunks.ts). Unlogged, as
 * `reached_chunks`: after a crash of PostgreSQL both are empty, and a pass begins anew.
 */
export const collections = pgTable('collections', {
  roomId: text('room_id').$type<RoomId>().primaryKey(),
  pass: int8().generatedAlwaysAsIdentity().unique('collections_by_pass'),
  startedAt: int8().notNull(),
  /** Positions up to which events and current states were looked at. */
  eventsTo: int8().notNull().default(-1),
  statesTo: int8().notNull().default(-1),
  /** Up to which reached chunk it was looked at what that leads to. */
  reachedTo: int8().notNull().default(0),
  /** Chunks up to this one are settled; null: none is. */
  sweptTo: hash16(),
  sweptSince: int8(),
  isOver: boolean('is_over').notNull().default(false),
});

/** Chunks that a pass has reached from a state that is named. */
export const reachedChunks = pgTable(
  'reached_chunks',
  {
    nid: int8().generatedAlwaysAsIdentity().primaryKey(),
    pass: int8().notNull(),
    hash: hash16().notNull(),
  },
  (table) => [
    unique('reached_chunks_by_hash').on(table.pass, table.hash),
    index('reached_chunks_in_order').on(table.pass, table.nid),
  ],
);

/**
 * How often the newest attempt of each room was begun. An attempt that was begun again and again without storing anything
 * ends its worker each time. Logged, unlike `fetch_progress`: it must outlive what it counts.
 */
export const fetchAttempts = pgTable('fetch_attempts', {
  roomId: text('room_id').$type<RoomId>().primaryKey(),
  epoch: integer().notNull(),
  attemptNo: integer('attempt_no').notNull(),
  /** Begun since something was stored last, and not ended in order. */
  begins: integer().notNull(),
});

/** How other servers answer, for all rooms and processes. A row only where something is wrong. */
export const destinations = pgTable(
  'destinations',
  {
    serverName: text('server_name').$type<ServerName>().primaryKey(),
    /** In a row. */
    failures: integer().notNull(),
    /** Nothing is asked of it before. */
    notBefore: int8().notNull(),
    lastFailure: text().$type<FailureClass>().notNull(),
    lastFailedAt: int8().notNull(),
    /** One request finds out whether it is back, and nothing else is asked of it before this. */
    probedUntil: int8().notNull().default(0),
    /** When it answered again: rooms that wait for it are woken, and then the row goes. Null: it is out of reach, or wants to be left alone. */
    recoveredAt: int8(),
  },
  (table) => [
    index('destinations_by_rest').on(table.notBefore),
    index('destinations_recovered')
      .on(table.recoveredAt)
      .where(sql`recovered_at IS NOT NULL`),
  ],
);

/**
 * Joins that were signed and sent, or are about to be: one that was accepted remotely and lost here is finished from this
 * row, and one that we cannot use is left again.
 */
export const joinIntents = pgTable(
  'join_intents',
  {
    eventId: text('event_id').$type<EventId>().primaryKey(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    userId: text('user_id').$type<UserId>().notNull(),
    event: json().$type<JsonObject>().notNull(),
    roomVersion: text().notNull(),
    resident: text().$type<ServerName>().notNull(),
    via: text().array().$type<ServerName[]>().notNull(),
    createdAt: int8().notNull(),
    what: text().$type<'join' | 'leave' | 'knock'>().notNull().default('join'),
    attempts: integer().notNull().default(0),
    notBefore: int8().notNull().default(0),
    /** By PostgreSQL's clock; until then somebody is at work on it. */
    claimedUntil: int8().notNull().default(0),
    lastReason: text(),
  },
  (table) => [index('join_intents_by_room').on(table.roomId, table.userId)],
);

/**
 * Memberships of users of this server in rooms that nobody of this server is in, or whose state does not say them yet: invites and knocks,
 * and that they are over. Each has the position since when it is so.
 */
export const outsideMemberships = pgTable(
  'outside_memberships',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    userId: text('user_id').$type<UserId>().notNull(),
    membership: text({ enum: ['invite', 'knock', 'leave'] }).notNull(),
    position: int8().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    roomVersion: text().notNull(),
    /** Whoever invited him, or himself. */
    sender: text().$type<UserId>().notNull(),
    /** To be asked about the room. */
    server: text().$type<ServerName>().notNull(),
    event: json().$type<JsonObject>().notNull(),
    /** What he is told of the room: stripped state events. */
    stripped: json().$type<readonly JsonObject[]>().notNull(),
    /** When it was over, by PostgreSQL's clock; null: it is not. */
    endedAt: int8(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.userId] }),
    index('outside_memberships_by_user').on(table.userId, table.position),
    // For application services, which are told of those of all their users.
    index('outside_memberships_open')
      .on(table.position)
      .where(sql`membership <> 'leave'`),
    index('outside_memberships_ended').on(table.endedAt),
  ],
);

/** Verify keys of other servers. */
export const serverKeys = pgTable(
  'server_keys',
  {
    serverName: text().notNull(),
    keyId: text().notNull(),
    /** 32 bytes, unpadded base64. */
    publicKey: text().notNull(),
    validUntilTs: int8().notNull(),
    /** Published under `old_verify_keys`: it signs nothing new. */
    expired: boolean().notNull(),
    fetchedAt: int8().notNull(),
  },
  (table) => [primaryKey({ columns: [table.serverName, table.keyId] })],
);

/**
 * What other servers pushed, or gave us of a gap, as it came: to be checked and judged in its room's turn. An event is there
 * once for each server that sent it: a bad copy must not stand in the way of a good one.
 */
export const stagedPdus = pgTable(
  'staged_pdus',
  {
    nid: int8().generatedAlwaysAsIdentity().primaryKey(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    origin: text().$type<ServerName>().notNull(),
    raw: bytea().notNull(),
    receivedAt: int8().notNull(),
    /** Parents that are not held, as far as known; empty: nothing is known to be missing. */
    waitsFor: text().array().$type<EventId[]>().notNull().default([]),
    /** Why it is not judged yet. */
    reason: text(),
    attempts: integer().notNull().default(0),
    /** It has no turn before this time, by the database's clock. */
    notBefore: int8().notNull(),
    /** Given up then, for `reason`: kept without its text, for people to see. */
    droppedAt: int8(),
  },
  (table) => [
    unique('staged_pdus_by_event').on(table.roomId, table.eventId, table.origin),
    index('staged_pdus_by_room').on(table.roomId, table.notBefore),
    index('staged_pdus_by_origin')
      .on(table.origin)
      .where(sql`dropped_at IS NULL`),
  ],
);

/** Rooms with staged events, and the process that works at each. All times are the database's. */
export const stagedRooms = pgTable('staged_rooms', {
  roomId: text('room_id').$type<RoomId>().primaryKey(),
  /** A process; null: nobody has it. */
  holder: text(),
  /** Until when the holder has it, or when the last one gave it up: the longest unserved comes first. */
  leasedUntil: int8().notNull().default(0),
  /** When somebody last looked whether what its events wait for has come. */
  lookedAt: int8().notNull().default(0),
});

/** As programs of before keep users who are looked for; nothing else reads it, and a later release drops it. */
export const directoryUsers = pgTable(
  'directory_users',
  {
    userId: text('user_id').$type<UserId>().primaryKey(),
    /** As `storable` writes it. */
    displayName: text(),
    avatarUrl: text(),
    /** Of their names, in lower case. */
    words: tsvector().notNull(),
  },
  (table) => [index('directory_users_by_words').using('gin', table.words)],
);

/** Users who share a room with users of ours, as they are looked for, and what they are called there (tables/user-directory.ts). */
export const directoryMembers = pgTable(
  'directory_members',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    /** As `storable` writes it. */
    displayName: text(),
    avatarUrl: text(),
    /** Of their names, in lower case; null: a program of before wrote it, and it is yet to be read. */
    words: tsvector(),
  },
  (table) => [
    primaryKey({ columns: [table.userId, table.roomId] }),
    index('directory_members_by_room').on(table.roomId),
    index('directory_members_by_words').using('gin', table.words),
  ],
);

/** Up to which state rooms are written down there; null: nothing of them is. */
export const directoryRooms = pgTable('directory_rooms', {
  roomId: text('room_id').$type<RoomId>().primaryKey(),
  /** What programs of before have written down, without names; a later release drops it. */
  state: hash16().$type<SnapshotId>(),
  /** With names. */
  namedState: hash16().$type<SnapshotId>(),
  /** Anybody may find who is in it. */
  isPublic: boolean().notNull().default(false),
});

/** Answers to transactions of other servers: the same transaction again gets the same answer. */
export const receivedTransactions = pgTable(
  'received_transactions',
  {
    origin: text().$type<ServerName>().notNull(),
    txnId: text().notNull(),
    response: json().$type<JsonObject>().notNull(),
    receivedAt: int8().notNull(),
    /** No event of it was taken in. */
    isOfNothing: boolean().notNull().default(false),
  },
  (table) => [
    primaryKey({ columns: [table.origin, table.txnId] }),
    index('received_transactions_by_age').on(table.receivedAt),
    index('received_transactions_of_nothing')
      .on(table.origin, table.receivedAt)
      .where(sql`is_of_nothing`),
  ],
);

/** What lies before stays of ours in rooms, in the order in which it is read: the newest first. Its events are outliers. */
export const historyEvents = pgTable(
  'history_events',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    epoch: integer().notNull(),
    nth: integer().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.epoch, table.nth] }),
    unique('history_events_by_event').on(table.roomId, table.eventId),
  ],
);

/** Where that ends as far as it is held: events that others cite, and that are still to be asked for. */
export const historyEdges = pgTable(
  'history_edges',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    epoch: integer().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    /** In which it did not come, and when it is asked for next. */
    tries: integer().notNull().default(0),
    notBefore: int8().notNull().default(0),
  },
  (table) => [primaryKey({ columns: [table.roomId, table.epoch, table.eventId] })],
);

/** Aliases of this server, as `storable` writes them, and the rooms that they mean. */
export const roomAliases = pgTable('room_aliases', {
  alias: text().$type<RoomAlias>().primaryKey(),
  roomId: text('room_id').$type<RoomId>().notNull(),
  creator: text().$type<UserId>().notNull(),
  createdAt: int8().notNull(),
});

/** Rooms that this server lists for everybody. */
export const listedRooms = pgTable('listed_rooms', {
  roomId: text('room_id').$type<RoomId>().primaryKey(),
  listedAt: int8().notNull(),
});

/** Users of other servers whom a new room begins with, until they are invited, or cannot be. */
export const firstInvites = pgTable(
  'first_invites',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    userId: text('user_id').$type<UserId>().notNull(),
    sender: text().$type<UserId>().notNull(),
    isDirect: boolean('is_direct').notNull(),
    /** Somebody is at it until then. */
    leasedUntil: int8().notNull().default(0),
  },
  (table) => [primaryKey({ columns: [table.roomId, table.userId] })],
);

/** Rooms of which another one takes the place, until all is done that belongs to it. */
export const roomUpgrades = pgTable('room_upgrades', {
  roomId: text('room_id').$type<RoomId>().primaryKey(),
  successor: text().$type<RoomId>().notNull(),
  userId: text('user_id').$type<UserId>().notNull(),
  /** Somebody is at it until then. */
  leasedUntil: int8().notNull().default(0),
});

/**
 * Rooms that are being purged, and how far that is (src/rooms/purge/). While there is a row, nobody joins the room; it goes with the entry
 * that says that all is done.
 */
export const roomPurges = pgTable('room_purges', {
  roomId: text('room_id').$type<RoomId>().primaryKey(),
  /** By which it is asked for how far it is, then and afterwards. */
  purgeId: text('purge_id').notNull().unique('room_purges_by_id'),
  requestedAt: int8().notNull(),
  /** Users of ours who were in the room, and are out by this. */
  putOut: text('put_out').array().$type<UserId[]>().notNull().default([]),
  /** Since when nothing of the room is written any more; null: its users are leaving. */
  fencedAt: int8(),
  /** The last stay, the number of its last control event, and who is to be told; of a room that is fenced. */
  epoch: integer().notNull().default(0),
  resyncSeq: int8().notNull().default(0),
  users: text().array().$type<UserId[]>().notNull().default([]),
  /** Rows deleted so far, and of these entries of the journal. */
  rows: int8().notNull().default(0),
  entries: int8().notNull().default(0),
  /** By PostgreSQL's clock; until then somebody is at it. */
  claimedUntil: int8().notNull().default(0),
});

/**
 * The tables, as drizzle reads and drizzle-kit generates them. Three are primary facts (`pdus` with `state_keys`,
 * `snapshot_chunks`, `journal`); `rooms`, `resyncs`, `event_states`, `forward_extremities` and `local_members` are folds
 * of the journal; the rest are plain tables.
 *
 * There are no foreign keys: a check for each row costs a third of a bulk insert here, and every write comes from this folder.
 * JSON is `json`, never `jsonb`, which refuses `\u0000` and rewrites `1e3`. Times are milliseconds since the Unix epoch.
 * `type`, `state_key` and `membership` of events are written by `storable` (storable-text.ts), since text cannot hold NUL.
 */
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  customType,
  index,
  integer,
  json,
  pgTable,
  primaryKey,
  text,
  unique,
  uniqueIndex,
} from 'drizzle-orm/pg-core';
import { type EventId, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type SnapshotId } from '../resync/events.ts';
import { type ResyncState } from '../resync/state.ts';

/** Numeric ids and positions; exact in JavaScript below 2^53, which `open-store.ts` asserts on reading. */
const int8 = () => bigint({ mode: 'number' });

/** 16 bytes in the database, 32 hex digits outside: the id of a snapshot or the hash of a chunk. */
const hash16 = customType<{ data: string; driverData: Buffer }>({
  dataType: () => 'bytea',
  toDriver: (hex) => Buffer.from(hex, 'hex'),
  fromDriver: (bytes) => bytes.toString('hex'),
});

const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' });

/** Interned (type, state_key) pairs: what a snapshot maps from. */
export const stateKeys = pgTable(
  'state_keys',
  {
    nid: int8().generatedAlwaysAsIdentity().primaryKey(),
    type: text().notNull(),
    stateKey: text('state_key').notNull(),
  },
  (table) => [unique('state_keys_by_name').on(table.type, table.stateKey)],
);

/** Events as received after the checks. Immutable, but for a hollow one that is completed and the verdict of an outlier. */
export const pdus = pgTable('pdus', {
  nid: int8().generatedAlwaysAsIdentity().primaryKey(),
  eventId: text('event_id').notNull().unique('pdus_by_event_id'),
  roomId: text('room_id').notNull(),
  /** Null: not a state event. */
  stateKeyNid: int8(),
  type: text().notNull(),
  sender: text().notNull(),
  membership: text(),
  depth: int8().notNull(),
  originServerTs: int8().notNull(),
  /**
   * Also in `json`, where SQL cannot reach them: `->` fails on a document that holds `\u0000` anywhere, so that one event
   * would block every query that walks the graph.
   */
  prevEvents: text().array().notNull(),
  authEvents: text().array().notNull(),
  json: json().notNull(),
  /** Stored redacted, because the content hash did not match. */
  hollow: boolean().notNull(),
  /** Why an outlier was refused by its own auth events; null: it was not. */
  rejectedRule: text(),
  rejectedReason: text(),
  storedAt: int8().notNull(),
});

/** Nodes of the snapshot tries (snapshot-trie.ts), content-addressed within a room. */
export const snapshotChunks = pgTable(
  'snapshot_chunks',
  { roomId: text('room_id').notNull(), hash: hash16().notNull(), body: bytea().notNull() },
  (table) => [primaryKey({ columns: [table.roomId, table.hash] })],
);

/** One row: the newest position. Whoever holds its lock is the next to commit. */
export const journalHead = pgTable(
  'journal_head',
  { only: boolean().primaryKey().default(true), position: int8().notNull() },
  (table) => [check('journal_head_is_one_row', sql`${table.only}`)],
);

export const journal = pgTable(
  'journal',
  {
    position: int8().primaryKey(),
    roomId: text('room_id').notNull(),
    epoch: integer().notNull(),
    stream: text({ enum: ['resync', 'timeline'] }).notNull(),
    seq: int8().notNull(),
    type: text().notNull(),
    /** The whole event, `type` included. */
    data: json().notNull(),
    /** Of a state fetch; its start and its outcome are journalled once each. */
    attemptNo: integer('attempt_no'),
    /** Of an entry about one event; each kind of verdict is journalled once in an epoch. */
    eventId: text('event_id'),
    recordedAt: int8().notNull(),
  },
  (table) => [
    unique('journal_by_seq').on(table.roomId, table.stream, table.seq),
    index('journal_by_room').on(table.roomId, table.position),
    uniqueIndex('journal_one_start_an_attempt')
      .on(table.roomId, table.epoch, table.attemptNo)
      .where(sql`type = 'StateFetchStarted'`),
    uniqueIndex('journal_one_outcome_an_attempt')
      .on(table.roomId, table.epoch, table.attemptNo)
      .where(sql`type IN ('StateFetchFailed', 'StateFetched')`),
    uniqueIndex('journal_one_verdict_an_event')
      .on(table.roomId, table.epoch, table.eventId)
      .where(sql`type IN ('PduAccepted', 'PduRejected')`),
    uniqueIndex('journal_one_un_partial_stating_an_event')
      .on(table.roomId, table.epoch, table.eventId)
      .where(sql`type = 'EventUnPartialStated'`),
  ],
);

/** The row whose lock orders everything that is decided about a room. */
export const rooms = pgTable('rooms', {
  roomId: text('room_id').$type<RoomId>().primaryKey(),
  roomVersion: text().notNull(),
  /** Counts the stays of our server in the room; 0 until the first one is opened. */
  epoch: integer().notNull().default(0),
  /** Moves with a verdict flip or completion, and with nothing else. */
  stateVersion: int8().notNull().default(0),
  partial: boolean().notNull().default(false),
  currentState: hash16().$type<SnapshotId>(),
  joinEventId: text().$type<EventId>(),
  joinedVia: text().$type<ServerName>(),
  resyncSeq: int8().notNull().default(0),
  timelineSeq: int8().notNull().default(0),
});

/** The fold of one epoch's control events (`evolve` of src/resync/state.ts). */
export const resyncs = pgTable(
  'resyncs',
  {
    roomId: text('room_id').notNull(),
    epoch: integer().notNull(),
    /** Of the newest control event that is folded in. */
    seq: int8().notNull(),
    state: json().$type<ResyncState>().notNull(),
    phase: text().notNull(),
    /** When somebody must act at the latest; null: nothing to do, or the epoch is over. */
    nextWakeAt: int8(),
    /** When the sweep last rang. */
    rungAt: int8(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.epoch] }),
    index('resyncs_by_next_wake')
      .on(table.nextWakeAt)
      .where(sql`next_wake_at IS NOT NULL`),
  ],
);

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

/** Verdict and states of every event of the timeline. */
export const eventStates = pgTable(
  'event_states',
  {
    eventNid: int8().primaryKey(),
    eventId: text('event_id').notNull().unique('event_states_by_event_id'),
    roomId: text('room_id').notNull(),
    epoch: integer().notNull(),
    /** Of the journal entry that took the event in. */
    position: int8().notNull(),
    stateBefore: hash16().notNull(),
    stateAfter: hash16().notNull(),
    verdict: text({ enum: ['accepted', 'rejected'] }).notNull(),
    softFailed: boolean().notNull(),
    rule: text(),
    reason: text(),
    partial: boolean().notNull(),
  },
  (table) => [
    index('event_states_by_position').on(table.roomId, table.position),
    index('event_states_partial')
      .on(table.roomId, table.position)
      .where(sql`partial`),
  ],
);

export const forwardExtremities = pgTable(
  'forward_extremities',
  { roomId: text('room_id').notNull(), eventId: text('event_id').notNull() },
  (table) => [primaryKey({ columns: [table.roomId, table.eventId] })],
);

/** Memberships of this server's users in the current state. */
export const localMembers = pgTable(
  'local_members',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    userId: text('user_id').$type<UserId>().notNull(),
    membership: text().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.userId] }),
    index('local_members_by_user').on(table.userId, table.membership),
  ],
);

/** Joins that were signed and sent, or are about to be: a join accepted remotely and lost here is finished from this row. */
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
  },
  (table) => [index('join_intents_by_room').on(table.roomId, table.userId)],
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

/** Answers to transactions of other servers: the same transaction again gets the same answer. */
export const receivedTransactions = pgTable(
  'received_transactions',
  {
    origin: text().$type<ServerName>().notNull(),
    txnId: text().notNull(),
    response: json().$type<JsonObject>().notNull(),
    receivedAt: int8().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.origin, table.txnId] }),
    index('received_transactions_by_age').on(table.receivedAt),
  ],
);

/**
 * The primary facts: events and room states, each stored once. JSON is `json`, never `jsonb`, which refuses `\u0000` and
 * rewrites `1e3`. `type`, `state_key` and `membership` of events are written by `storable` (storable-text.ts), since text
 * cannot hold NUL.
 */
import { sql } from 'drizzle-orm';
import { boolean, index, integer, json, pgTable, primaryKey, text, unique } from 'drizzle-orm/pg-core';
import { bytea, hash16, int8 } from './columns.ts';

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

/** Events as received after the checks. Immutable, but for a hollow one that is completed. */
export const pdus = pgTable(
  'pdus',
  {
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
    storedAt: int8().notNull(),
    /** When the body of a hollow one came, milliseconds since the Unix epoch; null: it was never hollow, or is. */
    completedAt: int8(),
    /** Which event it says that it relates to, and how, as `storable` writes it; null: none. */
    relatesTo: text('relates_to'),
    relType: text('rel_type'),
    /**
     * Whoever stored it knew of no relations: so the default has it, for programs that write no such column. Also where it is hollow, which such a
     * program may complete. Null: what it relates to is written, or is among what `unread_relations` leads through.
     */
    relationUnread: boolean('relation_unread').default(true),
  },
  // For who looks through a room part by part, and says so by the same hash: with the room's id itself, which every look-up by event
  // id names beside, the planner would read the whole of a big room for some of these.
  (table) => [
    index('pdus_in_room').on(sql`hashtext(${table.roomId})`, table.nid),
    // By the times that their servers say, for who looks for what was said when (events/events-by-time.ts).
    index('pdus_by_time').on(sql`hashtext(${table.roomId})`, table.originServerTs, table.nid),
    // What relates to an event, and threads by their newest events (events/relations.ts).
    index('pdus_by_relation')
      .on(table.roomId, table.relatesTo, table.relType, table.nid)
      .where(sql`${table.relatesTo} IS NOT NULL`),
    index('pdus_in_threads')
      .on(table.roomId, table.nid)
      .where(sql`${table.relType} = 'm.thread'`),
    // What programs stored that know of no relations (events/read-relations.ts).
    index('pdus_relation_unread')
      .on(table.nid)
      .where(sql`${table.relationUnread} AND NOT ${table.hollow}`),
    // Redactions by what they take back, as far as a pattern can tell (events/redactions.ts).
    index('pdus_by_redacts')
      .on(table.roomId, sql`substring(${table.json}::text from '"redacts"\\s*:\\s*"([^"\\\\]+)"')`)
      .where(sql`${table.type} = 'm.room.redaction'`),
  ],
);

/** Of what was stored before events had relations: how far they are written, and up to where. The row goes when they all are. */
export const unreadRelations = pgTable('unread_relations', {
  upTo: int8().primaryKey(),
  readTo: int8().notNull().default(0),
});

/**
 * Verdicts on events that were fetched as state or auth chain, by their own auth events alone; in the timeline that of
 * `event_states` counts. An event with neither is unjudged, and no proof of anything. A table of its own, since these are
 * known after the events are stored, and rewriting the wide rows of a big state costs as much as storing them.
 */
export const outlierVerdicts = pgTable('outlier_verdicts', {
  eventNid: int8().primaryKey(),
  verdict: text({ enum: ['accepted', 'rejected'] }).notNull(),
  /** Greater than that of every event in its auth chain, 0 for one that has none; null: not known. */
  authDepth: integer('auth_depth'),
  /** Why it is rejected. */
  rule: text(),
  reason: text(),
});

/** Nodes of the snapshot tries (snapshot-trie.ts), content-addressed within a room. */
export const snapshotChunks = pgTable(
  'snapshot_chunks',
  {
    roomId: text('room_id').notNull(),
    hash: hash16().notNull(),
    body: bytea().notNull(),
    /** When nothing was found that needs it, milliseconds; it is deleted a day later unless something does by then. */
    condemnedAt: int8(),
  },
  (table) => [primaryKey({ columns: [table.roomId, table.hash] })],
);

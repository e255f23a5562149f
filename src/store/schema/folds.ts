/**
 * Folds of the journal: written in the transaction that appends; `journal/fold-tables.ts` names the columns that others write,
 * and `rejoinder journal rebuild` compares the rest with the journal. Times are milliseconds since the Unix epoch.
 */
import { sql } from 'drizzle-orm';
import { boolean, index, integer, json, pgTable, primaryKey, text } from 'drizzle-orm/pg-core';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { type FailureClass, type SnapshotId } from '../../resync/events.ts';
import { type ResyncState } from '../../resync/state.ts';
import { hash16, int8 } from './columns.ts';

/** The row whose lock orders everything that is decided about a room. */
export const rooms = pgTable(
  'rooms',
  {
    roomId: text('room_id').$type<RoomId>().primaryKey(),
    roomVersion: text().notNull(),
    /** Counts the stays of our server in the room; 0 until the first one is opened. */
    epoch: integer().notNull().default(0),
    /** Moves with verdict flips, corrections, fetched states and completion, and with nothing else (fold-corrections.ts). */
    stateVersion: int8().notNull().default(0),
    partial: boolean().notNull().default(false),
    currentState: hash16().$type<SnapshotId>(),
    joinEventId: text().$type<EventId>(),
    joinedVia: text().$type<ServerName>(),
    resyncSeq: int8().notNull().default(0),
    timelineSeq: int8().notNull().default(0),
    /** Joined ones in the current state; null: not known, nor are `name` and `canonicalAlias` then (room-summaries.ts). */
    members: integer(),
    /** Invited ones; null: not known, in rooms from before this was counted. */
    invited: integer(),
    /** What the current state calls the room, as `storable` writes it. */
    name: text(),
    canonicalAlias: text(),
    /** When its snapshot chunks were last looked through; no fold. */
    collectedAt: int8(),
    /** Numbers of events up to this one are of an earlier life of the room, which was purged; 0: it was not. */
    purgedTo: int8().notNull().default(0),
  },
  (table) => [
    index('rooms_by_canonical_alias')
      .on(table.canonicalAlias)
      .where(sql`canonical_alias IS NOT NULL`),
  ],
);

/** The fold of one epoch's control events (`evolve` of src/resync/evolve.ts). */
export const resyncs = pgTable(
  'resyncs',
  {
    roomId: text('room_id').notNull(),
    epoch: integer().notNull(),
    /** Of the newest control event that is folded in. */
    seq: int8().notNull(),
    state: json().$type<ResyncState>().notNull(),
    /** `cancelled`: parked by an operator. */
    phase: text().notNull(),
    /** When somebody must act at the latest; null: nothing to do, or the epoch is over. */
    nextWakeAt: int8(),
    /** When the room is purged, since everybody has left it; null: it is not. */
    purgeAt: int8(),
    /** When the sweep last rang. */
    rungAt: int8(),
    /** When somebody waited for the room last (src/rooms/read/wanted-rooms.ts); no fold. */
    wantedAt: int8(),
    /** How many did then, at the process that said so; no fold. */
    waiters: integer(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.epoch] }),
    index('resyncs_by_next_wake')
      .on(table.nextWakeAt)
      .where(sql`next_wake_at IS NOT NULL`),
    index('resyncs_to_purge')
      .on(table.purgeAt)
      .where(sql`purge_at IS NOT NULL`),
    index('resyncs_parked')
      .on(table.roomId)
      .where(sql`phase = 'parked'`),
    index('resyncs_cancelled')
      .on(table.roomId)
      .where(sql`phase = 'cancelled'`),
  ],
);

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
    /** It is rejected or soft-failed, and an accepted event of the timeline reaches it (fold-extremities.ts). */
    covered: boolean().notNull().default(false),
    rule: text(),
    reason: text(),
    partial: boolean().notNull(),
    /** Greater than that of every event in its auth chain; null: one of these has none. */
    authDepth: integer('auth_depth'),
    /** Nids of the events that the verdict was made by, at most 12; null: judged before they were kept. */
    authState: int8().array(),
    /**
     * From which position on clients see it: of the entry that accepted it, or that gave it another verdict; null: not at all, since
     * it is rejected or soft-failed.
     */
    shownAt: int8(),
  },
  (table) => [
    index('event_states_by_shown_at')
      .on(table.roomId, table.shownAt)
      .where(sql`shown_at IS NOT NULL`),
    index('event_states_by_position').on(table.roomId, table.position),
    index('event_states_partial')
      .on(table.roomId, table.position)
      .where(sql`partial`),
  ],
);

/**
 * Events at which the graph that we hold begins: parents of what we hold whose own parents we do not know. An anchor has a
 * state after it, as an event of the timeline has, and is none.
 */
export const anchors = pgTable(
  'anchors',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    epoch: integer().notNull(),
    stateAfter: hash16().$type<SnapshotId>().notNull(),
    /** `stateAfter` is what a resident returned without memberships: the full state is still to be fetched. */
    partial: boolean().notNull(),
    /** No resident has told `stateAfter`: it stands for a state that is still looked for. */
    assumed: boolean().notNull().default(false),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.eventId] }),
    index('anchors_partial')
      .on(table.roomId)
      .where(sql`partial`),
  ],
);

/**
 * What a resident's answer names as the state at an anchor and the state there does not hold: events that are rejected, that
 * nobody gave us, or that cite such. One that is accepted later gets its place.
 */
export const leftOut = pgTable(
  'left_out',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    anchorId: text('anchor_id').$type<EventId>().notNull(),
  },
  (table) => [primaryKey({ columns: [table.roomId, table.eventId, table.anchorId] })],
);

/** Auth events that are not held, or not judged, and for want of which events are not judged, or are rejected. */
export const awaitedEvents = pgTable(
  'awaited_events',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    /** The server that sent what cites it, or the anchor whose state lacks that; empty: not known. */
    awaitedBy: text('awaited_by').$type<ServerName | EventId | ''>().notNull().default(''),
    /** When it was awaited last, to a day: milliseconds since the Unix epoch. */
    since: int8()
      .notNull()
      .default(sql`floor(extract(epoch FROM now()) * 1000)::bigint`),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.eventId, table.awaitedBy] }),
    index('awaited_events_by_age').on(table.since),
  ],
);

/**
 * Events, and anchors, that changed, and whose dependants are not known yet. The row without an event says that the current state
 * is to be worked out again (src/rooms/resync/correct-events.ts).
 */
export const correctionCauses = pgTable(
  'correction_causes',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    /** Position of the entry by which it changed. */
    cause: int8().notNull(),
    /** Its verdict is another: what cites it as an auth event, and where states were resolved, is to be looked at. */
    verdict: boolean().notNull(),
    /** The state after it is another: its children are. */
    states: boolean().notNull(),
    /** The states at anchors are still to be looked at. */
    anchors: boolean().notNull(),
    since: int8().notNull(),
    /** The room was looked through for what rests on it up to this event, by number; null: not yet. */
    lookedTo: int8(),
    /** Position of the last entry by which a guess about it ended: what was spared by that is looked for, whatever changed since. */
    guessEnded: int8(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.eventId] }),
    index('correction_causes_by_time').on(table.since),
  ],
);

/** Events that are to be looked at again, outliers among them. */
export const correctionTargets = pgTable(
  'correction_targets',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    /** As in `correction_causes`, of the event `through`. */
    cause: int8().notNull(),
    through: text().$type<EventId>().notNull(),
    /** The state before it may be another. */
    states: boolean().notNull(),
    /** Those that others may rest on come first: outliers by auth depth, then events of the timeline by position. */
    rank: int8().notNull(),
    since: int8().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.eventId] }),
    index('correction_targets_by_rank').on(table.roomId, table.rank),
    index('correction_targets_by_time').on(table.since),
  ],
);

/**
 * Missing events that ours cite, at which the state is still to be had from a resident. What was tried is written by who
 * tries it; the row goes when the gap is closed, and its event is an anchor with full state then.
 */
export const gaps = pgTable(
  'gaps',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    epoch: integer().notNull(),
    /** Who sent the event that cites it: none may open many. */
    origin: text().$type<ServerName>().notNull(),
    openedAt: int8().notNull(),
    /** In which somebody was asked. */
    attempts: integer().notNull().default(0),
    /** Begun since one ended or stored something, and not ended in order: they end their worker. */
    begins: integer().notNull().default(0),
    /** When it is tried next; null: given up. */
    wakeAt: int8(),
    /** Somebody is at it, and nobody else tries it before this time, by the database's clock. */
    begunUntil: int8().notNull().default(0),
    lastResident: text().$type<ServerName>(),
    lastFailure: text().$type<FailureClass>(),
    lastReason: text(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.eventId] }),
    index('gaps_by_wake')
      .on(table.wakeAt)
      .where(sql`wake_at IS NOT NULL`),
  ],
);

/**
 * Servers that are or were believed to be in a room, and by what: the best source counts. The candidates of a resync are a
 * choice from them.
 */
export const roomServers = pgTable(
  'room_servers',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    serverName: text('server_name').$type<ServerName>().notNull(),
    /** `answered` a request of ours about the room; `via`: named by a user; `spoke` in it; `hint`: a resident says so. */
    source: text({ enum: ['answered', 'via', 'spoke', 'hint'] }).notNull(),
    since: int8().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.serverName] }),
    index('room_servers_server_name').on(table.serverName),
  ],
);

/**
 * Events that a room's state lacks, or that nobody gave us so far. One that is found later keeps its row: it is stored and
 * judged, and gets its places as a correction.
 */
export const missingEvents = pgTable(
  'missing_events',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    epoch: integer().notNull(),
    why: text({ enum: ['not-delivered', 'key-missing', 'badly-signed', 'malformed'] }).notNull(),
    /** Of a copy that came and could not be used, as `storable` writes it; null: none came. */
    type: text(),
    since: int8().notNull(),
    /** Servers that answered and did not give it, or gave what cannot be used; the first few. */
    askedOf: text('asked_of').array().$type<ServerName[]>().notNull(),
    /** Servers in whose states it was named; the first few. */
    namedBy: text('named_by').array().$type<ServerName[]>().notNull().default([]),
    /** The room goes on without it. Before that it is only missing so far. */
    isGivenUp: boolean('is_given_up').notNull(),
    /** It is lacking in the state at this gap alone, by the word of one server or two; null: in that of the room. */
    gapId: text('gap_id').$type<EventId>(),
    foundAt: int8(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.eventId] }),
    index('missing_events_given_up')
      .on(table.since)
      .where(sql`is_given_up AND found_at IS NULL`),
  ],
);

/** Who cites whom among the events of the timeline: the way from an event to its children. */
export const eventEdges = pgTable(
  'event_edges',
  {
    roomId: text('room_id').notNull(),
    prevEventId: text('prev_event_id').notNull(),
    eventId: text('event_id').notNull(),
  },
  (table) => [primaryKey({ columns: [table.roomId, table.prevEventId, table.eventId] })],
);

/** Accepted events of this stay that no other one reaches over prev edges (fold-extremities.ts). */
export const forwardExtremities = pgTable(
  'forward_extremities',
  { roomId: text('room_id').notNull(), eventId: text('event_id').notNull() },
  (table) => [primaryKey({ columns: [table.roomId, table.eventId] })],
);

/**
 * What a room's current state was from a position on, and whether the room was partial then: a row where either changed. So the state
 * at any position is one look.
 */
export const currentStates = pgTable(
  'current_states',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    position: int8().notNull(),
    state: hash16().$type<SnapshotId>().notNull(),
    partial: boolean().notNull(),
  },
  (table) => [primaryKey({ columns: [table.roomId, table.position] })],
);

/**
 * Users of this server who had left a room, or whose place in its state became empty: their clients must be told, and they may read
 * what they left, in a later stay of which the state says nothing of them, too. The row stays when they are there again.
 */
export const formerMembers = pgTable(
  'former_members',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    userId: text('user_id').$type<UserId>().notNull(),
    /** The event by which he was last joined no more; null: none is known. */
    leftBy: text('left_by').$type<EventId>(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.roomId] })],
);

/** Users of this server who have left a partial room here, before the room was told (journal/silent-leaves.ts). */
export const silentLeaves = pgTable(
  'silent_leaves',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    userId: text('user_id').$type<UserId>().notNull(),
    /** Positions of the entries that say so, and that it is settled; null: it is not. */
    leftAt: int8().notNull(),
    settledAt: int8(),
  },
  (table) => [primaryKey({ columns: [table.roomId, table.userId] })],
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

/**
 * Plain tables of what passes in rooms: who types, who has read what, who is there. Times are milliseconds since the Unix epoch. Who types
 * and who is there are unlogged: PostgreSQL empties them after a crash, and it is said again (journal/recoveries.ts). Drizzle has no word for that, so their
 * migration says it.
 */
import { sql } from 'drizzle-orm';
import { boolean, index, json, pgTable, primaryKey, text } from 'drizzle-orm/pg-core';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { int8 } from './columns.ts';

/** A user who types. */
export interface Typist {
  readonly userId: UserId;
  /** He types no more from then on, unless he says so again. */
  readonly until: number;
  /** When other servers were told last that he does, of users of this one. */
  readonly toldAt: number;
}

/** Who types in a room; a row stays when nobody does, for those who are to be told that. */
export const roomTyping = pgTable(
  'room_typing',
  {
    roomId: text('room_id').$type<RoomId>().primaryKey(),
    typists: json().$type<readonly Typist[]>().notNull(),
    /** When the first of them types no more; null: nobody does. */
    expiresAt: int8(),
    /** Since when these are the ones. */
    position: int8().notNull(),
  },
  (table) => [
    index('room_typing_expiring')
      .on(table.expiresAt)
      .where(sql`expires_at IS NOT NULL`),
    index('room_typing_by_position').on(table.position),
  ],
);

/** The event that a user has read last, as others are told it, of users of all servers; `m.read.private` only he himself is. */
export const receipts = pgTable(
  'receipts',
  {
    roomId: text('room_id').$type<RoomId>().notNull(),
    userId: text('user_id').$type<UserId>().notNull(),
    type: text().notNull(),
    /** Empty: of the room, threads and all; `main`: of what is in no thread; otherwise the thread's first event. */
    threadId: text('thread_id').notNull(),
    /** May be one that is not held. */
    eventId: text('event_id').$type<EventId>().notNull(),
    /** When he read it, as his server says. */
    at: int8().notNull(),
    position: int8().notNull(),
    /** Other servers are still to be told. */
    isUntold: boolean().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.roomId, table.userId, table.type, table.threadId] }),
    index('receipts_by_position').on(table.roomId, table.position),
    index('receipts_of_all_rooms').on(table.position),
    index('receipts_untold')
      .on(table.position)
      .where(sql`is_untold`),
  ],
);

/** Whether users are there, of all servers, as they or their servers said last. */
export const presence = pgTable(
  'presence',
  {
    userId: text('user_id').$type<UserId>().primaryKey(),
    serverName: text('server_name').$type<ServerName>().notNull(),
    presence: text().notNull(),
    /** As `storable` writes it. */
    statusMsg: text('status_msg'),
    lastActiveAt: int8(),
    currentlyActive: boolean(),
    saidAt: int8().notNull(),
    position: int8().notNull(),
  },
  (table) => [
    index('presence_by_position').on(table.position),
    index('presence_by_server').on(table.serverName),
    index('presence_by_age').on(table.saidAt),
  ],
);

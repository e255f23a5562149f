/** The third primary fact: what we decided, in one order (src/store/journal/journal.ts). */
import { sql } from 'drizzle-orm';
import { boolean, check, index, integer, json, pgTable, text, unique, uniqueIndex } from 'drizzle-orm/pg-core';
import { int8 } from './columns.ts';

/** One row: the newest position. Whoever holds its lock is the next to commit. */
export const journalHead = pgTable(
  'journal_head',
  { only: boolean().primaryKey().default(true), position: int8().notNull() },
  (table) => [check('journal_head_is_one_row', sql`${table.only}`)],
);

/**
 * One row: where `journal_head` stood when PostgreSQL had started again after a crash. Unlogged, so that it is gone after the next one
 * (src/store/journal/recoveries.ts). Drizzle has no word for that, so its migration says it.
 */
export const lastRecovery = pgTable(
  'last_recovery',
  { only: boolean().primaryKey().default(true), position: int8().notNull() },
  (table) => [check('last_recovery_is_one_row', sql`${table.only}`)],
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
    /** Of a change of a verdict: the position of the entry that made it due. */
    cause: int8(),
    recordedAt: int8().notNull(),
  },
  (table) => [
    unique('journal_by_seq').on(table.roomId, table.stream, table.seq),
    index('journal_by_room').on(table.roomId, table.position),
    // Of the rare kinds only: the first verdicts have their unique indexes, and an append of an event pays for no other.
    index('journal_by_event')
      .on(table.eventId)
      .where(sql`event_id IS NOT NULL AND type NOT IN ('PduAccepted', 'PduRejected', 'EventUnPartialStated')`),
    // What is told of joins of ours (journal/joins.ts): among all else of a stay they are few.
    index('journal_of_joins')
      .on(table.roomId, table.epoch)
      .where(
        sql`type IN ('PartialStateJoined', 'FullStateJoined', 'ResidentsLearned', 'ParentsLearned', 'JoinRejected', 'JoinRestored')`,
      ),
    // Rooms that are gone: clients are told of those since their token, and operators by the purge's name.
    index('journal_of_purges')
      .on(table.position)
      .where(sql`type = 'RoomPurged'`),
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
    uniqueIndex('journal_one_change_a_cause')
      .on(table.eventId, table.cause)
      .where(sql`type = 'VerdictChanged'`),
  ],
);

/** What our users sent. Times are milliseconds since the Unix epoch. */
import { index, pgTable, primaryKey, text } from 'drizzle-orm/pg-core';
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
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

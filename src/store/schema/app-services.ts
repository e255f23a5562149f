/** Application services, as far as this server keeps something of them: how far each has been told. Times are milliseconds. */
import { integer, json, pgTable, text } from 'drizzle-orm/pg-core';
import { type JsonObject } from '../../matrix/pdu.ts';
import { int8 } from './columns.ts';

export const appServices = pgTable('app_services', {
  serviceId: text('service_id').primaryKey(),
  /** Up to which position it has been told what is of interest to it. */
  sent: int8().notNull(),
  /** By PostgreSQL's clock; until then one process is at it. */
  leasedUntil: int8().notNull(),
  /** Transactions that it did not take, in a row, since when, and when the next one is tried. */
  failures: integer().notNull(),
  failedSince: int8(),
  retryAt: int8().notNull(),
  /** How the last of them failed for people; null: none did since the service took one. */
  lastFailure: text(),
  /** The transaction that is under way or was not taken: it is sent again as it was. */
  txnId: text(),
  /** Where what it holds is shown, and up to where the service has been told when it is taken. */
  txnPositions: int8().array(),
  /** What passed in rooms meanwhile, as it is sent; null: nothing. */
  txnEphemeral: json().$type<readonly JsonObject[]>(),
  txnUpTo: int8(),
  /** When it was made: how old its events are is told as of then. */
  txnMadeAt: int8(),
});

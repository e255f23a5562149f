/**
 * Answers given to transactions of other servers: one that comes again gets the same answer and is not taken in twice.
 * They are recorded with the events of the transaction (staged-pdus.ts).
 */
import { and, eq } from 'drizzle-orm';
import { type ServerName } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Sql } from '../open-store.ts';
import { receivedTransactions } from '../schema/tables.ts';
import { deleteOlder } from './delete-older.ts';

/** The answer that was given; `undefined` when the transaction is new. */
export async function readTransactionResponse(
  sql: Sql,
  origin: ServerName,
  txnId: string,
): Promise<JsonObject | undefined> {
  const [row] = await sql.db
    .select({ response: receivedTransactions.response })
    .from(receivedTransactions)
    .where(and(eq(receivedTransactions.origin, origin), eq(receivedTransactions.txnId, txnId)));
  return row?.response;
}

/** Forgets at most `limit` answers older than `receivedBefore`; gives how many. */
export function forgetTransactions(sql: Sql, receivedBefore: number, limit: number): Promise<number> {
  return deleteOlder(sql, { table: 'received_transactions', time: 'received_at' }, receivedBefore, limit);
}

/** Forgets the answers to the server's transactions of which nothing was taken in, but for the newest `kept`. */
export async function forgetOfNothing(sql: Sql, origin: ServerName, kept: number): Promise<void> {
  await sql.query(
    `DELETE FROM received_transactions WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM received_transactions WHERE origin = $1 AND is_of_nothing
        ORDER BY received_at DESC, txn_id OFFSET $2))`,
    [origin, kept],
  );
}

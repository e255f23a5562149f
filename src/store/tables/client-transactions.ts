/** What clients sent under which transaction id: https://spec.matrix.org/v1.16/client-server-api/#transaction-identifiers */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { fromStorable, storable } from '../storable-text.ts';
import { deleteOlder } from './delete-older.ts';

/** A transaction id counts for one device in one room. */
export interface ClientTransaction {
  readonly userId: UserId;
  readonly deviceId: string;
  readonly roomId: RoomId;
  readonly txnId: string;
}

/** The event that was sent so before; `undefined`: none. */
export async function readClientTransaction(sql: Sql, of: ClientTransaction): Promise<EventId | undefined> {
  const [row] = await sql.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM client_transactions
      WHERE user_id = $1 AND device_id = $2 AND room_id = $3 AND txn_id = $4`,
    [of.userId, of.deviceId, of.roomId, storable(of.txnId)],
  );
  return row?.eventId;
}

/** Notes what is sent in the room, whose lock the transaction has. `at`: milliseconds since the Unix epoch. */
export async function recordClientTransaction(
  tx: Transaction,
  of: ClientTransaction,
  eventId: EventId,
  at: number,
): Promise<void> {
  await tx.query(
    `INSERT INTO client_transactions (user_id, device_id, room_id, txn_id, event_id, sent_at) VALUES ($1, $2, $3, $4, $5, $6)`,
    [of.userId, of.deviceId, of.roomId, storable(of.txnId), eventId, at],
  );
}

/** Of the events that a device sent, the transaction ids that it gave them. */
export async function readTransactionIds(
  sql: Sql,
  userId: UserId,
  deviceId: string,
  eventIds: readonly EventId[],
): Promise<Map<EventId, string>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<{ eventId: EventId; txnId: string }>(
    `SELECT event_id AS "eventId", txn_id AS "txnId" FROM client_transactions
      WHERE event_id = ANY ($3::text[]) AND user_id = $1 AND device_id = $2`,
    [userId, deviceId, eventIds],
  );
  return new Map(rows.map(({ eventId, txnId }) => [eventId, fromStorable(txnId)]));
}

/** Forgets at most `limit` of those sent before `sentBefore`, milliseconds; gives how many. */
export function forgetClientTransactions(sql: Sql, sentBefore: number, limit: number): Promise<number> {
  return deleteOlder(sql, { table: 'client_transactions', time: 'sent_at' }, sentBefore, limit);
}

/** Of messages to devices, which are of no room and have no event. */
const NOTHING = '';

/** Notes a transaction of a device that is about no room; `false`: it was noted before. `at`: milliseconds since the Unix epoch. */
export async function takeDeviceTransaction(
  tx: Transaction,
  { userId, deviceId, txnId }: Omit<ClientTransaction, 'roomId'>,
  at: number,
): Promise<boolean> {
  const rows = await tx.query(
    `INSERT INTO client_transactions (user_id, device_id, room_id, txn_id, event_id, sent_at)
     VALUES ($1, $2, $3, $4, $3, $5) ON CONFLICT DO NOTHING RETURNING 1`,
    [userId, deviceId, NOTHING, storable(txnId), at],
  );
  return rows.length > 0;
}

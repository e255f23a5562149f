/** Up to which event users of ours have read rooms. */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { takePositions } from '../journal/positions.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { UPSERT_RECEIPT } from './receipts.ts';

export type ReceiptType = 'm.read' | 'm.read.private';

export interface ReadReceipt {
  readonly userId: UserId;
  readonly roomId: RoomId;
  readonly type: ReceiptType;
  readonly eventId: EventId;
  /** From which position on the event is shown. */
  readonly upTo: number;
  /** As it is told: empty, or `main`. */
  readonly threadId: string;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
}

/** Up to which position a room has been read, by receipts of a type; `undefined`: nobody has said. */
export async function readReceiptPosition(
  sql: Sql,
  { userId, roomId, type }: Pick<ReadReceipt, 'userId' | 'roomId' | 'type'>,
): Promise<number | undefined> {
  const [row] = await sql.query<{ upTo: number }>(
    `SELECT up_to AS "upTo" FROM read_receipts WHERE user_id = $1 AND room_id = $2 AND type = $3`,
    [userId, roomId, type],
  );
  return row?.upTo;
}

/**
 * Writes a receipt as the last statement of the transaction, unless one of a later event is there; his room is told, or of a private one he
 * himself. It may be lost when the machine stops within a moment: clients say again what they have read.
 */
export async function upsertReadReceipt(tx: Transaction, receipt: ReadReceipt): Promise<void> {
  const { userId, roomId, type, eventId, upTo, threadId, at } = receipt;
  // Whoever takes positions waits until this is committed, and need not wait for the disk.
  await tx.query('SET LOCAL synchronous_commit = off');
  takePositions(tx, {
    name: 'upsert_read_receipt',
    text: `INSERT INTO read_receipts (user_id, room_id, type, event_id, up_to, position)
           SELECT $3, $4, $5, $6, $9::bigint, head.base + 1 FROM head
           ON CONFLICT (user_id, room_id, type) DO UPDATE
              SET (event_id, up_to, position) = (excluded.event_id, excluded.up_to, excluded.position)
            WHERE excluded.up_to > read_receipts.up_to`,
    besides: UPSERT_RECEIPT,
    values: [userId, roomId, type, eventId, threadId, String(at), String(upTo)],
    count: 1,
    topics: type === 'm.read' ? [userId, roomId] : [userId],
  });
}

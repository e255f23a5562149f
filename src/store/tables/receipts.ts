/** The events that users of all servers have read last, as others are told it. */
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { takePositions } from '../journal/positions.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { type ToldRoom } from './typing.ts';

/** What a user has read last: of a room, or of a thread in it. */
export interface Receipt {
  readonly roomId: RoomId;
  readonly userId: UserId;
  /** Empty: of the room, threads and all; `main`: of what is in no thread; otherwise the thread's first event. */
  readonly threadId: string;
  readonly eventId: EventId;
  /** Milliseconds since the Unix epoch, as his server says. */
  readonly at: number;
}

/** Of one user in one room: who reads more threads than that has the oldest forgotten. */
const THREADS_MAX = 100;

/** The statement of one receipt of a user of this server, with its values in these places; others of his are told by it, too. */
export const UPSERT_RECEIPT = `
  INSERT INTO receipts (user_id, room_id, type, event_id, thread_id, at, position, is_untold)
  SELECT $3, $4, $5, $6, $7, $8::bigint, head.base + 1, $5 = 'm.read' FROM head
  ON CONFLICT (room_id, user_id, type, thread_id) DO UPDATE
     SET (event_id, at, position, is_untold) = (excluded.event_id, excluded.at, excluded.position, excluded.is_untold)`;

/** Forgets of users in rooms the threads that they read longest ago, before more are written. */
export async function forgetOldThreads(
  tx: Transaction,
  of: readonly Pick<Receipt, 'roomId' | 'userId'>[],
): Promise<void> {
  if (of.length === 0) return;
  await tx.query(
    `DELETE FROM receipts r USING (
       SELECT DISTINCT room_id, user_id FROM unnest($1::text[], $2::text[]) AS i(room_id, user_id)) AS i
      WHERE r.room_id = i.room_id AND r.user_id = i.user_id AND r.thread_id NOT IN ('', 'main')
        AND r.position <= (SELECT o.position FROM receipts o
                            WHERE o.room_id = i.room_id AND o.user_id = i.user_id AND o.thread_id NOT IN ('', 'main')
                            ORDER BY o.position DESC OFFSET $3 LIMIT 1)`,
    [of.map(({ roomId }) => roomId), of.map(({ userId }) => userId), THREADS_MAX - 1],
  );
}

/** A receipt of a thread that a client of ours has read, as the last statement of the transaction. `private`: only he is told. */
export async function upsertThreadReceipt(
  tx: Transaction,
  { roomId, userId, threadId, eventId, at }: Receipt,
  type: 'm.read' | 'm.read.private',
): Promise<void> {
  await forgetOldThreads(tx, [{ roomId, userId }]);
  await tx.query('SET LOCAL synchronous_commit = off');
  takePositions(tx, {
    name: 'upsert_thread_receipt',
    text: UPSERT_RECEIPT,
    values: [userId, roomId, type, eventId, threadId, String(at)],
    count: 1,
    topics: type === 'm.read' ? [roomId] : [userId],
  });
}

/** The event that a user has read last in a room or a thread of it; `undefined`: nothing is kept of that. */
export async function readReceiptEvent(
  sql: Sql,
  { roomId, userId, threadId }: Pick<Receipt, 'roomId' | 'userId' | 'threadId'>,
  type: 'm.read' | 'm.read.private',
): Promise<EventId | undefined> {
  const [row] = await sql.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM receipts WHERE room_id = $1 AND user_id = $2 AND type = $3 AND thread_id = $4`,
    [roomId, userId, type, threadId],
  );
  return row?.eventId;
}

/** Up to where a user has read a room: of everything in it, and of threads, `main` among them. */
export interface ThreadRead {
  readonly roomId: RoomId;
  /** As in `Receipt`. */
  readonly threadId: string;
  /** From which position on the event is shown. */
  readonly upTo: number;
}

/** What is kept of what a user has read in rooms, in public or in private, as far as the events are shown. */
export function readThreadsRead(sql: Sql, userId: UserId, roomIds: readonly RoomId[]): Promise<ThreadRead[]> {
  return sql.query<ThreadRead>(
    `SELECT r.room_id AS "roomId", r.thread_id AS "threadId", max(e.shown_at) AS "upTo"
       FROM receipts r JOIN event_states e ON e.event_id = r.event_id AND e.room_id = r.room_id AND e.shown_at IS NOT NULL
      WHERE r.room_id = ANY ($1::text[]) AND r.user_id = $2 GROUP BY 1, 2 ORDER BY 1, 2`,
    [textArray(roomIds), userId],
  );
}

/** Writes what users of other servers have read, each named once, as the last statement of the transaction; they share a position. */
export async function upsertReceived(tx: Transaction, receipts: readonly Receipt[]): Promise<void> {
  await forgetOldThreads(
    tx,
    receipts.filter(({ threadId }) => threadId !== '' && threadId !== 'main'),
  );
  await tx.query('SET LOCAL synchronous_commit = off');
  takePositions(tx, {
    name: 'upsert_received_receipts',
    text: `INSERT INTO receipts (room_id, user_id, type, thread_id, event_id, at, position, is_untold)
           SELECT r.room_id, r.user_id, 'm.read', r.thread_id, r.event_id, r.at, head.base + 1, false
             FROM head, unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[]) AS r(room_id, user_id, thread_id, event_id, at)
           ON CONFLICT (room_id, user_id, type, thread_id) DO UPDATE
              SET (event_id, at, position) = (excluded.event_id, excluded.at, excluded.position)`,
    values: [
      textArray(receipts.map(({ roomId }) => roomId)),
      textArray(receipts.map(({ userId }) => userId)),
      textArray(receipts.map(({ threadId }) => threadId)),
      textArray(receipts.map(({ eventId }) => eventId)),
      int8Array(receipts.map(({ at }) => at)),
    ],
    count: 1,
    topics: [...new Set(receipts.map(({ roomId }) => roomId))],
  });
}

/** Receipts of all rooms and users that are of a span of positions: `limit` at the most, the newest. */
export function readNewestReceipts(
  sql: Sql,
  { since, upTo }: { readonly since: number; readonly upTo: number },
  limit: number,
): Promise<ShownReceipt[]> {
  return sql.query(
    `SELECT ${SHOWN} FROM receipts r WHERE r.position > $1 AND r.position <= $2 ORDER BY r.position DESC LIMIT $3`,
    [since, upTo, limit],
  );
}

/** How many receipts are kept of users of each server in each of the rooms. */
export function countReceipts(
  sql: Sql,
  roomIds: readonly RoomId[],
): Promise<{ readonly roomId: RoomId; readonly serverName: ServerName; readonly count: number }[]> {
  return sql.query(
    `SELECT room_id AS "roomId", substring(user_id FROM position(':' IN user_id) + 1) AS "serverName", count(*) AS count
       FROM receipts WHERE room_id = ANY ($1::text[]) GROUP BY 1, 2`,
    [roomIds],
  );
}

const SHOWN = `r.room_id AS "roomId", r.user_id AS "userId", r.type, r.thread_id AS "threadId", r.event_id AS "eventId", r.at`;

export interface ShownReceipt extends Receipt {
  readonly type: 'm.read' | 'm.read.private';
}

/**
 * What a user is told of receipts in rooms up to `upTo`: all of his own, of which each room has few, and then of others' the newest ones,
 * `limitOfRoom` of each; `limit` of all.
 */
export async function readReceiptsSince(
  sql: Sql,
  userId: UserId,
  rooms: readonly ToldRoom[],
  { upTo, limitOfRoom, limit }: { readonly upTo: number; readonly limitOfRoom: number; readonly limit: number },
): Promise<readonly ShownReceipt[]> {
  if (rooms.length === 0) return [];
  return sql.query<ShownReceipt>(
    `WITH i AS (SELECT * FROM unnest($1::text[], $2::bigint[]) AS i(room_id, after))
     (SELECT ${SHOWN} FROM i JOIN receipts r
          ON r.room_id = i.room_id AND r.user_id = $4 AND r.position > i.after AND r.position <= $3)
     UNION ALL
     (SELECT ${SHOWN} FROM i
       CROSS JOIN LATERAL (SELECT * FROM receipts o
                            WHERE o.room_id = i.room_id AND o.position > i.after AND o.position <= $3
                              AND o.type = 'm.read' AND o.user_id <> $4
                            ORDER BY o.position DESC LIMIT $5) AS r)
      LIMIT $6`,
    [
      textArray(rooms.map(({ roomId }) => roomId)),
      int8Array(rooms.map(({ after }) => after)),
      upTo,
      userId,
      limitOfRoom,
      limit,
    ],
  );
}

/**
 * The oldest receipts that other servers are still to be told of; nobody else tells any until the transaction ends, and there is none where
 * somebody is at it. The rows are not locked: whoever writes another in their place holds the one counter meanwhile.
 */
export function takeUntoldReceipts(
  tx: Transaction,
  limit: number,
): Promise<(Receipt & { readonly position: number })[]> {
  return tx.query(
    `WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtextextended('telling of receipts', 0)) AS is_ours)
     SELECT r.room_id AS "roomId", r.user_id AS "userId", r.thread_id AS "threadId", r.event_id AS "eventId", r.at, r.position
       FROM turn JOIN receipts r ON turn.is_ours AND r.is_untold ORDER BY r.position LIMIT $1`,
    [limit],
  );
}

/** They are told; one that is another since is not. As the last statement: it holds the rows. */
export async function settleReceipts(
  tx: Transaction,
  told: readonly (Receipt & { readonly position: number })[],
): Promise<void> {
  await tx.query(
    `UPDATE receipts r SET is_untold = false
       FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS t(room_id, user_id, thread_id, position)
      WHERE r.room_id = t.room_id AND r.user_id = t.user_id AND r.type = 'm.read' AND r.thread_id = t.thread_id
        AND r.position = t.position`,
    [
      told.map(({ roomId }) => roomId),
      told.map(({ userId }) => userId),
      told.map(({ threadId }) => threadId),
      told.map(({ position }) => position),
    ],
  );
}

/**
 * Purges under way: a row from the moment one is asked for until nothing of the room is left.
 *
 *     requested ──▶ fenced: nothing of the room is written any more ──▶ told to others, or not in time ──▶ deleted in batches ──▶ tombstone
 *
 * Whoever works at one claims it for a moment, by the database's clock; after a kill the next one goes on where the row says.
 */
import { invariant } from '../../invariant.ts';
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { readTombstone, writeTombstone } from '../journal/tombstones.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { PURGED_TABLES, type PurgedTable, deleteRows } from '../purge/purged-tables.ts';
import { NOW_MS, textArray } from '../sql-values.ts';

export interface RoomPurge {
  readonly roomId: RoomId;
  readonly purgeId: string;
  /** Milliseconds since the Unix epoch, as all times. */
  readonly requestedAt: number;
  /** Users of ours who are out of the room by it. */
  readonly putOut: readonly UserId[];
  /** `null`: they are leaving. */
  readonly fencedAt: number | null;
  /** The last stay, when it is fenced. */
  readonly epoch: number;
  readonly resyncSeq: number;
  /** Who is told that the room is gone. */
  readonly users: readonly UserId[];
  /** Deleted so far; of these entries of the journal. */
  readonly rows: number;
  readonly entries: number;
}

const COLUMNS = `room_id AS "roomId", purge_id AS "purgeId", requested_at AS "requestedAt", put_out AS "putOut",
                 fenced_at AS "fencedAt", epoch, resync_seq AS "resyncSeq", users, rows, entries`;

/**
 * Keeps joins from beginning, and a purge from being asked for, until the transaction ends; `joins` do not keep each other. Who
 * claims an intent to join takes it shared.
 */
export function lockingJoins(roomId: string, how: 'purge' | 'join'): string {
  return `pg_advisory_xact_lock${how === 'join' ? '_shared' : ''}(hashtextextended('joins of ' || ${roomId}, 0))`;
}

/** Whether the room `roomId` says in SQL is being purged. */
export function isPurged(roomId: string): string {
  return `EXISTS (SELECT FROM room_purges WHERE room_id = ${roomId})`;
}

/** How the purge of a room stands; `undefined`: none is under way. */
export async function readPurge(sql: Sql, roomId: RoomId): Promise<RoomPurge | undefined> {
  const [row] = await sql.query<RoomPurge>(`SELECT ${COLUMNS} FROM room_purges WHERE room_id = $1`, [roomId]);
  return row;
}

/** The same by the name of the purge. */
export async function readPurgeById(sql: Sql, purgeId: string): Promise<RoomPurge | undefined> {
  const [row] = await sql.query<RoomPurge>(`SELECT ${COLUMNS} FROM room_purges WHERE purge_id = $1`, [purgeId]);
  return row;
}

/** Joins and leaves of users of ours that are recorded and not settled. */
export async function readOpenMoves(
  tx: Transaction,
  roomId: RoomId,
): Promise<{ readonly open: number; readonly claimed: number }> {
  const [row] = await tx.query<{ open: number; claimed: number }>(
    `SELECT count(*) AS open, count(*) FILTER (WHERE claimed_until > ${NOW_MS}) AS claimed FROM join_intents WHERE room_id = $1`,
    [roomId],
  );
  return row ?? { open: 0, claimed: 0 };
}

/** Records that a room is to be purged. The transaction keeps joins out by now (`lockingJoins`). */
export async function recordPurge(
  tx: Transaction,
  { roomId, purgeId, requestedAt, putOut }: Pick<RoomPurge, 'roomId' | 'purgeId' | 'requestedAt' | 'putOut'>,
): Promise<RoomPurge> {
  const [row] = await tx.query<RoomPurge>(
    `INSERT INTO room_purges (room_id, purge_id, requested_at, put_out) VALUES ($1, $2, $3, $4::text[]) RETURNING ${COLUMNS}`,
    [roomId, purgeId, requestedAt, textArray(putOut)],
  );
  invariant(row, 'what is inserted is there');
  return row;
}

/** Claims a purge for `ms`, or prolongs the claim that the caller has; `undefined`: somebody else is at it, or it is done. */
export async function claimPurge(
  sql: Sql,
  roomId: RoomId,
  { ms, isMine }: { readonly ms: number; readonly isMine: boolean },
): Promise<RoomPurge | undefined> {
  const [row] = await sql.query<RoomPurge>(
    `UPDATE room_purges SET claimed_until = ${NOW_MS} + $2::bigint
      WHERE room_id = $1 AND ($3 OR claimed_until <= ${NOW_MS}) RETURNING ${COLUMNS}`,
    [roomId, ms, isMine],
  );
  return row;
}

/** Gives a claim back. */
export async function releasePurge(sql: Sql, roomId: RoomId): Promise<void> {
  await sql.query(`UPDATE room_purges SET claimed_until = 0 WHERE room_id = $1`, [roomId]);
}

/** Rooms whose purge is not done and at which nobody is, those asked for first at first. */
export async function purgesToGoOn(sql: Sql, limit: number): Promise<RoomId[]> {
  const rows = await sql.query<{ roomId: RoomId }>(
    `SELECT room_id AS "roomId" FROM room_purges WHERE claimed_until <= ${NOW_MS} ORDER BY requested_at LIMIT $1`,
    [limit],
  );
  return rows.map(({ roomId }) => roomId);
}

/** Rooms that everybody of us has left and that are to be purged by now, those first that are due for longest. */
export async function roomsToPurge(sql: Sql, now: number, limit: number): Promise<RoomId[]> {
  const rows = await sql.query<{ roomId: RoomId }>(
    `SELECT room_id AS "roomId" FROM resyncs JOIN rooms USING (room_id, epoch)
      WHERE purge_at <= $1 AND phase = 'ended' AND NOT ${isPurged('rooms.room_id')} ORDER BY purge_at LIMIT $2`,
    [now, limit],
  );
  return rows.map(({ roomId }) => roomId);
}

/**
 * Fences a room for good: its stay is over, so that nothing that is under way for it is written any more (fence.ts), and nobody of us is
 * in it, whatever its state says. Waits for who writes to it at this moment.
 */
export async function fenceRoom(tx: Transaction, roomId: RoomId, at: number): Promise<void> {
  await tx.query('SELECT FROM rooms WHERE room_id = $1 FOR UPDATE', [roomId]);
  const before = await readTombstone(tx, roomId);
  await tx.query(
    `WITH stay AS (
       UPDATE rooms SET epoch = epoch + 1 WHERE room_id = $1 RETURNING epoch, resync_seq
     ), told AS (
       SELECT user_id FROM local_members WHERE room_id = $1
       UNION SELECT user_id FROM former_members WHERE room_id = $1
       UNION SELECT unnest($3::text[])
     ), out AS (
       DELETE FROM local_members WHERE room_id = $1
     ), rest AS (
       UPDATE resyncs SET next_wake_at = NULL WHERE room_id = $1 AND next_wake_at IS NOT NULL
     )
     UPDATE room_purges SET fenced_at = $2, epoch = stay.epoch, resync_seq = stay.resync_seq,
                            users = ARRAY(SELECT user_id FROM told ORDER BY user_id)
       FROM stay WHERE room_id = $1 AND fenced_at IS NULL`,
    [roomId, at, textArray(before?.event.users ?? [])],
  );
}

/** Whether all servers that take what they are sent have what was said in the room. */
export async function isToldToOthers(sql: Sql, roomId: RoomId): Promise<boolean> {
  const [row] = await sql.query<{ isTold: boolean }>(
    `SELECT NOT EXISTS (SELECT FROM outgoing_rooms WHERE room_id = $1 AND shared_out < position)
            AND NOT EXISTS (SELECT FROM destination_rooms r JOIN deliveries d USING (server_name)
                             WHERE r.room_id = $1 AND r.sent < r.owed AND d.failures = 0) AS "isTold"`,
    [roomId],
  );
  return row?.isTold !== false;
}

/** Deletes the next rows of a fenced room from one table, `limit` at the most; gives how many they were. */
export async function deleteBatch(tx: Transaction, roomId: RoomId, table: PurgedTable, limit: number): Promise<number> {
  const rows = await deleteRows(tx, roomId, table, limit);
  if (rows > 0) {
    await tx.query(`UPDATE room_purges SET rows = rows + $2::int, entries = entries + $3::int WHERE room_id = $1`, [
      roomId,
      rows,
      table.name === 'journal' ? rows : 0,
    ]);
  }
  return rows;
}

/**
 * Ends a purge when nothing is left to delete: of the room there is the tombstone then, and nothing else. Done again it changes nothing.
 *
 * @returns false where more is left than `limit` rows of a table
 */
export async function finishPurge(tx: Transaction, roomId: RoomId, limit: number, at: number): Promise<boolean> {
  for (const table of PURGED_TABLES) {
    if ((await deleteBatch(tx, roomId, table, limit)) === limit) return false;
  }
  const [purge] = await tx.query<RoomPurge>(`DELETE FROM room_purges WHERE room_id = $1 RETURNING ${COLUMNS}`, [
    roomId,
  ]);
  if (purge === undefined) return true;
  const [last] = await tx.query<{ nid: number | null }>(
    `SELECT pg_sequence_last_value(pg_get_serial_sequence('pdus', 'nid')::regclass) AS nid`,
  );
  const { purgeId, users, putOut, entries, requestedAt, epoch, resyncSeq } = purge;
  const eventsTo = last?.nid ?? 0;
  const event = { type: 'RoomPurged', purgeId, users, putOut, entries, eventsTo, requestedAt, at } as const;
  writeTombstone(tx, { roomId, epoch, seq: resyncSeq + 1, event });
  return true;
}

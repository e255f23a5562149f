/**
 * Which process works at the staged events of which room: a lease by the database's clock, which a killed process loses
 * when its time is up. And who looks at what waits there.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { NOW_MS } from '../sql-values.ts';

export interface LeaseQuery {
  /** Names the process. */
  readonly holder: string;
  readonly leaseMs: number;
  readonly limit: number;
  /** Absent: any room. */
  readonly roomId?: RoomId;
}

/** Leases rooms that nobody has and that have events to be judged now, the longest unserved first. */
export async function leaseStagedRooms(sql: Sql, { holder, leaseMs, limit, roomId }: LeaseQuery): Promise<RoomId[]> {
  const rows = await sql.query<{ roomId: RoomId }>(
    `UPDATE staged_rooms r SET holder = $1, leased_until = ${NOW_MS} + $2
      WHERE room_id IN (
        SELECT room_id FROM staged_rooms f
         WHERE (holder IS NULL OR leased_until <= ${NOW_MS}) ${roomId === undefined ? '' : 'AND room_id = $4'}
           AND EXISTS (SELECT FROM staged_pdus s
                        WHERE s.room_id = f.room_id AND s.dropped_at IS NULL AND s.not_before <= ${NOW_MS})
         ORDER BY leased_until LIMIT $3 FOR UPDATE SKIP LOCKED)
     RETURNING room_id AS "roomId"`,
    roomId === undefined ? [holder, leaseMs, limit] : [holder, leaseMs, limit, roomId],
  );
  return rows.map((row) => row.roomId);
}

/** Gives a room back; nothing happens when somebody else has it by now. */
export async function endStagedRoomLease(sql: Sql, roomId: RoomId, holder: string): Promise<void> {
  await sql.query(
    `UPDATE staged_rooms SET holder = NULL, leased_until = ${NOW_MS} WHERE room_id = $1 AND holder = $2`,
    [roomId, holder],
  );
}

/**
 * Claims rooms with events that wait for others, those first at which nobody has looked for longest; nobody else looks at them
 * within `everyMs`. Each costs what is staged of it.
 */
export async function claimWaitingRooms(
  sql: Sql,
  { everyMs, limit }: { readonly everyMs: number; readonly limit: number },
): Promise<RoomId[]> {
  const rows = await sql.query<{ roomId: RoomId }>(
    `UPDATE staged_rooms SET looked_at = ${NOW_MS}
      WHERE room_id IN (
        SELECT room_id FROM staged_rooms f
         WHERE looked_at <= ${NOW_MS} - $1::bigint
           AND EXISTS (SELECT FROM staged_pdus s
                        WHERE s.room_id = f.room_id AND s.not_before > ${NOW_MS} AND s.waits_for <> '{}')
         ORDER BY looked_at LIMIT $2 FOR UPDATE SKIP LOCKED)
     RETURNING room_id AS "roomId"`,
    [everyMs, limit],
  );
  return rows.map((row) => row.roomId);
}

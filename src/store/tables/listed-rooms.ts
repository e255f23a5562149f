/** Rooms that this server lists for everybody: https://spec.matrix.org/v1.16/client-server-api/#listing-rooms */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';

/** Lists a room, if it is not. `at`: milliseconds since the Unix epoch. */
export async function listRoom(sql: Sql, roomId: RoomId, at: number): Promise<void> {
  await sql.query(`INSERT INTO listed_rooms (room_id, listed_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, [roomId, at]);
}

/** Takes a room from the list, if it is there. */
export async function unlistRoom(sql: Sql, roomId: RoomId): Promise<void> {
  await sql.query(`DELETE FROM listed_rooms WHERE room_id = $1`, [roomId]);
}

/** Whether a room was put on the list; it is shown there while somebody of ours is in it. */
export async function isRoomListed(sql: Sql, roomId: RoomId): Promise<boolean> {
  return (await sql.query(`SELECT FROM listed_rooms WHERE room_id = $1`, [roomId])).length > 0;
}

export interface ListedRoom {
  readonly roomId: RoomId;
  readonly state: SnapshotId;
  /** Joined, as far as they are known; `null`: nobody has counted them. */
  readonly members: number | null;
}

/** Rooms that somebody of ours is in, the biggest first. */
export async function readListedRooms(sql: Sql, offset: number, limit: number): Promise<ListedRoom[]> {
  return sql.query<ListedRoom>(
    `SELECT r.room_id AS "roomId", encode(r.current_state, 'hex') AS state, r.members ${LISTED}
      ORDER BY coalesce(r.members, 0) DESC, r.room_id OFFSET $1 LIMIT $2`,
    [offset, limit],
  );
}

/** How many rooms `readListedRooms` goes through. */
export async function countListedRooms(sql: Sql): Promise<number> {
  const [row] = await sql.query<{ rooms: number }>(`SELECT count(*) AS rooms ${LISTED}`);
  return row?.rooms ?? 0;
}

const LISTED = `
  FROM listed_rooms l JOIN rooms r ON r.room_id = l.room_id
 WHERE r.current_state IS NOT NULL
   AND EXISTS (SELECT FROM local_members m WHERE m.room_id = r.room_id AND m.membership = 'join')`;

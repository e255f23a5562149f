/**
 * Rooms that users of ours have left and want to see no more. A row says by which event the user was out when he said so: once he has
 * another membership it means nothing, so that who comes back has forgotten nothing.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#leaving-rooms
 */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';

/** Whether a room is forgotten that the user, who is not in it, has left by one of these events; all are expressions of SQL. */
export function isForgotten(userId: string, roomId: string, ...eventIds: readonly string[]): string {
  return `EXISTS (SELECT FROM forgotten_rooms g WHERE g.user_id = ${userId} AND g.room_id = ${roomId}
                     AND g.event_id IN (${eventIds.map((id) => `coalesce(${id}, '')`).join(', ')}))`;
}

/** Has a room forgotten, by what has the user out of it; what was said before is replaced. */
export async function forgetRoom(sql: Sql, userId: UserId, roomId: RoomId): Promise<void> {
  await sql.query(
    `INSERT INTO forgotten_rooms (user_id, room_id, event_id)
     SELECT $1, $2, coalesce((SELECT event_id FROM local_members WHERE user_id = $1 AND room_id = $2),
                             (SELECT left_by FROM former_members WHERE user_id = $1 AND room_id = $2), '')
     ON CONFLICT (user_id, room_id) DO UPDATE SET event_id = excluded.event_id`,
    [userId, roomId],
  );
}

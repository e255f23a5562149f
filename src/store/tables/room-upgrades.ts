/**
 * Rooms of which another one takes the place, until all is done that belongs to it. A row is written with the new room, and goes with the last step:
 * also when a process ends meanwhile.
 */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Lease, leaseRows } from '../leased-rows.ts';
import { type Sql } from '../open-store.ts';
import { NOW_MS } from '../sql-values.ts';

export interface RoomUpgrade {
  readonly roomId: RoomId;
  readonly successor: RoomId;
  readonly userId: UserId;
}

/** Nobody else is at it for `leaseMs`. Of two upgrades of a room the later one counts. */
export async function insertRoomUpgrade(
  sql: Sql,
  { roomId, successor, userId }: RoomUpgrade,
  leaseMs: number,
): Promise<void> {
  await sql.query(
    `INSERT INTO room_upgrades (room_id, successor, user_id, leased_until) VALUES ($1, $2, $3, ${NOW_MS} + $4)
     ON CONFLICT (room_id) DO UPDATE
        SET (successor, user_id, leased_until) = (excluded.successor, excluded.user_id, excluded.leased_until)`,
    [roomId, successor, userId, leaseMs],
  );
}

/** Takes those that nobody is at. */
export function leaseRoomUpgrades(sql: Sql, lease: Lease): Promise<RoomUpgrade[]> {
  const returning = `room_id AS "roomId", successor, user_id AS "userId"`;
  return leaseRows(sql, { name: 'room_upgrades', key: 'room_id', returning }, lease);
}

/** All is done, or cannot be; nothing happens where another upgrade has come since. */
export async function deleteRoomUpgrade(sql: Sql, { roomId, successor }: RoomUpgrade): Promise<void> {
  await sql.query(`DELETE FROM room_upgrades WHERE room_id = $1 AND successor = $2`, [roomId, successor]);
}

/** Rooms that somebody of ours is in, and what another server has to do with them. */
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql, type Transaction } from '../open-store.ts';

export interface RoomOfOurs {
  readonly roomId: RoomId;
  readonly state: SnapshotId;
  readonly partial: boolean;
  readonly epoch: number;
}

const OURS = `FROM rooms r
  WHERE r.room_id = ANY ($1::text[]) AND r.current_state IS NOT NULL
    AND EXISTS (SELECT FROM local_members m WHERE m.room_id = r.room_id AND m.membership = 'join')`;
const COLUMNS = `r.room_id AS "roomId", encode(r.current_state, 'hex') AS state, r.partial, r.epoch`;

/** Those of the rooms, and whether a server is believed to be in each. */
export function readRoomsOfOurs(
  sql: Sql,
  roomIds: readonly RoomId[],
  server: ServerName,
): Promise<(RoomOfOurs & { readonly isBelievedIn: boolean })[]> {
  return sql.query(
    `SELECT ${COLUMNS},
            EXISTS (SELECT FROM room_servers s WHERE s.room_id = r.room_id AND s.server_name = $2) AS "isBelievedIn" ${OURS}`,
    [roomIds, server],
  );
}

/** Those of the rooms. They are not purged before the transaction ends, so what is written of them goes with them. */
export function holdRoomsOfOurs(tx: Transaction, roomIds: readonly RoomId[]): Promise<RoomOfOurs[]> {
  return tx.query(`SELECT ${COLUMNS} ${OURS} ORDER BY r.room_id FOR KEY SHARE OF r`, [roomIds]);
}

/** Whether a server is believed to be in a partial room of ours: then nobody knows yet who of its users is. */
export async function isInPartialRoom(sql: Sql, server: ServerName): Promise<boolean> {
  const rows = await sql.query(
    `SELECT FROM room_servers s JOIN rooms r ON r.room_id = s.room_id AND r.partial
      WHERE s.server_name = $1 AND EXISTS (SELECT FROM local_members m WHERE m.room_id = r.room_id AND m.membership = 'join')
      LIMIT 1`,
    [server],
  );
  return rows.length > 0;
}

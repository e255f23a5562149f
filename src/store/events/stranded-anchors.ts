/** Anchors whose full state nobody asks for any more, though it was never had: in rooms that are whole, and at no gap. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';

const STRANDED = `
  FROM anchors a
  JOIN rooms r ON r.room_id = a.room_id AND NOT r.partial
  JOIN resyncs s ON s.room_id = r.room_id AND s.epoch = r.epoch AND s.phase = 'complete'
 WHERE a.partial AND NOT EXISTS (SELECT FROM gaps g WHERE g.room_id = a.room_id AND g.event_id = a.event_id)`;

export interface StrandedRoom {
  readonly roomId: RoomId;
  readonly epoch: number;
}

/** The first room by id, after `after`, that has any. */
export async function findStrandedRoom(sql: Sql, after: RoomId | ''): Promise<StrandedRoom | undefined> {
  const [row] = await sql.query<StrandedRoom>(
    `SELECT r.room_id AS "roomId", r.epoch ${STRANDED} AND a.room_id > $1 ORDER BY a.room_id LIMIT 1`,
    [after],
  );
  return row;
}

export interface StrandedAnchor {
  readonly eventId: EventId;
  /** Provisional. */
  readonly stateAfter: SnapshotId;
}

/** Up to `limit` of a room, by id. */
export function readStrandedAnchors(sql: Sql, roomId: RoomId, limit: number): Promise<StrandedAnchor[]> {
  return sql.query(
    `SELECT a.event_id AS "eventId", encode(a.state_after, 'hex') AS "stateAfter" ${STRANDED} AND a.room_id = $1
      ORDER BY a.event_id LIMIT $2`,
    [roomId, limit],
  );
}

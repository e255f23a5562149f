/** Gaps: missing events at which the state is still to be had from a resident. They are opened and closed by the journal. */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type FailureClass } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';

export interface Gap {
  readonly eventId: EventId;
  readonly epoch: number;
  /** Who sent the event that cites it. */
  readonly origin: ServerName;
  readonly openedAt: number;
  readonly attempts: number;
  /** When it is tried next, milliseconds; `null`: given up. */
  readonly wakeAt: number | null;
  readonly lastResident: ServerName | null;
  readonly lastFailure: FailureClass | null;
  readonly lastReason: string | null;
}

/** All gaps of a room, those that are given up too, the oldest first. */
export function readGaps(sql: Sql, roomId: RoomId): Promise<Gap[]> {
  return sql.query(
    `SELECT event_id AS "eventId", epoch, origin, opened_at AS "openedAt", attempts, wake_at AS "wakeAt",
            last_resident AS "lastResident", last_failure AS "lastFailure", last_reason AS "lastReason"
       FROM gaps WHERE room_id = $1 ORDER BY opened_at, event_id`,
    [roomId],
  );
}

/** How many gaps of a room are open, and of these how many before events of `origin`. */
export async function countOpenGaps(
  sql: Sql,
  roomId: RoomId,
  origin: ServerName,
): Promise<{ readonly ofRoom: number; readonly ofOrigin: number }> {
  const [row] = await sql.query<{ ofRoom: number; ofOrigin: number }>(
    `SELECT count(*) AS "ofRoom", count(*) FILTER (WHERE origin = $2) AS "ofOrigin"
       FROM gaps WHERE room_id = $1 AND wake_at IS NOT NULL`,
    [roomId, origin],
  );
  return row ?? { ofRoom: 0, ofOrigin: 0 };
}

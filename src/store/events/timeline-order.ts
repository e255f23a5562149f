/** The timeline of a stay in the order of the journal, for who goes through it again (src/rooms/resync/replay-check-6.ts). */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { CYCLE } from './event-states.ts';
import { type Sql } from '../open-store.ts';

/** Where the timeline of the room's stay begins: with the join that opened it. */
export interface StayStart {
  readonly position: number;
  /** The state after that join. */
  readonly stateAfter: SnapshotId;
}

/** `undefined`: nobody of us is in the room. */
export async function readStayStart(sql: Sql, roomId: RoomId): Promise<StayStart | undefined> {
  const [start] = await sql.query<StayStart>(
    `SELECT e.position, encode(e.state_after, 'hex') AS "stateAfter"
       FROM rooms r JOIN event_states e ON e.room_id = r.room_id AND e.event_id = r.join_event_id AND e.epoch = r.epoch
      WHERE r.room_id = $1`,
    [roomId],
  );
  return start;
}

/** An event as it was taken in, with the verdict of now. */
export interface OrderedEvent {
  readonly eventId: EventId;
  readonly position: number;
  readonly sender: UserId;
  readonly prevEvents: readonly EventId[];
  readonly stateBefore: SnapshotId;
  readonly stateAfter: SnapshotId;
  readonly isAccepted: boolean;
  readonly isSoftFailed: boolean;
  readonly partial: boolean;
  /** A parent is no event of the timeline, but one at which the graph that we hold begins. */
  readonly isBeyondGap: boolean;
  /** It came late: an accepted event of an earlier stay builds on it. */
  readonly isBeforeStay: boolean;
}

/** Up to `limit` events of the timeline after `position`, in order. */
export async function readTimelineSince(
  sql: Sql,
  roomId: RoomId,
  position: number,
  limit: number,
): Promise<OrderedEvent[]> {
  return sql.query<OrderedEvent>(
    `SELECT e.event_id AS "eventId", e.position, p.sender,
            CASE WHEN e.rule = '${CYCLE}' THEN '{}' ELSE p.prev_events END AS "prevEvents",
            encode(e.state_before, 'hex') AS "stateBefore", encode(e.state_after, 'hex') AS "stateAfter",
            e.verdict = 'accepted' AS "isAccepted", e.soft_failed AS "isSoftFailed", e.partial,
            EXISTS (SELECT FROM unnest(p.prev_events) AS prev(event_id)
                     WHERE NOT EXISTS (SELECT FROM event_states o
                                        WHERE o.event_id = prev.event_id AND o.room_id = $1)) AS "isBeyondGap",
            EXISTS (SELECT FROM event_edges c JOIN event_states o ON o.event_id = c.event_id AND o.room_id = $1
                     WHERE c.room_id = $1 AND c.prev_event_id = e.event_id AND (o.covered OR o.verdict = 'accepted' AND NOT o.soft_failed)
                       AND o.position < (SELECT j.position FROM rooms r JOIN event_states j ON j.event_id = r.join_event_id AND j.room_id = $1
                                          WHERE r.room_id = $1 AND j.epoch = r.epoch)) AS "isBeforeStay"
       FROM event_states e JOIN pdus p ON p.nid = e.event_nid
      WHERE e.room_id = $1 AND e.position > $2 ORDER BY e.position LIMIT $3`,
    [roomId, position, limit],
  );
}

/**
 * What `eventIds` lead to upwards through events that were taken in after `position`: each of them with its prev_events. Who
 * follows the timeline in order does not know them yet.
 */
export async function readGraphAhead(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
  position: number,
): Promise<Map<EventId, readonly EventId[]>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<{ eventId: EventId; prevEvents: EventId[] }>(
    `WITH RECURSIVE up (event_id, prev_events) AS (
       SELECT p.event_id, ${LEADS_TO} FROM pdus p
        WHERE p.room_id = $1 AND p.event_id = ANY ($2::text[]) AND ${IS_AHEAD}
       UNION
       SELECT p.event_id, ${LEADS_TO}
         FROM up CROSS JOIN unnest(up.prev_events) AS prev(event_id)
         JOIN pdus p ON p.event_id = prev.event_id AND p.room_id = $1
        WHERE ${IS_AHEAD}
     )
     SELECT event_id AS "eventId", prev_events AS "prevEvents" FROM up`,
    [roomId, eventIds, position],
  );
  return new Map(rows.map(({ eventId, prevEvents }) => [eventId, prevEvents]));
}

const LEADS_TO = `
  CASE WHEN (SELECT e.rule FROM event_states e WHERE e.event_nid = p.nid) = '${CYCLE}' THEN '{}' ELSE p.prev_events END`;
const IS_AHEAD = `EXISTS (SELECT FROM event_states e WHERE e.event_nid = p.nid AND e.position > $3)`;

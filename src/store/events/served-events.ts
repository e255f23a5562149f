/** Events of the timeline as other servers ask for them: one, or what lies before some. */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';

export interface ServedEvent {
  readonly eventId: EventId;
  readonly sender: UserId;
  readonly json: string;
  readonly stateBefore: SnapshotId;
  readonly stateAfter: SnapshotId;
  readonly partial: boolean;
}

const COLUMNS = `p.event_id AS "eventId", p.sender, p.json::text AS json, encode(e.state_before, 'hex') AS "stateBefore",
                 encode(e.state_after, 'hex') AS "stateAfter", e.partial`;

/** An accepted event of the room's timeline; `undefined`: we have none under that id. */
export async function readServedEvent(sql: Sql, roomId: RoomId, eventId: EventId): Promise<ServedEvent | undefined> {
  const [row] = await sql.query<ServedEvent>(
    `SELECT ${COLUMNS} FROM event_states e JOIN pdus p ON p.nid = e.event_nid
      WHERE e.room_id = $1 AND e.event_id = $2 AND e.verdict = 'accepted' AND NOT p.hollow`,
    [roomId, eventId],
  );
  return row;
}

export interface BeforeQuery {
  /** Where the walk begins. */
  readonly from: readonly EventId[];
  /** What the asker has: nothing is looked for behind these. */
  readonly until: readonly EventId[];
  readonly minDepth: number;
  readonly limit: number;
  /** Whether `from` are wanted themselves. */
  readonly inclusive: boolean;
}

/**
 * Accepted events that are reached from some over prev edges, the nearest first found; in the order of their depth. It reads
 * a few more than it gives, whatever the room's size.
 */
export function readEventsBefore(sql: Sql, roomId: RoomId, query: BeforeQuery): Promise<ServedEvent[]> {
  const { from, until, minDepth, limit, inclusive } = query;
  return sql.query<ServedEvent>(
    `WITH RECURSIVE walk (nid, event_id, prev_events) AS (
       SELECT nid, event_id, prev_events FROM pdus WHERE room_id = $1 AND event_id = ANY ($2::text[])
       UNION
       SELECT p.nid, p.event_id, p.prev_events
         FROM walk w CROSS JOIN unnest(w.prev_events) AS prev(event_id)
        CROSS JOIN LATERAL (SELECT nid, event_id, prev_events, depth FROM pdus
                             WHERE event_id = prev.event_id AND room_id = $1 OFFSET 0) AS p
        WHERE NOT p.event_id = ANY ($3::text[]) AND p.depth >= $4::bigint
     ), found AS (SELECT nid, event_id FROM walk LIMIT $5)
     SELECT ${COLUMNS}
       FROM found f JOIN event_states e ON e.event_nid = f.nid JOIN pdus p ON p.nid = f.nid
      WHERE e.room_id = $1 AND e.verdict = 'accepted' AND NOT p.hollow AND ($6::boolean OR NOT p.event_id = ANY ($2::text[]))
      ORDER BY p.depth, e.position`,
    [roomId, from, until, minDepth, limit + (inclusive ? 0 : from.length), inclusive],
  );
}

/**
 * Parents, whatever they are. An event builds on events of the timeline or on anchors: events at which the graph that we
 * hold begins, because our join or an event over a gap cites them and nobody gave us what lies before.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';

/** The state after an event that another may build on. */
export interface Parent {
  readonly eventId: EventId;
  readonly stateAfter: SnapshotId;
  /** The state is provisional. */
  readonly partial: boolean;
  readonly isAnchor: boolean;
  /**
   * An anchor whose event takes no place of its own: a stay of ours begins at it, and what lies before it is no part of our
   * timeline, nor is it itself; or it has its place already, and the anchor's row counts for its full state alone.
   */
  readonly isHistory: boolean;
  /** Rejected or soft-failed: nothing new builds on it, and what cites it takes the place of its parents. */
  readonly isRefused: boolean;
}

/**
 * Those of `eventIds` that events of this room may build on. Where an event of the timeline is an anchor too, as one of an
 * earlier stay may be, the one with full state counts.
 */
export async function readParents(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<Map<EventId, Parent>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<Parent>(
    `SELECT DISTINCT ON ("eventId") * FROM (
       SELECT event_id AS "eventId", encode(state_after, 'hex') AS "stateAfter", partial, false AS "isAnchor",
              false AS "isHistory", verdict = 'rejected' OR soft_failed AS "isRefused"
         FROM event_states WHERE room_id = $1 AND event_id = ANY ($2::text[])
       UNION ALL
       SELECT a.event_id, encode(a.state_after, 'hex'), a.partial, true,
              a.epoch < r.epoch OR EXISTS (SELECT FROM pdus j WHERE j.event_id = r.join_event_id AND a.event_id = ANY (j.prev_events))
                OR EXISTS (SELECT FROM event_states e WHERE e.room_id = $1 AND e.event_id = a.event_id),
              false
         FROM anchors a JOIN rooms r ON r.room_id = a.room_id
        WHERE a.room_id = $1 AND a.event_id = ANY ($2::text[])) AS parent
      ORDER BY "eventId", partial, "isAnchor"`,
    [roomId, eventIds],
  );
  return new Map(rows.map((row) => [row.eventId, row]));
}

/** The states after what the joins that opened our stays build on, as far as these are anchors. */
export async function readStatesBeforeStays(sql: Sql, roomId: RoomId): Promise<SnapshotId[]> {
  const rows = await sql.query<{ stateAfter: SnapshotId }>(
    `SELECT DISTINCT encode(a.state_after, 'hex') AS "stateAfter"
       FROM (SELECT DISTINCT ON (epoch) data ->> 'joinEventId' AS event_id FROM journal
              WHERE room_id = $1 AND stream = 'resync' AND type IN ('PartialStateJoined', 'FullStateJoined')
              ORDER BY epoch, position) AS opening
       JOIN pdus j ON j.event_id = opening.event_id AND j.room_id = $1
       JOIN anchors a ON a.room_id = $1 AND a.event_id = ANY (j.prev_events)`,
    [roomId],
  );
  return rows.map(({ stateAfter }) => stateAfter);
}

/** Anchors whose full state is still to be fetched, in no particular order. */
export async function readPartialAnchors(sql: Sql, roomId: RoomId): Promise<EventId[]> {
  const rows = await sql.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM anchors WHERE room_id = $1 AND partial`,
    [roomId],
  );
  return rows.map(({ eventId }) => eventId);
}

/** Anchors at open gaps, with a state that nobody has told, in no particular order. */
export async function readAssumedGaps(sql: Sql, roomId: RoomId): Promise<EventId[]> {
  const rows = await sql.query<{ eventId: EventId }>(
    `SELECT a.event_id AS "eventId" FROM anchors a JOIN gaps g ON g.room_id = a.room_id AND g.event_id = a.event_id
      WHERE a.room_id = $1 AND a.assumed AND NOT a.partial AND g.wake_at IS NOT NULL`,
    [roomId],
  );
  return rows.map(({ eventId }) => eventId);
}

/** An anchor whose state is known, or assumed. */
export interface FullAnchor {
  readonly eventId: EventId;
  readonly stateAfter: SnapshotId;
}

/** All of a room that have a state which is not to be fetched first, by id. */
export function readFullAnchors(sql: Sql, roomId: RoomId): Promise<FullAnchor[]> {
  return sql.query(
    `SELECT event_id AS "eventId", encode(state_after, 'hex') AS "stateAfter" FROM anchors
      WHERE room_id = $1 AND NOT partial ORDER BY event_id`,
    [roomId],
  );
}

/** The full state at one of the anchors of the newest stay that has anchors; always the same one. */
export async function readFullAnchorState(sql: Sql, roomId: RoomId): Promise<SnapshotId | undefined> {
  const [row] = await sql.query<{ stateAfter: SnapshotId }>(
    `SELECT encode(state_after, 'hex') AS "stateAfter" FROM anchors
      WHERE room_id = $1 AND NOT partial ORDER BY epoch DESC, event_id LIMIT 1`,
    [roomId],
  );
  return row?.stateAfter;
}

/** As many as one state of a resync has places for. */
const ANCHORS_AT_ONCE_MAX = 20;

/** Some of the anchors whose full state the resync still has to fetch; that of a gap is asked for apart. */
export async function readAnchorsToFetch(sql: Sql, roomId: RoomId): Promise<EventId[]> {
  const rows = await sql.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM anchors a
      WHERE room_id = $1 AND partial
        AND NOT EXISTS (SELECT FROM gaps g WHERE g.room_id = a.room_id AND g.event_id = a.event_id)
      ORDER BY event_id LIMIT $2`,
    [roomId, ANCHORS_AT_ONCE_MAX],
  );
  return rows.map(({ eventId }) => eventId);
}

/** All of them, by the state that stands for the one after them while that is not known. */
export async function readProvisionalStates(
  sql: Sql,
  roomId: RoomId,
): Promise<ReadonlyMap<SnapshotId, readonly EventId[]>> {
  const rows = await sql.query<{ eventIds: EventId[]; state: SnapshotId }>(
    `SELECT array_agg(event_id ORDER BY event_id) AS "eventIds", encode(state_after, 'hex') AS state
       FROM anchors a
      WHERE room_id = $1 AND partial
        AND NOT EXISTS (SELECT FROM gaps g WHERE g.room_id = a.room_id AND g.event_id = a.event_id)
      GROUP BY state_after ORDER BY state_after`,
    [roomId],
  );
  return new Map(rows.map(({ eventIds, state }) => [state, eventIds]));
}

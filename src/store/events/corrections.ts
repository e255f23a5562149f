/**
 * What is to be judged again, since something that it rests on has changed: first the changes, a row each as the journal's fold
 * writes them, then the events that rest on these, found by sets. Nothing here needs the room's lock: a row that is taken, or
 * written twice, stays right.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { NOW_MS, int8Array, textArray } from '../sql-values.ts';
import { CURRENT_STATE } from '../journal/fold-corrections.ts';
import { CYCLE } from './event-states.ts';

/** Events that are rejected for their place in the graph. No verdict on another event says anything about that. */
export const REFUSED_BY_PLACE = [CYCLE, 'prev-event-missing'] as const;

/** For people and for the workflow's decision; nobody counts further. */
const COUNTED_MAX = 10_000;

/**
 * Notes as causes what has a verdict that is news, beside the journal's own fold. `rows`: a query that gives `event_id` and `cause`,
 * each event once; `$1` is the room.
 */
export function noteVerdicts(rows: string): string {
  return `
    INSERT INTO correction_causes AS c (room_id, event_id, cause, verdict, states, anchors, since)
    SELECT $1, n.event_id, n.cause, true, false, true, ${NOW_MS}
      FROM (${rows}) AS n(event_id, cause) ORDER BY n.event_id
    ON CONFLICT (room_id, event_id) DO UPDATE
       SET (cause, verdict, anchors, looked_to) = (greatest(c.cause, excluded.cause), true, true, NULL)`;
}

/** An event to be looked at again. */
export interface CorrectionTarget {
  readonly eventId: EventId;
  readonly cause: number;
  /** The event, or the anchor, by whose change it is due. */
  readonly through: EventId;
  /** It has no place in the timeline. */
  readonly isOutlier: boolean;
}

/*
 * Scalar subqueries and OFFSET 0, here and below, make each look-up one into an index. As joins and NOT EXISTS the planner reads
 * whole tables for each level of a recursion while it knows little of them: 9 s instead of 10 ms for a chain of 450.
 */

/** Its verdict counts: it is no event whose verdict is provisional, which others are looked at for later. */
export const IS_SETTLED = `
  (SELECT count(*) FROM event_states x WHERE x.room_id = $1 AND x.event_id = c.event_id AND x.partial) = 0`;

/** None of what a target cites is provisional; what is has its full state soon, and the target is looked at then. */
const RESTS_ON_SETTLED = `
  CASE WHEN (SELECT r.partial FROM rooms r WHERE r.room_id = $1) THEN
    (SELECT count(*) FROM pdus p CROSS JOIN unnest(p.prev_events || p.auth_events) AS cited(event_id)
       JOIN event_states x ON x.event_id = cited.event_id AND x.room_id = $1 AND x.partial
      WHERE p.event_id = t.event_id AND p.room_id = $1) = 0
  ELSE true END`;

/** The states at anchors are as these changes make them. A row that was written since it was read keeps its mark. */
export async function settleAnchorsOf(
  sql: Sql,
  roomId: RoomId,
  causes: readonly { readonly eventId: EventId; readonly version: string }[],
): Promise<void> {
  await sql.query(
    `UPDATE correction_causes c SET anchors = false
       FROM unnest($2::text[], $3::text[]) AS done(event_id, version)
      WHERE c.room_id = $1 AND c.event_id = done.event_id AND c.xmin::text = done.version`,
    [roomId, textArray(causes.map(({ eventId }) => eventId)), textArray(causes.map(({ version }) => version))],
  );
}

/**
 * The first events that are to be looked at again: outliers, or events of the timeline.
 *
 * @param limit for outliers and events of the timeline each; the latter are left out while there are outliers.
 * @param waitedMs only those that have waited for so long, milliseconds
 */
export async function readCorrectionTargets(
  sql: Sql,
  roomId: RoomId,
  limit: number,
  waitedMs = 0,
): Promise<CorrectionTarget[]> {
  const targets = await sql.query<CorrectionTarget>(
    `SELECT t.event_id AS "eventId", t.cause, t.through,
            NOT EXISTS (SELECT FROM event_states e WHERE e.room_id = $1 AND e.event_id = t.event_id) AS "isOutlier"
       FROM correction_targets t
      WHERE t.room_id = $1 AND ($3::bigint = 0 OR t.since <= ${NOW_MS} - $3::bigint)
        AND ${RESTS_ON_SETTLED}
      ORDER BY t.rank, t.event_id LIMIT $2`,
    [roomId, limit, waitedMs],
  );
  const outliers = targets.filter(({ isOutlier }) => isOutlier);
  return outliers.length > 0 ? outliers : targets;
}

/**
 * The ids of events of the timeline that stand on one of the targets by prev edges, the nearest `limit`, where the states before
 * them may be others: full ones, not refused for their place.
 */
export async function readStandingOn(
  sql: Sql,
  roomId: RoomId,
  targets: readonly EventId[],
  limit: number,
): Promise<EventId[]> {
  const rows = await sql.query<{ eventId: EventId }>(
    `WITH RECURSIVE below (event_id) AS (
       SELECT c.event_id FROM correction_targets c
        WHERE c.room_id = $1 AND c.event_id = ANY ($2::text[])
          AND (c.states OR (SELECT p.state_key_nid FROM pdus p WHERE p.event_id = c.event_id AND p.room_id = $1) IS NOT NULL)
       UNION
       SELECT edge.event_id
         FROM below b
        CROSS JOIN LATERAL (SELECT event_id FROM event_edges
                             WHERE room_id = $1 AND prev_event_id = b.event_id OFFSET 0) AS edge
        WHERE (SELECT NOT e.partial AND coalesce(e.rule, '') <> ALL ($3::text[])
                 FROM event_states e WHERE e.event_id = edge.event_id AND e.room_id = $1)
     )
     SELECT event_id AS "eventId" FROM below LIMIT $4`,
    [roomId, textArray(targets), REFUSED_BY_PLACE, limit],
  );
  return rows.map(({ eventId }) => eventId);
}

/**
 * Those of `changed` that have children in the timeline which were not judged after them: what was judged does not say all that
 * follows.
 *
 * @param judged in the order in which they were
 */
export async function readUnfollowed(
  sql: Sql,
  roomId: RoomId,
  changed: readonly EventId[],
  judged: readonly EventId[],
): Promise<Set<EventId>> {
  const rows = await sql.query<{ eventId: EventId }>(
    `SELECT DISTINCT edge.prev_event_id AS "eventId"
       FROM event_edges edge JOIN unnest($3::text[]) WITH ORDINALITY AS parent(event_id, ordinal)
              ON parent.event_id = edge.prev_event_id
       LEFT JOIN unnest($3::text[]) WITH ORDINALITY AS child(event_id, ordinal) ON child.event_id = edge.event_id
      WHERE edge.room_id = $1 AND edge.prev_event_id = ANY ($2::text[])
        AND (child.ordinal IS NULL OR child.ordinal < parent.ordinal)`,
    [roomId, textArray(changed), textArray(judged)],
  );
  return new Set(rows.map(({ eventId }) => eventId));
}

/** Removes targets that were looked at; gives how many were still there. */
export async function deleteTargets(sql: Sql, roomId: RoomId, eventIds: readonly EventId[]): Promise<number> {
  const rows = await sql.query(
    `DELETE FROM correction_targets WHERE room_id = $1 AND event_id = ANY ($2::text[]) RETURNING 1`,
    [roomId, textArray(eventIds)],
  );
  return rows.length;
}

/** Outliers that have a first verdict now: what names them or cites them is to be looked at, as by the change `cause`. */
export async function addFirstVerdicts(
  sql: Sql,
  roomId: RoomId,
  judged: readonly { readonly eventId: EventId; readonly cause: number }[],
): Promise<void> {
  await sql.query(noteVerdicts('SELECT * FROM unnest($2::text[], $3::bigint[])'), [
    roomId,
    textArray(judged.map(({ eventId }) => eventId)),
    int8Array(judged.map(({ cause }) => cause)),
  ]);
}

/**
 * Events of the timeline that a resident names as accepted and that stand rejected there by a guess (guessed-states.ts) are looked at
 * again, since they are known now. The store's observer is told.
 */
export async function lookAgainAt(sql: Sql, roomId: RoomId, eventIds: readonly EventId[]): Promise<void> {
  if (eventIds.length === 0) return;
  const due = await sql.query(
    `INSERT INTO correction_targets (room_id, event_id, cause, through, states, rank, since)
     SELECT $1, e.event_id, h.position, e.event_id, false, e.position,
            ${NOW_MS}
       FROM journal_head h CROSS JOIN event_states e
      WHERE e.room_id = $1 AND e.event_id = ANY ($2::text[]) AND e.verdict = 'rejected' AND NOT e.partial
     ON CONFLICT DO NOTHING RETURNING 1`,
    [roomId, textArray(eventIds)],
  );
  if (due.length > 0) sql.tellOfCorrection(roomId);
}

/** Whether the current state is to be worked out again. */
export async function isCurrentStateDue(sql: Sql, roomId: RoomId): Promise<boolean> {
  const rows = await sql.query(`SELECT FROM correction_causes WHERE room_id = $1 AND event_id = $2`, [
    roomId,
    CURRENT_STATE,
  ]);
  return rows.length > 0;
}

/** It was worked out. */
export async function settleCurrentState(sql: Sql, roomId: RoomId): Promise<void> {
  await sql.query(`DELETE FROM correction_causes WHERE room_id = $1 AND event_id = $2`, [roomId, CURRENT_STATE]);
}

/** How many changes and events of a room can be looked at now, as far as anybody counts. */
export async function countCorrectionsDue(sql: Sql, roomId: RoomId): Promise<number> {
  const [row] = await sql.query<{ due: number }>(
    `SELECT count(*) AS due FROM (
       (SELECT FROM correction_causes c WHERE c.room_id = $1 AND ${IS_SETTLED} LIMIT $2)
        UNION ALL
       (SELECT FROM correction_targets t WHERE t.room_id = $1 AND ${RESTS_ON_SETTLED} LIMIT $2)) AS due`,
    [roomId, COUNTED_MAX],
  );
  return row?.due ?? 0;
}

/** How often the verdicts on these events have changed by corrections; none are absent. With the causes of these changes. */
export async function readVerdictChanges(
  sql: Sql,
  eventIds: readonly EventId[],
): Promise<Map<EventId, { readonly causes: readonly number[]; readonly last: number }>> {
  const rows = await sql.query<{ eventId: EventId; causes: number[]; last: number }>(
    `SELECT event_id AS "eventId", array_agg(cause) AS causes, max(position) AS last
       FROM journal WHERE type = 'VerdictChanged' AND event_id = ANY ($1::text[]) GROUP BY event_id`,
    [textArray(eventIds)],
  );
  return new Map(rows.map(({ eventId, causes, last }) => [eventId, { causes: causes.map(Number), last }]));
}

/**
 * How many of its own earlier changes are among what led to a change: causes, and the causes of these. An event whose changes come
 * of others alone has none, however many they are. Events that have none are absent.
 */
export async function countOwnCauses(
  sql: Sql,
  changes: readonly { readonly eventId: EventId; readonly cause: number }[],
): Promise<Map<EventId, number>> {
  if (changes.length === 0) return new Map();
  const rows = await sql.query<{ eventId: EventId; own: number }>(
    `WITH RECURSIVE led (event_id, position) AS (
       SELECT * FROM unnest($1::text[], $2::bigint[])
        UNION
       SELECT l.event_id, coalesce(j.cause, (j.data ->> 'cause')::bigint)
         FROM led l CROSS JOIN LATERAL (SELECT * FROM journal WHERE position = l.position OFFSET 0) AS j
        WHERE j.type IN ('VerdictChanged', 'StatesChanged', 'AnchorCorrected')
     )
     SELECT l.event_id AS "eventId", count(*) AS own
       FROM led l JOIN journal j ON j.position = l.position
      WHERE j.type = 'VerdictChanged' AND j.event_id = l.event_id GROUP BY l.event_id`,
    [textArray(changes.map(({ eventId }) => eventId)), int8Array(changes.map(({ cause }) => cause))],
  );
  return new Map(rows.map(({ eventId, own }) => [eventId, own]));
}

/** What is to be corrected in a room, counted as far as anybody counts. */
export interface CorrectionsDue {
  /** Things that changed, and what rests on them is not known yet. */
  readonly changes: number;
  /** Events that are to be judged again. */
  readonly events: number;
  /** Since when the first of them is due, milliseconds; `null`: there is none. */
  readonly oldestSince: number | null;
}

/** Of one room, also what cannot be looked at yet. */
export async function readCorrectionsDue(sql: Sql, roomId: RoomId): Promise<CorrectionsDue> {
  const [row] = await sql.query<CorrectionsDue>(
    `SELECT count(*) FILTER (WHERE is_change) AS changes, count(*) FILTER (WHERE NOT is_change) AS events,
            min(since) AS "oldestSince"
       FROM ((SELECT true AS is_change, since FROM correction_causes WHERE room_id = $1 ORDER BY since LIMIT $2)
              UNION ALL
             (SELECT false, since FROM correction_targets WHERE room_id = $1 ORDER BY since LIMIT $2)) AS due`,
    [roomId, COUNTED_MAX],
  );
  return row ?? { changes: 0, events: 0, oldestSince: null };
}

export interface CorrectionsEverywhere {
  readonly corrections: number;
  /** Since when the first of them is due, milliseconds; `null`: there is none. */
  readonly oldestCorrectionSince: number | null;
}

/** Of all rooms. */
export async function countCorrectionsEverywhere(sql: Sql): Promise<CorrectionsEverywhere> {
  const [row] = await sql.query<CorrectionsEverywhere>(
    `SELECT count(*) AS corrections, min(since) AS "oldestCorrectionSince"
       FROM (SELECT since FROM correction_causes UNION ALL SELECT since FROM correction_targets) AS due`,
  );
  return row ?? { corrections: 0, oldestCorrectionSince: null };
}

/**
 * From what changed to what is to be judged again. What builds on an event is found by its edges; what cites it as an auth event, or
 * was judged or resolved by it, by looking through the room, which may hold millions of events: a part at a time, and what is
 * there to be found is looked for by all changes at once. How far that is stands in the rows, so whoever goes on, goes on there.
 */
import { AUTH_EVENT_TYPES } from '../../matrix/auth/auth-events.ts';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { CURRENT_STATE } from '../journal/fold-corrections.ts';
import { type Sql } from '../open-store.ts';
import { NOW_MS, textArray } from '../sql-values.ts';
import { IS_SETTLED, REFUSED_BY_PLACE } from './corrections.ts';
import { isKnownOtherwise } from './guessed-states.ts';

/** Events of a part: some 50 ms, and far from the time that a statement has. */
export const LOOKED_THROUGH_AT_ONCE = 5_000;

/** An event that cites one of another type as auth event is rejected for that alone. */
const AUTH_TYPES = `(${[...AUTH_EVENT_TYPES].map((type) => `'${type}'`).join(', ')})`;

/** An event or an anchor that changed. */
export interface CorrectionCause {
  readonly eventId: EventId;
  /** Position of the entry by which it changed. */
  readonly cause: number;
  /** Its verdict is another: what cites it as an auth event is to be looked at. */
  readonly verdict: boolean;
  /** The states at anchors are still to be looked at. */
  readonly anchors: boolean;
  /** Up to which event, by number, the room was looked through for it; `null`: it need not be. */
  readonly lookedTo: number | null;
  /** Of its row as it was read (`xmin`). Whoever notes the change once more may do so at the same position of the journal. */
  readonly version: string;
}

/** The first changes of a room whose dependants are not known yet, those before others by which others changed. */
export function readCorrectionCauses(sql: Sql, roomId: RoomId, limit: number): Promise<CorrectionCause[]> {
  return sql.query(
    `SELECT event_id AS "eventId", cause, verdict, anchors,
            CASE WHEN verdict AND EXISTS (SELECT FROM pdus p WHERE p.event_id = c.event_id AND p.room_id = $1 AND ${MAY_BE_CITED})
                   OR ${GUESS_ENDED} IS NOT NULL
                 THEN coalesce(looked_to, 0) END AS "lookedTo",
            xmin::text AS version
       FROM correction_causes c
      WHERE room_id = $1 AND event_id <> '${CURRENT_STATE}' AND ${IS_SETTLED} ORDER BY cause, event_id LIMIT $2`,
    [roomId, limit],
  );
}

/** An event `p` that others may cite as auth event. */
const MAY_BE_CITED = `p.state_key_nid IS NOT NULL AND p.type IN ${AUTH_TYPES}`;
/**
 * Position of the entry by which what stood on a guess at the change `c` stands on what is known. Processes of the release before
 * leave it out of the row; its cause says it then, while it is the last.
 */
const GUESS_ENDED = `
    coalesce(c.guess_ended, (SELECT j.position FROM journal j
                              WHERE j.position = c.cause AND j.event_id = c.event_id AND j.type IN ('GapClosed', 'GapFilled')))`;

/**
 * `$2` and `$3` are the causes, as they were read. A row that was written since, be it while this very statement waits for its lock,
 * is another one: there is more to be looked for, from the beginning on.
 */
const OF_THESE = `unnest($2::text[], $3::text[]) AS these(event_id, version)
        WHERE c.room_id = $1 AND c.event_id = these.event_id AND c.xmin::text = these.version AND NOT c.anchors`;

/**
 * What has the hash of the room's id, from `$5` on. Said by the order of the index, which no other can give: as an equality, it had
 * the planner sort all that lies ahead, or go through all events of the database by their numbers.
 */
const LIES_AHEAD = `
    (hashtext(room_id), nid) > (hashtext($1), $5::bigint) AND (hashtext(room_id), nid) <= (hashtext($1), 9223372036854775807)`;

/** Inserts as targets what `found` gives: event, cause, through, and whether the state before it may be another. */
const INSERT_TARGETS = `
     INSERT INTO correction_targets AS t (room_id, event_id, cause, through, states, rank, since)
     SELECT $1, f.event_id, (min(ARRAY[f.cause::text, f.through]))[1]::bigint, (min(ARRAY[f.cause::text, f.through]))[2],
            bool_or(f.states), min(coalesce(e.position, coalesce(o.auth_depth, 1000000) - 1000000000)),
            ${NOW_MS}
       FROM found f
      CROSS JOIN LATERAL (SELECT nid FROM pdus WHERE event_id = f.event_id AND room_id = $1 OFFSET 0) AS p
       LEFT JOIN LATERAL (SELECT * FROM event_states WHERE event_nid = p.nid OFFSET 0) AS e ON true
       LEFT JOIN LATERAL (SELECT * FROM outlier_verdicts WHERE event_nid = p.nid OFFSET 0) AS o ON true
      WHERE e.partial IS NOT TRUE AND coalesce(e.rule, o.rule, '') <> ALL ($4::text[])
      GROUP BY f.event_id
     ON CONFLICT (room_id, event_id) DO UPDATE SET states = t.states OR excluded.states`;

/** Replaces changes by the children of what has another state after it. One statement; a change that has come since is left. */
export async function expandToChildren(sql: Sql, roomId: RoomId, causes: readonly CorrectionCause[]): Promise<void> {
  await sql.query(
    `WITH taken AS (
       DELETE FROM correction_causes c USING ${OF_THESE} RETURNING c.event_id, c.cause, c.states
     ), found (event_id, cause, through, states) AS (
       SELECT edge.event_id, c.cause, c.event_id, true
         FROM taken c JOIN event_edges edge ON edge.room_id = $1 AND edge.prev_event_id = c.event_id WHERE c.states
     )
     ${INSERT_TARGETS}`,
    [...changesOf(roomId, causes), REFUSED_BY_PLACE],
  );
}

/** What a look through a part of the room came to. */
export interface LookedThrough {
  /** It was the last part: then only the children are left to be found. */
  readonly isLast: boolean;
  /** The causes as their rows are now, those that were written by others meanwhile as they are not. */
  readonly causes: readonly CorrectionCause[];
}

/**
 * Looks through the next part of the room for what rests on changes that are as far as each other: what cites an event with
 * another verdict as an auth event, and where different states were resolved, which such a verdict may have decided; and what was
 * judged by an event that was hollow, whose content is another in the same states. After a gap that is closed also what came with
 * it or later, and was spared while its state was guessed (guessed-states.ts): it is judged again even if the guess was right,
 * and whatever has changed at the gap since.
 */
export async function lookThrough(
  sql: Sql,
  roomId: RoomId,
  causes: readonly CorrectionCause[],
): Promise<LookedThrough> {
  const [part] = await sql.query<{ events: number; version: string | null }>(
    `WITH these AS MATERIALIZED (
       SELECT c.event_id, c.cause, c.verdict, ${GUESS_ENDED} AS guess_ended FROM correction_causes c CROSS JOIN ${OF_THESE}
     ), next AS MATERIALIZED (
       SELECT nid, room_id, event_id, prev_events, auth_events FROM pdus WHERE ${LIES_AHEAD} ORDER BY hashtext(room_id), nid LIMIT $6
     ), part AS MATERIALIZED (
       SELECT n.*, e.position, e.auth_state
         FROM next n LEFT JOIN LATERAL (SELECT * FROM event_states WHERE event_nid = n.nid OFFSET 0) AS e ON true
        WHERE n.room_id = $1
     ), looked AS (
       UPDATE correction_causes c SET looked_to = (SELECT max(nid) FROM next)
         FROM ${OF_THESE} AND EXISTS (SELECT FROM next) RETURNING 1
     ), proof AS MATERIALIZED (
       SELECT t.*, p.nid, p.completed_at FROM these t JOIN pdus p ON p.event_id = t.event_id AND p.room_id = $1
        WHERE t.verdict AND ${MAY_BE_CITED}
     ), closed AS MATERIALIZED (
       SELECT t.event_id, t.guess_ended AS cause,
              (SELECT min(e.position) FROM event_edges edge JOIN event_states e ON e.event_id = edge.event_id AND e.room_id = $1
                WHERE edge.room_id = $1 AND edge.prev_event_id = t.event_id) AS position
         FROM these t WHERE t.guess_ended IS NOT NULL
     ), found (event_id, cause, through, states) AS (
       SELECT p.event_id, c.cause, c.event_id, false
         FROM part p CROSS JOIN unnest(p.auth_events) AS cited(event_id) JOIN proof c ON c.event_id = cited.event_id
       UNION ALL
       SELECT p.event_id, c.cause, c.event_id, false
         FROM part p CROSS JOIN unnest(p.auth_state) AS used(nid) JOIN proof c ON c.nid = used.nid
        WHERE c.completed_at IS NOT NULL
       UNION ALL
       SELECT p.event_id, c.cause, c.event_id, true
         FROM (SELECT * FROM proof ORDER BY cause DESC LIMIT 1) AS c
         JOIN part p ON p.position IS NOT NULL AND cardinality(p.prev_events) > 1
        WHERE (SELECT count(DISTINCT coalesce(s.state_after, a.state_after))
                 FROM unnest(p.prev_events) AS prev(event_id)
                 LEFT JOIN event_states s ON s.room_id = $1 AND s.event_id = prev.event_id
                 LEFT JOIN anchors a ON a.room_id = $1 AND a.event_id = prev.event_id) > 1
       UNION ALL
       SELECT p.event_id, c.cause, c.event_id, false
         FROM part p CROSS JOIN LATERAL (SELECT * FROM closed WHERE closed.position <= p.position ORDER BY cause LIMIT 1) AS c
        WHERE ${isKnownOtherwise('p')}
     ), targets AS (${INSERT_TARGETS})
     SELECT count(*) AS events,
            CASE WHEN EXISTS (SELECT FROM looked) THEN pg_current_xact_id()::xid::text END AS version FROM next`,
    [...changesOf(roomId, causes), REFUSED_BY_PLACE, causes[0]?.lookedTo ?? 0, LOOKED_THROUGH_AT_ONCE],
  );
  const { events = 0, version = null } = part ?? {};
  return {
    isLast: events < LOOKED_THROUGH_AT_ONCE,
    causes: version === null ? causes : causes.map((cause) => ({ ...cause, version })),
  };
}

function changesOf(roomId: RoomId, causes: readonly CorrectionCause[]): [RoomId, string, string] {
  return [roomId, textArray(causes.map(({ eventId }) => eventId)), textArray(causes.map(({ version }) => version))];
}

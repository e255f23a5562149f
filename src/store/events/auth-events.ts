/**
 * Reads of the graph of auth events: bodies, verdicts, chains, and what a whole state reaches. Everything is of one room; an
 * event of another room is not found.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { fromStorable } from '../storable-text.ts';
import { type Verdict } from './event-states.ts';

/** The columns that an event is judged by. */
export interface AuthEventRow {
  readonly eventId: EventId;
  readonly nid: number;
  readonly json: string;
  readonly type: string;
  /** `null`: no state event. */
  readonly stateKeyNid: number | null;
  readonly hollow: boolean;
}

/**
 * The verdict on an event as it counts for who cites it: in the timeline (`e`) that by full state, else that on the outlier (`o`), by
 * its own auth events. A provisional one counts where there is no other: it is made by what is not known, or guessed, and turns
 * nothing that is.
 */
export const VERDICT = `CASE WHEN e.partial THEN coalesce(o.verdict, e.verdict) ELSE coalesce(e.verdict, o.verdict, 'unjudged') END`;

/**
 * The rule of an accepted outlier of which only we say so: an event that is taken into the timeline, recorded for what is resolved
 * meanwhile. Nobody else has named it.
 */
export const IN_PASSING = 'in-passing';

/**
 * The rule of an accepted outlier that is known by an event which was pushed and cites it: whoever may push chooses what he cites, and
 * answers for it himself. A resident that names it as state or auth event takes the place of that.
 */
export const CITED = 'cited';

/** What we hold an event to be. */
export interface Judgement {
  readonly nid: number;
  /** As `VERDICT`. Only what is accepted proves anything. */
  readonly verdict: 'unjudged' | Verdict;
  /** Greater than that of every event in its auth chain; `null`: not known. */
  readonly authDepth: number | null;
  /** Its content is redacted; its body may come. */
  readonly hollow: boolean;
}

/** Those of the events that are held, by nid or by id. */
export async function readAuthEvents(
  sql: Sql,
  roomId: RoomId,
  { nids, eventIds }: { readonly nids: readonly number[]; readonly eventIds: readonly EventId[] },
): Promise<AuthEventRow[]> {
  if (nids.length + eventIds.length === 0) return [];
  const rows = await sql.query<AuthEventRow & { type: string }>(
    `SELECT event_id AS "eventId", nid, json::text AS json, type, state_key_nid AS "stateKeyNid", hollow
       FROM pdus WHERE room_id = $1 AND nid = ANY ($2::bigint[])
     UNION ALL
     SELECT event_id, nid, json::text, type, state_key_nid, hollow
       FROM pdus WHERE room_id = $1 AND event_id = ANY ($3::text[]) AND nid <> ALL ($2::bigint[])`,
    [roomId, int8Array(nids), textArray(eventIds)],
  );
  return rows.map((row) => ({ ...row, type: fromStorable(row.type) }));
}

/** Verdicts and auth depths of those of the events that are held. */
export async function readJudgements(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<Map<EventId, Judgement>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<Judgement & { eventId: EventId }>(
    `SELECT p.event_id AS "eventId", p.nid, ${VERDICT} AS verdict,
            coalesce(e.auth_depth, o.auth_depth) AS "authDepth", p.hollow
       FROM pdus p LEFT JOIN event_states e ON e.event_nid = p.nid LEFT JOIN outlier_verdicts o ON o.event_nid = p.nid
      WHERE p.room_id = $1 AND p.event_id = ANY ($2::text[])`,
    [roomId, textArray(eventIds)],
  );
  return new Map(rows.map(({ eventId, ...judgement }) => [eventId, judgement]));
}

/**
 * The ids of the stored auth chain of `eventIds` within the room, the given events included, without what is in `known` and
 * what is reached through that alone. Events that are not stored end their branch and are left out.
 */
export async function readAuthChainIds(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
  known: readonly EventId[] = [],
): Promise<Set<EventId>> {
  if (eventIds.length === 0) return new Set();
  const rows = await sql.query<{ eventId: EventId }>(
    `WITH RECURSIVE chain (event_id, auth_events) AS (
       SELECT event_id, auth_events FROM pdus WHERE room_id = $1 AND event_id = ANY ($2::text[])
       UNION
       SELECT p.event_id, p.auth_events
         FROM chain c CROSS JOIN unnest(c.auth_events) AS cited(event_id)
         JOIN pdus p ON p.event_id = cited.event_id AND p.room_id = $1
        WHERE cited.event_id <> ALL ($3::text[])
     )
     SELECT event_id AS "eventId" FROM chain`,
    [roomId, textArray(eventIds), textArray(known)],
  );
  return new Set(rows.map(({ eventId }) => eventId));
}

/**
 * Up to `limit` events that are not held, of `eventIds` and of what the auth chains of these lead to through held events
 * without a verdict: what is to be had before they can be judged.
 */
export async function readLackingOfChains(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
  limit: number,
): Promise<EventId[]> {
  if (eventIds.length === 0) return [];
  const rows = await sql.query<{ eventId: EventId }>(
    `WITH RECURSIVE reached (event_id) AS (
       SELECT event_id FROM unnest($2::text[]) AS root(event_id)
       UNION
       SELECT cited.event_id
         FROM reached r JOIN pdus p ON p.event_id = r.event_id AND p.room_id = $1
        CROSS JOIN unnest(p.auth_events) AS cited(event_id)
        WHERE NOT EXISTS (SELECT FROM event_states e WHERE e.event_nid = p.nid)
          AND NOT EXISTS (SELECT FROM outlier_verdicts o WHERE o.event_nid = p.nid)
     )
     SELECT event_id AS "eventId" FROM reached r
      WHERE NOT EXISTS (SELECT FROM pdus p WHERE p.room_id = $1 AND p.event_id = r.event_id)
      ORDER BY event_id LIMIT $3`,
    [roomId, textArray(eventIds), limit],
  );
  return rows.map(({ eventId }) => eventId);
}

/**
 * Those of `wanted` that are in the auth chain of some of the events `nids`, the events themselves included. A state of
 * 100,000 events is asked in one statement, and nothing of it comes here.
 *
 * @param aboveDepth only what stands deeper can reach a wanted event; `null`: not known. What has no depth is looked at.
 */
export async function readReachedBy(
  sql: Sql,
  roomId: RoomId,
  nids: readonly number[],
  wanted: readonly EventId[],
  aboveDepth: number | null,
): Promise<Set<EventId>> {
  const rows = await sql.query<{ eventId: EventId }>(
    `WITH RECURSIVE reached (event_id) AS (
       SELECT DISTINCT cited.event_id
         FROM unnest($2::bigint[]) AS root(nid) JOIN pdus p ON p.nid = root.nid AND p.room_id = $1
         LEFT JOIN event_states e ON e.event_nid = p.nid LEFT JOIN outlier_verdicts o ON o.event_nid = p.nid
        CROSS JOIN unnest(p.auth_events) AS cited(event_id)
        WHERE coalesce(e.auth_depth, o.auth_depth, $4) >= $4
       UNION
       SELECT cited.event_id
         FROM reached r JOIN pdus p ON p.event_id = r.event_id AND p.room_id = $1
         LEFT JOIN event_states e ON e.event_nid = p.nid LEFT JOIN outlier_verdicts o ON o.event_nid = p.nid
        CROSS JOIN unnest(p.auth_events) AS cited(event_id)
        WHERE coalesce(e.auth_depth, o.auth_depth, $4) >= $4
     )
     SELECT event_id AS "eventId" FROM reached WHERE event_id = ANY ($3::text[])
      UNION
     SELECT event_id FROM pdus WHERE room_id = $1 AND event_id = ANY ($3::text[]) AND nid = ANY ($2::bigint[])`,
    [roomId, int8Array(nids), textArray(wanted), (aboveDepth ?? -1) + 1],
  );
  return new Set(rows.map(({ eventId }) => eventId));
}

/**
 * State events of a room whose verdict rests on partial events: these themselves, and outliers that cite them as auth events, directly or
 * not. Only what stands deeper than a partial one can do so; what has no depth is looked at.
 */
export async function readRestingOnPartial(sql: Sql, roomId: RoomId): Promise<number[]> {
  const rows = await sql.query<{ nid: number }>(
    `WITH RECURSIVE unsettled AS MATERIALIZED (
       SELECT e.event_id, e.event_nid AS nid, coalesce(e.auth_depth, 0) AS auth_depth
         FROM event_states e JOIN pdus p ON p.nid = e.event_nid
        WHERE e.room_id = $1 AND e.partial AND p.state_key_nid IS NOT NULL
     ), citing AS MATERIALIZED (
       SELECT p.nid, p.event_id, cited.event_id AS cited
         FROM pdus p JOIN outlier_verdicts o ON o.event_nid = p.nid CROSS JOIN unnest(p.auth_events) AS cited(event_id)
        WHERE p.room_id = $1 AND p.state_key_nid IS NOT NULL
          AND EXISTS (SELECT FROM unsettled)
          AND (o.auth_depth IS NULL OR o.auth_depth > (SELECT min(auth_depth) FROM unsettled))
     ), resting (nid, event_id) AS (
       SELECT nid, event_id FROM unsettled
       UNION
       SELECT c.nid, c.event_id FROM resting r JOIN citing c ON c.cited = r.event_id
     )
     SELECT nid FROM resting`,
    [roomId],
  );
  return rows.map(({ nid }) => nid);
}

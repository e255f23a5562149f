/**
 * What stands on a guess. Where a parent is missing, the state after it is assumed until a resident tells it (anchors.ts), and so is
 * the state before whatever builds on that, however far. A guess is good enough to judge a new event by for a while. It is no
 * ground against what is known already: an event that a resident's state or auth chain names and that passes by its own auth
 * events, and a join of ours that a resident took. What such an event holds up, our own joins among it, would fall with it,
 * for good where our stay ends by it, though nobody has said anything against it. So check 5 by a guessed state refuses none of
 * these; they are judged again once the gap is closed.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { CITED, IN_PASSING } from './auth-events.ts';
import { textArray } from '../sql-values.ts';

/**
 * Known beside its place in the timeline (`p`, a row of `pdus`; `$1` is the room): as an outlier that is accepted and that a resident has
 * named, or as a join of ours that a resident took. What a pushed event cites its sender has chosen.
 */
export function isKnownOtherwise(p: string): string {
  return `(coalesce((SELECT k.verdict = 'accepted' AND (k.rule IS NULL OR k.rule NOT IN ('${IN_PASSING}', '${CITED}'))
                      FROM outlier_verdicts k WHERE k.event_nid = ${p}.nid), false)
           OR EXISTS (SELECT FROM journal j
                       WHERE j.room_id = $1 AND j.data ->> 'joinEventId' = ${p}.event_id
                         AND j.type IN ('PartialStateJoined', 'FullStateJoined', 'ResidentsLearned', 'ParentsLearned')))`;
}

/** An anchor (`a`) whose state nobody has told, and that stands for it all the same. */
const IS_GUESSED = `
  (a.assumed OR a.partial AND EXISTS (SELECT FROM gaps g WHERE g.room_id = a.room_id AND g.event_id = a.event_id))`;

/**
 * Those of `eventIds`, events of the timeline and anchors, after which the state is guessed. Where a room has no gap that is one index
 * look; else what stands on its gaps is followed, in one statement.
 */
export async function readStandingOnGuesses(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<ReadonlySet<EventId>> {
  if (eventIds.length === 0) return new Set();
  const rows = await sql.query<{ eventId: EventId }>(
    `WITH RECURSIVE standing (event_id) AS (
       SELECT a.event_id FROM anchors a WHERE a.room_id = $1 AND ${IS_GUESSED}
        UNION
       SELECT edge.event_id
         FROM standing s
        CROSS JOIN LATERAL (SELECT event_id FROM event_edges
                             WHERE room_id = $1 AND prev_event_id = s.event_id OFFSET 0) AS edge
     )
     SELECT event_id AS "eventId" FROM standing WHERE event_id = ANY ($2::text[])`,
    [roomId, textArray(eventIds)],
  );
  return new Set(rows.map(({ eventId }) => eventId));
}

/** Those of the stored events that are known otherwise than by their place in the timeline. */
export async function readKnownOtherwise(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<ReadonlySet<EventId>> {
  if (eventIds.length === 0) return new Set();
  const rows = await sql.query<{ eventId: EventId }>(
    `SELECT p.event_id AS "eventId" FROM pdus p
      WHERE p.room_id = $1 AND p.event_id = ANY ($2::text[]) AND ${isKnownOtherwise('p')}`,
    [roomId, textArray(eventIds)],
  );
  return new Set(rows.map(({ eventId }) => eventId));
}

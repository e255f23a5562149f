/**
 * Completing a hollow event: one that was stored redacted, when the body comes that its content hash is of.
 *
 * In versions 1 and 2 a sender may give two events one id. Only the body of the very event that is stored completes it: one that
 * says the same of everything that the columns hold. Else type, place and parents would be those of one event, and the text of
 * another. From version 3 on the id is a hash of all of these.
 *
 * What was judged by the redacted form may have been judged wrongly: the event itself, and whatever read its content in a state or an
 * auth chain. So it is a correction (src/rooms/resync/correct-events.ts). The verdict on an outlier is forgotten, so that nothing
 * is proved by it, and its next first one is a change for what rests on it, whoever judges it.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { CURRENT_STATE } from '../journal/fold-corrections.ts';
import { REFUSED_BY_PLACE } from './corrections.ts';
import { NOW_MS } from '../sql-values.ts';

/** A hollow event that has its body now. */
export interface CompletedEvent {
  readonly roomId: RoomId;
  /** It was judged redacted, in a room of ours: it is noted as a change. */
  readonly isNoted: boolean;
}

/** Tells of what was completed, once it is durable, where something is to be judged again. */
export function tellOfCompleted(sql: Sql, completed: readonly CompletedEvent[]): void {
  const noted = completed.flatMap(({ roomId, isNoted }) => (isNoted ? [roomId] : []));
  for (const roomId of new Set(noted)) sql.tellOfCorrection(roomId);
}

/** The statement, which gives rows of `CompletedEvent`. `incoming`: what gives rows with the columns of `pdus` but numbers, with `state_key`, none of them hollow. */
export function completeHollow(incoming: string): string {
  return `
  WITH completed AS (
    UPDATE pdus p
       SET json = i.json, hollow = false, completed_at = ${NOW_MS}, relates_to = i.relates_to, rel_type = i.rel_type,
           relation_unread = NULL
      FROM (SELECT p.nid, i.json, i.relates_to, i.rel_type
              FROM (${incoming}) AS i JOIN pdus p ON p.event_id = i.event_id
              LEFT JOIN state_keys k ON k.nid = p.state_key_nid
             WHERE p.hollow
               AND (p.room_id, p.type, p.sender, p.depth, p.prev_events, p.auth_events) =
                   (i.room_id, i.type, i.sender, i.depth, i.prev_events, i.auth_events)
               AND (k.state_key, p.membership) IS NOT DISTINCT FROM (i.state_key, i.membership)
             ORDER BY p.event_id
               FOR NO KEY UPDATE OF p) AS i
     WHERE p.nid = i.nid
    RETURNING p.nid, p.event_id, p.room_id, p.state_key_nid IS NOT NULL AS is_state
  ), forgotten AS (
    DELETE FROM outlier_verdicts o USING completed c WHERE o.event_nid = c.nid RETURNING o.event_nid, o.auth_depth, o.rule
  ), judged AS (
    SELECT c.*, r.partial AS in_partial, h.position AS cause, e.position, f.auth_depth, floor(extract(epoch FROM now()) * 1000)::bigint AS since
      FROM completed c CROSS JOIN journal_head h
      JOIN rooms r ON r.room_id = c.room_id
      LEFT JOIN event_states e ON e.event_nid = c.nid
      LEFT JOIN forgotten f ON f.event_nid = c.nid
     WHERE coalesce(e.event_nid, f.event_nid) IS NOT NULL
       -- One that is partial is judged again by the walk, and so is what rests on it.
       AND e.partial IS NOT TRUE AND coalesce(e.rule, f.rule, '') NOT IN (${REFUSED_BY_PLACE.map((rule) => `'${rule}'`).join(', ')})
  ), awaited AS (
    INSERT INTO awaited_events (room_id, event_id)
    SELECT room_id, event_id FROM judged WHERE position IS NULL AND is_state ORDER BY 1, 2 ON CONFLICT DO NOTHING
  ), targets AS (
    INSERT INTO correction_targets (room_id, event_id, cause, through, states, rank, since)
    SELECT room_id, event_id, cause, event_id, true, coalesce(position, coalesce(auth_depth, 1000000) - 1000000000), since
      FROM judged ORDER BY 1, 2
    ON CONFLICT (room_id, event_id) DO UPDATE SET states = true
  ), causes AS (
    INSERT INTO correction_causes AS c (room_id, event_id, cause, verdict, states, anchors, since)
    SELECT room_id, event_id, cause, true, false, false, since FROM judged WHERE position IS NOT NULL AND is_state
     UNION ALL
    SELECT DISTINCT room_id, '${CURRENT_STATE}', cause, false, false, false, since FROM judged WHERE NOT in_partial AND is_state
     ORDER BY 1, 2
    ON CONFLICT (room_id, event_id) DO UPDATE
       SET (cause, verdict, looked_to) = (greatest(c.cause, excluded.cause), c.verdict OR excluded.verdict, NULL)
  )
  SELECT room_id AS "roomId", EXISTS (SELECT FROM judged j WHERE j.nid = c.nid) AS "isNoted" FROM completed c`;
}

/**
 * What changed while somebody judged by how it had been. Whoever fetches a state reads verdicts early and stores what follows of
 * them late; a change that was carried on in between did not find it. So it is carried on once more.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { textArray } from '../sql-values.ts';
import { IN_PASSING } from './auth-events.ts';
import { noteVerdicts } from './corrections.ts';
import { type Omissions } from './left-out.ts';

/**
 * Adds as causes again the events of the room whose verdict changed after the position `since`, and what a state leaves out and is
 * accepted by now. `awaited`: judged by now, where whoever asks had no verdict on it, or maybe another
 * one. In the transaction that makes the state an anchor's, after `left_out` is written, or once verdicts are stored.
 */
export async function addChangedSince(
  sql: Sql,
  roomId: RoomId,
  since: number,
  { leftOut, awaited }: Omissions,
): Promise<void> {
  const noted = await sql.query(
    `WITH told AS (
       SELECT event_id, position, type FROM journal
        WHERE room_id = $1 AND position > $2 AND event_id IS NOT NULL
          AND type IN ('VerdictChanged', 'EventUnPartialStated', 'PduAccepted', 'PduRejected')
     ), named (event_id, position, type) AS (
       SELECT * FROM told
        UNION ALL
       SELECT n.event_id, h.position, n.type
         FROM journal_head h,
              (SELECT unnest($3::text[]), 'left out' UNION ALL SELECT unnest($4::text[]), 'awaited') AS n(event_id, type)
     )${noteVerdicts(`
     SELECT n.event_id, max(n.position)
       FROM named n
       JOIN pdus p ON p.event_id = n.event_id AND p.room_id = $1
       LEFT JOIN event_states e ON e.event_nid = p.nid
       LEFT JOIN outlier_verdicts o ON o.event_nid = p.nid
      WHERE e.partial IS NOT TRUE
        AND CASE n.type
              WHEN 'left out' THEN coalesce(e.verdict, o.verdict) = 'accepted'
              WHEN 'awaited' THEN e.verdict IS NOT NULL OR o.rule IS DISTINCT FROM '${IN_PASSING}' AND o.verdict IS NOT NULL
              -- Who had read it as an outlier judged by that verdict, or had left open what waits for it.
              WHEN 'PduAccepted' THEN p.state_key_nid IS NOT NULL AND coalesce(o.verdict <> e.verdict, cardinality($4::text[]) > 0)
              WHEN 'PduRejected' THEN p.state_key_nid IS NOT NULL AND coalesce(o.verdict <> e.verdict, cardinality($4::text[]) > 0)
              ELSE p.state_key_nid IS NOT NULL
            END
      GROUP BY n.event_id`)}
     RETURNING 1`,
    [roomId, since, textArray(leftOut), textArray(awaited)],
  );
  if (noted.length > 0) sql.tellOfCorrection(roomId);
}

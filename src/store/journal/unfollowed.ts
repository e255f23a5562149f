/**
 * What rests on a change and does not follow it, though nothing is due there: of a change that was worked off nothing else is left to
 * compare (fold-tables.ts). Verdicts and states are the ones that the journal says, in a rebuild's tables; what is due is live.
 */
import { REFUSED_BY_PLACE } from '../events/corrections.ts';
import { CURRENT_STATE } from './fold-corrections.ts';

/** Of an event `p`: it is to be looked at yet, or what it cites has changed and is to be carried on. */
const IS_DUE = `
  (EXISTS (SELECT FROM $schema.correction_targets t WHERE t.room_id = $1 AND t.event_id = p.event_id)
    OR EXISTS (SELECT FROM $schema.correction_causes d WHERE d.room_id = $1 AND d.event_id = ANY (p.prev_events || p.auth_events)))`;

/** Rejected, and an accepted event of the timeline cites it as auth event. */
const PROVES_ALL_THE_SAME = `
  SELECT cited.event_id
    FROM event_states e JOIN $schema.pdus p ON p.nid = e.event_nid CROSS JOIN unnest(p.auth_events) AS cited(event_id)
    JOIN $schema.pdus c ON c.event_id = cited.event_id AND c.room_id = $1
    LEFT JOIN event_states proof ON proof.event_nid = c.nid
    LEFT JOIN $schema.outlier_verdicts o ON o.event_nid = c.nid
   WHERE e.room_id = $1 AND NOT e.partial AND e.verdict = 'accepted' AND proof.partial IS NOT TRUE
     AND coalesce(proof.verdict, o.verdict) = 'rejected' AND NOT ${IS_DUE}`;

/** The states after all parents of an event are one, and the one before the event is another. */
const LEADS_ELSEWHERE = `
  SELECT unnest(p.prev_events)
    FROM event_states e JOIN $schema.pdus p ON p.nid = e.event_nid
   WHERE e.room_id = $1 AND NOT e.partial AND coalesce(e.rule, '') NOT IN (${REFUSED_BY_PLACE.map((rule) => `'${rule}'`).join(', ')})
     AND (SELECT count(*) = count(known.state) AND count(DISTINCT known.state) = 1 AND bool_and(known.state <> e.state_before)
            FROM unnest(p.prev_events) AS prev(event_id)
           CROSS JOIN LATERAL (
             SELECT coalesce((SELECT s.state_after FROM event_states s WHERE s.room_id = $1 AND s.event_id = prev.event_id AND NOT s.partial),
                             (SELECT a.state_after FROM anchors a WHERE a.room_id = $1 AND a.event_id = prev.event_id AND NOT a.partial))
           ) AS known(state))
     AND NOT ${IS_DUE}`;

/** The current state of a whole room in which nothing is due is not the one after its only newest event. */
const STANDS_ELSEWHERE = `
  SELECT '${CURRENT_STATE}' FROM rooms r JOIN resyncs s ON s.room_id = r.room_id AND s.epoch = r.epoch
   WHERE r.room_id = $1 AND s.phase = 'complete' AND (SELECT count(*) FROM forward_extremities x WHERE x.room_id = $1) = 1
     AND NOT EXISTS (SELECT FROM $schema.correction_causes d WHERE d.room_id = $1)
     AND NOT EXISTS (SELECT FROM $schema.correction_targets t WHERE t.room_id = $1)
     AND (SELECT e.state_after FROM forward_extremities x JOIN event_states e ON e.event_id = x.event_id AND e.room_id = $1
           WHERE x.room_id = $1) <> r.current_state`;

/** A query for what changed: event ids. `$1` is the room. */
export const UNFOLLOWED = [PROVES_ALL_THE_SAME, LEADS_ELSEWHERE, STANDS_ELSEWHERE].join(' UNION ALL ');
